"""What a check makes of reports."""

from __future__ import annotations

import pytest

from controller.api.tally import BROADCAST, CONFLICT, OK, SILENT, UNICAST, UNKNOWN, Fact, Tally
from trunkline.v1 import check_pb2

GATEWAY = check_pb2.PROBE_KIND_GATEWAY
Result = check_pb2.CheckResult


def result(kind: int, a: str, b: str, outcome: int = OK, **fields: object) -> Result:
    return Result(kind=kind, from_host=a, to_host=b, outcome=outcome, **fields)  # type: ignore[arg-type]


def tally(*hosts: str, skipped: dict[str, str] | None = None, gateway: str = "") -> Tally:
    asked = [(host, Fact(GATEWAY, host, "", gateway)) for host in hosts] if gateway else []
    return Tally("blue", hosts, skipped or {}, asked)


def verdicts(results: list[Result]) -> dict[tuple[int, str, str], int]:
    return {(one.kind, one.from_host, one.to_host): one.outcome for one in results}


def test_news_once_and_a_broadcast_only_from_its_receiver() -> None:
    check = tally("a", "b")
    heard = result(BROADCAST, "a", "b")
    assert list(check.take("a", [heard])) == [], "the sender cannot know"
    assert [one.network for one in check.take("b", [heard, heard])] == ["blue"]
    assert list(check.take("b", [heard])) == []
    assert list(check.take("b", [result(UNICAST, "a", "b")])) == [], "only the sender knows"
    assert list(check.take("b", [result(UNICAST, "b", "stranger")])) == []


@pytest.mark.parametrize(("first", "then", "news"), [(SILENT, OK, True), (OK, SILENT, False), (OK, CONFLICT, True)])
def test_what_says_more_replaces_what_says_less(first: int, then: int, news: bool) -> None:
    check = tally("a", "b")
    assert len(list(check.take("a", [result(UNICAST, "a", "b", first)]))) == 1
    assert bool(list(check.take("a", [result(UNICAST, "a", "b", then)]))) is news


def test_silence_needs_both_ends() -> None:
    check = tally("a", "b", "c")
    list(check.take("a", []))
    list(check.take("b", []))
    closed = verdicts(list(check.close()))
    assert closed[UNICAST, "a", "b"] == closed[BROADCAST, "a", "b"] == SILENT
    for pair in (("a", "c"), ("c", "a")):
        assert closed[UNICAST, *pair] == closed[BROADCAST, *pair] == UNKNOWN
    assert check.counts() == (0, 4, 8)


def test_host_that_failed_is_unknown_and_its_words_are_kept() -> None:
    check = tally("a", "b", gateway="20.0.0.1")
    list(check.take("a", [result(GATEWAY, "a", "", address="20.0.0.1")]))
    list(check.take("b", []))
    check.fail("b", "no uplink")
    closed = list(check.close())
    assert {one.outcome for one in closed} == {UNKNOWN}
    assert all("no uplink" in one.message for one in closed)
    assert check.counts() == (1, 0, 5)


def test_skipped_hosts_are_unknown_to_all() -> None:
    check = tally("a", skipped={"b": "it is drained", "c": "it has no live session"})
    closed = verdicts(list(check.close()))
    assert len(closed) == 12
    assert set(closed.values()) == {UNKNOWN}
    assert check.counts() == (0, 0, 12)
