"""What every `Prober` promises. Each floor brings a stage: hosts on one wire, with a prober each."""

from __future__ import annotations

import asyncio
import itertools
from typing import Protocol

import pytest

from agent.ports import Announcement, ConflictProbe, ProbeAddress, ProbePeer, ProbePlan, Prober, ProbeResult
from trunkline.errors import Reason, TrunklineError

HOSTS = ("h1", "h2", "h3")
PROBE_MACS = {host: f"02:07:00:00:00:0{number}" for number, host in enumerate(HOSTS, 1)}
_runs = itertools.count(1)


class Stage(Protocol):
    """Three hosts on one wire."""

    def prober(self, host: str) -> Prober: ...

    def parent(self, host: str) -> int:
        """Index of the host's macvlan parent."""
        ...

    async def hold(self, host: str, address: str, mac: str) -> None:
        """Start a container on the host with this address and MAC."""
        ...

    async def drop(self, host: str, address: str) -> None:
        """End that container."""
        ...

    async def cut(self, host: str) -> None: ...

    async def mend(self, host: str) -> None: ...

    def announcement(self, host: str, address: str, mac: str) -> Announcement:
        """How that container's address is announced."""
        ...

    async def learn(self, host: str, address: str) -> str:
        """Let a container at the host ask for the address, and say the MAC it has then."""
        ...

    async def knows(self, host: str, address: str) -> str:
        """The MAC that container has for the address now."""
        ...


def plan(
    stage: Stage,
    host: str,
    run: int,
    addresses: tuple[ProbeAddress, ...] = (),
    timeout: float = 2.0,
    mode: str = "bridge",
    hosts: tuple[str, ...] = HOSTS,
) -> ProbePlan:
    """The host's part in a run."""
    peers = tuple(ProbePeer(other, PROBE_MACS[other]) for other in hosts if other != host)
    return ProbePlan(
        run, "net7", "tlp7", "trunkline:probe:net7", stage.parent(host), PROBE_MACS[host], host, peers, addresses,
        timeout, mode,
    )  # fmt: skip


async def collect(prober: Prober, part: ProbePlan) -> list[ProbeResult]:
    """All results of one host's part."""
    return [result async for result in prober.run(part)]


async def together(stage: Stage, parts: list[ProbePlan]) -> dict[str, list[ProbeResult]]:
    """All hosts' parts at once."""
    results = await asyncio.gather(*(collect(stage.prober(part.host), part) for part in parts))
    return {part.host: found for part, found in zip(parts, results, strict=True)}


def outcomes(results: list[ProbeResult]) -> dict[tuple[str, str, str], str]:
    """Outcome by (kind, from or address, to); each subject has one result only."""
    keys = {(r.kind, r.address or r.from_host, r.to_host): r.outcome for r in results}
    assert len(keys) == len(results)
    return keys


def pairs(host: str, ok: tuple[str, ...], silent: tuple[str, ...] = ()) -> dict[tuple[str, str, str], str]:
    """What a host says of its peers."""
    said = {}
    for peer, outcome in [(p, "ok") for p in ok] + [(p, "silent") for p in silent]:
        said["broadcast", peer, host] = outcome
        said["unicast", host, peer] = outcome
    return said


