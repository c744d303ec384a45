"""The real agent under attack: killed between any two steps, flapping sessions, disks and uplinks that fail."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.controller import FakeController, attachment, gone, in_phase, network
from netns.agents import AgentProcess
from netns.dying_agent import PHASES
from netns.places import Place, Places
from oracle.links import links as seen_links

from trunkline.model import Desired, HostAttachment, HostNetwork, Observation, Phase, Prefix, Target, TargetKind

BLUE = HostNetwork("blue", 1, "default", 0, prefixes=(Prefix("20.0.0.0/24", "20.0.0.1"),))
RED = HostNetwork("red", 2, "storage", 0, prefixes=(Prefix("30.0.0.0/24", "30.0.0.1"),))


def attached(place: Place, number: int = 17, net: str = "blue", **more: object) -> HostAttachment:
    first = {"blue": 20, "red": 30}[net]
    wanted = HostAttachment(
        f"{place.name}/{net}",
        net,
        Target(TargetKind.NETNS, place.path),
        f"06:{first:02x}:14:00:{number >> 8:02x}:{number & 255:02x}",
        (f"{first}.0.{number >> 8}.{number & 255}/24",),
    )
    return replace(wanted, **more)  # type: ignore[arg-type]


def desired(revision: int, *attachments: HostAttachment, networks: tuple[HostNetwork, ...] = (BLUE,)) -> Desired:
    return Desired("e1", revision, networks, attachments)


def default_route(place: Place) -> str:
    """Gateway of the route in force."""
    shown = place.ip("route", "get", "9.9.9.9").split()
    return shown[shown.index("via") + 1]


@pytest.fixture
def bridged(target: Place) -> Place:
    """A target as Docker's bridge leaves it: eth0 with the default route."""
    target.veth("eth0", "far")
    target.ip("address", "add", "172.17.0.2/16", "dev", "eth0")
    target.ip("route", "add", "default", "via", "172.17.0.1", "dev", "eth0")
    return target


@pytest.mark.parametrize("phase", PHASES)
async def test_killed_after_any_phase_of_an_attach_it_finishes_and_takes_back_all(
    agent: AgentProcess, controller: FakeController, bridged: Place, phase: str
) -> None:
    wanted = attached(bridged, gateways=("20.0.0.1",), default_route=True)
    before = bridged.ip("-4", "-o", "address", "show"), set(seen_links(bridged.name))
    controller.want(desired(5, wanted))
    agent.dies_after = phase
    await agent.start()
    assert await agent.ended() == -signal.SIGKILL
    agent.dies_after = ""
    count = len(controller.observations)
    await agent.start()
    seen = await controller.observed(in_phase(wanted.name, Phase.READY), after=count)
    one = attachment(seen, wanted.name)
    assert one is not None
    assert set(seen_links(bridged.name)) == before[1] | {one.ifname}
    assert default_route(bridged) == "20.0.0.1"
    controller.want(desired(6))
    await controller.observed(gone(wanted.name, 6))
    assert (bridged.ip("-4", "-o", "address", "show"), set(seen_links(bridged.name))) == before
    assert default_route(bridged) == "172.17.0.1"


@pytest.mark.parametrize("phase", ["_create", "_name", "_route"])
async def test_killed_in_an_attach_that_nobody_wants_any_more_it_takes_back_all(
    agent: AgentProcess, controller: FakeController, bridged: Place, phase: str
) -> None:
    before = set(seen_links(bridged.name))
    controller.want(desired(5, attached(bridged, gateways=("20.0.0.1",), default_route=True)))
    agent.dies_after = phase
    await agent.start()
    assert await agent.ended() == -signal.SIGKILL
    assert set(seen_links(bridged.name)) > before
    agent.dies_after = ""
    controller.want(desired(6))
    await agent.start()
    await controller.observed(lambda seen: seen.complete and seen.revision == 6)
    assert set(seen_links(bridged.name)) == before
    assert default_route(bridged) == "172.17.0.1"


