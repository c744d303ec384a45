"""`KernelLinks` on a real kernel, judged by ip(8): what the contract suite cannot ask of a fake."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from netns.places import Place, Places
from oracle import links as oracle

from agent.kernel import namespaces
from agent.kernel.links import KernelLinks
from agent.kernel.macvlans import Batch
from agent.plan.state import Interface, MacvlanSpec, Namespace
from trunkline.errors import Reason, TrunklineError


def spec(host: Place, number: int = 1, **changes: object) -> MacvlanSpec:
    """An interface to ask for."""
    made = MacvlanSpec(
        parent_index=oracle.links(host.name)["up0"].index,
        temporary_name=f"tl~{number:04}",
        name=f"eth{number}",
        alias=f"trunkline:attachment:h/c/{number}",
        mac=f"02:11:14:00:{number >> 8:02x}:{number & 255:02x}",
        mode="bridge",
        mtu=0,
        addresses=(f"20.0.{number >> 8}.{number & 255}/16", f"fd00::{number:x}/64"),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def at(place: Place) -> Namespace:
    """The port's word for a place."""
    return Namespace(place.path, place.identity)


async def add(links: KernelLinks, target: Place, wanted: MacvlanSpec) -> Interface:
    """Add one, or fail with the refusal."""
    (made,) = await links.add_macvlans([(at(target), wanted)])
    if isinstance(made, TrunklineError):
        raise made
    return made


def sysctl(place: Place, ifname: str, key: str) -> str:
    """An IPv6 setting of an interface."""
    return place.run("cat", f"/proc/sys/net/ipv6/conf/{ifname}/{key}").strip()


async def test_ip_shows_what_was_asked_for(links: KernelLinks, host: Place, target: Place) -> None:
    wanted = spec(host, gateways=("20.0.255.254", "fd00::ff"), mode="vepa")
    made = await add(links, target, wanted)
    seen = oracle.links(target.name)["eth1"]
    assert (seen.kind, seen.mode, seen.mac, seen.mtu) == ("macvlan", "vepa", wanted.mac, 1500)
    assert (seen.up, seen.alias, seen.index) == (True, wanted.alias, made.link.index)
    assert seen.parent == wanted.parent_index
    assert oracle.addresses_of("eth1", target.name) == list(wanted.addresses)
    assert oracle.default_gateways(target.name, 4) == [("20.0.255.254", "eth1")]
    assert oracle.default_gateways(target.name, 6) == [("fd00::ff", "eth1")]


async def test_ipv4_has_its_broadcast_address_and_ipv6_can_be_used_at_once(
    links: KernelLinks, host: Place, target: Place
) -> None:
    await add(links, target, spec(host))
    four, six = [seen for seen in oracle.addresses(target.name) if seen.scope == "global"]
    assert four.broadcast == "20.0.255.255"
    assert six.nodad
    bind = "import socket; socket.socket(socket.AF_INET6).bind(('fd00::1', 0))"
    target.run("python3", "-c", bind)  # a tentative address cannot be bound


async def test_engines_ipv6_default_stays_behind_ours(links: KernelLinks, host: Place, target: Place) -> None:
    target.veth("eth0", "peer0")
    target.ip("address", "add", "fd17::2/64", "dev", "eth0", "nodad")
    target.ip("route", "add", "default", "via", "fd17::1", "dev", "eth0")
    made = await add(links, target, spec(host, gateways=("fd00::ff",)))
    assert oracle.default_gateways(target.name, 6) == [("fd00::ff", "eth1"), ("fd17::1", "eth0")]
    await links.delete_interface(at(target), made.link.index, made.link.alias)
    assert oracle.default_gateways(target.name, 6) == [("fd17::1", "eth0")]


async def test_frames_pass_between_two_targets(links: KernelLinks, host: Place, places: Places) -> None:
    first, second = places.new(), places.new()
    await add(links, first, spec(host, 1))
    await add(links, second, spec(host, 2))
    for address in ("20.0.0.2", "fd00::2"):
        first.run("ping", "-c", "1", "-W", "5", address)


