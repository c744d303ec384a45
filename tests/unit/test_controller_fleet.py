"""Sessions without a stream: who takes over, what is merged, who is told when one ends."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator

import pytest

from controller.api.overview import MUTE, mute_hosts
from controller.fleet import SHARE, Budget, Fleet, Session, superseded
from trunkline.agent.v1 import session_pb2
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, HostNetwork, Target, TargetKind

WEB = Target(TargetKind.CONTAINER, "web")
BLUE = HostNetwork("blue", 1, "default", 10)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def session(fleet: Fleet, number: int, host: str = "docker1") -> Session:
    counter: Iterator[int] = itertools.count(1)
    return Session(host, number, lambda: Desired("e", next(counter)), fleet.budget)


async def test_a_host_that_is_connected_and_reports_nothing_is_a_problem(fleet: Fleet) -> None:
    one, other = session(fleet, 1), session(fleet, 2, "docker2")
    fleet.open(one)
    fleet.open(other)
    now = time.monotonic()
    assert list(mute_hosts(fleet, now + MUTE - 1)) == []
    late = now + MUTE + 5
    assert [p.object for p in mute_hosts(fleet, late)] == ["docker1", "docker2"]
    assert "has not reported for 185 s" in next(mute_hosts(fleet, late)).message
    while time.monotonic() <= now:
        await asyncio.sleep(0)
    one.observed()
    assert one.mute(late) < other.mute(late)


async def test_the_greater_number_stays(fleet: Fleet) -> None:
    first, second, late = session(fleet, 5), session(fleet, 9), session(fleet, 7)
    fleet.open(first)
    fleet.open(second)
    fleet.open(late)
    assert fleet.get("docker1") is second
    for old in (first, late):
        assert old.ended is not None
        assert old.ended.reason is Reason.SESSION_SUPERSEDED
    fleet.close(first)
    assert fleet.get("docker1") is second, "an old stream that closes takes nothing with it"


async def test_the_latest_state_once(fleet: Fleet) -> None:
    one = session(fleet, 1)
    stream = one.outgoing()
    assert (await anext(stream)).desired.revision == 1
    for _ in range(50):
        one.poke()
    assert (await anext(stream)).desired.revision == 2
    waiting = asyncio.ensure_future(anext(stream))
    assert not (await asyncio.wait([waiting], timeout=0.05))[0], "nothing was left to send"
    one.end(superseded("docker1", "here"))
    with pytest.raises(TrunklineError, match="SESSION_SUPERSEDED"):
        await waiting


async def test_a_host_at_rest_keeps_nothing_of_its_state(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.fleet.REMEMBER", 0.2)
    forgotten = asyncio.Event()
    one = Session("docker1", 1, lambda: Desired("e", 1), fleet.budget, forgotten.set)
    stream = one.outgoing()
    await anext(stream)
    one.poke()
    await anext(stream)
    assert not forgotten.is_set(), "while states follow each other their parts are kept"
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.wait_for(forgotten.wait(), 5)
    assert not waiting.done()
    waiting.cancel()


async def test_state_that_cannot_be_told_is_left_out(fleet: Fleet) -> None:
    def corrupt() -> Desired:
        raise TrunklineError(Reason.STORE_CORRUPT, "unreadable", "restore it")

    one = Session("docker1", 1, corrupt, fleet.budget)
    stream = one.outgoing()
    waiting = asyncio.ensure_future(anext(stream))
    assert not (await asyncio.wait([waiting], timeout=0.05))[0]
    run = session_pb2.ProbeRun()
    one.probe(run, lambda _: None)
    assert (await waiting).probe.id == run.id, "questions still pass"


async def test_questions_find_their_answers(fleet: Fleet) -> None:
    one = session(fleet, 1)
    stream = one.outgoing()
    asked = [asyncio.create_task(one.inspect(WEB, BLUE, "", 5)) for _ in range(2)]
    await asyncio.sleep(0)
    ids = [(await anext(stream)).inspect.id for _ in range(2)]
    one.answered(session_pb2.TargetReport(id=999, reason="STRAY"))
    one.answered(session_pb2.TargetReport(id=ids[1], reason="SECOND"))
    one.answered(session_pb2.TargetReport(id=ids[0], reason="FIRST"))
    assert [(await task).reason for task in asked] == ["FIRST", "SECOND"]


async def test_nobody_waits_for_a_session_that_ended(fleet: Fleet) -> None:
    one = session(fleet, 1)
    reports: list[session_pb2.ProbeReport] = []
    asked = asyncio.create_task(one.inspect(WEB, BLUE, "", 60))
    one.probe(session_pb2.ProbeRun(), reports.append)
    await asyncio.sleep(0)
    one.end(superseded("docker1", "here"))
    with pytest.raises(TrunklineError, match="HOST_UNREACHABLE"):
        await asked
    assert [report.done for report in reports] == [True]
    one.probe(session_pb2.ProbeRun(), reports.append)
    assert reports[1].error
    with pytest.raises(TrunklineError, match="HOST_UNREACHABLE"):
        await one.inspect(WEB, BLUE, "", 60)


async def test_question_that_is_not_answered_in_time(fleet: Fleet) -> None:
    one = session(fleet, 1)
    with pytest.raises(TrunklineError, match="did not answer"):
        await one.inspect(WEB, BLUE, "", 0.01)
    stream = one.outgoing()
    assert (await anext(stream)).WhichOneof("message") == "desired", "the question is not asked any more"


def test_budget_is_earned_over_time() -> None:
    budget = Budget()
    assert budget.wait(100.0) == 0
    budget.spend(0.1 + 0.2 * SHARE, 100.0)
    assert budget.wait(100.0) == pytest.approx(0.2)
    assert budget.wait(100.15) == pytest.approx(0.05)
    assert budget.wait(101.0) == 0