async def test_two_attachments_of_one_target_with_one_default_route(
    agent: AgentProcess, controller: FakeController, bridged: Place
) -> None:
    agent.place.veth("up1", "wire1")
    agent.uplinks = {"default": "up0", "storage": "up1"}
    plain = attached(bridged, 17)
    routed = attached(bridged, 18, "red", gateways=("30.0.0.1",), default_route=True, ifname="red0")
    controller.want(desired(5, plain, routed, networks=(BLUE, RED)))
    await agent.start()
    await controller.observed(
        lambda seen: in_phase(plain.name, Phase.READY)(seen) and in_phase(routed.name, Phase.READY)(seen)
    )
    assert default_route(bridged) == "30.0.0.1"
    assert set(seen_links(bridged.name)) == {"lo", "eth0", "far", "tl0", "red0"}
    controller.want(desired(6, plain, networks=(BLUE, RED)))
    await controller.observed(gone(routed.name, 6))
    assert default_route(bridged) == "172.17.0.1"
    assert "tl0" in seen_links(bridged.name)


async def test_a_name_that_is_freed_is_taken_without_being_told(
    agent: AgentProcess, controller: FakeController, bridged: Place
) -> None:
    agent.tick = 3600
    wanted = attached(bridged, ifname="eth0")
    controller.want(desired(5, wanted))
    await agent.start()
    seen = await controller.observed(in_phase(wanted.name, Phase.FAILED))
    one = attachment(seen, wanted.name)
    assert one is not None
    assert one.reason == "IFNAME_TAKEN"
    bridged.ip("link", "delete", "eth0")
    controller.want(desired(6, wanted))
    await controller.observed(in_phase(wanted.name, Phase.READY, 6))


async def test_an_uplink_that_goes_down_is_removed_renamed_and_comes_back(
    agent: AgentProcess, controller: FakeController, target: Place
) -> None:
    agent.tick = 3600
    wanted = attached(target)
    host = agent.place
    controller.want(desired(5, wanted))
    await agent.start()
    await controller.observed(in_phase(wanted.name, Phase.READY))

    count = len(controller.observations)
    host.ip("link", "set", "up0", "down")  # which the agent undoes, since a network needs it
    await until(lambda: seen_links(host.name)["up0"].up)

    host.ip("link", "set", "up0", "name", "other0")
    seen = await controller.observed(network_failed("UPLINK_MISSING"), after=count)
    assert "tl0" in seen_links(target.name)
    assert in_phase(wanted.name, Phase.FAILED)(seen)
    count = len(controller.observations)
    host.ip("link", "set", "other0", "name", "up0")
    await controller.observed(in_phase(wanted.name, Phase.READY), after=count)

    host.ip("link", "delete", "up0")  # the kernel takes what sits on it along
    await controller.observed(network_failed("UPLINK_MISSING"), after=count)
    assert "tl0" not in seen_links(target.name)
    count = len(controller.observations)
    host.veth("up0", "wire")
    await controller.observed(in_phase(wanted.name, Phase.READY), after=count)
    assert seen_links(target.name)["tl0"].mac == wanted.mac


def network_failed(reason: str) -> Callable[[Observation], bool]:
    def holds(seen: Observation) -> bool:
        blue = network(seen, "blue")
        return blue is not None and (blue.phase, blue.reason) == (Phase.FAILED, reason)

    return holds


async def until(what: Callable[[], bool], timeout: float = 15) -> None:
    """Until the host shows it."""
    async with asyncio.timeout(timeout):
        while not what():
            await asyncio.sleep(0.05)


async def test_a_disk_that_is_full_stops_nothing_and_is_told(
    agent: AgentProcess, controller: FakeController, target: Place
) -> None:
    agent.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(agent.state)], check=True)
    try:
        wanted = attached(target)
        controller.want(desired(5))
        await agent.start()
        await controller.observed(lambda seen: seen.revision == 5)
        filler = agent.state / "filler"
        with contextlib.suppress(OSError):  # until it is full
            filler.write_bytes(bytes(1 << 20))
        controller.want(desired(6, wanted))
        seen = await controller.observed(in_phase(wanted.name, Phase.READY))
        assert [problem.kind for problem in seen.problems] == ["host"], seen.problems
        filler.unlink()
        controller.want(desired(7, wanted))
        await controller.observed(lambda seen: seen.revision == 7 and not seen.problems)
        await agent.stop(signal.SIGKILL)
        await controller.stop()
        target.ip("link", "delete", "tl0")
        await agent.start()  # from what was written once there was room again
        await until(lambda: "tl0" in seen_links(target.name))
        await agent.stop()
    finally:
        subprocess.run(["umount", "-l", str(agent.state)], check=True)


