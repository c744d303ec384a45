"""What the planners choose, and when they have nothing to do."""

from __future__ import annotations

import pytest
from fakes.planning import UPLINKS, Room, container

from controller.plan.addresses import Cursor, Owner, choose, pool_use
from controller.plan.attachments import default_name, finish_detach, lease_seconds
from controller.plan.deletion import uncertain_hosts
from controller.plan.desired import selected
from controller.plan.hosts import forget
from controller.plan.requests import AttachmentRequest, NetworkRequest, NetworkUpdate, PrefixChange
from controller.plan.status import attachment_view, fabric_view, host_view, network_view, problems, uplink_views
from controller.plan.uplinks import parse_ranges
from controller.plan.who import who
from controller.state import keys
from controller.state.records import AddressKind, HostRecord, NetworkRecord
from controller.state.txn import MAX_OPS, Absent, Unchanged
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.model import AttachmentObservation, HostFacts, Phase, Prefix, Target, TargetKind


@pytest.fixture
def room() -> Room:
    room = Room()
    room.host("h1", rack="a")
    room.host("h2", rack="b")
    room.uplink(((1, 3), (100, 102)))
    room.network("red", "20.0.0.0/29", gateway="20.0.0.1")
    return room


def addresses(room: Room, *names: str, network: str = "red", host: str = "h1") -> list[str]:
    return [room.attach(host, network, name).record.addresses[0] for name in names]


# VLAN ids, numbers, names.


def test_plan_auto_takes_the_lowest_but_one(room: Room) -> None:
    assert room.snapshot.networks["red"].value.vlan == 2
    assert [room.network(name).record.vlan for name in ("a", "b", "c")] == [3, 100, 101]


def test_plan_numbers_skip_docker(room: Room) -> None:
    for number in range(2, 0x42):
        room.put(keys.number(number), b"taken")
    assert room.network("next").record.number == 0x43


def test_plan_vlan_warnings(room: Room) -> None:
    assert "VLAN 1" in room.create(NetworkRequest("one", vlan=1)).warnings[0]
    far = room.create(NetworkRequest("far", vlan=300))
    assert "outside what uplink default carries (1-3,100-102)" in far.warnings[0]
    assert room.create(NetworkRequest("zero", vlan=0)).warnings == ()


def test_plan_uplink_keeps_what_lies_outside_already(room: Room) -> None:
    room.create(NetworkRequest("far", vlan=300))
    plan = room.uplink(((2, 2),))
    assert plan.record.vlans == ((2, 2),)
    assert room.uplink(((2, 2),)).txn is None
    assert room.uplink(()).record.vlans == ()


def test_plan_ranges_are_merged() -> None:
    assert parse_ranges("100-199, 200,5  7-9") == ((5, 5), (7, 9), (100, 200))
    assert parse_ranges(" ") == ()


def test_plan_create_again(room: Room) -> None:
    plan = room.network("red", "20.0.0.0/29", gateway="20.0.0.1")
    assert plan.existed
    assert plan.txn is None
    assert plan.record == room.snapshot.networks["red"].value


def test_plan_create_for_nobody(room: Room) -> None:
    assert "no host matches rack=c" in room.network("c", host_selector=("rack=c",)).warnings[0]


def test_plan_prefixes_become_canonical(room: Room) -> None:
    prefix = Prefix("20.9.0.0/24", ranges=("20.9.0.20-20.9.0.29", "20.9.0.16/30"), excludes=("20.9.0.18",))
    record = room.create(NetworkRequest("n", prefixes=(Prefix("FD00:0::/64"), prefix))).record
    assert record.prefixes == (
        Prefix("20.9.0.0/24", "", ("20.9.0.16-20.9.0.29",), ("20.9.0.18-20.9.0.18",)),
        Prefix("fd00::/64"),
    )


