"""What a host is given when it asks, what is recalled for it, and every refusal; and its stock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes.docked import Docked
from fakes.planning import NOW

from controller.plan.grants import SETTLED_SECONDS, YOUNG_MS, GrantPlan
from controller.plan.stock import OWNED_SECONDS, STOCK, SURPLUS_SECONDS
from controller.plan.usage import clock
from controller.state import codec, keys
from controller.state.records import AddressKind, AddressRecord
from controller.state.txn import NoneNewer
from trunkline.errors import Reason, TrunklineError
from trunkline.model import DockerMode, NetworkObservation, Phase


@pytest.fixture
def room() -> Docked:
    room = Docked()
    for name in ("h1", "h2", "h3"):
        room.docker_host(name)
    room.uplink(((1, 3), (100, 102)))
    room.network("red", "20.0.0.0/29", gateway="20.0.0.1", rest_seconds=300, hold_seconds=3600)
    room.sync()
    return room


def reserve(room: Docked, address: str, owner: str) -> None:
    room.put(keys.address("red", address), codec.encode(AddressRecord(AddressKind.RESERVED, owner)))


def refused(reason: Reason, call: Callable[[], Any], *mentions: str) -> TrunklineError:
    with pytest.raises(TrunklineError) as caught:
        call()
    assert caught.value.reason is reason, caught.value
    assert caught.value.remedy
    for word in mentions:
        assert word in caught.value.text
    return caught.value


def asks(room: Docked, host: str = "h1", **fields: Any) -> Callable[[], GrantPlan]:
    return lambda: room.plan_grant(host, **fields)


def waits(room: Docked, plan: GrantPlan, reason: Reason, *mentions: str) -> GrantPlan:
    """The plan is one that waits; what it recalls is committed."""
    assert plan.address is None
    assert plan.refusal is not None
    assert plan.refusal.reason is reason, plan.refusal
    for word in mentions:
        assert word in plan.refusal.text
    room.commit(plan.txn)
    return plan


def fill(room: Docked, host: str = "h3", leave: int = 0) -> None:
    for n in range(5 - leave):
        room.run(host, f"fill{n}")


def keep(room: Docked, host: str, container: str, **fields: Any) -> str:
    """A container ran and was stopped."""
    address = room.run(host, container, **fields)
    room.ledgers[host].stop(("red", address), room.now)
    room.sync(host)
    return address


# At once.


def test_grant_is_stock_for_anybody(room: Docked) -> None:
    address = room.grant("h1", owner="web")
    assert room.record(address) == AddressRecord(AddressKind.STOCK, "", "h1", since_ms=NOW)
    (told,) = room.desired("h1").grants
    assert (told.network, told.address, told.owner, told.recalled) == ("red", address, "", False)
    assert room.desired("h2").grants == ()


def test_grant_guards_network_host_and_address(room: Docked) -> None:
    plan = room.plan_grant("h1")
    assert plan.txn is not None
    assert {guard.key for guard in plan.txn.guards if not isinstance(guard, NoneNewer)} == {
        keys.network("red"),
        keys.host("h1"),
        keys.address("red", "20.0.0.2"),
    }
    shared = room.plan_grant("h1", owner="s", shared=True).txn
    assert shared is not None
    assert NoneNewer(keys.addresses("red"), room.snapshot.revision) in shared.guards


def test_grant_two_hosts_cannot_both_begin_for_a_shared_owner(room: Docked) -> None:
    one = room.plan_grant("h1", owner="s", shared=True)
    two = room.plan_grant("h2", owner="s", shared=True)
    assert one.address != two.address
    room.commit(one.txn)
    assert two.txn is not None
    assert room.store.commit(two.txn) is None


def test_grant_the_address_that_rests_for_the_owner(room: Docked) -> None:
    room.grant("h1")
    address = room.run("h1", "web")
    room.run("h1", "db")
    room.ledgers["h1"].drop(("red", address))
    room.report("h1")
    assert room.grant("h2") != address
    assert room.grant("h1", owner="web") == address


def test_grant_of_version_six(room: Docked) -> None:
    room.network("dual", "20.1.0.0/28", "fd00:1::/64")
    assert room.grant("h1", "dual", version=6) == "fd00:1::1"
    refused(Reason.ADDRESS_OUTSIDE, asks(room, version=6), "no IPv6 prefix", "red", "20.0.0.0/29")


def test_grant_a_certain_address_is_for_who_asked(room: Docked) -> None:
    assert room.grant("h1", address="20.0.0.5", owner="web") == "20.0.0.5"
    assert room.record("20.0.0.5").owner == "web"


def test_grant_what_the_host_has_and_does_not_know_of(room: Docked) -> None:
    """The answer was lost: what was given is given again."""
    room.commit(room.plan_grant("h1", address="20.0.0.5").txn)
    assert room.grant("h1", address="20.0.0.5") == "20.0.0.5"


# Refusals.


@pytest.mark.parametrize(
    ("fields", "reason", "mentions"),
    [
        ({"network": "blue"}, Reason.NETWORK_NOT_FOUND, ("blue", "red")),
        ({"host": "h9"}, Reason.HOST_NOT_FOUND, ("h9",)),
        ({"address": "20.0.0.1"}, Reason.ADDRESS_RESERVED, ("20.0.0.1", "gateway")),
        ({"address": "20.0.0.7"}, Reason.ADDRESS_OUTSIDE, ("20.0.0.7", "broadcast")),
        ({"address": "30.0.0.7"}, Reason.ADDRESS_OUTSIDE, ("30.0.0.7", "20.0.0.0/29")),
        ({"address": "x"}, Reason.INVALID_ARGUMENT, ("x",)),
        ({"owner": "o" * 300}, Reason.INVALID_ARGUMENT, ("owner",)),
    ],
)
def test_grant_refuses(room: Docked, fields: dict[str, Any], reason: Reason, mentions: tuple[str, ...]) -> None:
    refused(reason, asks(room, **fields), *mentions)


def test_grant_to_a_drained_host(room: Docked) -> None:
    room.drain("h1")
    refused(Reason.HOST_DRAINED, asks(room), "h1")


def test_grant_to_a_host_that_is_forgotten(room: Docked) -> None:
    room.cut("h1")
    room.forget_step("h1")
    refused(Reason.HOST_FORGETTING, asks(room), "h1")


def test_grant_to_a_host_that_is_not_selected(room: Docked) -> None:
    stored = room.snapshot.networks["red"]
    room.put(keys.network("red"), codec.encode(replace(stored.value, host_selector=("h2",), generation=2)))
    refused(Reason.HOST_NOT_SELECTED, asks(room), "h1", "h2", "red")


def test_grant_of_a_network_that_is_deleted(room: Docked) -> None:
    room.delete("red")
    refused(Reason.NETWORK_DELETING, asks(room), "red")


def test_grant_of_an_address_in_use(room: Docked) -> None:
    address = room.run("h2", "db")
    refused(Reason.ADDRESS_TAKEN, asks(room, address=address), address, "db/red", "h2")


def test_grant_of_an_address_that_rests(room: Docked) -> None:
    address = room.run("h2", "db")
    room.ledgers["h2"].drop(("red", address))
    room.report("h2")
    refused(Reason.ADDRESS_RESTING, asks(room, address=address), address, "db", "h2", clock(room.now + 300_000))
    room.now += 300_000
    assert room.grant("h1", address=address) == address


def test_grant_of_an_address_that_is_kept(room: Docked) -> None:
    address = keep(room, "h2", "db")
    refused(Reason.ADDRESS_RESTING, asks(room, address=address), "rests until", "db", "h2")
    room.now += 300_000
    refused(Reason.ADDRESS_RESTING, asks(room, address=address), "is kept until", clock(NOW + 3_600_000), "db", "h2")
    room.now += 3_300_000
    waits(room, room.plan_grant("h1", address=address), Reason.ADDRESS_RESTING, address, "h2")
    room.sync("h2")
    assert room.grant("h1", address=address) == address


def test_grant_of_an_address_that_is_promised(room: Docked) -> None:
    reserve(room, "20.0.0.5", "db")
    refused(Reason.ADDRESS_RESERVED, asks(room, address="20.0.0.5", owner="web"), "20.0.0.5", "db")
    assert room.grant("h2", owner="db") == "20.0.0.5"
    refused(Reason.ADDRESS_RESERVED, asks(room, address="20.0.0.5", owner="web"), "20.0.0.5", "db")


def test_grant_of_an_address_in_conflict(room: Docked) -> None:
    record = AddressRecord(AddressKind.CONFLICT, "", holder="06:00:01:00:00:09")
    room.put(keys.address("red", "20.0.0.5"), codec.encode(record))
    refused(Reason.ADDRESS_CONFLICT, asks(room, address="20.0.0.5"), "20.0.0.5", "06:00:01:00:00:09")


def test_grant_of_an_unreadable_address(room: Docked) -> None:
    room.put(keys.address("red", "20.0.0.5"), b"{")
    refused(Reason.STORE_CORRUPT, asks(room, address="20.0.0.5"), "addresses/red/20.0.0.5")


def test_grant_of_the_stock_of_a_host_out_of_reach(room: Docked) -> None:
    address = room.grant("h2")
    room.cut("h2")
    refused(
        Reason.ADDRESS_TAKEN, asks(room, address=address), address, "stock of host h2", "not connected", "forget h2"
    )


def test_grant_of_the_stock_of_another_host(room: Docked) -> None:
    address = room.grant("h2")
    room.sync("h2")
    waits(room, room.plan_grant("h1", address=address), Reason.ADDRESS_TAKEN, address, "h2")
    room.sync("h2")
    assert room.grant("h1", address=address) == address


# Owners that are meant wherever they are.


def test_grant_a_promise_follows_its_owner(room: Docked) -> None:
    reserve(room, "20.0.0.5", "db")
    plan = room.plan_grant("h1", owner="db")
    assert plan.promised
    assert keep(room, "h1", "db", owner="db") == "20.0.0.5"
    waits(room, room.plan_grant("h2", owner="db"), Reason.OWNER_ELSEWHERE, "20.0.0.5", "db", "h1")
    (told,) = room.desired("h1").grants
    assert (told.owner, told.recalled) == ("db", True), "it need not rest for its own owner"
    room.sync("h1")
    assert room.record("20.0.0.5").kind is AddressKind.RESERVED
    assert room.grant("h2", owner="db") == "20.0.0.5"
    assert room.record("20.0.0.5") == AddressRecord(AddressKind.STOCK, "db", "h2", since_ms=room.now, promised=True)


def test_grant_a_promise_in_use_elsewhere(room: Docked) -> None:
    reserve(room, "20.0.0.5", "db")
    room.run("h1", "db", owner="db")
    waits(room, room.plan_grant("h2", owner="db"), Reason.OWNER_ELSEWHERE, "db", "20.0.0.5", "h1", "db/red")
    room.cut("h1")
    refused(Reason.OWNER_ELSEWHERE, asks(room, "h2", owner="db"), "h1", "not connected")


def test_grant_a_shared_owner_elsewhere(room: Docked) -> None:
    address = room.run("h1", "web-1", owner="shop", shared=True)
    plan = waits(room, room.plan_grant("h2", owner="shop", shared=True), Reason.OWNER_ELSEWHERE, "shop", address, "h1")
    assert plan.txn is None, "what is in use is not recalled"
    waits(room, room.plan_grant("h2", owner="shop", shared=True, address="20.0.0.6"), Reason.OWNER_ELSEWHERE, "h1")
    assert room.grant("h2", owner="shop") != address, "a container of that name is somebody else"


def test_grant_a_shared_owner_takes_its_address_along(room: Docked) -> None:
    address = keep(room, "h1", "web-1", owner="shop", shared=True)
    waits(room, room.plan_grant("h2", owner="shop", shared=True), Reason.OWNER_ELSEWHERE, address, "h1")
    room.sync("h1")
    assert (room.record(address).kind, room.record(address).shared) == (AddressKind.RESTING, True)
    refused(Reason.ADDRESS_RESTING, asks(room, "h2", address=address))
    assert room.grant("h2", owner="shop", shared=True) == address


def test_grant_a_shared_owner_that_asks_again(room: Docked) -> None:
    address = room.grant("h1", owner="shop", shared=True)
    assert room.grant("h1", owner="shop", shared=True) == address


# Under pressure.


def test_grant_recalls_stock_first(room: Docked) -> None:
    kept = keep(room, "h2", "db")
    room.now += 300_000
    stock = room.grant("h2")
    room.sync("h2")
    fill(room, leave=2)
    young = room.plan_grant("h1")
    assert [str(a) for a in young.recalled] == [kept], "what was just given may be on its way to who waits"
    room.now += YOUNG_MS
    plan = waits(room, room.plan_grant("h1"), Reason.POOL_EXHAUSTED, "20.0.0.0/29", "h2 did not let go in time")
    assert [str(a) for a in plan.recalled] == [stock]
    again = room.plan_grant("h1", recalled=plan.recalled)
    assert (again.txn, again.recalled) == (None, plan.recalled), "one at a time"
    other = waits(room, room.plan_grant("h1"), Reason.POOL_EXHAUSTED)
    assert [str(a) for a in other.recalled] == [kept], "each request recalls its own"
    room.sync("h2")
    assert room.records().keys().isdisjoint(plan.recalled | other.recalled)
    assert room.grant("h1", recalled=plan.recalled) in (stock, kept)


def test_grant_recalls_what_has_rested_the_oldest_first(room: Docked) -> None:
    first = keep(room, "h2", "a")
    room.now += 1000
    keep(room, "h3", "b")
    fill(room, leave=2)
    error = refused(Reason.POOL_EXHAUSTED, asks(room), "3 used", "2 resting")
    assert "did not let go" not in error.text, "what rests is not asked for"
    room.now += 300_000
    plan = waits(room, room.plan_grant("h1"), Reason.POOL_EXHAUSTED, "h2")
    assert [str(a) for a in plan.recalled] == [first]


def test_grant_asks_for_another_when_the_first_is_used(room: Docked) -> None:
    one, two = room.grant("h2"), room.grant("h2")
    room.sync("h2")
    fill(room, leave=2)
    plan = waits(room, room.plan_grant("h1"), Reason.POOL_EXHAUSTED)
    assert [str(a) for a in plan.recalled] == [one]
    room.ledgers["h2"].start(("red", one), "quick")
    room.sync("h2")
    assert not room.record(one).recalled
    again = waits(room, room.plan_grant("h1", recalled=plan.recalled), Reason.POOL_EXHAUSTED)
    assert two in [str(a) for a in again.recalled]


def test_grant_leaves_alone_who_could_do_without(room: Docked) -> None:
    room.grant("h2")
    room.sync("h2")
    fill(room, leave=1)
    refused(Reason.POOL_EXHAUSTED, asks(room, spare=True), "1 in stock (host h2 1)")
    assert room.plan_grant("h1").txn is not None


def test_grant_says_who_is_out_of_reach(room: Docked) -> None:
    room.grant("h2")
    room.sync("h2")
    fill(room, leave=1)
    room.cut("h2")
    refused(
        Reason.POOL_EXHAUSTED,
        asks(room),
        "pool 20.0.0.0/29 of network red is exhausted: 5 addresses, 4 used (host h3 4), 0 resting, "
        "1 in stock (host h2 1); host h2 with stock cannot be reached",
    )


def test_grant_takes_no_promise_and_no_fresh_stock_of_an_owner(room: Docked) -> None:
    reserve(room, "20.0.0.6", "db")
    room.grant("h2", owner="db")
    room.grant("h2", address="20.0.0.5", owner="web")
    room.sync("h2")
    fill(room, leave=2)
    refused(Reason.POOL_EXHAUSTED, asks(room))
    room.now += SETTLED_SECONDS * 1000
    plan = waits(room, room.plan_grant("h1"), Reason.POOL_EXHAUSTED)
    assert [str(a) for a in plan.recalled] == ["20.0.0.5"]


# Stock.


@pytest.fixture
def wide() -> Docked:
    room = Docked()
    for name in ("h1", "h2"):
        room.docker_host(name)
    room.network("red", "20.0.0.0/28", vlan=7)
    room.sync()
    return room


def test_stock_is_two_addresses_a_host(wide: Docked) -> None:
    assert len(wide.stock("h1")) == len(wide.stock("h2")) == STOCK
    before = wide.store.revision
    wide.stock("h1")
    assert wide.store.revision == before
    wide.sync()
    wide.run("h1", "web")
    assert len(wide.stock("h1")) == STOCK


def test_stock_stops_while_hosts_need_what_is_free(wide: Docked) -> None:
    for n in range(10):
        wide.grant("h2", address=f"20.0.0.{n + 5}", owner="x")
    assert len(wide.stock("h1")) == STOCK, "four are free"
    wide.sync()
    wide.run("h1", "web")
    assert len(wide.stock("h1")) == 1, "two are free"


@pytest.mark.parametrize("what", ["cut", "docker", "network", "none"])
def test_stock_is_not_for_every_host(wide: Docked, what: str) -> None:
    if what == "cut":
        wide.cut("h1")
    elif what == "docker":
        wide.report("h1", docker="")
    elif what == "network":
        wide.report("h1", networks=(NetworkObservation("red", Phase.READY, docker="FAILED"),))
    else:
        stored = wide.snapshot.networks["red"]
        wide.put(keys.network("red"), codec.encode(replace(stored.value, docker=DockerMode.NONE)))
    assert wide.stock("h1") == []


@pytest.mark.parametrize("what", ["drain", "select"])
def test_stock_is_recalled(wide: Docked, what: str) -> None:
    wide.stock("h1")
    wide.sync()
    if what == "drain":
        wide.drain("h1")
    else:
        stored = wide.snapshot.networks["red"]
        wide.put(keys.network("red"), codec.encode(replace(stored.value, host_selector=("h2",), generation=2)))
    wide.stock("h1")
    assert all(record.recalled for record in wide.records().values())
    wide.sync()
    assert wide.records() == {}
    assert wide.stock("h1") == []


def test_stock_stays_while_docker_restarts(wide: Docked) -> None:
    """Containers start with it once Docker is back, whether a controller is there then or not."""
    stock = wide.stock("h1")
    wide.sync()
    wide.report("h1", docker="")
    assert wide.stock("h1") == stock
    assert not any(record.recalled for record in wide.records().values())


def test_stock_that_is_left_over_is_recalled(wide: Docked) -> None:
    wide.stock("h1")
    wide.grant("h1")
    wide.grant("h1", address="20.0.0.9", owner="x")
    wide.sync()
    assert len(wide.stock("h1")) == 4
    wide.now += SURPLUS_SECONDS * 1000
    wide.stock("h1")
    wide.sync()
    assert len(wide.stock("h1")) == 3
    wide.now += OWNED_SECONDS * 1000
    wide.stock("h1")
    wide.sync()
    assert len(wide.stock("h1")) == STOCK
