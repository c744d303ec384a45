"""The `Links` contract: interfaces inside targets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from contract.links.worlds import World

from agent.plan.state import Interface, MacvlanSpec, Namespace
from trunkline import naming
from trunkline.errors import Reason, TrunklineError

ALIAS = "trunkline:attachment:docker1/web/blue"


def spec(world: World, number: int = 1, **changes: object) -> MacvlanSpec:
    """An interface to ask for; `number` makes it differ from others."""
    made = MacvlanSpec(
        parent_index=world.index("up0"),
        temporary_name=f"tl~{number:03}",
        name=f"eth{number}",
        alias=f"{ALIAS}{number}",
        mac=f"02:11:14:00:00:{number:02x}",
        mode="bridge",
        mtu=0,
        addresses=(f"20.0.0.{number}/24",),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


async def add(world: World, target: Namespace, wanted: MacvlanSpec) -> Interface:
    """Add one; the test fails with the refusal."""
    (result,) = await world.links.add_macvlans([(target, wanted)])
    if isinstance(result, TrunklineError):
        raise result
    return result


async def refusal(world: World, target: Namespace, wanted: MacvlanSpec) -> TrunklineError:
    """Add one that must be refused, and leave nothing."""
    before = world.names(target)
    (result,) = await world.links.add_macvlans([(target, wanted)])
    assert isinstance(result, TrunklineError), result
    assert world.names(target) == before
    return result


async def read(world: World, target: Namespace, name: str) -> Interface:
    """An interface as the port shows it."""
    (found,) = await world.links.interfaces([target])
    assert not isinstance(found, TrunklineError)
    return next(one for one in found if one.link.name == name)


async def test_interface_is_as_asked_for_and_reads_back_the_same(world: World) -> None:
    target = world.target()
    wanted = spec(world, mode="private", mtu=1400, addresses=("20.0.0.1/24", "fd00::1/64"))
    made = await add(world, target, wanted)
    link = made.link
    assert (link.name, link.kind, link.mode, link.mac) == ("eth1", "macvlan", "private", wanted.mac)
    assert (link.mtu, link.up, link.alias) == (1400, True, wanted.alias)
    assert (link.parent, link.parent_on_host) == (world.index("up0"), True)
    assert made.addresses == wanted.addresses
    assert (made.gateways, made.accept_ra) == ((), False)
    assert await read(world, target, "eth1") == made


async def test_parents_mtu_and_a_mac_are_given_where_none_is_asked_for(world: World) -> None:
    made = await add(world, world.target(), spec(world, mac="", mtu=0))
    assert made.link.mtu == 1500
    assert len(made.link.mac) == 17


async def test_name_left_open_is_the_first_free_one(world: World) -> None:
    target = world.target()
    world.add(target, "tl1")
    work = [(target, spec(world, number, name="")) for number in (1, 2)]
    made = await world.links.add_macvlans(work)
    assert [one.link.name for one in made if isinstance(one, Interface)] == ["tl0", "tl2"]


async def test_results_come_in_the_order_asked_for_and_one_refusal_hurts_no_other(world: World) -> None:
    first, second = world.target(), world.target()
    work = [
        (first, spec(world, 1)),
        (second, spec(world, 2)),
        (first, spec(world, 3, mtu=9000)),
        (first, spec(world, 4)),
    ]
    made = await world.links.add_macvlans(work)
    assert [one.link.name if isinstance(one, Interface) else one.reason for one in made] == [
        "eth1",
        "eth2",
        Reason.UPLINK_MTU,
        "eth4",
    ]
    assert world.names(first) == {"lo", "eth1", "eth4"}
    assert world.names(second) == {"lo", "eth2"}


async def test_no_work_gives_no_results(world: World) -> None:
    assert await world.links.add_macvlans([]) == []


async def test_hosts_links_do_not_get_in_the_way_of_names_inside(world: World) -> None:
    made = await add(world, world.target(), spec(world, name="up0"))
    assert made.link.name == "up0"


async def test_name_that_the_target_has_is_refused(world: World) -> None:
    target = world.target()
    world.add(target, "eth1")
    error = await refusal(world, target, spec(world))
    assert error.reason is Reason.IFNAME_TAKEN
    assert world.names(target) == {"lo", "eth1"}


async def test_mtu_above_the_parents_is_refused(world: World) -> None:
    error = await refusal(world, world.target(), spec(world, mtu=1501))
    assert error.reason is Reason.UPLINK_MTU
    assert "1501" in error.message
    assert "1500" in error.message


async def test_ipv6_needs_its_smallest_mtu(world: World) -> None:
    error = await refusal(world, world.target(), spec(world, mtu=1200, addresses=("20.0.0.1/24", "fd00::1/64")))
    assert error.reason is Reason.INVALID_MTU
    assert "fd00::1/64" in error.message


async def test_second_interface_with_a_mac_of_the_parent_is_refused(world: World) -> None:
    first, second = world.target(), world.target()
    one = await add(world, first, spec(world, 1))
    error = await refusal(world, second, spec(world, 2, mac=one.link.mac))
    assert error.reason is Reason.MAC_TAKEN
    assert await read(world, first, "eth1") == one


async def test_parent_that_is_gone_is_named(world: World) -> None:
    error = await refusal(world, world.target(), spec(world, parent_index=4711))
    assert error.reason is Reason.UPLINK_MISSING


async def test_targets_that_are_gone_or_the_host_are_told_apart(world: World) -> None:
    gone, other = world.target(), world.target()
    world.drop(gone)
    successor = world.reuse(other)
    work = [(gone, spec(world, 1)), (other, spec(world, 2)), (world.host, spec(world, 3))]
    made = await world.links.add_macvlans(work)
    assert [one.reason for one in made if isinstance(one, TrunklineError)] == [
        Reason.NETNS_NOT_FOUND,
        Reason.NETNS_NOT_FOUND,
        Reason.NETNS_IS_HOST,
    ]
    assert "eth2" not in world.names(successor)
    assert "eth3" not in world.names(world.host)


async def test_namespaces_that_cannot_be_read_are_told_in_order(world: World) -> None:
    first, gone = world.target(), world.target()
    world.drop(gone)
    found = await world.links.interfaces([gone, first])
    assert isinstance(found[0], TrunklineError)
    assert found[0].reason is Reason.NETNS_NOT_FOUND
    assert isinstance(found[1], list)
    assert [one.link.name for one in found[1]] == ["lo"]


async def test_unmarked_leftover_of_a_crash_is_replaced(world: World) -> None:
    target = world.target()
    world.add_half_made(target, "tl~001")
    made = await add(world, target, spec(world))
    assert world.names(target) == {"lo", "eth1"}
    assert made.link.alias == f"{ALIAS}1"


async def test_somebody_elses_link_under_the_temporary_name_is_left_alone(world: World) -> None:
    target = world.target()
    world.add(target, "tl~001")
    error = await refusal(world, target, spec(world))
    assert error.reason is Reason.LINK_CLASH


async def test_interface_of_another_attachment_under_the_temporary_name_is_left_alone(world: World) -> None:
    target = world.target()
    world.add_half_made(target, "tl~001")
    world.mark(target, "tl~001", f"{ALIAS}-other")
    assert (await refusal(world, target, spec(world))).reason is Reason.LINK_CLASH


async def test_default_route_wins_and_the_one_before_comes_back(world: World) -> None:
    target = world.target()
    world.add(target, "eth0")
    world.add_default(target, "eth0", "172.17.0.2/16", "172.17.0.1")
    made = await add(world, target, spec(world, gateways=("20.0.0.254",)))
    assert made.gateways == ("20.0.0.254",)
    assert world.default(target) == ("20.0.0.254", "eth1")
    await world.links.delete_interface(target, made.link.index, made.link.alias)
    assert world.default(target) == ("172.17.0.1", "eth0")


async def test_default_route_is_left_alone_unless_asked_for(world: World) -> None:
    target = world.target()
    world.add(target, "eth0")
    world.add_default(target, "eth0", "172.17.0.2/16", "172.17.0.1")
    await add(world, target, spec(world))
    assert world.default(target) == ("172.17.0.1", "eth0")


async def test_gateway_outside_leaves_the_default_route_as_it_was(world: World) -> None:
    target = world.target()
    world.add(target, "eth0")
    world.add_default(target, "eth0", "172.17.0.2/16", "172.17.0.1")
    error = await refusal(world, target, spec(world, gateways=("21.0.0.1",)))
    assert error.reason is Reason.INVALID_GATEWAY
    assert world.default(target) == ("172.17.0.1", "eth0")


async def test_later_gateway_that_fails_takes_the_earlier_one_back(world: World) -> None:
    target = world.target()
    world.add(target, "eth0")
    world.add_default(target, "eth0", "172.17.0.2/16", "172.17.0.1")
    wanted = spec(world, addresses=("20.0.0.1/24", "fd00::1/64"), gateways=("20.0.0.254", "fd01::1"))
    error = await refusal(world, target, wanted)
    assert error.reason is Reason.INVALID_GATEWAY
    assert world.default(target) == ("172.17.0.1", "eth0")


async def test_two_attachments_hand_the_default_route_back_in_turn(world: World) -> None:
    target = world.target()
    one = spec(world, 1, addresses=("20.0.0.1/24", "fd20::1/64"), gateways=("20.0.0.254", "fd20::ff"))
    two = spec(world, 2, addresses=("30.0.0.2/24", "fd30::2/64"), gateways=("30.0.0.254", "fd30::ff"))
    first = await add(world, target, one)
    second = await add(world, target, two)
    assert world.default(target) == ("30.0.0.254", "eth2")
    # Both still have their routes: a loop that repairs drift would else give the default to and fro for ever.
    for made in (first, second):
        assert set((await read(world, target, made.link.name)).gateways) == set(made.gateways)
    await world.links.configure(target, first.link.index, one)
    assert world.default(target) == ("30.0.0.254", "eth2")
    await world.links.delete_interface(target, second.link.index, second.link.alias)
    assert world.default(target) == ("20.0.0.254", "eth1")
    assert set((await read(world, target, "eth1")).gateways) == set(first.gateways)


async def test_router_advertisements_are_taken_only_where_wanted(world: World) -> None:
    target = world.target()
    assert (await add(world, target, spec(world, 1, accept_ra=True))).accept_ra
    assert not (await add(world, target, spec(world, 2))).accept_ra


async def test_deleting_needs_exactly_the_alias(world: World) -> None:
    target = world.target()
    made = await add(world, target, spec(world))
    for alias in ("trunkline:attachment:other", ""):
        with pytest.raises(TrunklineError) as caught:
            await world.links.delete_interface(target, made.link.index, alias)
        assert caught.value.reason is Reason.LINK_CLASH
    assert "eth1" in world.names(target)
    await world.links.delete_interface(target, made.link.index, made.link.alias)
    assert world.names(target) == {"lo"}


async def test_unmarked_interface_is_not_deleted_with_an_empty_alias(world: World) -> None:
    target = world.target()
    index = world.add(target, "br0")
    with pytest.raises(TrunklineError) as caught:
        await world.links.delete_interface(target, index, "")
    assert caught.value.reason is Reason.LINK_CLASH
    assert "br0" in world.names(target)


async def test_never_marked_interface_is_deleted_by_its_temporary_name_only(world: World) -> None:
    target = world.target()
    world.add_half_made(target, naming.temporary("docker1/web/blue"))
    world.add_half_made(target, "eth1")
    indexes = {name: (await read(world, target, name)).link.index for name in world.names(target) - {"lo"}}
    for name, index in indexes.items():
        if name == "eth1":
            with pytest.raises(TrunklineError):
                await world.links.delete_interface(target, index, "")
        else:
            await world.links.delete_interface(target, index, "")
    assert world.names(target) == {"lo", "eth1"}


async def test_deleting_what_is_gone_is_no_error(world: World) -> None:
    target = world.target()
    made = await add(world, target, spec(world))
    world.remove(target, "eth1")
    await world.links.delete_interface(target, made.link.index, made.link.alias)
    world.drop(target)
    await world.links.delete_interface(target, made.link.index, made.link.alias)


async def test_configure_repairs_name_state_address_and_route(world: World) -> None:
    target = world.target()
    wanted = spec(world, addresses=("20.0.0.1/24", "fd00::1/64"), gateways=("20.0.0.254", "fd00::ff"))
    made = await add(world, target, wanted)
    world.move_address(target, "eth1", "20.0.0.1/24", "20.0.0.99/24")
    world.rename(target, "eth1", "eth7")
    world.lower(target, "eth7")
    repaired = await world.links.configure(target, made.link.index, wanted)
    assert repaired.link == made.link
    assert set(repaired.addresses) == set(made.addresses)
    assert set(repaired.gateways) == set(made.gateways)
    assert await read(world, target, "eth1") == repaired
    assert await world.links.configure(target, made.link.index, wanted) == repaired


async def test_configure_takes_up_a_changed_spec(world: World) -> None:
    target = world.target()
    made = await add(world, target, spec(world, gateways=("20.0.0.254",)))
    changed = spec(world, addresses=("20.0.0.9/24",), mtu=1300, mac="02:11:14:00:00:99", accept_ra=True)
    now = await world.links.configure(target, made.link.index, changed)
    assert (now.link.mtu, now.link.mac, now.addresses) == (1300, "02:11:14:00:00:99", ("20.0.0.9/24",))
    assert (now.gateways, now.accept_ra) == ((), True)


async def test_configure_keeps_a_name_that_was_left_open(world: World) -> None:
    target = world.target()
    made = await add(world, target, spec(world, name=""))
    assert (await world.links.configure(target, made.link.index, spec(world, name=""))).link.name == "tl0"


async def test_configure_leaves_what_is_not_ours_alone(world: World) -> None:
    target = world.target()
    index = world.add(target, "eth0")
    made = await add(world, target, spec(world))
    world.mark(target, "eth1", "somebody's")
    for foreign in (index, made.link.index):
        with pytest.raises(TrunklineError) as caught:
            await world.links.configure(target, foreign, spec(world))
        assert caught.value.reason is Reason.LINK_CLASH
    assert world.names(target) == {"lo", "eth0", "eth1"}


async def test_configure_of_what_is_gone_says_so(world: World) -> None:
    with pytest.raises(TrunklineError) as caught:
        await world.links.configure(world.target(), 4711, spec(world))
    assert caught.value.reason is Reason.VERIFY_FAILED