@pytest.mark.parametrize(
    ("selector", "hosts"),
    [
        ((), "ab"),
        (("rack=1",), "a"),
        (("a", "b"), "ab"),
        (("A",), ""),
        (("[ab]", "rack=2"), "b"),
        (("a", "rack=2"), ""),
        (("rack=1", "rack=2"), ""),
        (("*",), "ab"),
        (("zone=",), ""),
    ],
)
def test_plan_selector(selector: tuple[str, ...], hosts: str) -> None:
    records = [HostRecord("a", "m", 1, {"rack": "1"}), HostRecord("b", "m", 2, {"rack": "2"})]
    network = NetworkRecord("n", "default", 5, 1, host_selector=selector)
    assert "".join(record.name for record in records if selected(record, network)) == hosts


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (container("web"), "web/red"),
        (Target(TargetKind.NETNS, "/run/netns/blue"), "netns:run/netns/blue/red"),
        (Target(TargetKind.NETNS, "/run//my ns/"), "netns:run/my-ns/red"),
        (Target(TargetKind.PID, "12"), "pid:12/red"),
    ],
)
def test_plan_default_names(room: Room, target: Target, name: str) -> None:
    assert default_name(target, "red") == name
    assert room.ask(AttachmentRequest("h1", "red", target)).record.name == name


# Addresses.


def test_plan_addresses_ascend_and_come_back_last(room: Room) -> None:
    room.network("fast", "20.1.0.0/29", gateway="20.1.0.3", rest_seconds=0, hold_seconds=0)
    assert addresses(room, "a", "b", network="fast") == ["20.1.0.1/29", "20.1.0.2/29"]
    room.release("h1", "a/fast")
    assert addresses(room, "c", "d", "e", "f", network="fast") == [f"20.1.0.{n}/29" for n in (4, 5, 6, 1)]


def test_plan_addresses_return_to_their_owner(room: Room) -> None:
    assert addresses(room, "a", "b") == ["20.0.0.2/29", "20.0.0.3/29"]
    room.release("h1", "a/red")
    assert addresses(room, "c") == ["20.0.0.4/29"]
    assert addresses(room, "a", host="h2") == ["20.0.0.5/29"]
    plan = room.attach("h1", "red", "a")
    assert plan.record.addresses == ("20.0.0.2/29",)
    assert plan.txn is not None
    assert any(isinstance(g, Unchanged) and g.key == "addresses/red/20.0.0.2" for g in plan.txn.guards)


def test_plan_held_addresses_are_given_up_oldest_first(room: Room) -> None:
    addresses(room, "a", "b", "c", "d", "e")
    for name in ("c", "a", "e"):
        room.release("h1", f"{name}/red")
        room.now += 10_000
    room.now += 300_000
    assert addresses(room, "x", "y") == ["20.0.0.4/29", "20.0.0.2/29"]


def test_plan_small_prefixes(room: Room) -> None:
    room.network("p2p", "20.5.0.0/31")
    room.network("p2p6", "fd00::/127")
    assert addresses(room, "a", "b", network="p2p") == ["20.5.0.0/31", "20.5.0.1/31"]
    assert addresses(room, "a", "b", network="p2p6") == ["fd00::/127", "fd00::1/127"]


def test_plan_addresses_keep_out_of_excludes_and_in_ranges(room: Room) -> None:
    prefix = Prefix("20.6.0.0/24", "20.6.0.12", ("20.6.0.10-20.6.0.13", "20.6.0.20-20.6.0.20"), ("20.6.0.11",))
    room.create(NetworkRequest("n", prefixes=(prefix,)))
    assert addresses(room, "a", "b", "c", network="n") == ["20.6.0.10/24", "20.6.0.13/24", "20.6.0.20/24"]
    assert pool_use(room.snapshot, "n")[0].size == 3
    assert room.attach("h1", "n", "static", addresses=("20.6.0.200",)).record.addresses == ("20.6.0.200/24",)


def test_plan_a_new_replica_goes_on_where_the_last_was(room: Room) -> None:
    addresses(room, "a", "b")
    room.now += 1
    addresses(room, "c")
    room.release("h1", "a/red")
    room.store.expire(room.lease)
    room.follow()
    prefix = room.snapshot.networks["red"].value.prefixes[0]
    choice = choose(room.snapshot, "red", prefix, Owner("h1", "z"), Cursor(), room.now)
    assert choice.guard == Absent("addresses/red/20.0.0.5")


