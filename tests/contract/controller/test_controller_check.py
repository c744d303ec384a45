"""RunCheck with scripted hosts on one modelled wire."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from contract.controller.rig import READY, SECONDS, Rig, refused
from fakes.scripted_agent import Segment

from controller.api import check as check_api
from trunkline.errors import Reason
from trunkline.v1 import check_pb2, host_pb2, network_pb2

BROADCAST = check_pb2.PROBE_KIND_BROADCAST
UNICAST = check_pb2.PROBE_KIND_UNICAST
ADDRESS = check_pb2.PROBE_KIND_ADDRESS
GATEWAY = check_pb2.PROBE_KIND_GATEWAY
OK = check_pb2.PROBE_OUTCOME_OK
SILENT = check_pb2.PROBE_OUTCOME_SILENT
UNKNOWN = check_pb2.PROBE_OUTCOME_UNKNOWN


class Learnt:
    """All that one check said."""

    def __init__(self) -> None:
        self.plans: list[check_pb2.CheckPlan] = []
        self.results: list[check_pb2.CheckResult] = []
        self.summary: check_pb2.CheckSummary | None = None

    def outcomes(self, kind: int) -> dict[tuple[str, str], int]:
        return {(one.from_host, one.to_host): one.outcome for one in self.results if one.kind == kind}


async def check(rig: Rig, timeout_ms: int = 300, **fields: object) -> Learnt:
    learnt = Learnt()
    request = check_pb2.RunCheckRequest(timeout_ms=timeout_ms, **fields)  # type: ignore[arg-type]
    async for message in rig.check.RunCheck(request, timeout=SECONDS):
        match message.WhichOneof("event"):
            case "plan":
                assert not learnt.results, "plans come first"
                learnt.plans.append(message.plan)
            case "result":
                learnt.results.append(message.result)
            case "summary":
                learnt.summary = message.summary
    assert learnt.summary is not None
    counts = Counter(one.outcome for one in learnt.results)
    summary = learnt.summary
    assert (summary.ok, summary.unknown) == (counts[OK], counts[UNKNOWN])
    assert summary.ok + summary.bad + summary.unknown == len(learnt.results)
    return learnt


async def three(rig: Rig, **network: object) -> Segment:
    segment = Segment()
    for name in ("a", "b", "c"):
        await rig.agent(name, segment).start()
    await rig.create(**network)  # type: ignore[arg-type]
    return segment


async def test_every_pair_both_ways(rig: Rig) -> None:
    await three(rig)
    await rig.attach("a", "web")
    await rig.until_phase("a", "web/blue", READY)
    learnt = await check(rig)
    assert [(list(plan.hosts), list(plan.skipped), plan.vlan) for plan in learnt.plans] == [(["a", "b", "c"], [], 10)]
    pairs = {(x, y) for x in "abc" for y in "abc" if x != y}
    assert learnt.outcomes(BROADCAST) == dict.fromkeys(pairs, OK)
    assert learnt.outcomes(UNICAST) == dict.fromkeys(pairs, OK)
    assert learnt.outcomes(ADDRESS) == {("a", "a"): OK, ("b", "a"): OK, ("c", "a"): OK}
    assert learnt.outcomes(GATEWAY) == {}, "a network without gateway is asked for none"
    assert all(one.rtt_us for one in learnt.results if one.kind == UNICAST)


async def test_all_hosts_of_a_run_send_the_same_number(rig: Rig) -> None:
    """It is in the frames. Once it was counted per session, and a host that had been asked less heard nobody."""
    segment = await three(rig)
    await rig.create("green", "30.0.0.0/24", vlan=11)
    segment.agents["a"].containers["web"] = "running"
    await rig.attach("a", "web", check_target=True)
    await check(rig)
    assert sorted(network for network, _ in segment.runs) == ["blue", "green"], segment.runs


async def test_host_that_is_cut_off_is_silent_both_ways(rig: Rig) -> None:
    segment = await three(rig)
    segment.cut.add("c")
    learnt = await check(rig)
    wanted = {(x, y): SILENT if "c" in (x, y) else OK for x in "abc" for y in "abc" if x != y}
    assert learnt.outcomes(UNICAST) == wanted
    assert learnt.outcomes(BROADCAST) == wanted
    segment.cut.clear()
    assert set((await check(rig)).outcomes(UNICAST).values()) == {OK}


async def test_gateway_that_does_not_answer(rig: Rig) -> None:
    segment = await three(rig, prefixes=[network_pb2.Prefix(cidr="20.0.0.0/24", gateway="20.0.0.254")])
    assert set((await check(rig)).outcomes(GATEWAY).values()) == {SILENT}
    segment.gateways["20.0.0.254"] = "02:00:00:00:00:fe"
    learnt = await check(rig)
    assert learnt.outcomes(GATEWAY) == {("a", ""): OK, ("b", ""): OK, ("c", ""): OK}


async def test_host_that_never_reports_is_unknown_and_delays_nobody(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_api, "GRACE", 0.3)
    await three(rig)
    rig.agents[2].frozen = True
    loop = asyncio.get_running_loop()
    started, first = loop.time(), 0.0
    async for message in rig.check.RunCheck(check_pb2.RunCheckRequest(timeout_ms=1000), timeout=SECONDS):
        if message.WhichOneof("event") == "result" and not first:
            first = loop.time() - started
        if message.WhichOneof("event") == "result":
            outcome = message.result.outcome
            touched = "c" in (message.result.from_host, message.result.to_host)
            assert outcome in (UNKNOWN, OK) if touched else outcome == OK, message.result
    assert first < 0.9, "what is learnt comes while the silent host is still waited for"
    learnt = await check(rig)
    assert learnt.outcomes(BROADCAST)["a", "c"] == UNKNOWN
    assert learnt.outcomes(BROADCAST)["c", "a"] == OK, "a heard c, whatever c reports"


async def test_drained_and_absent_hosts_raise_no_alarm(rig: Rig) -> None:
    await three(rig)
    await rig.hosts.DrainHost(host_pb2.DrainHostRequest(name="b"), timeout=SECONDS)
    await rig.agents[2].stop()
    await rig.until_host("c", lambda seen: not seen.host.connected)
    learnt = await check(rig)
    assert list(learnt.plans[0].hosts) == ["a"]
    assert list(learnt.plans[0].skipped) == ["b: it is drained", "c: it has no live session"]
    assert {one.outcome for one in learnt.results} == {UNKNOWN}
    assert all(one.message for one in learnt.results)


async def test_session_that_ends_under_a_check(rig: Rig) -> None:
    await three(rig)
    for agent in rig.agents:
        agent.frozen = True
    call = rig.check.RunCheck(check_pb2.RunCheckRequest(timeout_ms=30_000), timeout=SECONDS)
    async for message in call:
        if message.WhichOneof("event") == "plan":
            for agent in rig.agents:
                await agent.stop()
        if message.WhichOneof("event") == "summary":
            assert (message.summary.ok, message.summary.bad) == (0, 0)
            return
    raise AssertionError("no summary")


async def test_several_networks_at_once_and_named_hosts(rig: Rig) -> None:
    await three(rig)
    await rig.create("red", "20.0.1.0/24", vlan=11, host_selector=["a", "b"])
    await rig.agents[1].until(lambda: len(rig.agents[1].networks) == 2)
    learnt = await check(rig, hosts=["a", "b"])
    assert [plan.network for plan in learnt.plans] == ["blue", "red"]
    assert {one.network for one in learnt.results} == {"blue", "red"}
    only = await check(rig, networks=["red"])
    assert [list(plan.hosts) for plan in only.plans] == [["a", "b"]]
    with refused(Reason.HOST_NOT_FOUND, "zzz"):
        await check(rig, hosts=["zzz"])
    with refused(Reason.INVALID_ARGUMENT, "30000"):
        await check(rig, timeout_ms=60_000)
