"""Probes when things go wrong: dead, frozen and orphaned children, foreign links, noise, tags, leftovers."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from contract.prober_suite import PROBE_MACS, collect, outcomes, pairs, plan, together
from netns.places import Places
from netns.probe_stage import INSIDE, PARENT, RealStage, capture, index_of, inject, link_names

from agent.ports import Announcement, ConflictProbe, Namespace, ProbeAddress, ProbePlan
from agent.probes import frames
from agent.probes.frames import Echo, EchoKind
from trunkline.errors import Reason, TrunklineError

pytestmark = pytest.mark.asyncio(loop_scope="module")
TWO = ("h1", "h2")
_runs = itertools.count(50_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[RealStage]:
    places = Places()
    try:
        made = RealStage(places, TWO)
        await made.ready()
        yield made
        await made.close()
        for host in made.hosts.values():
            assert not {name for name in link_names(host.place) if name.startswith("tlp")}
    finally:
        places.remove_all()


def pair(stage: RealStage, timeout: float = 2.0) -> list[ProbePlan]:
    run = next(_runs)
    return [plan(stage, host, run, timeout=timeout, hosts=TWO) for host in TWO]


async def works(stage: RealStage) -> None:
    results = await together(stage, pair(stage, 2.0))
    assert outcomes(results["h1"]) == pairs("h1", ("h2",))
    assert outcomes(results["h2"]) == pairs("h2", ("h1",))


async def gone(pid: int) -> None:
    async with asyncio.timeout(5):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.01)


async def idle(stage: RealStage, host: str) -> None:
    """Until the host no longer answers for a run that is done."""
    async with asyncio.timeout(30):
        while "tlp7" in link_names(stage.hosts[host].place):
            await asyncio.sleep(0.02)


def child(stage: RealStage, host: str) -> int:
    pid = stage.hosts[host].prober.pid
    assert pid is not None
    return pid


async def start_run(stage: RealStage, part: ProbePlan) -> asyncio.Task[list[object]]:
    """Begin a run that cannot complete, and wait until its frames are on the wire."""
    async with capture(stage.wire, part.host) as seen:
        task = asyncio.create_task(collect(stage.prober(part.host), part))
        async with asyncio.timeout(5):
            while True:
                _, frame = await seen.get()
                if frame[6:12].hex(":") == part.mac and frame[12:14] == b"\x88\xb5":
                    return task  # type: ignore[return-value]


async def test_a_killed_child_fails_the_run_and_the_next_one_works(stage: RealStage) -> None:
    before = child(stage, "h1")
    task = await start_run(stage, pair(stage, 20.0)[0])
    os.kill(before, signal.SIGKILL)
    with pytest.raises(TrunklineError) as caught:
        await task
    assert caught.value.reason is Reason.PROBE_FAILED
    assert "tlp7" not in link_names(stage.hosts["h1"].place)
    await works(stage)
    assert child(stage, "h1") != before


async def test_a_frozen_child_is_killed_at_the_deadline(stage: RealStage) -> None:
    before = child(stage, "h1")
    os.kill(before, signal.SIGSTOP)
    (verdict,) = await stage.prober("h1").conflicts([ConflictProbe(stage.parent("h1"), "20.7.9.1")])
    assert isinstance(verdict, TrunklineError)
    assert verdict.reason is Reason.PROBE_FAILED
    await gone(before)
    await works(stage)


async def test_a_link_that_goes_away_in_the_middle_fails_the_run(stage: RealStage) -> None:
    task = await start_run(stage, pair(stage, 20.0)[0])
    stage.hosts["h1"].place.ip("link", "del", "tlp7")
    with pytest.raises(TrunklineError) as caught:
        await task
    assert caught.value.reason is Reason.PROBE_FAILED
    await works(stage)


async def test_a_leftover_of_ours_is_replaced(stage: RealStage) -> None:
    await idle(stage, "h1")
    place = stage.hosts["h1"].place
    place.ip("link", "add", "link", PARENT, "name", "tlp7", "type", "macvlan", "mode", "bridge")
    place.ip("link", "set", "tlp7", "alias", "trunkline:probe:net7")
    await works(stage)


async def test_a_foreign_link_is_left_alone_and_named(stage: RealStage) -> None:
    await idle(stage, "h1")
    place = stage.hosts["h1"].place
    place.ip("link", "add", "tlp7", "type", "bridge")
    index = index_of(place, "tlp7")
    try:
        with pytest.raises(TrunklineError, match="tlp7") as caught:
            await collect(stage.prober("h1"), pair(stage)[0])
        assert caught.value.reason is Reason.PROBE_FAILED
        assert index_of(place, "tlp7") == index
    finally:
        place.ip("link", "del", "tlp7")


async def test_two_runs_at_once_share_the_interface(stage: RealStage) -> None:
    await idle(stage, "h1")
    opened = len(stage.hosts["h1"].siblings.opened)
    first, second = pair(stage, 1.0), pair(stage, 1.0)
    one, two = await asyncio.gather(together(stage, first), together(stage, second))
    for results in (one, two):
        assert outcomes(results["h1"]) == pairs("h1", ("h2",))
    assert len(stage.hosts["h1"].siblings.opened) == opened + 1


async def test_the_interface_says_nothing_but_probes(stage: RealStage) -> None:
    async with capture(stage.wire, "h1") as seen:
        await works(stage)
        await collect(stage.prober("h1"), plan(stage, "h1", next(_runs), timeout=1.0))
    kinds = set()
    while not seen.empty():
        _, frame = seen.get_nowait()
        if frame[6:12].hex(":") == PROBE_MACS["h1"]:
            kinds.add(frame[12:14])
    assert kinds == {b"\x88\xb5"}


def noise(count: int) -> list[bytes]:
    draw = random.Random(7)
    made = []
    for kind in (b"\x88\xb5", b"\x08\x06", b"\x86\xdd", b"\x08\x00"):
        for _ in range(count):
            to = draw.choice([b"\xff" * 6, bytes.fromhex(PROBE_MACS["h1"].replace(":", ""))])
            made.append(to + draw.randbytes(6) + kind + draw.randbytes(draw.randrange(80)))
    good = bytearray(frames.echo(Echo(EchoKind.REQUEST, 1, 1, "h2", 0, PROBE_MACS["h2"], PROBE_MACS["h1"])))
    for _ in range(count):
        good[draw.randrange(14, len(good))] = draw.randrange(256)
        made.append(bytes(good))
    return made


async def test_a_flood_of_garbage_harms_nobody(stage: RealStage) -> None:
    before = child(stage, "h1")
    parts = pair(stage, 4.0)
    flood = asyncio.create_task(inject(stage.wire, "br0", noise(100), times=30))
    results = await together(stage, parts)
    await flood
    await stage.prober("h1").conflicts([ConflictProbe(stage.parent("h1"), "20.7.9.2")])
    assert child(stage, "h1") == before
    assert outcomes(results["h1"]) == pairs("h1", ("h2",))
    assert outcomes(results["h2"]) == pairs("h2", ("h1",))


async def test_an_answer_from_another_vlan_is_no_conflict(stage: RealStage) -> None:
    """A packet socket on an uplink is shown the frames of all VLANs."""
    stranger, address = "02:bb:00:00:00:01", "20.7.9.3"
    plain = frames.arp_announcement(stranger, address)
    untag = {vid: plain[:12] + b"\x81\x00" + vid.to_bytes(2, "big") + plain[12:] for vid in (0, 10)}
    for vid, expected in ((10, ""), (0, stranger)):
        asked = asyncio.create_task(
            stage.prober("h1").conflicts([ConflictProbe(stage.parent("h1"), address)]),
        )
        async with capture(stage.wire, "h1") as seen:
            async with asyncio.timeout(5):
                while (await seen.get())[1][12:14] != b"\x08\x06":
                    pass
            await inject(stage.wire, "br0", [untag[vid]])
        assert await asked == [expected]


async def test_the_hosts_own_interfaces_are_not_heard_by_its_conflict_probes(stage: RealStage) -> None:
    await stage.hold("h1", "20.7.9.4", "02:bb:00:00:00:04")
    try:
        probe = ConflictProbe(stage.parent("h1"), "20.7.9.4")
        assert await stage.prober("h1").conflicts([probe]) == [""]
        elsewhere = replace(probe, parent_index=stage.parent("h2"))
        assert await stage.prober("h2").conflicts([elsewhere]) == ["02:bb:00:00:00:04"]
    finally:
        await stage.drop("h1", "20.7.9.4")


async def test_the_parent_hears_the_group_that_answers_go_to(stage: RealStage) -> None:
    """A veth hears every group; a NIC only those that somebody joined, which is what is looked at."""
    place = stage.hosts["h1"].place

    def members() -> int:
        (links,) = json.loads(place.ip("-j", "maddr", "show", "dev", PARENT))
        return sum(entry.get("users", 1) for entry in links["maddr"] if entry.get("link") == frames.ALL_NODES_MAC)

    before = members()
    asked = asyncio.create_task(stage.prober("h1").conflicts([ConflictProbe(stage.parent("h1"), "fd00:7::95")]))
    async with asyncio.timeout(5):
        while members() != before + 1:
            await asyncio.sleep(0.01)
        assert await asked == [""]
        while members() != before:
            await asyncio.sleep(0.01)


async def test_two_holders_are_a_conflict(stage: RealStage) -> None:
    right, wrong = "02:07:14:07:09:05", "02:bb:00:00:00:05"
    await stage.hold("h2", "20.7.9.5", right)
    stranger = stage.container("h2", wrong, ["20.7.9.5"])
    asked = (ProbeAddress("20.7.9.5", right, "h2"),)
    try:
        part = plan(stage, "h1", next(_runs), asked, 2.0, hosts=("h1",))
        (result,) = await collect(stage.prober("h1"), part)
        assert (result.outcome, result.mac) == ("conflict", wrong)
    finally:
        stranger.ip("link", "del", INSIDE)
        await stage.drop("h2", "20.7.9.5")


async def test_asking_teaches_neighbours_nothing(stage: RealStage) -> None:
    await stage.hold("h2", "20.7.9.6", "02:07:14:07:09:06")
    try:
        asked = (ProbeAddress("20.7.9.6", "02:07:14:07:09:06", "h2"),)
        (result,) = await collect(stage.prober("h1"), plan(stage, "h1", next(_runs), asked, 2.0, hosts=("h1",)))
        await stage.prober("h1").conflicts([ConflictProbe(stage.parent("h1"), "20.7.9.6")])
        assert result.outcome == "ok"
        assert stage.place_of("h2", "20.7.9.6").ip("neigh", "show").strip() == ""
    finally:
        await stage.drop("h2", "20.7.9.6")


async def test_an_announcement_is_said_twice_and_asks_the_gateway(stage: RealStage) -> None:
    mac = "02:07:14:07:09:07"
    place = stage.container("h1", mac, ["20.7.9.7", "fd00:7::97"])
    wanted = Announcement(
        Namespace(place.path, place.identity), INSIDE, mac, ("20.7.9.7/16", "fd00:7::97/64"), ("20.7.0.1", "fd00:7::1")
    )
    expected = [
        frames.arp_announcement(mac, "20.7.9.7"),
        frames.arp_announcement(mac, "20.7.9.7", reply=True),
        frames.neighbour_advertisement(mac, "fd00:7::97"),
        frames.arp_request(mac, "20.7.9.7", "20.7.0.1"),
        frames.neighbour_solicitation(mac, "fd00:7::1", "fd00:7::97"),
    ]
    async with capture(stage.wire, "h1") as seen:
        assert await stage.prober("h1").announce([wanted]) == [None]
        heard: list[bytes] = []
        async with asyncio.timeout(5):
            while len(heard) < 2 * len(expected):
                _, frame = await seen.get()
                heard += [frame] if frame in expected else []
    assert heard == expected * 2
    # The thread that talks to the agent is where it was.
    for task in Path(f"/proc/{child(stage, 'h1')}/task").iterdir():
        seen_in = (task / "ns/net").stat()
        assert f"{seen_in.st_dev}:{seen_in.st_ino}" == stage.hosts["h1"].place.identity


async def test_a_namespace_that_was_replaced_is_not_announced_into(stage: RealStage) -> None:
    place = stage.container("h1", "02:07:14:07:09:08", ["20.7.9.8"])
    wrong = Namespace(place.path, stage.wire.identity)
    missing = Namespace("/run/netns/there-is-none", "")
    found = await stage.prober("h1").announce(
        [Announcement(space, INSIDE, "02:07:14:07:09:08", ("20.7.9.8",)) for space in (wrong, missing)]
    )
    assert all(isinstance(error, TrunklineError) and error.reason is Reason.PROBE_FAILED for error in found)


async def test_more_announcements_than_descriptors(stage: RealStage) -> None:
    place = stage.container("h1", "02:07:14:07:09:09", ["20.7.9.9"])
    one = Announcement(Namespace(place.path, place.identity), INSIDE, "02:07:14:07:09:09", ("20.7.9.9",))
    assert await stage.prober("h1").announce([one] * 1200) == [None] * 1200


async def test_no_child_outlives_its_agent() -> None:
    """Also one that is frozen and cannot notice the end of its socket."""
    agent = textwrap.dedent(
        """
        import asyncio, os, signal, sys
        from agent.probes.prober import ChildProber
        async def main():
            prober = ChildProber(None)
            await prober.wait_ready()
            os.kill(prober.pid, signal.SIGSTOP)
            print(prober.pid, flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
        """
    )
    process = subprocess.Popen([sys.executable, "-c", agent], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()
    await gone(pid)


async def test_a_child_that_cannot_start_is_a_failed_probe(stage: RealStage) -> None:
    from agent.probes import supervisor

    broken = supervisor.Supervisor((sys.executable, "-c", "raise SystemExit(3)"))
    limit, supervisor.START_LIMIT = supervisor.START_LIMIT, 0.3  # type: ignore[misc]
    try:
        with pytest.raises(TrunklineError) as caught:
            await broken.wait_ready()
        assert caught.value.reason is Reason.PROBE_FAILED
    finally:
        supervisor.START_LIMIT = limit  # type: ignore[misc]
        await broken.close()
