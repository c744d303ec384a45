"""What hosts say of the addresses they were given, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.docked import Docked
from fakes.planning import NOW, container

from controller.plan.deletion import finish_delete
from controller.plan.settle import EVENTS
from controller.state import codec, keys
from controller.state.records import AddressKind, AddressRecord
from trunkline.errors import Reason
from trunkline.model import DockerMode, EndpointState, Event, NetworkObservation, Origin, Phase

WEB = "20.0.0.2"


@pytest.fixture
def room() -> Docked:
    room = Docked()
    for name in ("h1", "h2"):
        room.docker_host(name)
    room.uplink(((1, 3), (100, 102)))
    room.network("red", "20.0.0.0/28", gateway="20.0.0.1", rest_seconds=300, hold_seconds=3600)
    room.sync()
    return room


def reserve(room: Docked, address: str, owner: str, network: str = "red") -> None:
    room.put(keys.address(network, address), codec.encode(AddressRecord(AddressKind.RESERVED, owner)))


def problems(room: Docked, host: str) -> list[tuple[str, str]]:
    return [(one.reason, one.message) for one in room.snapshot.host_status[host].value.problems]


def phase(room: Docked, host: str, name: str) -> Phase:
    return room.snapshot.attachment_status[host, name].value.phase


# What is given, used and kept.


def test_native_a_container_starts_stops_and_goes(room: Docked) -> None:
    assert room.run("h1", "web", mac="02:42:14:00:00:02") == WEB
    stored = room.snapshot.attachment("h1", "web/red")
    assert stored is not None
    assert (stored.value.origin, stored.value.addresses, stored.value.owner) == (Origin.DOCKER, (f"{WEB}/28",), "web")
    status = room.snapshot.attachment_status["h1", "web/red"].value
    assert (status.phase, status.present, status.ifname, status.mac, status.target_id, status.addresses) == (
        Phase.READY,
        True,
        "eth0",
        "02:42:14:00:00:02",
        "id-web",
        (f"{WEB}/28",),
    )
    room.now += 5000
    room.ledgers["h1"].stop(("red", WEB), room.now - 1000)
    room.sync("h1")
    assert room.snapshot.attachment("h1", "web/red") is None
    assert ("h1", "web/red") not in room.snapshot.attachment_status
    kept = room.record(WEB)
    assert kept == AddressRecord(
        AddressKind.KEPT,
        "web",
        "h1",
        since_ms=room.now - 1000,
        rest_until_ms=room.now + 299_000,
        hold_until_ms=room.now + 3_599_000,
    )
    room.now += 300_000
    room.ledgers["h1"].age(room.now, hold=True)
    room.sync("h1")
    assert room.records() == {}


def test_native_an_unchanged_observation_writes_nothing(room: Docked) -> None:
    room.run("h1", "web")
    room.grant("h1")
    room.run("h1", "old")
    room.ledgers["h1"].stop(("red", "20.0.0.3"), room.now)
    room.sync("h1")
    room.now += 1000
    assert room.report("h1", revision=room.revisions["h1"]).status == ()


def test_native_what_starts_is_pending_until_docker_shows_it(room: Docked) -> None:
    room.grant("h1")
    room.ledgers["h1"].start(("red", WEB), "")
    room.sync("h1")
    stored = room.snapshot.attachment("h1", f"docker:{WEB}/red")
    assert stored is not None
    assert str(stored.value.target) == WEB
    assert room.snapshot.attachment_status["h1", stored.value.name].value.phase is Phase.PENDING
    room.now += 1000
    room.ledgers["h1"].start(("red", WEB), "web")
    room.ledgers["h1"].show(("red", WEB))
    room.sync("h1")
    assert set(room.snapshot.attachments["h1"]) == {"web/red"}
    renamed = room.snapshot.attachments["h1"]["web/red"].value
    assert renamed.created_ms == NOW, "it is as old as it was without its name"
    assert room.record(WEB).holder == "web/red"
    assert list(room.snapshot.attachment_status) == [("h1", "web/red")]


def test_native_both_families_are_one_attachment(room: Docked) -> None:
    room.network("dual", "20.1.0.0/28", "fd00:1::/64")
    room.sync("h1")
    ledger = room.ledgers["h1"]
    four = ("dual", room.grant("h1", "dual"))
    ledger.start(four, "web")
    room.sync("h1")
    six = ("dual", room.grant("h1", "dual", version=6))
    ledger.start(six, "web")
    ledger.show(six)
    room.sync("h1")
    record = room.snapshot.attachments["h1"]["web/dual"].value
    assert record.addresses == (f"{four[1]}/28", f"{six[1]}/64")
    assert phase(room, "h1", "web/dual") is Phase.PENDING
    ledger.show(four)
    room.sync("h1")
    assert phase(room, "h1", "web/dual") is Phase.READY
    ledger.stop(four, room.now)
    room.sync("h1")
    assert room.snapshot.attachments["h1"]["web/dual"].value.addresses == (f"{six[1]}/64",)


def test_native_two_containers_exchange_their_names(room: Docked) -> None:
    first, second = room.run("h1", "a"), room.run("h1", "b")
    ledger = room.ledgers["h1"]
    ledger.entries["red", first] = replace(ledger.entries["red", first], container="b")
    ledger.entries["red", second] = replace(ledger.entries["red", second], container="a")
    settlement = room.report("h1")
    both = keys.attachment("h1", "a/red"), keys.attachment("h1", "b/red")
    assert [txn for txn in settlement.status if {*both} <= {op.key for op in txn.ops}], "both change at once"
    assert (room.record(first).holder, room.record(second).holder) == ("b/red", "a/red")


def test_native_a_name_that_an_operator_took(room: Docked) -> None:
    room.attach("h1", "red", "web")
    address = room.run("h1", "web")
    assert room.record(address).holder == "web/red/docker"
    assert room.snapshot.attachments["h1"]["web/red"].value.origin is Origin.TRUNKLINE


def test_native_an_address_that_is_left_over_is_an_attachment_of_its_own(room: Docked) -> None:
    first = room.run("h1", "web")
    second = room.grant("h1")
    ledger = room.ledgers["h1"]
    ledger.entries["red", first] = replace(ledger.entries["red", first], present=False)
    ledger.start(("red", second), "web")
    ledger.show(("red", second))
    room.sync("h1")
    assert (room.record(second).holder, room.record(first).holder) == ("web/red", f"docker:{first}/red")


# What is not listed.


def test_native_stock_that_went_is_free_and_not_taken_again(room: Docked) -> None:
    """A desired state under way may still give it out; the host was told of it before."""
    address = room.grant("h1")
    room.sync("h1")
    late = room.desired("h1")
    assert [(one.address, one.revision) for one in late.grants] == [
        (address, room.snapshot.mod_revision(keys.address("red", address)))
    ]
    ledger = room.ledgers["h1"]
    ledger.drop(("red", address))
    room.report("h1")
    assert room.records() == {}
    ledger.told(late, room.now)
    assert ledger.entries == {}


def test_native_a_list_that_is_not_whole_frees_nothing(room: Docked) -> None:
    used, kept = room.run("h1", "web"), room.run("h1", "db")
    room.ledgers["h1"].stop(("red", kept), room.now)
    room.sync("h1")
    room.now += 10_000_000
    before = room.records()
    room.report("h1", endpoints=(), endpoints_complete=False)
    assert room.records() == before
    assert room.snapshot.attachment_status["h1", "web/red"].value.phase is Phase.READY
    room.report("h1", endpoints=())
    assert room.record(used).kind is AddressKind.RESTING
    assert [str(a) for a in room.records()] == [used]


def test_native_what_is_newer_than_the_observation_stays(room: Docked) -> None:
    seen = room.seen("h1")
    address = room.grant("h1")
    room.report("h1", seen)
    assert room.record(address).recalled is False


def test_native_what_goes_in_use_rests_whole_and_is_held_for_nobody(room: Docked) -> None:
    address = room.run("h1", "web")
    room.ledgers["h1"].drop(("red", address))
    room.now += 1000
    settlement = room.report("h1")
    assert settlement.wanting == {}
    stored = next(iter(room.snapshot.addresses["red"].values()))
    assert stored.lease
    assert stored.value == AddressRecord(
        AddressKind.RESTING,
        "web",
        "h1",
        since_ms=room.now,
        rest_until_ms=room.now + 300_000,
        hold_until_ms=room.now + 300_000,
    )
    assert "h1" not in room.snapshot.attachments


def test_native_what_has_to_rest_stays_until_there_is_a_lease(room: Docked) -> None:
    address = room.run("h1", "web")
    room.ledgers["h1"].drop(("red", address))
    settlement = room.observe("h1", endpoints_complete=True)
    assert settlement.wanting == {"red": 300}
    assert room.record(address).kind is AddressKind.ATTACHMENT
    assert room.snapshot.attachment("h1", "web/red") is not None


def test_native_what_was_kept_rests_for_the_rest_of_its_rest(room: Docked) -> None:
    address = room.run("h1", "web")
    ledger = room.ledgers["h1"]
    ledger.stop(("red", address), room.now)
    room.sync("h1")
    end = room.now + 300_000
    room.now += 100_000
    ledger.drop(("red", address))
    room.report("h1")
    assert (room.record(address).kind, room.record(address).rest_until_ms) == (AddressKind.RESTING, end)


def test_native_a_clock_that_is_ahead_rests_no_longer_than_a_rest(room: Docked) -> None:
    address = room.run("h1", "web")
    room.ledgers["h1"].stop(("red", address), room.now + 10_000_000)
    room.sync("h1")
    assert room.record(address).rest_until_ms == room.now + 300_000
    room.now += 1000
    assert room.report("h1", revision=room.revisions["h1"]).status == ()


# What is promised.


def test_native_a_promise_comes_back_with_its_rest(room: Docked) -> None:
    reserve(room, "20.0.0.9", "db")
    assert room.grant("h1", owner="db") == "20.0.0.9"
    assert room.record("20.0.0.9").promised
    ledger = room.ledgers["h1"]
    ledger.start(("red", "20.0.0.9"), "db")
    room.sync("h1")
    assert (room.record("20.0.0.9").kind, room.record("20.0.0.9").promised) == (AddressKind.ATTACHMENT, True)
    ledger.stop(("red", "20.0.0.9"), room.now)
    room.sync("h1")
    end = room.now + 300_000
    room.now += 1000
    ledger.drop(("red", "20.0.0.9"))
    room.sync("h1")
    assert room.record("20.0.0.9") == AddressRecord(AddressKind.RESERVED, "db", since_ms=room.now, rest_until_ms=end)


def test_native_hosts_are_told_of_promises_in_whoevers_hands(room: Docked) -> None:
    def told(host: str) -> list[tuple[str, str]]:
        (network,) = room.desired(host).networks
        return [(one.owner, one.address) for one in network.reserved]

    before = room.snapshot.revision
    reserve(room, "20.0.0.9", "db")
    assert room.dirty.desired == {"h1", "h2"}
    assert before < room.snapshot.revision
    assert told("h2") == [("db", "20.0.0.9")]
    room.grant("h1", owner="db")
    assert room.dirty.desired == {"h1"}, "nothing changed for others"
    assert told("h2") == told("h1") == [("db", "20.0.0.9")]


# What comes without having been given.


def test_native_what_a_host_lists_is_written_back(room: Docked) -> None:
    ledger = room.ledgers["h1"]
    ledger.take("red", "20.0.0.7")
    ledger.start(("red", "20.0.0.8"), "web")
    ledger.show(("red", "20.0.0.8"))
    ledger.start(("red", "20.0.0.9"), "db")
    ledger.stop(("red", "20.0.0.9"), room.now)
    room.report("h1")
    kinds = {str(address): record.kind for address, record in room.records().items()}
    assert kinds == {
        "20.0.0.7": AddressKind.STOCK,
        "20.0.0.8": AddressKind.ATTACHMENT,
        "20.0.0.9": AddressKind.KEPT,
    }
    assert room.snapshot.attachment_status["h1", "web/red"].value.phase is Phase.READY
    assert problems(room, "h1") == []


def test_native_what_rests_or_is_promised_is_written_back(room: Docked) -> None:
    room.run("h1", "web")
    room.ledgers["h1"].drop(("red", WEB))
    room.report("h1")
    assert room.record(WEB).kind is AddressKind.RESTING
    reserve(room, "20.0.0.9", "db")
    room.ledgers["h2"].start(("red", WEB), "again")
    room.ledgers["h2"].start(("red", "20.0.0.9"), "db")
    room.report("h2")
    assert (room.record(WEB).kind, room.record(WEB).host) == (AddressKind.ATTACHMENT, "h2")
    assert not room.snapshot.addresses["red"][next(iter(room.records()))].lease
    assert room.record("20.0.0.9").promised


@pytest.mark.parametrize(
    ("record", "names"),
    [
        (AddressRecord(AddressKind.STOCK, "", "h2"), ("stock on host h2",)),
        (AddressRecord(AddressKind.KEPT, "db", "h2"), ("kept on host h2",)),
    ],
)
def test_native_an_address_of_another_host_is_a_finding(
    room: Docked, record: AddressRecord, names: tuple[str, ...]
) -> None:
    room.put(keys.address("red", "20.0.0.5"), codec.encode(record))
    room.ledgers["h1"].start(("red", "20.0.0.5"), "web")
    room.sync("h1")
    ((reason, message),) = problems(room, "h1")
    assert reason == Reason.ADDRESS_DUPLICATE.name
    for name in (*names, "web", "h1", "20.0.0.5", "red"):
        assert name in message
    assert room.record("20.0.0.5") == record
    (grant,) = room.desired("h1").grants
    assert (grant.address, grant.recalled) == ("20.0.0.5", True), "it is asked to let go"
    room.ledgers["h1"].stop(("red", "20.0.0.5"), room.now)
    room.now += 300_000
    room.sync("h1")
    assert problems(room, "h1") == []
    assert room.desired("h1").grants == ()
    assert room.record("20.0.0.5") == record


def test_native_an_operators_address_is_a_finding(room: Docked) -> None:
    room.attach("h1", "red", "db")
    room.ledgers["h1"].start(("red", WEB), "web")
    room.sync("h1")
    ((reason, message),) = problems(room, "h1")
    assert reason == Reason.ADDRESS_DUPLICATE.name
    assert "web" in message
    assert "attachment db/red" in message


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("20.0.0.1", Reason.ADDRESS_RESERVED),
        ("20.0.0.15", Reason.ADDRESS_OUTSIDE),
        ("30.0.0.1", Reason.ADDRESS_OUTSIDE),
        ("nonsense", Reason.INVALID_ARGUMENT),
    ],
)
def test_native_what_nobody_can_have_is_a_finding(room: Docked, address: str, reason: Reason) -> None:
    room.ledgers["h1"].start(("red", address), "web")
    room.report("h1")
    assert [one[0] for one in problems(room, "h1")] == [reason.name]
    assert room.records() == {}


def test_native_somebody_else_on_the_wire_is_a_finding(room: Docked) -> None:
    conflict = AddressRecord(AddressKind.CONFLICT, "", holder="06:00:01:00:00:09")
    room.put(keys.address("red", "20.0.0.5"), codec.encode(conflict))
    room.ledgers["h1"].start(("red", "20.0.0.5"), "web")
    room.report("h1")
    ((reason, message),) = problems(room, "h1")
    assert reason == Reason.ADDRESS_CONFLICT.name
    assert "06:00:01:00:00:09" in message


def test_native_an_unreadable_record_is_left_alone(room: Docked) -> None:
    room.put(keys.address("red", "20.0.0.5"), b"{")
    room.ledgers["h1"].start(("red", "20.0.0.5"), "web")
    room.report("h1")
    assert room.store.entries[keys.address("red", "20.0.0.5")].value == b"{"
    assert "h1" not in room.snapshot.attachments


def test_native_two_interfaces_with_one_mac_are_a_finding_on_both(room: Docked) -> None:
    mac = "02:42:14:00:00:02"
    room.run("h1", "web", mac=mac)
    room.run("h2", "db", mac=mac)
    room.sync()
    for host in ("h1", "h2"):
        ((reason, message),) = problems(room, host)
        assert reason == Reason.MAC_DUPLICATE.name
        for name in (mac, "web", "h1", "db", "h2", "red"):
            assert name in message
    room.ledgers["h2"].stop(("red", "20.0.0.3"), room.now)
    room.sync()
    assert problems(room, "h1") == problems(room, "h2") == []


# Beside addresses.


def test_native_events_are_kept_over_a_new_start_of_the_agent(room: Docked) -> None:
    events = tuple(Event(NOW + n, "network red", f"event {n}") for n in range(EVENTS + 5))
    room.report("h1", events=events[:3])
    room.report("h1", events=())
    assert room.snapshot.host_status["h1"].value.events == events[:3]
    room.report("h1", events=events[2:])
    assert room.snapshot.host_status["h1"].value.events == events[-EVENTS:]


def test_native_the_state_of_the_docker_network_is_written(room: Docked) -> None:
    seen = (NetworkObservation("red", Phase.READY, docker="FOREIGN", docker_message="somebody made it"),)
    room.report("h1", networks=seen)
    status = room.snapshot.network_status["h1", "red"].value
    assert (status.docker, status.docker_message) == ("FOREIGN", "somebody made it")


def test_native_desired_says_what_docker_needs(room: Docked) -> None:
    (network,) = room.desired("h1").networks
    assert (network.docker, network.rest_seconds, network.hold_seconds) == (DockerMode.LOCAL, 300, 3600)
    room.run("h1", "web")
    assert room.desired("h1").attachments == (), "what Docker made is not told"


def test_native_a_host_keeps_a_network_while_docker_uses_it(room: Docked) -> None:
    room.run("h1", "web")
    stored = room.snapshot.networks["red"]
    room.put(keys.network("red"), codec.encode(replace(stored.value, host_selector=("h2",), generation=2)))
    assert [one.name for one in room.desired("h1").networks] == ["red"]
    room.ledgers["h1"].stop(("red", WEB), room.now)
    room.sync("h1")
    assert room.desired("h1").networks == ()
    assert room.ledgers["h1"].entries == {}
    assert room.record(WEB).kind is AddressKind.RESTING


# Detach, delete, forget.


def test_native_a_network_is_deleted_under_stock_and_what_is_kept(room: Docked) -> None:
    used = room.run("h1", "web")
    room.grant("h2")
    reserve(room, "20.0.0.9", "db")
    with pytest.raises(Exception, match="h1/web/red"):
        room.delete("red")
    room.ledgers["h1"].stop(("red", used), room.now)
    room.sync("h1")
    room.delete("red")
    assert finish_delete(room.snapshot, "red") is None
    room.sync("h1")
    assert finish_delete(room.snapshot, "red") is None, "h2 has stock of it"
    room.sync("h2")
    assert room.end_delete("red")
    assert room.snapshot.networks == {}
    assert room.records() == {}


def test_native_a_container_that_started_meanwhile_keeps_its_network(room: Docked) -> None:
    address = room.grant("h1")
    room.delete("red")
    room.ledgers["h1"].start(("red", address), "web")
    room.sync()
    assert room.snapshot.attachment("h1", "web/red") is not None
    assert finish_delete(room.snapshot, "red") is None
    room.ledgers["h1"].stop(("red", address), room.now)
    room.sync()
    assert room.end_delete("red")


def test_native_forget_frees_what_the_host_was_given(room: Docked) -> None:
    room.run("h1", "web")
    kept = room.run("h1", "db")
    room.ledgers["h1"].stop(("red", kept), room.now)
    room.grant("h1")
    reserve(room, "20.0.0.9", "p")
    room.grant("h1", owner="p")
    room.sync("h1")
    room.cut("h1")
    room.forget_step("h1")
    room.forget_step("h1")
    kinds = {str(address): record.kind for address, record in room.records().items()}
    assert kinds == {WEB: AddressKind.RESTING, kept: AddressKind.RESTING, "20.0.0.9": AddressKind.RESERVED}
    assert all(stored.lease for stored in room.snapshot.addresses["red"].values() if stored.value.kind == "resting")


def test_native_a_forgotten_host_that_returns_lists_what_is_free_and_what_is_not(room: Docked) -> None:
    first, second = room.run("h1", "web"), room.run("h1", "db")
    ledger = room.ledgers["h1"]
    room.cut("h1")
    room.forget_step("h1")
    room.forget_step("h1")
    room.now += 10_000_000
    assert room.grant("h2", address=first) == first
    room.docker_host("h1")
    ledger.told(room.desired("h1"), room.now)
    room.report("h1")
    assert (room.record(first).host, room.record(second).host) == ("h2", "h1")
    assert [one[0] for one in problems(room, "h1")] == [Reason.ADDRESS_DUPLICATE.name]


def test_native_detach_is_refused(room: Docked) -> None:
    room.run("h1", "web")
    with pytest.raises(Exception, match="docker network disconnect red web") as caught:
        room.detach("h1", "web/red")
    assert caught.value.reason is Reason.NOT_DETACHABLE  # type: ignore[attr-defined]


# Promises and attachments of an operator.


def test_native_attach_gets_what_its_owner_is_promised_and_gives_it_back(room: Docked) -> None:
    reserve(room, "20.0.0.9", "db")
    assert room.attach("h1", "red", "db").record.addresses == ("20.0.0.9/28",)
    assert room.record("20.0.0.9").promised
    with pytest.raises(Exception, match="host h1") as caught:
        room.attach("h2", "red", "db")
    assert caught.value.reason is Reason.OWNER_ELSEWHERE  # type: ignore[attr-defined]
    room.release("h1", "db/red")
    assert room.record("20.0.0.9").kind is AddressKind.RESERVED
    assert room.attach("h2", "red", "db", addresses=("20.0.0.9",)).record.addresses == ("20.0.0.9/28",)


def test_native_target_of_an_unknown_container_is_its_address(room: Docked) -> None:
    room.grant("h1")
    room.ledgers["h1"].start(("red", WEB), "")
    room.sync("h1")
    assert room.snapshot.attachments["h1"][f"docker:{WEB}/red"].value.target == container(WEB)


def test_native_stock_stays_as_it_was_given(room: Docked) -> None:
    address = room.grant("h1", owner="s", shared=True)
    room.sync("h1")
    assert (room.record(address).kind, room.record(address).owner) == (AddressKind.STOCK, "s")
    assert room.ledgers["h1"].entries["red", address].state is EndpointState.STOCK
