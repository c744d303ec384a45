"""The `Links` contract: the host's own interfaces on networks, and their routes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from contract.links.worlds import KernelWorld, World

from agent.plan.state import Link, MacvlanSpec, ShimSpec
from trunkline import naming
from trunkline.errors import Reason, TrunklineError

ALIAS = naming.shim_mark("host/blue")
METRIC = 40_001
ROUTES = (
    ("20.0.0.17/32", "20.0.0.5"),
    ("20.0.0.0/24", "20.0.0.5"),
    ("fd00::17/128", "fd00::5"),
    ("fd00::/64", "fd00::5"),
)
SHOWN = {(destination, source, METRIC) for destination, source in ROUTES}


def spec(world: World, **changes: object) -> ShimSpec:
    """The interface to ask for; `changes` are of what is under its routes."""
    interface = MacvlanSpec(
        parent_index=world.index("up0"),
        temporary_name=naming.temporary(ALIAS),
        name="tlh1",
        alias=ALIAS,
        mac="06:01:14:00:00:05",
        mode="bridge",
        mtu=1400,
        addresses=("20.0.0.5/32", "fd00::5/128"),
    )
    return ShimSpec(replace(interface, **changes), ROUTES, METRIC)  # type: ignore[arg-type]


async def link(world: World, name: str = "tlh1") -> Link:
    """A link of the host as the port shows it."""
    return next(one for one in await world.links.host_links() if one.name == name)


async def refusal(world: World, wanted: ShimSpec) -> TrunklineError:
    """Ask for one that must be refused, and leave nothing."""
    before = world.names(world.host)
    with pytest.raises(TrunklineError) as caught:
        await world.links.add_shim(wanted)
    assert world.names(world.host) == before
    assert await world.links.shim_routes() == []
    return caught.value


async def test_it_is_as_asked_for_with_its_routes(world: World) -> None:
    assert await world.links.shim_routes() == []
    index = await world.links.add_shim(spec(world))
    made = await link(world)
    assert (made.index, made.kind, made.mode, made.mac) == (index, "macvlan", "bridge", "06:01:14:00:00:05")
    assert (made.mtu, made.up, made.alias) == (1400, True, ALIAS)
    assert (made.parent, made.parent_on_host) == (world.index("up0"), True)
    assert set(made.host_addresses) == {"20.0.0.5/32", "fd00::5/128"}
    assert world.routes("tlh1") == SHOWN
    told = await world.links.shim_routes()
    assert {(one.destination, one.source, one.metric) for one in told} == SHOWN
    assert {one.index for one in told} == {index}


async def test_it_goes_with_addresses_and_routes_and_only_by_its_mark(world: World) -> None:
    index = await world.links.add_shim(spec(world))
    with pytest.raises(TrunklineError) as caught:
        await world.links.delete_link(index, f"{ALIAS}2")
    assert caught.value.reason is Reason.LINK_CLASH
    await world.links.delete_link(index, ALIAS)
    assert "tlh1" not in world.names(world.host)
    assert await world.links.shim_routes() == []
    await world.links.delete_link(index, ALIAS)


async def test_a_route_of_somebody_else_in_its_place_is_left_and_nothing_is_made(world: World) -> None:
    world.add_address(world.host, "up0", "192.0.2.7/24")
    world.add_route("up0", "20.0.0.0/24", METRIC)
    error = await refusal(world, spec(world))
    assert error.reason is Reason.KERNEL_REFUSED
    assert "20.0.0.0/24" in error.message
    assert ("20.0.0.0/24", "", METRIC) in world.routes("up0")


async def test_routes_of_others_to_the_same_places_stay(world: World) -> None:
    world.add_address(world.host, "up0", "192.0.2.7/24")
    for destination in ("20.0.0.0/24", "20.0.0.17/32"):
        world.add_route("up0", destination, 10)
    before = world.routes("up0")
    index = await world.links.add_shim(spec(world))
    world.add_route("tlh1", "203.0.113.0/24", 7)
    await world.links.configure_shim(index, replace(spec(world), routes=ROUTES[1:2]))
    assert world.routes("tlh1") == {("20.0.0.0/24", "20.0.0.5", METRIC), ("203.0.113.0/24", "", 7)}
    await world.links.delete_link(index, ALIAS)
    assert world.routes("up0") == before


async def test_everything_that_was_lost_is_mended(world: World) -> None:
    index = await world.links.add_shim(spec(world))
    world.lose_route("tlh1", "20.0.0.0/24", METRIC)
    world.lose_route("tlh1", "fd00::17/128", METRIC)
    await world.links.configure_shim(index, spec(world))
    assert world.routes("tlh1") == SHOWN
    world.lose_address(world.host, "tlh1", "20.0.0.5/32")
    await world.links.configure_shim(index, spec(world))
    assert world.routes("tlh1") == SHOWN
    world.lower(world.host, "tlh1")
    assert world.routes("tlh1") == set()
    await world.links.configure_shim(index, spec(world, mtu=1300))
    assert world.routes("tlh1") == SHOWN
    mended = await link(world)
    assert (mended.up, mended.mtu) == (True, 1300)
    assert set(mended.host_addresses) == {"20.0.0.5/32", "fd00::5/128"}


async def test_an_address_of_somebody_else_stays_unless_it_is_named(world: World) -> None:
    index = await world.links.add_shim(spec(world))
    for address in ("192.0.2.9/32", "20.0.0.99/32"):
        world.add_address(world.host, "tlh1", address)
    await world.links.configure_shim(index, replace(spec(world), strange=("20.0.0.99/32",)))
    assert set((await link(world)).host_addresses) == {"20.0.0.5/32", "fd00::5/128", "192.0.2.9/32"}


async def test_a_new_address_takes_its_routes_along(world: World) -> None:
    index = await world.links.add_shim(spec(world))
    moved = spec(world, addresses=("20.0.0.6/32", "fd00::5/128"))
    routes = tuple((destination, source.replace("20.0.0.5", "20.0.0.6")) for destination, source in ROUTES)
    await world.links.configure_shim(index, replace(moved, routes=routes, strange=("20.0.0.5/32",)))
    assert set((await link(world)).host_addresses) == {"20.0.0.6/32", "fd00::5/128"}
    assert world.routes("tlh1") == {(destination, source, METRIC) for destination, source in routes}


async def test_refusals_leave_nothing(world: World) -> None:
    assert (await refusal(world, spec(world, mtu=1501))).reason is Reason.UPLINK_MTU
    assert (await refusal(world, spec(world, parent_index=4711))).reason is Reason.UPLINK_MISSING
    assert (await refusal(world, spec(world, mtu=1200))).reason is Reason.INVALID_MTU
    world.add(world.host, "tlh1")
    assert (await refusal(world, spec(world))).reason is Reason.IFNAME_TAKEN


async def test_what_a_killed_run_left_is_replaced(world: World) -> None:
    world.add_half_made(world.host, naming.temporary(ALIAS))
    await world.links.add_shim(spec(world))
    assert naming.temporary(ALIAS) not in world.names(world.host)


async def test_a_link_that_lost_our_mark_is_left_alone(world: World) -> None:
    index = await world.links.add_shim(spec(world))
    world.mark(world.host, "tlh1", "mine now")
    with pytest.raises(TrunklineError) as caught:
        await world.links.configure_shim(index, spec(world, mtu=1300))
    assert caught.value.reason is Reason.LINK_CLASH
    assert (await link(world)).mtu == 1400


async def test_no_router_of_the_network_becomes_the_hosts(world: World) -> None:
    await world.links.add_shim(spec(world))
    (found,) = await world.links.interfaces([world.host])
    assert not isinstance(found, TrunklineError)
    assert [one.accept_ra for one in found if one.link.name == "tlh1"] == [False]


async def test_its_arp_is_its_own_and_answers_may_leave_elsewhere(world: World) -> None:
    index = await world.links.add_shim(spec(world))
    if not isinstance(world, KernelWorld):
        pytest.skip("the fake speaks no ARP")
    settings = {"arp_ignore": "1", "arp_announce": "2", "rp_filter": "2"}
    conf = "/proc/sys/net/ipv4/conf/tlh1"
    assert {key: world.read(f"{conf}/{key}") for key in settings} == settings
    for key in settings:
        world.write(f"{conf}/{key}", "0")
    await world.links.configure_shim(index, spec(world, mtu=1300))
    assert {key: world.read(f"{conf}/{key}") for key in settings} == settings
    assert Path(conf).exists() is False  # it is the host namespace's, not this process's
