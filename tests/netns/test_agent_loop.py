"""The real agent on a real kernel: untagged networks, namespaces as targets, a controller that speaks real gRPC."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fakes.controller import FakeController, attachment, gone, in_phase, network
from netns.agents import AgentProcess
from netns.places import Place, Places
from oracle.links import addresses as seen_addresses
from oracle.links import links as seen_links

from trunkline.model import (
    Desired,
    HostAttachment,
    HostNetwork,
    Phase,
    Prefix,
    Target,
    TargetKind,
)

BLUE = HostNetwork(
    "blue", 1, "default", 0, prefixes=(Prefix("20.0.0.0/24", "20.0.0.1"),), probe_mac="06:01:00:00:00:01"
)


def attached(place: Place, number: int = 17, **more: object) -> HostAttachment:
    wanted = HostAttachment(
        f"{place.name}/blue",
        "blue",
        Target(TargetKind.NETNS, place.path),
        f"06:01:14:00:00:{number:02x}",
        (f"20.0.0.{number}/24",),
    )
    return replace(wanted, **more)  # type: ignore[arg-type]


def desired(revision: int, *attachments: HostAttachment, epoch: str = "e1") -> Desired:
    return Desired(epoch, revision, (BLUE,), attachments)


async def test_attach_and_detach(agent: AgentProcess, controller: FakeController, target: Place) -> None:
    wanted = attached(target, gateways=("20.0.0.1",), default_route=True)
    controller.want(desired(5, wanted))
    await agent.start()
    seen = await controller.observed(in_phase(wanted.name, Phase.READY))
    ready = attachment(seen, wanted.name)
    assert ready is not None
    assert (ready.ifname, ready.mac, ready.addresses, ready.present) == ("tl0", wanted.mac, wanted.addresses, True)
    assert ready.target_id == target.identity
    assert (seen.revision, seen.epoch, seen.session, seen.complete) == (5, "e1", 1, True)
    blue = network(seen, "blue")
    assert blue is not None
    assert (blue.phase, blue.link, blue.owned, blue.mtu) == (Phase.READY, "up0", False, 1500)
    shown = seen_links(target.name)["tl0"]
    assert (shown.mac, shown.alias, shown.up) == (wanted.mac, f"trunkline:attachment:{wanted.name}", True)
    assert "default via 20.0.0.1" in target.ip("route")

    controller.want(desired(6))
    await controller.observed(gone(wanted.name))
    assert "tl0" not in seen_links(target.name)


async def test_drift_is_repaired(agent: AgentProcess, controller: FakeController, target: Place) -> None:
    wanted = attached(target)
    controller.want(desired(5, wanted))
    await agent.start()
    await controller.observed(in_phase(wanted.name, Phase.READY))
    for damage in (
        ["addr", "flush", "dev", "tl0"],
        ["link", "set", "tl0", "down"],
        ["link", "set", "tl0", "mtu", "1400"],
        ["addr", "add", "20.0.0.99/24", "dev", "tl0"],
        ["link", "del", "tl0"],
    ):
        target.ip(*damage)
        await until_repaired(controller, target, wanted)


async def test_drift_inside_a_target_is_repaired_at_once(
    agent: AgentProcess, controller: FakeController, target: Place
) -> None:
    """Within a second, where the next tick is an hour away."""
    agent.tick = 3600
    wanted = attached(target, gateways=("20.0.0.1",), default_route=True)
    controller.want(desired(5, wanted))
    await agent.start()
    await controller.observed(in_phase(wanted.name, Phase.READY))
    for damage in (
        ["link", "set", "tl0", "down"],
        ["addr", "flush", "dev", "tl0"],
        ["addr", "add", "20.0.0.99/24", "dev", "tl0"],
        ["link", "set", "tl0", "mtu", "1400"],
        ["link", "set", "tl0", "address", "06:01:14:00:00:99"],
        ["link", "del", "tl0"],
    ):
        await agent_rests(agent)
        target.ip(*damage)
        async with asyncio.timeout(1):
            while not whole(target, wanted):
                await asyncio.sleep(0.01)


async def agent_rests(agent: AgentProcess) -> None:
    """Until the agent has slept for a while: echoes of what it did are worked off, and it rests after each look."""

    def worked() -> int:
        return sum(
            int(field) for field in Path(f"/proc/{agent.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        )

    before = -1
    while (now := worked()) != before:
        before = now
        await asyncio.sleep(0.5)


def whole(target: Place, wanted: HostAttachment) -> bool:
    """Whether the host itself shows the interface as wanted."""
    shown = seen_links(target.name).get("tl0")
    own = {one.address for one in seen_addresses(target.name) if one.ifname == "tl0" and one.scope == "global"}
    mark = f"trunkline:attachment:{wanted.name}"
    return bool(
        shown and (shown.mac, shown.alias, shown.up, shown.mtu) == (wanted.mac, mark, True, 1500)
    ) and own == set(wanted.addresses)


async def until_repaired(controller: FakeController, target: Place, wanted: HostAttachment) -> None:
    """Until the host itself shows the interface as wanted; looked at whenever the agent reports."""
    await controller.until(lambda: whole(target, wanted))


async def test_a_foreign_address_outside_the_prefix_is_left_alone(
    agent: AgentProcess, controller: FakeController, target: Place
) -> None:
    wanted = attached(target)
    controller.want(desired(5, wanted))
    await agent.start()
    await controller.observed(in_phase(wanted.name, Phase.READY))
    target.ip("addr", "add", "192.168.7.7/32", "dev", "tl0")
    count = len(controller.observations)
    await controller.observed(in_phase(wanted.name, Phase.READY), after=count + 1)
    assert any(one.address == "192.168.7.7/32" for one in seen_addresses(target.name))


async def test_target_made_anew(agent: AgentProcess, controller: FakeController, target: Place, places: Places) -> None:
    wanted = attached(target)
    controller.want(desired(5, wanted))
    await agent.start()
    await controller.observed(in_phase(wanted.name, Phase.READY))
    count = len(controller.observations)
    path = target.path
    places.remove(target)
    await controller.observed(in_phase(wanted.name, Phase.WAITING), after=count)
    again = places.new(target.name)
    assert again.path == path
    seen = await controller.observed(in_phase(wanted.name, Phase.READY), after=count)
    one = attachment(seen, wanted.name)
    assert one is not None
    assert (one.mac, one.addresses, one.target_id) == (wanted.mac, wanted.addresses, again.identity)


async def test_one_that_cannot_be_had_harms_no_other(
    agent: AgentProcess, controller: FakeController, target: Place, places: Places
) -> None:
    other = places.new()
    other.veth("eth7", "eth8")
    good = attached(target, 17)
    taken = attached(other, 18, ifname="eth7")
    missing = replace(attached(other, 19), name="h1/nobody", target=Target(TargetKind.NETNS, "/run/netns/nobody-here"))
    on_host = replace(attached(other, 20), name="h1/self", target=Target(TargetKind.NETNS, agent.place.path))
    lost = replace(attached(other, 21), name="h1/lost", network="red")
    controller.want(desired(5, taken, missing, good, on_host, lost))
    await agent.start()
    seen = await controller.observed(in_phase(good.name, Phase.READY))
    verdicts = {one.name: (one.phase, one.reason) for one in seen.attachments if one.name != good.name}
    assert verdicts == {
        taken.name: (Phase.FAILED, "IFNAME_TAKEN"),
        "h1/nobody": (Phase.WAITING, "NETNS_NOT_FOUND"),
        "h1/self": (Phase.FAILED, "NETNS_IS_HOST"),
        "h1/lost": (Phase.FAILED, "NETWORK_NOT_FOUND"),
    }


async def test_killed_and_started_again(
    agent: AgentProcess, controller: FakeController, target: Place, places: Places
) -> None:
    crowd = [places.new() for _ in range(6)]
    wanted = [attached(place, 30 + n) for n, place in enumerate(crowd)]
    first = attached(target)
    controller.want(desired(5, first))
    await agent.start()
    await controller.observed(in_phase(first.name, Phase.READY))
    before = seen_links(target.name)["tl0"].index
    controller.want(desired(6, first, *wanted))
    await controller.observed(lambda seen: seen.revision == 6)
    await agent.stop(signal.SIGKILL)
    assert seen_links(target.name)["tl0"].index == before

    count = len(controller.observations)
    controller.want(desired(7, first, *wanted[:3]))
    await agent.start()
    seen = await controller.observed(
        lambda seen: seen.revision == 7 and all(one.phase is Phase.READY for one in seen.attachments), after=count
    )
    assert {one.name for one in seen.attachments} == {first.name, *(one.name for one in wanted[:3])}
    assert seen_links(target.name)["tl0"].index == before
    assert all("tl0" not in seen_links(place.name) for place in crowd[3:])
    assert await agent.stop() == 0
    assert seen_links(target.name)["tl0"].index == before


async def test_boot_from_the_spool_with_a_conflict(
    agent: AgentProcess, controller: FakeController, target: Place, places: Places
) -> None:
    """No controller in sight, the interfaces gone as after a boot: what nobody else answers for comes up by itself,
    what somebody answers for stays down until he is gone."""
    second = places.new()
    free, taken = attached(target, 17), attached(second, 18)
    controller.want(desired(5, free, taken))
    await agent.start()
    await controller.observed(
        lambda seen: in_phase(free.name, Phase.READY)(seen) and in_phase(taken.name, Phase.READY)(seen)
    )
    await agent.stop()
    await controller.stop()
    for place in (target, second):
        place.ip("link", "del", "tl0")
    stranger = places.new()
    agent.place.ip("link", "set", "wire", "netns", stranger.name)
    stranger.ip("link", "set", "wire", "up")
    stranger.ip("addr", "add", "20.0.0.18/24", "dev", "wire")
    mac = seen_links(stranger.name)["wire"].mac

    await agent.start()
    await until(lambda: "tl0" in seen_links(target.name))
    await controller.start()
    seen = await controller.observed(in_phase(taken.name, Phase.FAILED))
    one = attachment(seen, taken.name)
    assert one is not None
    assert (one.reason, one.present) == ("ADDRESS_CONFLICT", False)
    assert mac in one.message
    assert controller.hellos[-1].revision == 5
    assert "tl0" not in seen_links(second.name)

    stranger.ip("addr", "flush", "dev", "wire")
    await controller.observed(in_phase(taken.name, Phase.READY), timeout=30, after=len(controller.observations))


async def test_a_renewed_history_removes_nothing_until_accepted(
    agent: AgentProcess, controller: FakeController, target: Place
) -> None:
    wanted = attached(target)
    controller.want(desired(5, wanted))
    await agent.start()
    await controller.observed(in_phase(wanted.name, Phase.READY))
    controller.want(desired(2, epoch="e2"))
    seen = await controller.observed(lambda seen: seen.epoch == "e2")
    one = attachment(seen, wanted.name)
    assert one is not None
    assert (one.present, one.reason) == (True, "EPOCH_CHANGED")
    assert [problem.reason for problem in seen.problems] == ["EPOCH_CHANGED"]
    assert agent.run("accept-epoch").returncode == 0
    seen = await controller.observed(lambda seen: seen.epoch == "e2" and gone(wanted.name)(seen))
    assert not seen.problems
    assert "tl0" not in seen_links(target.name)


async def test_an_older_revision_is_ignored_and_reported(
    agent: AgentProcess, controller: FakeController, target: Place
) -> None:
    wanted = attached(target)
    controller.want(desired(5, wanted))
    await agent.start()
    await controller.observed(in_phase(wanted.name, Phase.READY))
    controller.want(desired(4))
    seen = await controller.observed(lambda seen: any(problem.reason == "REVISION_OLD" for problem in seen.problems))
    assert in_phase(wanted.name, Phase.READY)(seen)
    assert seen.revision == 5


async def test_promiscuous_mode_is_set_and_taken_back(
    agent: AgentProcess, controller: FakeController, target: Place
) -> None:
    agent.promiscuous = True
    controller.want(desired(5, attached(target)))
    await agent.start()
    await controller.observed(in_phase(attached(target).name, Phase.READY))
    assert seen_links(agent.place.name)["up0"].promiscuous
    assert await agent.stop() == 0
    agent.promiscuous = False
    await agent.start()
    await until(lambda: not seen_links(agent.place.name)["up0"].promiscuous)


async def test_cleanup_takes_back_what_was_made_and_nothing_else(
    agent: AgentProcess, controller: FakeController, target: Place
) -> None:
    agent.place.ip("link", "set", "up0", "down")
    agent.promiscuous = True
    wanted = attached(target)
    controller.want(desired(5, wanted))
    await agent.start()
    await controller.observed(in_phase(wanted.name, Phase.READY))
    assert "another agent works" in agent.run("cleanup").stderr
    assert await agent.stop() == 0
    done = agent.run("cleanup")
    assert (done.returncode, done.stderr) == (0, "")
    assert "tl0" in seen_links(target.name)
    assert not seen_links(agent.place.name)["up0"].promiscuous
    done = agent.run("cleanup", "--attachments")
    assert f"removed interface tl0 in {target.path}" in done.stdout
    assert "tl0" not in seen_links(target.name)


async def test_the_next_controller_is_dialled(
    host: Place, tmp_path: Path, target: Place, controller: FakeController
) -> None:
    second = FakeController(tmp_path / "second.sock")
    await second.start()
    agent = AgentProcess(host, tmp_path, [controller.endpoint, second.endpoint])
    wanted = attached(target)
    for one in (controller, second):
        one.want(desired(5, wanted))
    try:
        await agent.start()
        await controller.observed(in_phase(wanted.name, Phase.READY))
        await controller.stop()
        await second.observed(in_phase(wanted.name, Phase.READY))
        assert second.hellos[0].revision == 5
    finally:
        await agent.stop()
        await second.stop()


async def until(what: Callable[[], bool], timeout: float = 15) -> None:
    """Until the host shows it; for what no controller hears of."""
    async with asyncio.timeout(timeout):
        while not what():
            await asyncio.sleep(0.05)


async def test_a_process_is_a_target_until_it_ends(
    agent: AgentProcess, controller: FakeController, places: Places
) -> None:
    place = places.new()
    process = await asyncio.create_subprocess_exec("ip", "netns", "exec", place.name, "sleep", "1000")
    keeper = await asyncio.create_subprocess_exec("ip", "netns", "exec", place.name, "sleep", "1000")
    try:
        inode = Path(place.path).stat().st_ino
        await until(lambda: Path(f"/proc/{process.pid}/ns/net").stat().st_ino == inode)
        wanted = replace(attached(place), target=Target(TargetKind.PID, str(process.pid)))
        controller.want(desired(5, wanted))
        await agent.start()
        await controller.observed(in_phase(wanted.name, Phase.READY))
        assert "tl0" in seen_links(place.name)
        count = len(controller.observations)
        process.kill()
        await process.wait()
        seen = await controller.observed(in_phase(wanted.name, Phase.WAITING), after=count)
        one = attachment(seen, wanted.name)
        assert one is not None
        # Another process keeps the namespace alive, and with it the interface and its address.
        assert (one.reason, one.present) == ("NETNS_NOT_FOUND", True)
        controller.want(desired(6))
        await controller.observed(gone(wanted.name))
        assert "tl0" not in seen_links(place.name)
    finally:
        for one_of in (process, keeper):
            if one_of.returncode is None:
                one_of.kill()
                await one_of.wait()