def test_plan_requests_on_one_snapshot_spread(room: Room) -> None:
    room.network("six", "fd00::/64")
    prefix = room.snapshot.networks["six"].value.prefixes[0]
    cursor = Cursor()
    picked = [choose(room.snapshot, "six", prefix, Owner("h1", "z"), cursor, room.now).address for _ in range(50)]
    assert len(set(picked)) == 50
    cursor.jump(7)
    after = choose(room.snapshot, "six", prefix, Owner("h1", "z"), cursor, room.now).address
    assert int(after) == int(picked[-1]) + 8


def test_plan_dual_stack(room: Room) -> None:
    room.network("both", "20.7.0.0/24", "fd07::/64")
    record = room.attach("h1", "both", "web", addresses=("fd07::99",)).record
    assert record.addresses == ("20.7.0.1/24", "fd07::99/64")
    assert record.mac == "02:02:14:07:00:01"
    assert not record.mac_claimed


def test_plan_macs_without_ipv4_are_claimed(room: Room) -> None:
    room.network("six", "fd00::/64")
    six, flat = room.attach("h1", "six", "web").record, room.attach("h1", "red", "web", no_ip=True).record
    assert six.mac_claimed
    assert flat.mac_claimed
    assert flat.addresses == ()
    assert {six.mac, flat.mac} == set(room.snapshot.macs)


def test_plan_mac_that_was_claimed_is_not_built(room: Room) -> None:
    room.attach("h2", "red", "db", no_ip=True, mac="02:01:14:00:00:02")
    record = room.attach("h1", "red", "web").record
    assert record.addresses == ("20.0.0.2/29",)
    assert record.mac_claimed
    assert record.mac != "02:01:14:00:00:02"


# Attaching and detaching.


def test_plan_attach_again(room: Room) -> None:
    first = room.attach("h1", "red", "web", addresses=("20.0.0.4/29",), mac="06-00-01-00-00-0A")
    again = room.attach("h1", "red", "web", addresses=("20.0.0.4",), mac="06:00:01:00:00:0a")
    assert again.existed
    assert again.txn is None
    assert again.record == first.record


def test_plan_attach_writes_and_guards_what_it_must(room: Room) -> None:
    txn = room.attach("h1", "red", "web").txn
    assert txn is not None
    assert {op.key for op in txn.ops} == {"attachments/h1/web/red", "addresses/red/20.0.0.2"}
    assert {(type(g).__name__, g.key) for g in txn.guards if not hasattr(g, "prefix")} == {
        ("Absent", "attachments/h1/web/red"),
        ("Unchanged", "networks/red"),
        ("Unchanged", "hosts/h1"),
        ("Absent", "addresses/red/20.0.0.2"),
        ("Absent", "macs/02:01:14:00:00:02"),
    }


def test_plan_attach_warnings(room: Room) -> None:
    room.cut("h1")
    first, second = room.attach("h1", "red", "web"), room.attach("h1", "red", "web", attachment="second")
    assert "host h1 has no live session" in first.warnings[0]
    assert "on network red already, as attachment web/red" in second.warnings[1]


def test_plan_detach_states(room: Room) -> None:
    assert room.detach("h1", "web/red").gone
    room.attach("h1", "red", "web")
    assert finish_detach(room.snapshot, "h1", "web/red", room.now, 5, 99) is None
    assert room.detach("h1", "web/red").txn is not None
    room.cut("h1")
    again = room.detach("h1", "web/red")
    assert again.txn is None
    assert not again.gone
    assert "held until it returns or is forgotten" in again.warnings[0]


def test_plan_detach_needs_an_observation_of_this_mark(room: Room) -> None:
    room.attach("h1", "red", "web")
    before = room.snapshot.revision
    room.detach("h1", "web/red")
    assert room.observe("h1", revision=before).detached == ()
    assert room.observe("h1", complete=False).detached == ()
    still = AttachmentObservation("web/red", Phase.READY, present=True)
    assert room.observe("h1", attachments=(still,)).detached == ()
    view = attachment_view(room.snapshot, "h1", "web/red")
    assert view is not None
    assert view.status.phase is Phase.DETACHING
    assert room.observe("h1").detached == ("web/red",)
    assert finish_detach(room.snapshot, "h1", "web/red", room.now, 5, before) is None