async def test_no_thread_stays_inside_and_no_descriptor_stays_open(
    links: KernelLinks, host: Place, target: Place
) -> None:
    await add(links, target, spec(host, 1))
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    gone = Namespace("/run/netns/tl-none", "4:1")
    for number in range(2, 12):
        await links.add_macvlans([(at(target), spec(host, number)), (gone, spec(host, 99))])
        await links.add_macvlans([(at(target), spec(host, 77, name="eth1"))])
        await links.interfaces([at(target), gone])
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert strays(Path("/proc/self/ns/net").readlink()) == []


async def test_thread_that_cannot_leave_a_target_ends(
    links: KernelLinks, host: Place, target: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = namespaces._setns
    entered: list[int] = []

    def trapped(descriptor: int) -> None:
        entered.append(descriptor)
        if len(entered) == 2:  # the way back
            raise OSError(1, "not permitted")
        real(descriptor)

    monkeypatch.setattr(namespaces, "_setns", trapped)
    with pytest.raises(TrunklineError):
        await links.host_links()
    monkeypatch.setattr(namespaces, "_setns", real)
    assert {link.name for link in await links.host_links()} == set(oracle.links(host.name))
    home = Path("/proc/self/ns/net").readlink()
    async with asyncio.timeout(5):
        while strays(home):
            await asyncio.sleep(0.01)


def strays(home: Path) -> list[str]:
    """Threads of this process that are in another namespace."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it ended
            if task.joinpath("ns/net").readlink() != home:
                found.append(task.name)
    return found


async def test_dead_targets_interfaces_go_with_it(links: KernelLinks, host: Place, places: Places) -> None:
    target, other = places.new(), places.new()
    one = await add(links, target, spec(host))
    await links.interfaces([at(target)])
    places.remove(target)
    # The kernel clears up behind our back; the MAC is free when it has.
    async with asyncio.timeout(10):
        while True:
            (made,) = await links.add_macvlans([(at(other), spec(host, mac=one.link.mac))])
            if isinstance(made, Interface):
                break
            assert made.reason is Reason.MAC_TAKEN


async def test_many_in_one_call_with_bad_ones_among_them(links: KernelLinks, host: Place, places: Places) -> None:
    targets = [places.new() for _ in range(3)]
    total = 300
    bad: dict[int, dict[str, object]] = {
        7: {"mtu": 9000},
        131: {"gateways": ("9.9.9.9",)},
        250: {"mac": "02:11:14:00:00:01"},
    }
    work = [(at(targets[n % 3]), spec(host, n, **bad.get(n, {}))) for n in range(1, total + 1)]
    made = await links.add_macvlans(work)
    refused = {n: one.reason for n, one in enumerate(made, 1) if isinstance(one, TrunklineError)}
    assert refused == {7: Reason.UPLINK_MTU, 131: Reason.INVALID_GATEWAY, 250: Reason.MAC_TAKEN}
    for place, remainder in ((targets[1], 1), (targets[2], 2), (targets[0], 0)):
        expected = {f"eth{n}" for n in range(1, total + 1) if n % 3 == remainder and n not in bad}
        assert set(oracle.links(place.name)) == expected | {"lo"}


async def test_router_advertisements_are_refused_on_ours_only(links: KernelLinks, host: Place, target: Place) -> None:
    target.veth("eth0", "peer0")
    before = sysctl(target, "eth0", "accept_ra")
    await add(links, target, spec(host, 1))
    await add(links, target, spec(host, 2, accept_ra=True))
    assert [sysctl(target, "eth1", key) for key in ("accept_ra", "autoconf")] == ["0", "0"]
    assert [sysctl(target, "eth2", key) for key in ("accept_ra", "autoconf")] == ["2", "1"]
    assert sysctl(target, "eth0", "accept_ra") == before
    assert sysctl(target, "default", "accept_ra") == "1"


async def test_ipv6_switched_off_in_the_target_is_switched_on_for_ours_alone(
    links: KernelLinks, host: Place, target: Place
) -> None:
    for key in ("all", "default"):
        target.run("sh", "-c", f"echo 1 >/proc/sys/net/ipv6/conf/{key}/disable_ipv6")
    target.veth("eth0", "peer0")
    made = await add(links, target, spec(host, 1))
    assert "fd00::1/64" in made.addresses
    assert sysctl(target, "eth1", "disable_ipv6") == "0"
    assert sysctl(target, "eth0", "disable_ipv6") == "1"
    await add(links, target, spec(host, 2, addresses=("20.0.0.2/16",)))
    assert sysctl(target, "eth2", "disable_ipv6") == "1"


async def test_parent_in_a_bridge_is_a_clear_refusal(links: KernelLinks, host: Place, target: Place) -> None:
    host.ip("link", "add", "br0", "type", "bridge")
    host.ip("link", "set", "up0", "master", "br0")
    (made,) = await links.add_macvlans([(at(target), spec(host))])
    assert isinstance(made, TrunklineError)
    assert made.reason is Reason.KERNEL_REFUSED
    assert "up0" in made.message
    assert "bridge" in made.remedy


async def test_path_that_is_no_network_namespace(links: KernelLinks, host: Place, tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.touch()
    for path in (str(plain), "/proc/self/ns/mnt", "/nonexistent"):
        (made,) = await links.add_macvlans([(Namespace(path, ""), spec(host))])
        assert isinstance(made, TrunklineError)
        assert made.reason is Reason.NETNS_NOT_FOUND


async def test_parent_index_of_another_namespace_is_told(links: KernelLinks, host: Place, places: Places) -> None:
    target, stranger = places.new(), places.host()
    stranger.ip("link", "add", "link", "up0", "name", "foreign", "netns", target.name, "type", "macvlan")
    await add(links, target, spec(host))
    (found,) = await links.interfaces([at(target)])
    assert isinstance(found, list)
    told = {one.link.name: one.link.parent_on_host for one in found}
    assert told == {"lo": False, "foreign": False, "eth1": True}


PHASES = ("_find", "_name", "_quieten", "_address", "_raise", "_route", "_read_back")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("after", [False, True])
async def test_whatever_breaks_nothing_is_left(
    links: KernelLinks, host: Place, target: Place, monkeypatch: pytest.MonkeyPatch, phase: str, after: bool
) -> None:
    target.veth("eth0", "peer0")
    target.ip("address", "add", "172.17.0.2/16", "dev", "eth0")
    target.ip("route", "add", "default", "via", "172.17.0.1")
    before = (set(oracle.links(target.name)), oracle.routes(target.name))
    real = getattr(Batch, phase)

    def broken(batch: Batch) -> object:
        if after:
            real(batch)
        raise OSError(12, "out of memory")

    monkeypatch.setattr(Batch, phase, broken)
    made = await links.add_macvlans([(at(target), spec(host, n, gateways=("20.0.255.254",))) for n in (1, 2)])
    assert [one.reason for one in made if isinstance(one, TrunklineError)] == [Reason.KERNEL_REFUSED] * 2
    assert (set(oracle.links(target.name)), oracle.routes(target.name)) == before


async def test_kernel_without_8021q_is_named(links: KernelLinks, host: Place) -> None:
    uplink = oracle.links(host.name)["up0"].index
    probe = ["ip", "-n", host.name, "link", "add", "link", "up0", "name", "x", "type", "vlan", "id", "9"]
    if subprocess.run(probe, capture_output=True).returncode == 0:
        pytest.skip("this kernel has 8021q; tests/contract/links makes VLANs on it")
    with pytest.raises(TrunklineError) as caught:
        await links.add_vlan(uplink, "up0.10", 10, 0, "trunkline:vlan:default:10")
    assert caught.value.reason is Reason.KERNEL_UNSUPPORTED
    assert "modprobe 8021q" in caught.value.remedy
    assert "up0.10" not in oracle.links(host.name)


@pytest.fixture
def churn(host: Place, tmp_path: Path) -> Iterator[None]:
    """Somebody who makes and deletes links of the host all the time."""
    lines = tmp_path / "churn.batch"
    lines.write_text("".join(f"link add c{n} type bridge\n" for n in range(8)) * 1)
    undo = tmp_path / "undo.batch"
    undo.write_text("".join(f"link del c{n}\n" for n in range(8)))
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            host.ip("-batch", str(lines))
            host.ip("-batch", str(undo))

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("churn")
async def test_dump_is_whole_while_links_come_and_go(links: KernelLinks, host: Place) -> None:
    for n in range(60):
        host.ip("link", "add", f"s{n}", "type", "bridge")
    stable = {"lo", "up0", "wire", *(f"s{n}" for n in range(60))}
    for _ in range(100):
        assert stable <= {link.name for link in await links.host_links()}