async def test_a_host_that_boots_with_a_read_only_disk_gets_what_was_spooled(
    agent: AgentProcess, controller: FakeController, target: Place
) -> None:
    agent.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(agent.state)], check=True)
    try:
        wanted = attached(target)
        controller.want(desired(5, wanted))
        await agent.start()
        await controller.observed(in_phase(wanted.name, Phase.READY))
        await agent.stop()
        await controller.stop()
        target.ip("link", "delete", "tl0")
        (agent.state / "deeds.json").write_text("{")  # the power cut that made the disk read-only got this one
        subprocess.run(["mount", "-o", "remount,ro", str(agent.state)], check=True)
        await agent.start()
        await until(lambda: "tl0" in seen_links(target.name))
        await controller.start()
        seen = await controller.observed(in_phase(wanted.name, Phase.READY), after=len(controller.observations))
        assert {problem.reason for problem in seen.problems} == {"SPOOL_CORRUPT"}
        assert agent.run("accept-epoch").returncode == 1
        assert "another agent works" in agent.run("cleanup").stderr
        assert await agent.stop() == 0
    finally:
        subprocess.run(["umount", "-l", str(agent.state)], check=True)


async def test_a_session_that_flaps_leaks_nothing(
    agent: AgentProcess, controller: FakeController, target: Place
) -> None:
    wanted = attached(target)
    controller.want(desired(5, wanted))
    await agent.start()
    await controller.observed(in_phase(wanted.name, Phase.READY))
    before: dict[str, int] = {}
    for round_ in range(6):
        hellos = len(controller.hellos)
        await controller.stop()
        await controller.start()
        await until(lambda hellos=hellos: len(controller.hellos) > hellos and controller.sessions == 1)  # type: ignore[misc]
        if round_ == 2:  # pools are filled by then
            before = held_by(agent.pid)
    await until(lambda: held_by(agent.pid) == before)
    assert seen_links(target.name)["tl0"].up


def held_by(pid: int) -> dict[str, int]:
    """Open descriptors by kind."""
    found: dict[str, int] = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            kind = os.readlink(entry).split(":")[0]
            found[kind] = found.get(kind, 0) + 1
    return found


async def test_targets_that_vanish_in_the_middle_of_attaching_harm_nobody(
    agent: AgentProcess, controller: FakeController, target: Place, places: Places
) -> None:
    """Namespaces go while their interfaces are being made; those that stay are served, and nothing is left."""
    crowd = [places.new() for _ in range(12)]
    wanted = [attached(place, 100 + n) for n, place in enumerate(crowd)]
    keeper = attached(target)
    controller.want(desired(5))
    await agent.start()
    await controller.observed(lambda seen: seen.revision == 5)
    controller.want(desired(6, *wanted, keeper))
    for place in crowd[::2]:
        places.remove(place)
        await asyncio.sleep(0)
    stay = [*wanted[1::2], keeper]
    seen = await controller.observed(
        lambda seen: (
            seen.revision == 6
            and all(in_phase(one.name, Phase.READY)(seen) for one in stay)
            and all(in_phase(one.name, Phase.WAITING)(seen) for one in wanted[::2])
        )
    )
    assert seen.problems == ()


async def test_two_hundred_attachments_on_one_host(
    agent: AgentProcess, controller: FakeController, places: Places
) -> None:
    """All at once; then one more is not kept waiting by what is heard of the others; and nothing is left."""
    crowd = [places.new() for _ in range(200)]
    agent.tick = 3600
    big = replace(BLUE, prefixes=(Prefix("20.0.0.0/16"),))
    wanted = [replace(attached(place, 256 + n), addresses=(f"20.0.1.{n}/16",)) for n, place in enumerate(crowd)]
    await agent.start()
    controller.want(desired(5, *wanted[1:], networks=(big,)))
    await controller.observed(
        lambda seen: len(seen.attachments) == 199 and all(a.phase is Phase.READY for a in seen.attachments), timeout=60
    )
    controller.want(desired(6, *wanted, networks=(big,)))
    await controller.observed(in_phase(wanted[0].name, Phase.READY, 6), timeout=5)
    controller.want(desired(7))
    await controller.observed(lambda seen: seen.revision == 7 and not seen.attachments, timeout=60)
    assert all("tl0" not in seen_links(place.name) for place in crowd[::20])
