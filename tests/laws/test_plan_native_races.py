"""Any two plans about addresses of hosts made on one snapshot, committed in either order: the second may fail, never
break a law."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from fakes.docked import Docked
from fakes.ledger import Ledger
from fakes.planning import container

from controller.plan.addresses import Cursors
from controller.plan.attachments import attach
from controller.plan.deletion import delete_network, finish_delete
from controller.plan.hosts import drain, forget
from controller.plan.invariants import violations
from controller.plan.networks import update_network
from controller.plan.requests import AttachmentRequest, NetworkUpdate, PrefixChange
from controller.plan.reservations import release, reserve
from controller.plan.settle import settle
from controller.plan.stock import stock_steps
from controller.state.txn import Txn
from trunkline.ids import parse_address

Planner = Callable[[Docked], Sequence[Txn | None]]


@cache
def _scene() -> Docked:
    """Hosts that have stock, use and keep addresses; promises with nobody and in use; networks with nothing but stock,
    one of them being deleted; a host that is gone and half forgotten."""
    room = Docked()
    for name in ("h1", "h2", "h3"):
        room.docker_host(name)
    room.network("docks", "20.4.0.0/28", vlan=7, rest_seconds=300)
    room.network("bare", "20.5.0.0/28", vlan=8)
    room.network("old", "20.6.0.0/28", vlan=9)
    room.sync()
    for host, address, owner in (("h1", "20.4.0.6", "db"), ("h2", "20.4.0.5", "nobody")):
        room.commit(reserve(room.snapshot, "docks", owner, address, Cursors(), room.now).txn)
        if owner == "db":
            room.run(host, owner, "docks", owner=owner)
    for host, name, address in (("h1", "used", "20.4.0.1"), ("h2", "kept", "20.4.0.2")):
        room.grant(host, "docks", address=address)
        room.run(host, name, "docks")
    room.ledgers["h2"].stop(("docks", "20.4.0.2"), room.now)
    for host, network, address in (
        ("h2", "docks", "20.4.0.3"),
        ("h3", "docks", "20.4.0.4"),
        ("h1", "bare", "20.5.0.1"),
        ("h1", "old", "20.6.0.1"),
    ):
        room.grant(host, network, address=address)
    room.sync()
    room.delete("old")
    room.cut("h3")
    room.forget_step("h3")
    return room


def scene() -> Docked:
    return deepcopy(_scene())


def asks(request: AttachmentRequest) -> Planner:
    return lambda room: [attach(room.snapshot, request, Cursors(), 77, room.now).txn]


def changes(change: PrefixChange, network: str) -> Planner:
    return lambda room: [update_network(room.snapshot, NetworkUpdate(network, (change,))).txn]


def grants(host: str, **fields: Any) -> Planner:
    return lambda room: [room.plan_grant(host, "docks", **fields).txn]


def says(host: str, change: Callable[[Ledger, int], None]) -> Planner:
    """A host lists what its ledger holds after a change of it."""

    def plan(room: Docked) -> Sequence[Txn | None]:
        ledger = deepcopy(room.ledgers[host])
        change(ledger, room.now)
        seen = room.seen(host, endpoints=ledger.endpoints())
        session = room.snapshot.sessions[host].mod_revision
        found = settle(room.snapshot, host, session, seen, room.now)
        leases = {name: (room.next_lease(), seconds) for name, seconds in found.wanting.items()}
        return settle(room.snapshot, host, session, seen, room.now, leases).status

    return plan


def starts(address: str, name: str) -> Callable[[Ledger, int], None]:
    return lambda ledger, _: ledger.start(("docks", address), name)


def stops(address: str) -> Callable[[Ledger, int], None]:
    return lambda ledger, now: ledger.stop(("docks", address), now)


def drops(*addresses: str) -> Callable[[Ledger, int], None]:
    def drop(ledger: Ledger, _: int) -> None:
        for address in addresses:
            ledger.drop(("docks", address))

    return drop


def tops_up(host: str) -> Planner:
    return lambda room: stock_steps(room.snapshot, host, "docks", 3, Cursors(), room.now)


PLANS: dict[str, Planner] = {
    "grant": grants("h1"),
    "grant elsewhere": grants("h2"),
    "grant a certain one": grants("h1", address="20.4.0.9"),
    "grant that certain one": grants("h2", address="20.4.0.9"),
    "grant the promised one": grants("h1", owner="nobody"),
    "grant the promised one elsewhere": grants("h2", owner="nobody"),
    "grant a shared owner": grants("h1", owner="s", shared=True),
    "grant a shared owner elsewhere": grants("h2", owner="s", shared=True),
    "recall stock": grants("h1", address="20.4.0.3"),
    "promise": lambda room: [reserve(room.snapshot, "docks", "new", "20.4.0.9", Cursors(), room.now).txn],
    "promise to another": lambda room: [reserve(room.snapshot, "docks", "other", "20.4.0.9", Cursors(), room.now).txn],
    "promise what is used": lambda room: [reserve(room.snapshot, "docks", "used", "20.4.0.1", Cursors(), room.now).txn],
    "promise what is kept": lambda room: [reserve(room.snapshot, "docks", "kept", "20.4.0.2", Cursors(), room.now).txn],
    "take a promise back": lambda room: [release(room.snapshot, "docks", "nobody", room.now, room.next_lease()).txn],
    "take back what is used": lambda room: [release(room.snapshot, "docks", "db", room.now, room.next_lease()).txn],
    "attach to a promise": asks(AttachmentRequest("h1", "docks", container("nobody"))),
    "attach by the name that docker will use": asks(AttachmentRequest("h2", "docks", container("runs"))),
    "docker starts on stock": says("h2", starts("20.4.0.3", "runs")),
    "docker starts on what was kept": says("h2", starts("20.4.0.2", "runs")),
    "docker starts on what nobody gave": says("h1", starts("20.4.0.9", "runs")),
    "docker starts on that elsewhere": says("h2", starts("20.4.0.9", "runs")),
    "docker stops": says("h1", stops("20.4.0.1")),
    "docker stops the promised": says("h1", stops("20.4.0.6")),
    "a host lets go": says("h2", drops("20.4.0.2", "20.4.0.3")),
    "a host lets go of what it used": says("h1", drops("20.4.0.1", "20.4.0.6")),
    "stock": tops_up("h1"),
    "stock elsewhere": tops_up("h2"),
    "exclude stock": changes(PrefixChange("20.4.0.0/28", excludes=("20.4.0.3", "20.4.0.9")), "docks"),
    "gateway where stock may go": changes(PrefixChange("20.5.0.0/28", gateway="20.5.0.2"), "bare"),
    "stock of the bare one": lambda room: stock_steps(room.snapshot, "h1", "bare", 3, Cursors(), room.now),
    "delete the bare one": lambda room: [delete_network(room.snapshot, "bare").txn],
    "docker starts on the bare one": says("h1", lambda ledger, _: ledger.start(("bare", "20.5.0.1"), "bare")),
    "docker starts on the old one": says("h1", lambda ledger, _: ledger.start(("old", "20.6.0.1"), "late")),
    "a host lets go of the old one": says("h1", lambda ledger, _: ledger.drop(("old", "20.6.0.1"))),
    "drain": lambda room: [drain(room.snapshot, "h2").txn],
    "forget": lambda room: forget(room.snapshot, "h3", room.now, room.next_lease()).steps,
}


def commit(room: Docked, txns: Sequence[Txn | None]) -> bool:
    for txn in txns:
        if txn is None or room.store.commit(txn) is None:
            return False
        room.follow()
        assert violations(room.snapshot) == []
    return bool(txns)


def test_plan_native_scene() -> None:
    held = {str(address): (record.kind.value, record.host) for address, record in scene().records("docks").items()}
    assert held == {
        "20.4.0.1": ("attachment", "h1"),
        "20.4.0.2": ("kept", "h2"),
        "20.4.0.3": ("stock", "h2"),
        "20.4.0.4": ("stock", "h3"),
        "20.4.0.5": ("reserved", ""),
        "20.4.0.6": ("attachment", "h1"),
    }


@pytest.mark.parametrize("name", PLANS)
def test_plan_native_alone_commits(name: str) -> None:
    room = scene()
    assert commit(room, PLANS[name](room))


@pytest.mark.parametrize("first", PLANS)
def test_plan_native_pairs_on_one_snapshot(first: str) -> None:
    for second in PLANS:
        room = scene()
        one, two = PLANS[first](room), PLANS[second](room)
        assert commit(room, one)
        commit(room, two)
        assert violations(room.snapshot) == [], (first, second)


def test_plan_native_shared_owner_begins_once() -> None:
    room = scene()
    one, two = PLANS["grant a shared owner"](room), PLANS["grant a shared owner elsewhere"](room)
    assert commit(room, one)
    assert not commit(room, two)


def test_plan_native_late_finish_of_a_network_that_stock_came_back_to() -> None:
    """The last step of a deletion was planned; meanwhile somebody has an address of it."""
    room = scene()
    room.ledgers["h1"].drop(("old", "20.6.0.1"))
    room.stale.update(("h1", "h2"))
    room.sync("h1", "h2")
    room.forget_step("h3")
    late = finish_delete(room.snapshot, "old")
    assert late
    assert commit(room, late)
    assert parse_address("20.6.0.1") not in room.snapshot.addresses.get("old", {})