class ProberSuite:
    """Inherit and bring a fixture `stage`."""

    async def test_three_hosts_prove_each_other_before_the_time_is_over(self, stage: Stage) -> None:
        run, began = next(_runs), asyncio.get_running_loop().time()
        results = await together(stage, [plan(stage, host, run, timeout=8.0) for host in HOSTS])
        assert asyncio.get_running_loop().time() - began < 5.0
        for host in HOSTS:
            assert outcomes(results[host]) == pairs(host, tuple(h for h in HOSTS if h != host))
            assert all(0 < r.rtt < 1.0 for r in results[host] if r.kind == "unicast")
            assert {(r.run, r.network) for r in results[host]} == {(run, "net7")}

    async def test_a_dead_peer_is_silent_and_delays_nobody(self, stage: Stage) -> None:
        run = next(_runs)
        results = await together(stage, [plan(stage, host, run, timeout=1.0) for host in HOSTS[:2]])
        assert outcomes(results["h1"]) == pairs("h1", ("h2",), ("h3",))
        assert outcomes(results["h2"]) == pairs("h2", ("h1",), ("h3",))
        assert [r.outcome for r in results["h1"][:2]] == ["ok", "ok"]

    async def test_a_host_that_starts_late_is_answered_by_one_that_is_done(self, stage: Stage) -> None:
        run = next(_runs)
        alone = plan(stage, "h1", run, timeout=3.0, hosts=("h1", "h2"))
        first = asyncio.create_task(collect(stage.prober("h1"), alone))
        second = await collect(stage.prober("h2"), plan(stage, "h2", run, timeout=3.0, hosts=("h1", "h2")))
        assert outcomes(await first) == pairs("h1", ("h2",))
        assert outcomes(second) == pairs("h2", ("h1",))
        again = await collect(stage.prober("h2"), plan(stage, "h2", run, timeout=1.5, hosts=("h1", "h2")))
        assert outcomes(again) == pairs("h2", ("h1",))

    async def test_runs_do_not_hear_each_other(self, stage: Stage) -> None:
        parts = [plan(stage, host, next(_runs), timeout=0.5, hosts=("h1", "h2")) for host in ("h1", "h2")]
        results = await together(stage, parts)
        assert outcomes(results["h1"]) == pairs("h1", (), ("h2",))
        assert outcomes(results["h2"]) == pairs("h2", (), ("h1",))

    async def test_addresses_answer_are_silent_or_belong_to_somebody_else(self, stage: Stage) -> None:
        held, wrong, local, gone, gateway = (f"20.7.0.{n}" for n in (11, 12, 13, 14, 1))
        await stage.hold("h2", held, "02:07:14:07:00:0b")
        await stage.hold("h2", wrong, "02:aa:14:07:00:0c")
        await stage.hold("h1", local, "02:07:14:07:00:0d")
        await stage.hold("h3", gateway, "02:07:14:07:00:01")
        await stage.hold("h3", "fd00:7::11", "02:07:14:07:00:66")
        asked = (
            ProbeAddress(held, "02:07:14:07:00:0b", "h2"),
            ProbeAddress(wrong, "02:07:14:07:00:0c", "h2"),
            ProbeAddress(local, "02:07:14:07:00:0d", "h1"),
            ProbeAddress(gone, "02:07:14:07:00:0e", "h3"),
            ProbeAddress(gateway, gateway=True),
            ProbeAddress("fd00:7:0:0::11", "02:07:14:07:00:66", "h3"),
        )
        try:
            results = await collect(stage.prober("h1"), plan(stage, "h1", next(_runs), asked, 1.5, hosts=("h1",)))
        finally:
            for host, address in (("h2", held), ("h2", wrong), ("h1", local), ("h3", gateway), ("h3", "fd00:7::11")):
                await stage.drop(host, address)
        assert outcomes(results) == {
            ("address", held, "h2"): "ok",
            ("address", wrong, "h2"): "conflict",
            ("address", local, "h1"): "ok",
            ("address", gone, "h3"): "silent",
            ("gateway", gateway, ""): "ok",
            ("address", "fd00:7:0:0::11", "h3"): "ok",
        }
        by_address = {r.address: r for r in results}
        assert by_address[wrong].mac == "02:aa:14:07:00:0c"
        assert by_address[gateway].mac == "02:07:14:07:00:01"
        assert by_address[held].rtt > 0

    async def test_own_addresses_are_unknown_where_siblings_do_not_hear_each_other(self, stage: Stage) -> None:
        asked = (ProbeAddress("20.7.0.21", "02:07:14:07:00:15", "h1"),)
        part = plan(stage, "h1", next(_runs), asked, 0.5, mode="private", hosts=("h1",))
        (result,) = await collect(stage.prober("h1"), part)
        assert (result.kind, result.outcome, result.address) == ("address", "unknown", "20.7.0.21")

    async def test_leaving_early_ends_a_part(self, stage: Stage) -> None:
        part = plan(stage, "h1", next(_runs), timeout=20.0)
        other = asyncio.create_task(collect(stage.prober("h2"), plan(stage, "h2", part.run, timeout=0.8)))
        results = stage.prober("h1").run(part)
        assert (await anext(results)).outcome == "ok"
        await results.aclose()  # type: ignore[attr-defined]
        assert ("unicast", "h2", "h3") in outcomes(await other)

    async def test_somebody_who_answers_is_a_conflict_but_not_oneself(self, stage: Stage) -> None:
        taken, own, free, six = "20.7.0.31", "20.7.0.32", "20.7.0.33", "fd00:7::31"
        await stage.hold("h2", taken, "02:aa:00:00:00:31")
        await stage.hold("h2", own, "02:aa:00:00:00:32")
        await stage.hold("h3", six, "02:aa:00:00:00:36")
        index = stage.parent("h1")
        try:
            found = await stage.prober("h1").conflicts(
                [
                    ConflictProbe(index, free),
                    ConflictProbe(index, taken),
                    ConflictProbe(index, own, ("02:AA:00:00:00:32".lower(),)),
                    ConflictProbe(index, six),
                    ConflictProbe(index, "fd00:7::33"),
                ]
            )
        finally:
            for host, address in (("h2", taken), ("h2", own), ("h3", six)):
                await stage.drop(host, address)
        assert found == ["", "02:aa:00:00:00:31", "", "02:aa:00:00:00:36", ""]

    async def test_what_cannot_be_sent_is_neither_conflict_nor_free(self, stage: Stage) -> None:
        missing, good = ConflictProbe(99999, "20.7.0.41"), ConflictProbe(stage.parent("h1"), "20.7.0.42")
        first, second = await stage.prober("h1").conflicts([missing, good])
        assert isinstance(first, TrunklineError)
        assert first.reason is Reason.PROBE_FAILED
        assert second == ""

    async def test_without_carrier_nothing_is_known(self, stage: Stage) -> None:
        await stage.cut("h3")
        try:
            (verdict,) = await stage.prober("h3").conflicts([ConflictProbe(stage.parent("h3"), "20.7.0.51")])
            with pytest.raises(TrunklineError) as caught:
                await collect(stage.prober("h3"), plan(stage, "h3", next(_runs), timeout=0.3))
        finally:
            await stage.mend("h3")
        assert isinstance(verdict, TrunklineError)
        assert {verdict.reason, caught.value.reason} == {Reason.PROBE_FAILED}

    async def test_a_run_without_its_link_fails(self, stage: Stage) -> None:
        part = plan(stage, "h1", next(_runs), timeout=0.3)
        lost = ProbePlan(
            part.run, part.network, part.link_name, part.mark, 99999, part.mac, part.host, part.peers, (), 0.3
        )
        with pytest.raises(TrunklineError) as caught:
            await collect(stage.prober("h1"), lost)
        assert caught.value.reason is Reason.PROBE_FAILED

    @pytest.mark.parametrize("address", ["20.7.0.61", "fd00:7::61"])
    async def test_neighbours_learn_an_announced_move(self, stage: Stage, address: str) -> None:
        before, after = "02:07:14:07:00:3d", "02:07:14:07:01:3d"
        await stage.hold("h2", address, before)
        try:
            assert await stage.learn("h1", address) == before
            await stage.drop("h2", address)
            await stage.hold("h3", address, after)
            assert await stage.knows("h1", address) == before
            assert await stage.prober("h3").announce([stage.announcement("h3", address, after)]) == [None]
            async with asyncio.timeout(5):
                while await stage.knows("h1", address) != after:
                    await asyncio.sleep(0.01)
        finally:
            await stage.drop("h3", address)

    async def test_an_announcement_with_a_mac_that_is_not_there_fails_alone(self, stage: Stage) -> None:
        await stage.hold("h2", "20.7.0.71", "02:07:14:07:00:47")
        try:
            good = stage.announcement("h2", "20.7.0.71", "02:07:14:07:00:47")
            bad = stage.announcement("h2", "20.7.0.71", "02:07:14:07:00:48")
            failed, sent = await stage.prober("h2").announce([bad, good])
        finally:
            await stage.drop("h2", "20.7.0.71")
        assert isinstance(failed, TrunklineError)
        assert failed.reason is Reason.PROBE_FAILED
        assert sent is None

    async def test_nothing_asked_is_nothing_answered(self, stage: Stage) -> None:
        assert await stage.prober("h1").conflicts([]) == []
        assert await stage.prober("h1").announce([]) == []
