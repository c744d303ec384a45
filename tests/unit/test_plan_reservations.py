"""Promises of addresses: what is chosen, what is refused, what taking one back leaves."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from fakes.planning import Room

from controller.plan.requests import NetworkUpdate, PrefixChange
from controller.plan.reservations import ReservePlan, listed, release, reserve
from controller.plan.status import fabric_view
from controller.plan.who import who
from controller.state import codec, keys
from controller.state.records import AddressKind, AddressRecord
from trunkline.errors import Reason, Refusal


@pytest.fixture
def room() -> Room:
    room = Room()
    room.host("h1")
    room.host("h2")
    room.uplink(((10, 20),))
    room.network("red", "20.0.0.0/28", gateway="20.0.0.1")
    return room


def promise(room: Room, owner: str, address: str = "", network: str = "red") -> ReservePlan:
    plan = reserve(room.snapshot, network, owner, address, room.cursors, room.now)
    room.commit(plan.txn)
    return plan


def take_back(room: Room, who: str, network: str = "red") -> list[str]:
    plan = release(room.snapshot, network, who, room.now, room.next_lease())
    room.commit(plan.txn)
    return [str(address) for address in plan.addresses]


def record(room: Room, address: str, network: str = "red") -> AddressRecord | None:
    stored = room.snapshot.addresses.get(network, {}).get(ip_address(address))
    return stored.value if stored is not None else None


def given(room: Room, address: str, kind: AddressKind, owner: str = "", host: str = "h1") -> None:
    """An address that a host was given, as the controller writes it."""
    room.put(keys.address("red", address), codec.encode(AddressRecord(kind, owner, host, since_ms=room.now)))


def refused(room: Room, reason: Reason, *mentions: str, owner: str = "web", address: str = "") -> None:
    with pytest.raises(Refusal) as caught:
        promise(room, owner, address)
    assert caught.value.reason is reason, caught.value
    assert caught.value.remedy
    for word in mentions:
        assert word in caught.value.text


def test_the_next_free_one_and_the_same_again(room: Room) -> None:
    room.attach("h1", "red", "other")
    first = promise(room, "web")
    assert [str(address) for address, _ in first.promised] == ["20.0.0.3"]
    again = promise(room, "web")
    assert (again.existed, again.txn, again.promised) == (True, None, first.promised)
    stored = room.snapshot.addresses["red"][ip_address("20.0.0.3")]
    assert (stored.value.kind, stored.value.owner, stored.value.host, stored.lease) == (
        AddressKind.RESERVED,
        "web",
        "",
        0,
    )
    assert promise(room, "web", "20.0.0.3").existed


def test_a_promised_address_is_for_nobody_else(room: Room) -> None:
    promise(room, "web", "20.0.0.2")
    assert room.attach("h1", "red", "other").record.addresses == ("20.0.0.3/28",)
    with pytest.raises(Refusal):
        room.attach("h1", "red", "thief", addresses=("20.0.0.2",))


def test_one_of_each_family_in_one_step(room: Room) -> None:
    room.network("dual", "30.0.0.0/24", "fd00::/64")
    plan = promise(room, "web", network="dual")
    assert [str(address) for address, _ in plan.promised] == ["30.0.0.1", "fd00::1"]
    assert plan.txn is not None
    assert len(plan.txn.ops) == 2
    assert promise(room, "db", "fd00::7", network="dual").promised[0][0] == ip_address("fd00::7")
    more = promise(room, "db", network="dual")
    assert [str(address) for address, _ in more.promised] == ["30.0.0.2", "fd00::7"]
    assert not more.existed


def test_what_the_owner_uses_becomes_the_promised_one(room: Room) -> None:
    room.attach("h1", "red", "web")
    plan = promise(room, "web")
    assert not plan.existed
    held = record(room, "20.0.0.2")
    assert held is not None
    assert (held.kind, held.promised, held.holder) == (AddressKind.ATTACHMENT, True, "web/red")
    assert promise(room, "web").existed
    assert [(one.kind, one.promised) for one in who(room.snapshot, "20.0.0.2", room.now)] == [("attachment", True)]
    assert [one.promised for one in who(room.snapshot, "web", room.now)] == [True]
    room.release("h1", "web/red")
    back = record(room, "20.0.0.2")
    assert back is not None
    assert (back.kind, back.owner, back.host) == (AddressKind.RESERVED, "web", "")


@pytest.mark.parametrize("kind", [AddressKind.KEPT, AddressKind.STOCK])
def test_what_a_host_has_for_the_owner_is_marked_and_stays(room: Room, kind: AddressKind) -> None:
    given(room, "20.0.0.5", kind, "web")
    before = record(room, "20.0.0.5")
    promise(room, "web")
    assert before is not None
    assert record(room, "20.0.0.5") == replace(before, promised=True)
    assert take_back(room, "web") == ["20.0.0.5"]
    assert record(room, "20.0.0.5") == before
    assert take_back(room, "web") == []


def test_two_addresses_of_one_owner_are_not_chosen_between(room: Room) -> None:
    for host in ("h1", "h2"):
        room.attach(host, "red", "web")
    refused(room, Reason.INVALID_ARGUMENT, "20.0.0.2 (h1)", "20.0.0.3 (h2)", "--address")
    promise(room, "web", "20.0.0.3")
    assert [str(a) for a, _ in promise(room, "web").promised] == ["20.0.0.3"]


def test_what_the_owner_used_last_is_promised_and_goes_on_resting(room: Room) -> None:
    room.attach("h1", "red", "web")
    room.release("h1", "web/red")
    assert room.snapshot.addresses["red"][ip_address("20.0.0.2")].lease
    plan = promise(room, "web")
    assert [str(address) for address, _ in plan.promised] == ["20.0.0.2"]
    stored = room.snapshot.addresses["red"][ip_address("20.0.0.2")]
    assert (stored.value.kind, stored.lease) == (AddressKind.RESERVED, 0)
    assert take_back(room, "web") == ["20.0.0.2"]
    rests = room.snapshot.addresses["red"][ip_address("20.0.0.2")]
    assert (rests.value.kind, rests.value.rest_until_ms) == (AddressKind.RESTING, stored.value.rest_until_ms)
    assert rests.lease


def test_taken_back_it_is_free_where_nobody_used_it(room: Room) -> None:
    promise(room, "web", "20.0.0.9")
    promise(room, "db", "20.0.0.10")
    assert take_back(room, "20.0.0.9") == ["20.0.0.9"]
    assert record(room, "20.0.0.9") is None
    assert record(room, "20.0.0.10") is not None
    assert promise(room, "other", "20.0.0.9").promised[0][1].owner == "other"
    assert take_back(room, "20.0.0.12") == []


def test_a_rest_that_is_over_is_not_begun_again(room: Room) -> None:
    room.attach("h1", "red", "web")
    room.release("h1", "web/red")
    promise(room, "web")
    room.now += 301_000
    take_back(room, "web")
    assert record(room, "20.0.0.2") is None


@pytest.mark.parametrize(
    ("reason", "address", "mentions"),
    [
        (Reason.ADDRESS_OUTSIDE, "30.0.0.1", ("30.0.0.1", "20.0.0.0/28")),
        (Reason.ADDRESS_OUTSIDE, "20.0.0.15", ("broadcast",)),
        (Reason.ADDRESS_RESERVED, "20.0.0.1", ("gateway",)),
        (Reason.ADDRESS_RESERVED, "20.0.0.14", ("excluded",)),
        (Reason.ADDRESS_TAKEN, "20.0.0.2", ("other/red", "h1")),
        (Reason.ADDRESS_TAKEN, "20.0.0.4", ("kept for db", "h2")),
        (Reason.ADDRESS_TAKEN, "20.0.0.5", ("stock of host h1",)),
        (Reason.ADDRESS_TAKEN, "20.0.0.6", ("promised to db", "trunkline address release red 20.0.0.6")),
        (Reason.ADDRESS_RESTING, "20.0.0.3", ("gone", "until")),
        (Reason.ADDRESS_CONFLICT, "20.0.0.7", ("52:54:00:00:00:01",)),
        (Reason.INVALID_ARGUMENT, "20.0.0.700", ("20.0.0.700",)),
        (Reason.INVALID_ARGUMENT, "20.0.0.9/24", ("/28",)),
    ],
)
def test_addresses_that_cannot_be_promised(room: Room, reason: Reason, address: str, mentions: tuple[str, ...]) -> None:
    room.update(NetworkUpdate("red", (PrefixChange("20.0.0.0/28", excludes=("20.0.0.14",)),)))
    room.attach("h1", "red", "other")
    room.attach("h1", "red", "gone")
    room.release("h1", "gone/red")
    promise(room, "db", "20.0.0.6")
    given(room, "20.0.0.4", AddressKind.KEPT, "db", "h2")
    given(room, "20.0.0.5", AddressKind.STOCK)
    stranger = AddressRecord(AddressKind.CONFLICT, "", holder="52:54:00:00:00:01")
    room.put(keys.address("red", "20.0.0.7"), codec.encode(stranger))
    refused(room, reason, *mentions, address=address)


@pytest.mark.parametrize("owner", ["", " web", "we\nb", "w" * 256, "20.0.0.9", "fd00::1/64"])
def test_what_is_no_owner(room: Room, owner: str) -> None:
    refused(room, Reason.INVALID_ARGUMENT, "owner", owner=owner)


def test_a_second_promise_in_one_family_is_refused(room: Room) -> None:
    promise(room, "web", "20.0.0.9")
    refused(
        room, Reason.PROMISE_EXISTS, "20.0.0.9", "20.0.0.10", "trunkline address release red web", address="20.0.0.10"
    )


def test_networks_that_promise_nothing(room: Room) -> None:
    room.network("wire")
    for network, reason in (("blue", Reason.NETWORK_NOT_FOUND), ("wire", Reason.ADDRESS_OUTSIDE)):
        with pytest.raises(Refusal) as caught:
            promise(room, "web", network=network)
        assert caught.value.reason is reason
    with pytest.raises(Refusal) as caught:
        take_back(room, "web", "blue")
    assert caught.value.reason is Reason.NETWORK_NOT_FOUND


def test_two_who_promise_the_same_owner_do_not_both_win(room: Room) -> None:
    one = reserve(room.snapshot, "red", "web", "20.0.0.9", room.cursors, room.now)
    other = reserve(room.snapshot, "red", "web", "20.0.0.10", room.cursors, room.now)
    assert one.txn is not None
    assert other.txn is not None
    room.commit(one.txn)
    assert room.store.commit(other.txn) is None


def test_a_pool_that_is_full(room: Room) -> None:
    room.network("tiny", "30.0.0.0/30")
    for owner in ("a", "b"):
        promise(room, owner, network="tiny")
    with pytest.raises(Refusal) as caught:
        promise(room, "c", network="tiny")
    assert caught.value.reason is Reason.POOL_EXHAUSTED
    assert "2 reserved" in caught.value.text


def test_what_is_listed_and_counted(room: Room) -> None:
    room.network("blue", "30.0.0.0/24")
    room.attach("h1", "red", "web")
    given(room, "20.0.0.10", AddressKind.KEPT, "db", "h2")
    given(room, "20.0.0.9", AddressKind.STOCK, "", "h2")
    promise(room, "db", network="blue")
    promise(room, "web")

    def found(network: str = "", host: str = "", owner: str = "", kind: str = "") -> list[tuple[str, str]]:
        return [(one.address, one.kind) for one in listed(room.snapshot, network, host, owner, kind, room.now)]

    everything = [
        ("30.0.0.1", "reserved"),
        ("20.0.0.2", "attachment"),
        ("20.0.0.9", "stock"),
        ("20.0.0.10", "kept"),
    ]
    assert found() == everything
    assert found(network="red") == everything[1:]
    assert found(host="h2") == everything[2:]
    assert found(owner="db") == [everything[0], everything[3]]
    assert found(kind="kept", owner="web") == []
    for network, kind, reason in (("", "nonsense", Reason.INVALID_ARGUMENT), ("green", "", Reason.NETWORK_NOT_FOUND)):
        with pytest.raises(Refusal) as caught:
            found(network=network, kind=kind)
        assert caught.value.reason is reason
    view = fabric_view(room.snapshot)
    assert (view.addresses, view.addresses_stock, view.addresses_kept, view.addresses_promised) == (4, 1, 1, 2)
    assert [(one.kind, one.owner) for one in who(room.snapshot, "db", room.now)] == [("reserved", "db"), ("kept", "db")]
