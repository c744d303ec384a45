"""The `Links` contract: the host's own links, and wake-ups."""

from __future__ import annotations

import asyncio

import pytest
from contract.links.worlds import World

from agent.plan.state import Link
from trunkline.errors import Reason, TrunklineError

MARK = "trunkline:vlan:default:10"


async def link(world: World, name: str) -> Link:
    """A link of the host as the port shows it."""
    return next(one for one in await world.links.host_links() if one.name == name)


@pytest.fixture
async def vlan(world: World) -> int:
    """Index of `up0.10`, ours. Skips where the kernel itself has no 802.1Q (tests/lab has one that does)."""
    try:
        return await world.links.add_vlan(world.index("up0"), "up0.10", 10, 1400, MARK)
    except TrunklineError as error:
        if error.facts.get("errno") == "EOPNOTSUPP":
            pytest.skip(f"tests/lab covers it: {error}")
        raise


async def test_links_are_shown_with_what_they_are(world: World) -> None:
    uplink = await link(world, "up0")
    assert uplink.index == world.index("up0")
    assert (uplink.kind, uplink.mtu, uplink.up, uplink.carrier) == ("veth", 1500, True, True)
    assert (uplink.alias, uplink.vlan, uplink.promiscuous) == ("", None, False)
    assert {one.name for one in await world.links.host_links()} == world.names(world.host)


async def test_links_show_what_the_host_is_reached_by(world: World) -> None:
    for address in ("192.0.2.7/24", "2001:db8::7/64", "fe80::7/64"):
        world.add_address(world.host, "up0", address)
    assert set((await link(world, "up0")).host_addresses) == {"192.0.2.7/24", "2001:db8::7/64"}
    target = world.target()
    world.add(target, "br0")
    world.add_address(target, "br0", "192.0.2.8/24")
    (inside,) = await world.links.interfaces([target])
    assert not isinstance(inside, TrunklineError)
    assert all(one.link.host_addresses == () for one in inside)


async def test_state_mtu_and_mark_are_set_by_index(world: World) -> None:
    index = world.index("up0")
    await world.links.set_mtu(index, 1450)
    await world.links.set_alias(index, MARK)
    await world.links.set_down(index)
    changed = await link(world, "up0")
    assert (changed.mtu, changed.alias, changed.up) == (1450, MARK, False)
    await world.links.set_up(index)
    assert (await link(world, "up0")).up


async def test_promiscuous_flag_is_set_once_and_cleared(world: World) -> None:
    index = world.index("up0")
    for _ in range(2):
        await world.links.set_promiscuous(index, True)
    assert (await link(world, "up0")).promiscuous
    await world.links.set_promiscuous(index, False)
    cleared = await link(world, "up0")
    assert (cleared.promiscuous, cleared.promiscuity) == (False, 0)


async def test_changes_of_a_link_that_is_gone_say_so(world: World) -> None:
    for change in (
        world.links.set_up(4711),
        world.links.set_down(4711),
        world.links.set_mtu(4711, 1500),
        world.links.set_promiscuous(4711, True),
        world.links.set_alias(4711, MARK),
    ):
        with pytest.raises(TrunklineError) as caught:
            await change
        assert caught.value.reason is Reason.UPLINK_MISSING


async def test_only_the_exact_mark_deletes(world: World) -> None:
    index = world.add(world.host, "br7")
    world.mark(world.host, "br7", MARK)
    with pytest.raises(TrunklineError) as caught:
        await world.links.delete_link(index, f"{MARK}0")
    assert caught.value.reason is Reason.LINK_CLASH
    assert "br7" in world.names(world.host)
    await world.links.delete_link(index, MARK)
    assert "br7" not in world.names(world.host)
    await world.links.delete_link(index, MARK)


async def test_a_link_that_the_host_came_to_be_reached_by_is_not_deleted(world: World) -> None:
    index = world.add(world.host, "br7")
    world.mark(world.host, "br7", MARK)
    world.add_address(world.host, "br7", "192.0.2.7/24")
    with pytest.raises(TrunklineError) as caught:
        await world.links.delete_link(index, MARK)
    assert caught.value.reason is Reason.SUBINTERFACE_IN_USE
    assert "br7" in world.names(world.host)


async def test_link_wakes_the_listener_and_what_came_before_is_not_missed(world: World) -> None:
    events = world.links.events()
    await asyncio.wait_for(anext(events), 5)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    assert not waiting.done()
    world.add(world.host, "br7")
    await asyncio.wait_for(waiting, 5)
    await events.aclose()  # type: ignore[attr-defined]


async def test_closing_ends_listeners_and_refuses_further_work(world: World) -> None:
    events = world.links.events()
    await asyncio.wait_for(anext(events), 5)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    await world.links.close()
    await world.links.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)
    with pytest.raises(TrunklineError):
        await world.links.host_links()


async def test_subinterface_is_made_marked_and_up(world: World, vlan: int) -> None:
    made = await link(world, "up0.10")
    assert (made.index, made.kind, made.vlan, made.parent) == (vlan, "vlan", 10, world.index("up0"))
    assert (made.mtu, made.up, made.alias, made.parent_on_host) == (1400, True, MARK, True)
    await world.links.delete_link(vlan, MARK)
    assert "up0.10" not in world.names(world.host)


@pytest.mark.usefixtures("vlan")
async def test_subinterface_makes_no_router_of_its_vlan_the_hosts(world: World) -> None:
    (found,) = await world.links.interfaces([world.host])
    assert not isinstance(found, TrunklineError)
    assert [one.accept_ra for one in found if one.link.name == "up0.10"] == [False]


async def test_subinterface_takes_the_parents_mtu(world: World, vlan: int) -> None:
    await world.links.add_vlan(world.index("up0"), "up0.20", 20, 0, MARK)
    assert (await link(world, "up0.20")).mtu == 1500
    with pytest.raises(TrunklineError) as caught:
        await world.links.set_mtu(vlan, 1501)
    assert caught.value.reason is Reason.UPLINK_MTU


@pytest.mark.usefixtures("vlan")
async def test_subinterface_clashes_by_name_and_by_id(world: World) -> None:
    world.add(world.host, "up0.30")
    for name, vid, said in (("up0.30", 30, "bridge"), ("up0.10", 11, "vlan"), ("other", 10, "up0.10")):
        with pytest.raises(TrunklineError) as caught:
            await world.links.add_vlan(world.index("up0"), name, vid, 0, MARK)
        assert caught.value.reason is Reason.LINK_CLASH
        assert said in caught.value.message.lower()
    assert "other" not in world.names(world.host)


@pytest.mark.usefixtures("vlan")
async def test_subinterface_refused_leaves_nothing(world: World) -> None:
    with pytest.raises(TrunklineError) as caught:
        await world.links.add_vlan(world.index("up0"), "up0.40", 40, 1501, MARK)
    assert caught.value.reason is Reason.UPLINK_MTU
    with pytest.raises(TrunklineError) as caught:
        await world.links.add_vlan(4711, "up0.40", 40, 0, MARK)
    assert caught.value.reason is Reason.UPLINK_MISSING
    await world.links.set_down(world.index("up0"))
    with pytest.raises(TrunklineError) as caught:
        await world.links.add_vlan(world.index("up0"), "up0.40", 40, 0, MARK)
    assert caught.value.reason is Reason.UPLINK_DOWN
    assert "up0.40" not in world.names(world.host)