def test_plan_addresses_never_rest_without_a_lease(room: Room) -> None:
    room.attach("h1", "red", "web")
    room.detach("h1", "web/red")
    with pytest.raises(TrunklineError) as caught:
        finish_detach(room.snapshot, "h1", "web/red", room.now, 0, room.snapshot.revision)
    assert caught.value.reason is Reason.STORE_CONTENTION


def last_seen(room: Room, reason: str, complete: bool = True) -> None:
    seen = AttachmentObservation("web/red", Phase.WAITING, reason)
    room.observe("h1", attachments=(seen,), complete=complete)


@pytest.mark.parametrize(
    ("reason", "held"),
    [("CONTAINER_NOT_FOUND", 300), ("CONTAINER_NOT_RUNNING", 86_400), ("DOCKER_UNAVAILABLE", 86_400)],
)
def test_plan_a_destroyed_container_is_not_held_for(room: Room, reason: str, held: int) -> None:
    room.attach("h1", "red", "web")
    last_seen(room, reason)
    stored = room.snapshot.attachment("h1", "web/red")
    assert stored is not None
    assert lease_seconds(room.snapshot, stored.value) == held
    room.release("h1", "web/red")
    (left,) = [stored.value for stored in room.snapshot.addresses["red"].values()]
    assert left.kind is AddressKind.RESTING
    assert (left.rest_until_ms - room.now, left.hold_until_ms - room.now) == (300_000, held * 1000)


def test_plan_a_destroyed_container_that_came_back_is_held_for(room: Room) -> None:
    room.attach("h1", "red", "web")
    last_seen(room, "CONTAINER_NOT_FOUND")
    room.detach("h1", "web/red")
    stale = room.snapshot
    txn = finish_detach(stale, "h1", "web/red", room.now, room.next_lease(), stale.revision)
    assert txn is not None
    still = AttachmentObservation("web/red", Phase.READY, present=True, addresses=("20.0.0.2/28",))
    room.observe("h1", attachments=(still,))
    assert room.store.commit(txn) is None, "what it relied on has changed"
    room.release("h1", "web/red")
    (left,) = [stored.value for stored in room.snapshot.addresses["red"].values()]
    assert left.hold_until_ms - room.now == 86_400_000


def test_plan_a_destroyed_container_frees_its_address_where_nothing_rests(room: Room) -> None:
    room.network("n", "20.8.0.0/24", rest_seconds=0)
    room.attach("h1", "n", "web")
    room.observe("h1", attachments=(AttachmentObservation("web/n", Phase.WAITING, "CONTAINER_NOT_FOUND"),))
    room.release("h1", "web/n")
    assert room.snapshot.addresses.get("n", {}) == {}


# Networks over their life.


def test_plan_update(room: Room) -> None:
    room.network("n", "20.8.0.0/24")
    room.update(NetworkUpdate("n", (PrefixChange("20.8.0.0/24", gateway="20.8.0.1"),), mtu=1400))
    room.attach("h2", "n", "web")
    plan = room.update(NetworkUpdate("n", host_selector=("h1",), rest_seconds=7))
    assert plan.record.generation == 3
    assert "attachments stay on h2" in plan.warnings[0]
    assert [network.name for network in room.desired("h2").networks] == ["n", "red"]
    assert room.update(NetworkUpdate("n", host_selector=("h1",), rest_seconds=7)).txn is None


def test_plan_update_grows_ranges(room: Room) -> None:
    prefix = Prefix("20.8.0.0/24", ranges=("20.8.0.4-20.8.0.5",))
    room.create(NetworkRequest("n", prefixes=(prefix,)))
    room.update(NetworkUpdate("n", (PrefixChange("20.8.0.0/24", ranges=("20.8.0.4/30",)),)))
    plan = room.update(NetworkUpdate("n", (PrefixChange("20.8.0.0/24", ranges=()),)))
    assert plan.record.prefixes[0].ranges == ()


