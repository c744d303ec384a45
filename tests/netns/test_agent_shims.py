"""The host's own interface on a network, by the real agent on a real kernel: what the host reaches through it, and
what of the host stays as it was."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from fakes.controller import FakeController, attachment, gone, in_phase
from netns.agents import AgentProcess
from netns.places import Place, Places
from oracle.links import addresses_of
from oracle.links import links as seen_links
from oracle.links import routes as seen_routes

from trunkline.model import Desired, HostAttachment, HostNetwork, Mode, Origin, Phase, Prefix, Target, TargetKind

BLUE = HostNetwork("blue", 1, "default", 0, prefixes=(Prefix("20.0.0.0/24"), Prefix("fd00:20::/64")))
SHIM = HostAttachment(
    "host/blue",
    "blue",
    Target(TargetKind.PID, "1"),
    "06:01:14:00:00:05",
    ("20.0.0.5/24", "fd00:20::5/64"),
    origin=Origin.HOST,
)
METRIC = 40_001
PREFIXES = {("20.0.0.0/24", "20.0.0.5", METRIC), ("fd00:20::/64", "fd00:20::5", METRIC)}
CONTAINER = {("20.0.0.17/32", "20.0.0.5", METRIC), ("fd00:20::17/128", "fd00:20::5", METRIC)}


def attached(place: Place, number: int = 17) -> HostAttachment:
    return HostAttachment(
        f"{place.name}/blue",
        "blue",
        Target(TargetKind.NETNS, place.path),
        f"06:01:14:00:00:{number:02x}",
        (f"20.0.0.{number}/24", f"fd00:20::{number}/64"),
    )


def desired(revision: int, *attachments: HostAttachment, network: HostNetwork = BLUE) -> Desired:
    return Desired("e1", revision, (network,), attachments)


def ours(host: Place) -> set[tuple[str, str, int]]:
    """(destination, source, metric) of the routes with our protocol number."""
    return {
        (route.destination, route.source, route.metric)
        for family in (4, 6)
        for route in seen_routes(host.name, family)
        if route.protocol == "149"
    }


def theirs(host: Place) -> list[object]:
    """Every other route, but for what the kernel itself sets on the interface."""
    return [
        route
        for family in (4, 6)
        for route in seen_routes(host.name, family)
        if route.protocol != "149" and not (route.protocol == "kernel" and route.ifname == "tlh1")
    ]


async def reaches(place: Place, address: str, *, seconds: float = 8, source: str = "") -> bool:
    """Whether one answer to pings comes in time."""
    words = ["ping", "-n", "-q", "-c", "1", "-i", "0.2", "-w", str(int(seconds)), *(["-I", source] if source else [])]
    argv = ["ip", "netns", "exec", place.name, *words, address]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.DEVNULL)
    return await process.wait() == 0


@pytest.fixture
def lan(host: Place, places: Places) -> Place:
    """What is at the other end of the host's uplink: a container of another host, a router, a neighbour. It has
    20.0.0.30 and fd00:20::30."""
    place = places.new()
    host.ip("link", "set", "wire", "netns", place.name)
    place.ip("link", "set", "wire", "up")
    place.ip("addr", "add", "20.0.0.30/24", "dev", "wire")
    place.ip("addr", "add", "fd00:20::30/64", "dev", "wire", "nodad")
    return place


@asynccontextmanager
async def undisturbed(place: Place, address: str) -> AsyncIterator[None]:
    """Not one ping each 5 ms from `place` to `address` is lost meanwhile."""
    argv = ["ip", "netns", "exec", place.name, "ping", "-n", "-i", "0.005", "-W", "1", address]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    while b"time=" not in await process.stdout.readline():  # it works to begin with
        pass
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        rest = (await process.stdout.read()).decode()
        await process.wait()
    told = re.search(r"(\d+) packets transmitted, (\d+) received", rest)
    assert told, rest
    sent, received = int(told[1]), int(told[2])
    assert sent >= 20, rest
    # The last one may be on its way when it is told to end.
    assert sent - received <= 1, rest


SERVER = """
import socket, sys
listening = socket.create_server(("::", 7777), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
talk, _ = listening.accept()
while data := talk.recv(64):
    talk.sendall(data)
"""

CLIENT = """
import signal, socket, sys, time
going = True
def end(*_):
    global going
    going = False
signal.signal(signal.SIGINT, end)
talk = socket.create_connection((sys.argv[1], 7777), 5)
talk.settimeout(1)
worst = 0.0
print("talking", talk.getsockname()[0], flush=True)
while going:
    began = time.monotonic()
    talk.sendall(b"x" * 64)
    left = 64
    while left:
        left -= len(talk.recv(left))
    worst = max(worst, time.monotonic() - began)
    time.sleep(0.01)
print("worst", worst, flush=True)
"""


@asynccontextmanager
async def conversation(client: Place, server: Place, address: str) -> AsyncIterator[str]:
    """A TCP connection from one place to the other that goes on meanwhile, no answer later than 150 ms (a lost segment
    would take 200); yields the client's address."""

    def argv(place: Place, program: str, *more: str) -> list[str]:
        return ["ip", "netns", "exec", place.name, sys.executable, "-c", program, *more]

    listening = await asyncio.create_subprocess_exec(*argv(server, SERVER), stdout=asyncio.subprocess.PIPE)
    assert listening.stdout is not None
    await listening.stdout.readline()
    talking = await asyncio.create_subprocess_exec(*argv(client, CLIENT, address), stdout=asyncio.subprocess.PIPE)
    assert talking.stdout is not None
    try:
        said = (await talking.stdout.readline()).decode().split()
        assert said[:1] == ["talking"], said
        yield said[1]
        talking.send_signal(signal.SIGINT)
        word, worst = (await talking.stdout.readline()).decode().split()
        assert word == "worst"
        assert float(worst) < 0.15, worst
        assert await talking.wait() == 0
    finally:
        for process in (talking, listening):
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_the_host_reaches_its_own_containers_and_those_elsewhere(
    agent: AgentProcess, controller: FakeController, host: Place, lan: Place, target: Place
) -> None:
    web = attached(target)
    controller.want(desired(5, web))
    await agent.start()
    await controller.observed(in_phase(web.name, Phase.READY))
    host.ip("route", "add", "20.0.0.0/24", "dev", "up0", "metric", "50000")  # what people try first, and is not enough
    assert not await reaches(host, "20.0.0.17", seconds=1)
    host.ip("route", "del", "20.0.0.0/24", "dev", "up0", "metric", "50000")

    controller.want(desired(6, web, SHIM))
    seen = await controller.observed(in_phase(SHIM.name, Phase.READY))
    one = attachment(seen, SHIM.name)
    assert one is not None
    assert (one.ifname, one.mac, set(one.addresses), one.present) == ("tlh1", SHIM.mac, set(SHIM.addresses), True)
    assert (one.reason, one.message, seen.problems) == ("", "", ())
    shown = seen_links(host.name)["tlh1"]
    assert (shown.alias, shown.mac, shown.mode, shown.up) == ("trunkline:shim:host/blue", SHIM.mac, "bridge", True)
    assert set(addresses_of("tlh1", host.name)) == {"20.0.0.5/32", "fd00:20::5/128"}
    assert ours(host) == PREFIXES | CONTAINER
    for address in ("20.0.0.17", "fd00:20::17", "20.0.0.30", "fd00:20::30"):
        assert await reaches(host, address), address
    for place in (target, lan):
        for address in ("20.0.0.5", "fd00:20::5"):
            assert await reaches(place, address), (place, address)

    controller.want(desired(7, web))
    await controller.observed(gone(SHIM.name, 7))
    assert "tlh1" not in seen_links(host.name)
    assert ours(host) == set()
    assert in_phase(web.name, Phase.READY)(controller.observations[-1])


async def test_the_hosts_own_lan_goes_on_as_before(
    agent: AgentProcess, controller: FakeController, host: Place, lan: Place, target: Place
) -> None:
    """The host's own address is in the prefix, on the very link that carries the network; its neighbours are talked to
    all the time while the interface comes, is damaged, and goes. With strict reverse path filtering, which is the
    harder case, and somebody's route to a single neighbour."""
    host.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    host.run("sysctl", "-qw", "net.ipv4.conf.up0.arp_ignore=1")  # as on sub-interfaces that the agent makes
    host.ip("addr", "add", "20.0.0.9/24", "dev", "up0")
    host.ip("addr", "add", "fd00:20::9/64", "dev", "up0", "nodad")
    host.ip("route", "add", "20.0.0.30/32", "dev", "up0", "proto", "static")
    before = theirs(host)
    web = attached(target)
    controller.want(desired(5, web))
    await agent.start()
    await controller.observed(in_phase(web.name, Phase.READY))
    async with (
        undisturbed(host, "20.0.0.30"),
        undisturbed(host, "fd00:20::30"),
        undisturbed(lan, "20.0.0.9"),
        conversation(host, lan, "20.0.0.30") as source,
        conversation(lan, host, "fd00:20::9"),
    ):
        assert source == "20.0.0.9"
        controller.want(desired(6, web, SHIM))
        await controller.observed(in_phase(SHIM.name, Phase.READY))
        assert theirs(host) == before
        assert ours(host) == PREFIXES | CONTAINER
        for address in ("20.0.0.17", "fd00:20::17"):
            assert await reaches(host, address), address
        assert await reaches(lan, "20.0.0.5")
        assert await reaches(target, "20.0.0.5")
        host.ip("link", "del", "tlh1")
        await controller.until(lambda: ours(host) == PREFIXES | CONTAINER)
        controller.want(desired(7, web))
        await controller.observed(gone(SHIM.name, 7))
    assert theirs(host) == before
    assert ours(host) == set()


async def test_a_wider_lan_of_the_hosts_keeps_what_it_has(
    agent: AgentProcess, controller: FakeController, host: Place, lan: Place, target: Place, places: Places
) -> None:
    """The host's LAN is 20.0.0.0/16 on another wire: a route to the /24 would take a part of it away."""
    other = places.new()
    host.ip("link", "add", "lan0", "type", "veth", "peer", "name", "wire", "netns", other.name)
    host.ip("link", "set", "lan0", "up")
    other.ip("link", "set", "wire", "up")
    host.ip("addr", "add", "20.0.7.9/16", "dev", "lan0")
    other.ip("addr", "add", "20.0.0.44/16", "dev", "wire")
    before = theirs(host)
    web = attached(target)
    async with undisturbed(host, "20.0.0.44"), conversation(other, host, "20.0.7.9"):
        controller.want(desired(5, web, SHIM))
        await agent.start()
        await controller.observed(in_phase(SHIM.name, Phase.READY))
        await controller.observed(in_phase(web.name, Phase.READY))
        assert theirs(host) == before
        assert ours(host) == {one for one in PREFIXES if ":" in one[0]} | CONTAINER
        assert await reaches(host, "20.0.0.17")
        assert await reaches(host, "20.0.0.44")
    host.ip("addr", "del", "20.0.7.9/16", "dev", "lan0")
    await controller.until(lambda: ours(host) == PREFIXES | CONTAINER)
    assert await reaches(host, "20.0.0.30")


async def test_the_hosts_other_addresses_are_nobodys_business(
    agent: AgentProcess, controller: FakeController, host: Place, lan: Place, target: Place
) -> None:
    """Not asked for by ARP, the interface says nothing of them; nor when the host itself asks in their name."""
    host.ip("link", "add", "mgmt", "type", "bridge")
    host.ip("link", "set", "mgmt", "up")
    host.ip("addr", "add", "10.9.9.9/24", "dev", "mgmt")
    web = attached(target)
    controller.want(desired(5, web, SHIM))
    await agent.start()
    await controller.observed(in_phase(web.name, Phase.READY))
    await controller.observed(in_phase(SHIM.name, Phase.READY))
    target.ip("route", "add", "10.9.9.9/32", "dev", "tl0")
    assert not await reaches(target, "10.9.9.9", seconds=2)
    assert "10.9.9.9" not in {line.split()[0] for line in target.ip("neigh").splitlines() if "lladdr" in line}
    target.ip("route", "replace", "10.9.9.9/32", "via", "20.0.0.5", "dev", "tl0")
    target.ip("neigh", "flush", "all")
    assert await reaches(host, "20.0.0.17", source="10.9.9.9")
    known = {line.split()[0]: line for line in target.ip("-4", "neigh").splitlines() if "lladdr" in line}
    assert "20.0.0.5" in known
    assert "10.9.9.9" not in known


async def test_drift_is_repaired(
    agent: AgentProcess, controller: FakeController, host: Place, lan: Place, target: Place
) -> None:
    web = attached(target)
    controller.want(desired(5, web, SHIM))
    await agent.start()
    await controller.observed(in_phase(web.name, Phase.READY))
    await controller.observed(in_phase(SHIM.name, Phase.READY))
    host.ip("route", "add", "198.51.100.0/24", "dev", "up0", "proto", "static")
    for damage in (
        ["link", "del", "tlh1"],
        ["link", "set", "tlh1", "down"],
        ["link", "set", "tlh1", "mtu", "1400"],
        ["link", "set", "tlh1", "address", "06:01:14:00:00:99"],
        ["addr", "del", "20.0.0.5/32", "dev", "tlh1"],
        ["addr", "del", "fd00:20::5/128", "dev", "tlh1"],
        ["addr", "add", "20.0.0.66/32", "dev", "tlh1"],
        ["route", "del", "20.0.0.17/32", "dev", "tlh1"],
        ["route", "del", "20.0.0.0/24", "dev", "tlh1"],
        ["-6", "route", "del", "fd00:20::/64", "dev", "tlh1"],
        ["route", "add", "20.0.0.77/32", "dev", "tlh1", "proto", "149"],
    ):
        before = deeds(agent)
        host.ip(*damage)
        await controller.until(lambda: deeds(agent) > before and whole(host))  # noqa: B023 (awaited here)
    assert any(route.destination == "198.51.100.0/24" for route in seen_routes(host.name))
    assert await reaches(host, "20.0.0.17")


def deeds(agent: AgentProcess) -> int:
    """How often the agent made or mended the interface, by its log."""
    return agent.log.read_text().count("the host's own interface")


def whole(host: Place) -> bool:
    """Whether the host itself shows the interface and its routes as wanted."""
    shown = seen_links(host.name).get("tlh1")
    return bool(
        shown
        and (shown.mac, shown.alias, shown.up, shown.mtu) == (SHIM.mac, "trunkline:shim:host/blue", True, 1500)
        and set(addresses_of("tlh1", host.name)) == {"20.0.0.5/32", "fd00:20::5/128"}
        and ours(host) == PREFIXES | CONTAINER
    )


async def test_routes_follow_the_containers(
    agent: AgentProcess, controller: FakeController, host: Place, target: Place, places: Places
) -> None:
    second = places.new()
    controller.want(desired(5, SHIM, attached(target)))
    await agent.start()
    await controller.observed(in_phase(SHIM.name, Phase.READY))
    index = seen_links(host.name)["tlh1"].index
    controller.want(desired(6, SHIM, attached(second, 18)))
    await controller.observed(in_phase(SHIM.name, Phase.READY, 6))
    await controller.until(
        lambda: (
            ours(host) == PREFIXES | {("20.0.0.18/32", "20.0.0.5", METRIC), ("fd00:20::18/128", "fd00:20::5", METRIC)}
        )
    )
    assert seen_links(host.name)["tlh1"].index == index


async def test_a_boot_with_no_controller_and_a_conflict(
    agent: AgentProcess, controller: FakeController, host: Place, lan: Place, target: Place
) -> None:
    """Gone as after a boot, it comes back from the spool by itself; not while somebody else answers for its address."""
    controller.want(desired(5, SHIM, attached(target)))
    await agent.start()
    await controller.observed(in_phase(SHIM.name, Phase.READY))
    await agent.stop()
    await controller.stop()
    host.ip("link", "del", "tlh1")
    await agent.start()
    async with asyncio.timeout(15):
        while not whole(host):
            await asyncio.sleep(0.05)
    await agent.stop()

    host.ip("link", "del", "tlh1")
    lan.ip("addr", "add", "20.0.0.5/24", "dev", "wire")
    await agent.start()
    async with asyncio.timeout(15):  # or the controller's word would come before the verdict
        while "held back" not in agent.log.read_text():
            await asyncio.sleep(0.05)
    await controller.start()
    seen = await controller.observed(in_phase(SHIM.name, Phase.FAILED))
    one = attachment(seen, SHIM.name)
    assert one is not None
    assert (one.reason, one.present) == ("ADDRESS_CONFLICT", False)
    assert "tlh1" not in seen_links(host.name)
    lan.ip("addr", "del", "20.0.0.5/24", "dev", "wire")
    count = len(controller.observations)
    await controller.observed(in_phase(SHIM.name, Phase.READY), timeout=30, after=count)


async def test_it_is_announced(agent: AgentProcess, controller: FakeController, host: Place, lan: Place) -> None:
    """A neighbour that knows an old place of the address learns the new one without asking."""
    lan.ip("neigh", "replace", "20.0.0.5", "lladdr", "06:00:00:00:00:01", "dev", "wire", "nud", "stale")
    controller.want(desired(5, SHIM))
    await agent.start()
    await controller.observed(in_phase(SHIM.name, Phase.READY))
    async with asyncio.timeout(10):
        while SHIM.mac not in lan.ip("neigh", "show", "20.0.0.5"):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("mode", [Mode.PRIVATE, Mode.VEPA])
async def test_modes_in_which_siblings_are_deaf_say_so(
    agent: AgentProcess, controller: FakeController, host: Place, lan: Place, target: Place, mode: Mode
) -> None:
    web = attached(target)
    controller.want(desired(5, web, SHIM, network=replace(BLUE, mode=mode)))
    await agent.start()
    await controller.observed(in_phase(web.name, Phase.READY))
    seen = await controller.observed(in_phase(SHIM.name, Phase.READY))
    one = attachment(seen, SHIM.name)
    assert one is not None
    assert f"mode {mode.value}" in one.message
    assert ours(host) == (PREFIXES if mode is Mode.PRIVATE else PREFIXES | CONTAINER)
    assert await reaches(host, "20.0.0.30")
    assert not await reaches(host, "20.0.0.17", seconds=1)


async def test_cleanup_takes_it_away_and_the_containers_stay(
    agent: AgentProcess, controller: FakeController, host: Place, target: Place
) -> None:
    web = attached(target)
    controller.want(desired(5, web, SHIM))
    await agent.start()
    await controller.observed(in_phase(web.name, Phase.READY))
    await controller.observed(in_phase(SHIM.name, Phase.READY))
    host.ip("route", "add", "20.0.0.0/24", "dev", "up0", "metric", "9")
    assert await agent.stop() == 0
    assert "tlh1" in seen_links(host.name)
    done = agent.run("cleanup")
    assert (done.returncode, done.stderr) == (0, "")
    assert "removed link tlh1" in done.stdout
    assert "tlh1" not in seen_links(host.name)
    assert ours(host) == set()
    assert any(route.ifname == "up0" and route.metric == 9 for route in seen_routes(host.name))
    assert "tl0" in seen_links(target.name)


async def test_a_name_that_is_taken_is_refused_and_left_alone(
    agent: AgentProcess, controller: FakeController, host: Place
) -> None:
    host.ip("link", "add", "tlh1", "type", "bridge")
    controller.want(desired(5, SHIM))
    await agent.start()
    seen = await controller.observed(in_phase(SHIM.name, Phase.FAILED))
    one = attachment(seen, SHIM.name)
    assert one is not None
    assert (one.reason, one.present) == ("LINK_CLASH", False)
    assert seen_links(host.name)["tlh1"].kind == "bridge"
    host.ip("link", "del", "tlh1")
    await controller.observed(in_phase(SHIM.name, Phase.READY), after=len(controller.observations))


async def test_a_renewed_history_does_not_remove_it_until_accepted(
    agent: AgentProcess, controller: FakeController, host: Place
) -> None:
    controller.want(desired(5, SHIM))
    await agent.start()
    await controller.observed(in_phase(SHIM.name, Phase.READY))
    controller.want(replace(desired(2), epoch="e2"))
    seen = await controller.observed(lambda seen: seen.epoch == "e2")
    one = attachment(seen, SHIM.name)
    assert one is not None
    assert (one.present, one.reason) == (True, "EPOCH_CHANGED")
    assert "tlh1" in seen_links(host.name)
    assert agent.run("accept-epoch").returncode == 0
    await controller.observed(lambda seen: seen.epoch == "e2" and gone(SHIM.name)(seen))
    assert "tlh1" not in seen_links(host.name)


@pytest.mark.parametrize(
    "strictness",
    ["0", "2", pytest.param("1", marks=pytest.mark.xfail(strict=True, reason="docs/host-access.md: one-way paths"))],
)
async def test_who_comes_to_another_address_through_a_router_still_does(
    agent: AgentProcess, controller: FakeController, host: Place, lan: Place, places: Places, strictness: str
) -> None:
    """A machine on the VLAN talks to the host's management address through a router; the host answers it straight
    from then on."""
    lan.ip("addr", "flush", "dev", "wire")
    lan.ip("link", "add", "br0", "type", "bridge")
    lan.ip("link", "set", "wire", "master", "br0")
    lan.ip("link", "set", "br0", "up")
    lan.ip("addr", "add", "20.0.0.1/24", "dev", "br0")
    lan.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    machine = places.new()
    for place, here, there in ((host, "mgmt", "m0"), (machine, "eth0", "p0")):
        place.ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", lan.name)
        place.ip("link", "set", here, "up")
        lan.ip("link", "set", there, "up")
    lan.ip("link", "set", "p0", "master", "br0")
    lan.ip("addr", "add", "10.0.0.1/24", "dev", "m0")
    host.ip("addr", "add", "10.0.0.7/24", "dev", "mgmt")
    host.ip("route", "add", "default", "via", "10.0.0.1")
    machine.ip("addr", "add", "20.0.0.50/24", "dev", "eth0")
    machine.ip("route", "add", "default", "via", "20.0.0.1")
    host.run("sysctl", "-qw", f"net.ipv4.conf.all.rp_filter={strictness}")
    assert await reaches(machine, "10.0.0.7")
    controller.want(desired(5, SHIM))
    await agent.start()
    await controller.observed(in_phase(SHIM.name, Phase.READY))
    assert await reaches(machine, "10.0.0.7", seconds=2)
