"""Hand-made Docker networks of several hosts: what they would become, and every reason why they cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from fakes.planning import Room

from controller.plan import imports, takeover
from controller.plan.imports import FENCE, Found, FoundEndpoint, FoundNetwork, Preview
from controller.plan.invariants import violations
from controller.state import keys
from controller.state.records import AddressKind
from controller.state.txn import MAX_OPS
from trunkline.errors import Reason, Refusal
from trunkline.ids import parse_address
from trunkline.model import HostUplink, Mode, Origin, Prefix, TargetKind

PREFIX = Prefix("20.0.0.0/24", "20.0.0.1")


def network(host: str, **fields: object) -> FoundNetwork:
    base = FoundNetwork(host, f"id-{host}", "eth0.10", "default", 10, (PREFIX,), Mode.BRIDGE, 1500)
    return replace(base, **fields)  # type: ignore[arg-type]


def endpoint(host: str, container: str, address: str, **fields: object) -> FoundEndpoint:
    base = FoundEndpoint(host, container, f"id-{container}", (f"{address}/24",), "02:42:14:00:00:0b")
    return replace(base, **fields)  # type: ignore[arg-type]


@pytest.fixture
def room() -> Room:
    made = Room()
    made.host("docker1")
    made.host("docker2")
    return made


def two(*endpoints: FoundEndpoint, **fields: object) -> Found:
    """The same network on two hosts, `fields` different on the second."""
    return Found((network("docker1"), network("docker2", **fields)), endpoints)


def take_over(room: Room, found: Found) -> int:
    """Commit all steps; how many there were."""
    preview = imports.preview(room.snapshot, "mynet2", found)
    assert preview.refusals == ()
    assert preview.request is not None
    steps = 0
    while True:
        step = takeover.step(room.snapshot, preview.request, found.endpoints, room.now)
        room.commit(step.txn)
        steps += step.txn is not None
        if step.done:
            return steps


def one_refusal(room: Room, found: Found, *mentions: str) -> Preview:
    preview = imports.preview(room.snapshot, "mynet2", found)
    told = [refusal for refusal in preview.refusals if all(word in refusal for word in mentions)]
    assert len(told) == 1, preview.refusals
    return preview


def test_two_equal_networks_become_one(room: Room) -> None:
    found = two(endpoint("docker1", "web", "20.0.0.11"), endpoint("docker2", "db", "20.0.0.12"))
    preview = imports.preview(room.snapshot, "mynet2", found)
    assert preview.refusals == ()
    assert preview.warnings == ()
    request = preview.request
    assert request is not None
    assert (request.uplink, request.vlan, request.prefixes, request.mtu) == ("default", 10, (PREFIX,), 0)


def test_claims_are_written_in_one_transaction(room: Room) -> None:
    web = endpoint("docker1", "web", "20.0.0.11", owner="shop/web/1")
    old = endpoint("docker2", "old", "20.0.0.13", running=False, mac="")
    assert take_over(room, two(web, endpoint("docker2", "db", "20.0.0.12"), old)) == 1
    record = room.snapshot.networks["mynet2"].value
    assert (record.imported, record.vlan, record.host_selector) == (True, 10, ())
    held = room.snapshot.addresses["mynet2"]
    first = held[parse_address("20.0.0.11")]
    assert (first.value.kind, first.value.host, first.value.holder) == (
        AddressKind.ATTACHMENT,
        "docker1",
        "web/mynet2",
    )
    assert first.lease == 0
    attachment = room.snapshot.attachments["docker1"]["web/mynet2"].value
    assert (attachment.origin, attachment.owner, attachment.addresses) == (
        Origin.DOCKER,
        "shop/web/1",
        ("20.0.0.11/24",),
    )
    assert (attachment.target.kind, attachment.target.value) == (TargetKind.CONTAINER, "web")
    stopped = held[parse_address("20.0.0.13")].value
    assert (stopped.kind, stopped.host, stopped.owner) == (AddressKind.RESERVED, "", "old")
    assert "old/mynet2" not in room.snapshot.attachments["docker2"]


def test_claims_that_do_not_fit_are_written_behind_a_fence(room: Room) -> None:
    """No host may have the network, and so nothing of it, before the last address is claimed."""
    many = [endpoint("docker1", f"c{n}", f"20.0.0.{n}", running=n % 3 > 0) for n in range(10, 250)]
    found = two(*many)
    request = imports.preview(room.snapshot, "mynet2", found).request
    assert request is not None
    steps = 0
    done = False
    while not done:
        step = takeover.step(room.snapshot, request, found.endpoints, room.now)
        assert step.txn is not None
        assert max(len(step.txn.guards), len(step.txn.ops)) <= MAX_OPS
        if steps:
            record = room.snapshot.networks["mynet2"].value
            assert record.host_selector == FENCE
            with pytest.raises(Refusal) as refused:
                room.attach("docker1", "mynet2", "late")
            assert refused.value.reason is Reason.HOST_NOT_SELECTED
            # Whoever is killed here leaves something that can be gone on with.
            assert imports.preview(room.snapshot, "mynet2", found).refusals == ()
        room.commit(step.txn)
        steps, done = steps + 1, step.done
    assert steps > 2
    assert room.snapshot.networks["mynet2"].value.host_selector == ()
    assert len(room.snapshot.addresses["mynet2"]) == len(many)
    assert violations(room.snapshot) == []
    again = takeover.step(room.snapshot, request, found.endpoints, room.now)
    assert again.done
    assert again.txn is None, "asking again changes nothing"


def test_a_step_that_lost_a_race_writes_nothing(room: Room) -> None:
    found = two(endpoint("docker1", "web", "20.0.0.11"))
    request = imports.preview(room.snapshot, "mynet2", found).request
    assert request is not None
    stale = takeover.step(room.snapshot, request, found.endpoints, room.now)
    room.network("other", "20.0.0.0/16", vlan=20)
    assert stale.txn is not None
    assert room.store.commit(stale.txn) is None, "a network that overlaps came in between"
    with pytest.raises(Refusal) as refused:
        takeover.step(room.snapshot, request, found.endpoints, room.now)
    assert refused.value.reason is Reason.PREFIX_OVERLAP


def test_an_address_that_was_given_to_somebody_meanwhile_is_refused(room: Room) -> None:
    found = two(endpoint("docker1", "web", "20.0.0.11"))
    take_over(room, found)
    room.attach("docker2", "mynet2", "thief", addresses=("20.0.0.12",))
    request = imports.preview(room.snapshot, "other", found).request
    assert request is not None
    late = (endpoint("docker1", "late", "20.0.0.12"),)
    with pytest.raises(Refusal) as refused:
        takeover.step(room.snapshot, replace(request, name="mynet2"), late, room.now)
    assert refused.value.reason is Reason.ADDRESS_TAKEN
    assert "docker2/thief/mynet2" in refused.value.message


@pytest.mark.parametrize(
    ("fields", "mentions"),
    [
        ({"uplink": "storage"}, ("uplink", "default on docker1", "storage on docker2")),
        ({"vlan": 11}, ("VLAN", "10 on docker1", "11 on docker2")),
        ({"vlan": 0}, ("VLAN", "untagged on docker2")),
        ({"prefixes": (Prefix("20.0.1.0/24"),)}, ("subnet", "20.0.0.0/24 on docker1", "20.0.1.0/24 on docker2")),
        ({"prefixes": (replace(PREFIX, gateway="20.0.0.254"),)}, ("gateway", "20.0.0.1", "20.0.0.254", "docker2")),
        ({"mode": Mode.PRIVATE}, ("mode", "bridge on docker1", "private on docker2")),
    ],
)
def test_hosts_that_differ_are_named_with_the_field(
    room: Room, fields: dict[str, object], mentions: tuple[str, ...]
) -> None:
    one_refusal(room, two(**fields), "differ in", *mentions)


def test_hosts_that_differ_in_mtu() -> None:
    room = Room()
    room.host("docker1", (HostUplink("default", "eth0", True, True, True, 9000),))
    room.host("docker2", (HostUplink("default", "eth0", True, True, True, 9000),))
    found = Found((network("docker1", mtu=1400), network("docker2", mtu=1500)))
    one_refusal(room, found, "differ in MTU", "1400 on docker1", "1500 on docker2")
    same = imports.preview(room.snapshot, "mynet2", Found((network("docker1", mtu=1400),)))
    assert same.request is not None
    assert same.request.mtu == 1400, "an MTU of its own is kept"


def test_a_gateway_that_docker_chose_is_not_contested(room: Room) -> None:
    found = two(prefixes=(Prefix("20.0.0.0/24"),))
    preview = imports.preview(room.snapshot, "mynet2", found)
    assert preview.refusals == ()
    assert preview.request is not None
    assert preview.request.prefixes == (PREFIX,)


@pytest.mark.parametrize(
    ("found", "mentions"),
    [
        (Found(), ("no host", "mynet2")),
        (two(uplink=""), ("docker2", "eth0.10", "no uplink", "[uplinks.default]")),
        (two(problem="Docker network mynet2 has mode passthru"), ("docker2", "passthru")),
        (Found((network("docker1"), network("docker1", id="other"))), ("docker1", "more than one")),
        (Found((network("docker1"),), unasked={"docker2": "held by controller c2"}), ("docker2", "controller c2")),
    ],
)
def test_what_a_host_has_cannot_be_taken_over(room: Room, found: Found, mentions: tuple[str, ...]) -> None:
    one_refusal(room, found, *mentions)


def test_one_address_twice_names_both_containers_with_their_hosts(room: Room) -> None:
    twice = [endpoint("docker1", "web", "20.0.0.11"), endpoint("docker2", "db", "20.0.0.11", running=False)]
    one_refusal(room, two(*twice), "20.0.0.11", "container web on docker1", "container db on docker2 (stopped)")
    # It is told together with what else is wrong.
    preview = one_refusal(room, two(*twice, vlan=11), "20.0.0.11", "web on docker1", "db on docker2")
    assert len(preview.refusals) == 2


@pytest.mark.parametrize(
    ("address", "mentions"),
    [("20.0.0.1", ("gateway",)), ("20.0.1.7", ("outside", "20.0.0.0/24")), ("20.0.0.255", ("no host address",))],
)
def test_an_address_that_cannot_be_a_containers(room: Room, address: str, mentions: tuple[str, ...]) -> None:
    one_refusal(room, two(endpoint("docker1", "web", address)), "container web on docker1", address, *mentions)


def _vlan(room: Room) -> None:
    room.network("other", "30.0.0.0/24", vlan=10)


def _prefix(room: Room) -> None:
    room.network("other", "20.0.0.0/16", vlan=20)


def _name(room: Room) -> None:
    room.network("mynet2", "30.0.0.0/24", vlan=20)


@pytest.mark.parametrize(
    ("taken", "mentions"),
    [
        (_vlan, ("VLAN 10", "network other")),
        (_prefix, ("20.0.0.0/24", "20.0.0.0/16", "network other")),
        (_name, ("the fabric has a network mynet2",)),
    ],
)
def test_what_another_network_of_the_fabric_has(
    room: Room, taken: Callable[[Room], None], mentions: tuple[str, ...]
) -> None:
    taken(room)
    one_refusal(room, two(), *mentions)


def test_what_was_imported_before_says_how_to_go_on(room: Room) -> None:
    take_over(room, two())
    one_refusal(room, two(), "imported before", "--replace")


def test_a_network_that_is_being_deleted(room: Room) -> None:
    take_over(room, two())
    room.delete("mynet2")
    assert keys.network("mynet2") == "networks/mynet2"
    one_refusal(room, two(), "being deleted")


def test_hosts_that_were_not_heard_are_a_warning(room: Room) -> None:
    preview = imports.preview(room.snapshot, "mynet2", Found((network("docker1"),), (), {"docker2": "it is away"}))
    assert preview.refusals == ()
    assert len(preview.warnings) == 1
    assert "docker2" in preview.warnings[0]
    assert "it is away" in preview.warnings[0]


def test_hand_carved_ranges_are_dropped_and_told(room: Room) -> None:
    carved = replace(PREFIX, ranges=("20.0.0.128/25",))
    preview = imports.preview(room.snapshot, "mynet2", two(prefixes=(carved,)))
    assert preview.refusals == ()
    assert preview.request is not None
    assert preview.request.prefixes == (PREFIX,)
    assert any("docker2" in warning and "20.0.0.128/25" in warning for warning in preview.warnings)


def test_auxiliary_addresses_become_excludes_unless_they_are_used(room: Room) -> None:
    aux = replace(PREFIX, excludes=("20.0.0.11", "20.0.0.200", "20.0.0.1"))
    found = two(endpoint("docker1", "web", "20.0.0.11"), prefixes=(aux,))
    preview = imports.preview(room.snapshot, "mynet2", found)
    assert preview.refusals == ()
    assert preview.request is not None
    assert preview.request.prefixes[0].excludes == ("20.0.0.200",)
    assert any("20.0.0.200" in warning and "excludes" in warning for warning in preview.warnings)
    assert any("20.0.0.11" in warning and "web on docker1" in warning for warning in preview.warnings)
    take_over(room, found)


def test_hosts_that_get_the_network_anew_are_told(room: Room) -> None:
    preview = imports.preview(room.snapshot, "mynet2", Found((network("docker1"),)))
    assert any("docker2" in warning and "is made on" in warning for warning in preview.warnings)


def test_both_families_of_a_container_are_one_attachment(room: Room) -> None:
    six = Prefix("fd00:20::/64", "fd00:20::1")
    both = endpoint("docker1", "web", "20.0.0.11", addresses=("20.0.0.11/24", "fd00:20::11/64"))
    found = Found((network("docker1", prefixes=(PREFIX, six)), network("docker2", prefixes=(six, PREFIX))), (both,))
    assert take_over(room, found) == 1
    assert room.snapshot.attachments["docker1"]["web/mynet2"].value.addresses == both.addresses
    assert len(room.snapshot.addresses["mynet2"]) == 2


def test_an_attachment_of_the_same_name_keeps_it(room: Room) -> None:
    room.network("mynet3", "30.0.0.0/24", vlan=30)
    room.attach("docker1", "mynet3", "web", "web/mynet2")
    take_over(room, two(endpoint("docker1", "web", "20.0.0.11")))
    assert room.snapshot.attachments["docker1"]["web/mynet2"].value.network == "mynet3"
    assert room.snapshot.attachments["docker1"]["web/mynet2/docker"].value.addresses == ("20.0.0.11/24",)