def test_plan_delete_waits_for_each_host(room: Room) -> None:
    room.host("h3")
    room.cut("h3")
    room.observe("h1")
    room.delete("red")
    assert uncertain_hosts(room.snapshot, "red") == ["h1", "h2", "h3"]
    room.host("new")
    room.observe("h1")
    room.observe("h2", complete=False)
    assert uncertain_hosts(room.snapshot, "red") == ["h2", "h3"]
    room.observe("h2")
    assert not room.end_delete("red")
    room.forget_step("h3")
    room.forget_step("h3")
    assert room.end_delete("red")
    assert room.delete("red").gone
    assert not room.snapshot.exists(keys.vlan("default", 2))
    assert not room.snapshot.exists(keys.number(1))


def test_plan_delete_does_not_wait_for_a_host_never_selected(room: Room) -> None:
    room.network("a", host_selector=("rack=a",))
    room.delete("a")
    assert uncertain_hosts(room.snapshot, "a") == ["h1"]


@pytest.mark.parametrize("change", ["selector", "label"])
def test_plan_delete_waits_for_a_host_that_may_have_been_selected(room: Room, change: str) -> None:
    room.network("n", host_selector=("rack=b",))
    if change == "selector":
        room.update(NetworkUpdate("n", host_selector=("rack=a",)))
    else:
        room.host("h2", rack="c")
    room.delete("n")
    assert "h2" in uncertain_hosts(room.snapshot, "n")


def test_plan_delete_in_chunks(room: Room) -> None:
    room.network("wide", "20.9.0.0/16")
    for n in range(300):
        room.attach("h1", "wide", f"c{n}")
        room.release("h1", f"c{n}/wide")
    room.delete("wide")
    room.observe("h1")
    room.observe("h2")
    before = len(room.store.log)
    assert room.end_delete("wide")
    assert len({change.revision for change in room.store.log[before:]}) == 3
    assert not [key for key in room.store.entries if "wide" in key]


# Hosts.


def test_plan_register(room: Room) -> None:
    before = room.snapshot.hosts["h1"]
    plan = room.register(HostFacts("h1", "machine-h1", "2", labels={"rack": "a"}, uplinks=UPLINKS))
    assert plan.existed
    assert room.snapshot.hosts["h1"] == before
    assert room.snapshot.host_status["h1"].value.version == "2"
    assert room.snapshot.sessions["h1"].mod_revision == room.snapshot.revision
    twin = room.register(HostFacts("h7", "machine-h1"))
    assert "machine-id of h1" in twin.warnings[0]
    assert twin.record.number == 3


def test_plan_forget_in_chunks(room: Room) -> None:
    room.network("wide", "20.9.0.0/16", "fd09::/64")
    for n in range(100):
        room.attach("h1", "wide", f"c{n}")
    room.observe("h1")
    room.cut("h1")
    first = room.forget_step("h1")
    assert not first.finished
    assert room.snapshot.hosts["h1"].value.forgetting
    assert room.desired("h1").attachments == ()
    second = room.forget_step("h1")
    assert second.finished
    assert len(second.steps) > 3
    assert (len(second.attachments), second.addresses) == (100, 200)
    assert max(len(txn.ops) for txn in second.steps) <= MAX_OPS
    assert not [key for key in room.store.entries if "h1" in key]
    assert pool_use(room.snapshot, "wide")[0].resting == 100
    assert room.host("h1").record.number == 1


def test_plan_forget_goes_on_from_half_way(room: Room) -> None:
    addresses(room, "a", "b")
    room.cut("h1")
    room.forget_step("h1")
    room.commit(forget(room.snapshot, "h1", room.now, 5).steps[0])
    plan = room.forget_step("h1")
    assert plan.attachments == ()
    assert "h1" not in room.snapshot.hosts


def test_plan_drain(room: Room) -> None:
    assert room.drain("h1").record.drained
    assert room.drain("h1").txn is None
    room.drain("h1", undo=True)
    room.attach("h1", "red", "web")


# Observations.


def test_plan_settle_writes_only_changes(room: Room) -> None:
    room.attach("h1", "red", "web")
    assert len(room.observe("h1").status) == 1
    room.now += 60_000
    assert room.observe("h1", revision=room.snapshot.host_status["h1"].value.observed_revision).status == ()


def test_plan_settle_ready_only_from_new_enough(room: Room) -> None:
    before = room.snapshot.revision
    room.attach("h1", "red", "web")
    room.observe("h1", revision=before)
    view = attachment_view(room.snapshot, "h1", "web/red")
    assert view is not None
    assert view.status.phase is Phase.PENDING
    room.observe("h1")
    view = attachment_view(room.snapshot, "h1", "web/red")
    assert view is not None
    assert view.status.phase is Phase.READY


def phase_of(room: Room, host: str, name: str) -> Phase:
    return room.snapshot.attachment_status[host, name].value.phase


def test_plan_settle_absence_counts_only_when_complete(room: Room) -> None:
    room.attach("h1", "red", "web")
    room.observe("h1")
    room.observe("h1", attachments=(), networks=(), complete=False)
    assert phase_of(room, "h1", "web/red") is Phase.READY
    assert room.snapshot.host_status["h1"].value.networks == ("red",)
    assert ("h1", "red") in room.snapshot.network_status
    room.observe("h1", attachments=(), networks=())
    assert phase_of(room, "h1", "web/red") is Phase.PENDING
    assert not room.snapshot.host_status["h1"].value.networks
    assert ("h1", "red") not in room.snapshot.network_status


def test_plan_settle_in_chunks(room: Room) -> None:
    room.network("wide", "20.9.0.0/16")
    for n in range(250):
        room.attach("h1", "wide", f"c{n}")
    settlement = room.observe("h1")
    assert len(settlement.status) == 3
    assert max(len(txn.guards) for txn in settlement.status) <= MAX_OPS


# Desired state.


def test_plan_desired(room: Room) -> None:
    room.network("green", "20.1.0.0/24", "fd01::/64", gateway="20.1.0.1", host_selector=("h1",))
    room.attach("h1", "green", "z")
    room.attach("h1", "red", "a", default_route=True)
    room.attach("h1", "red", "b")
    room.detach("h1", "b/red")
    told = room.desired("h1")
    assert (told.epoch, told.revision) == ("e1", room.snapshot.revision)
    assert [network.name for network in told.networks] == ["green", "red"]
    assert told.networks[1].probe_mac == "02:01:00:00:00:01"
    assert [(a.name, a.gateways) for a in told.attachments] == [("a/red", ("20.0.0.1",)), ("z/green", ())]
    assert [network.name for network in room.desired("h2").networks] == ["red"]
    assert room.desired("h9").networks == ()


# Who, and how things stand.


def test_plan_who(room: Room) -> None:
    record = room.attach("h1", "red", "web").record
    room.observe("h1")
    (holding,) = who(room.snapshot, "20.0.0.2", room.now)
    assert (holding.kind, holding.host, holding.attachment, holding.phase) == ("attachment", "h1", "web/red", "ready")
    assert holding.observed
    assert holding.connected
    assert holding.observed_ms == room.snapshot.attachment_status["h1", "web/red"].value.observed_ms > 0
    for query in (record.mac.upper(), "web", "web/red", "h1/web", "h1/web/red", "20.0.0.2/29"):
        assert who(room.snapshot, query, room.now) == (holding,)
    assert [h.kind for h in who(room.snapshot, "20.0.0.1", room.now)] == ["gateway"]
    assert who(room.snapshot, "20.0.0.3", room.now) == ()
    assert who(room.snapshot, "h2/web", room.now) == ()
    room.release("h1", "web/red")
    (resting,) = who(room.snapshot, "20.0.0.2", room.now)
    assert (resting.kind, resting.owner, resting.until_ms) == ("resting", "web", room.now + 300_000)
    room.now += 300_000
    assert who(room.snapshot, "20.0.0.2", room.now)[0].kind == "held"
    room.update(NetworkUpdate("red", (PrefixChange("20.0.0.0/29", excludes=("20.0.0.5",)),)))
    assert [h.kind for h in who(room.snapshot, "20.0.0.5", room.now)] == ["excluded"]


def test_plan_who_by_container_id(room: Room) -> None:
    room.attach("h1", "red", "web")
    seen = AttachmentObservation("web/red", Phase.READY, target_id="0123456789abcdef", present=True)
    room.observe("h1", attachments=(seen,))
    assert len(who(room.snapshot, "012345", room.now)) == 1
    assert who(room.snapshot, "123456", room.now) == ()
    assert who(room.snapshot, "0123", room.now) == ()


def test_plan_views(room: Room) -> None:
    room.attach("h1", "red", "web")
    view = network_view(room.snapshot, "red")
    assert view is not None
    assert (view.phase, view.attachments, [h.phase for h in view.hosts]) == ("pending", 1, ["PENDING", "PENDING"])
    room.observe("h1")
    room.observe("h2")
    view = network_view(room.snapshot, "red")
    assert view is not None
    assert view.phase == "ready"
    host = host_view(room.snapshot, "h1")
    assert host is not None
    assert (host.connected, host.attachments, host.attachments_ready, host.problems) == (True, 1, 1, ())
    fabric = fabric_view(room.snapshot)
    assert (fabric.hosts, fabric.hosts_connected, fabric.networks, fabric.attachments_ready) == (2, 2, 1, 1)
    (uplink,) = uplink_views(room.snapshot)
    assert (uplink.label, uplink.set, uplink.vlans_in_use, len(uplink.hosts)) == ("default", True, (2,), 2)


def test_plan_problems_are_worst_first(room: Room) -> None:
    room.attach("h1", "red", "web")
    failed = AttachmentObservation("web/red", Phase.FAILED, "CONTAINER_NOT_FOUND", "no container web")
    room.observe("h1", attachments=(failed,))
    room.cut("h2")
    room.put("networks/odd", b"?")
    found = problems(room.snapshot)
    assert [problem.kind for problem in found] == ["store", "host", "attachment"]
    assert [problem.object for problem in found] == ["networks/odd", "h2", "h1/web/red"]


def test_plan_a_host_that_is_away_is_not_counted_as_ready(room: Room) -> None:
    room.attach("h1", "red", "web")
    room.attach("h2", "red", "web")
    room.observe("h1")
    room.observe("h2")
    room.cut("h2")
    fabric = fabric_view(room.snapshot)
    assert (fabric.attachments, fabric.attachments_ready, fabric.attachments_away) == (2, 1, 1)


def test_plan_docker_that_does_not_answer_is_one_problem_of_its_host(room: Room) -> None:
    waits = []
    for name in ("a", "b"):
        room.attach("h1", "red", name)
        waits.append(
            AttachmentObservation(f"{name}/red", Phase.WAITING, "DOCKER_UNAVAILABLE", "no socket; start Docker")
        )
    stopped = AttachmentObservation("c/red", Phase.WAITING, "CONTAINER_NOT_RUNNING", "it does not run")
    room.attach("h1", "red", "c")
    room.observe("h1", attachments=(*waits, stopped))
    (problem,) = problems(room.snapshot)
    assert (problem.kind, problem.object, problem.reason) == ("host", "h1", "DOCKER_UNAVAILABLE")
    assert problem.message == "attachments that wait for it: 2; no socket; start Docker"


def test_plan_a_full_pool_is_a_problem_that_says_what_is_in_it(room: Room) -> None:
    addresses(room, "a", "b", "c", "d")
    room.observe("h1")
    assert problems(room.snapshot) == ()
    addresses(room, "e")
    room.observe("h1")
    (full,) = problems(room.snapshot)
    assert (full.kind, full.object, full.reason) == ("network", "red", "POOL_EXHAUSTED")
    assert "5 addresses, 5 used (host h1 5)" in full.message
    room.release("h1", "c/red")
    assert problems(room.snapshot) == (), "what rests gets free by itself"


def test_plan_deleting_network_view(room: Room) -> None:
    room.delete("red")
    room.observe("h1")
    view = network_view(room.snapshot, "red")
    assert view is not None
    assert view.phase == "deleting"
    assert [(host.host, host.phase) for host in view.hosts] == [("h1", "CLEAN"), ("h2", "PENDING")]


def test_plan_refusal_leaves_the_cursor_usable(room: Room) -> None:
    addresses(room, "a", "b", "c", "d", "e")
    with pytest.raises(Refusal):
        addresses(room, "f")
    room.release("h1", "c/red")
    room.store.expire(room.lease)
    room.follow()
    assert addresses(room, "f") == ["20.0.0.4/29"]
