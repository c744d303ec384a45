"""Any two plans made on one snapshot, committed in either order: the second may fail, never break a law."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from fakes.planning import UPLINKS, Room, container

from controller.plan.addresses import Cursors
from controller.plan.attachments import attach, detach, finish_detach
from controller.plan.deletion import delete_network, finish_delete
from controller.plan.hosts import drain, forget, register
from controller.plan.invariants import violations
from controller.plan.networks import create_network, update_network
from controller.plan.requests import AttachmentRequest, NetworkRequest, NetworkUpdate, PrefixChange
from controller.plan.settle import settle
from controller.plan.uplinks import set_uplink
from controller.state import keys
from controller.state.txn import Txn
from trunkline.errors import TrunklineError
from trunkline.model import HostFacts, NetworkObservation, Observation, Phase, Prefix

Planner = Callable[[Room], Sequence[Txn | None]]


def scene() -> Room:
    """Attachments that are live, detaching, and left on an absent host; networks used, empty, L2-only, and being
    deleted with all hosts certain; a host half forgotten."""
    room = Room()
    for name in ("h1", "h2", "h3", "h5"):
        room.host(name)
    room.uplink(((100, 109),))
    room.network("red", "20.0.0.0/28", gateway="20.0.0.1")
    room.network("bare", "20.1.0.0/28")
    room.network("flat")
    room.network("old", "20.2.0.0/28")
    room.attach("h1", "red", "web")
    room.attach("h1", "red", "gone")
    room.attach("h3", "red", "left")
    room.attach("h5", "red", "lost")
    room.attach("h1", "bare", "was")
    room.release("h1", "was/bare")
    room.attach("h1", "old", "was")
    room.release("h1", "was/old")
    room.detach("h1", "gone/red")
    room.delete("old")
    for name in ("h1", "h2", "h3", "h5"):
        room.observe(name)
    room.cut("h3")
    room.cut("h5")
    room.forget_step("h5")
    return room


def asks(request: AttachmentRequest) -> Planner:
    return lambda room: [attach(room.snapshot, request, Cursors(), 77, room.now).txn]


def makes(request: NetworkRequest) -> Planner:
    return lambda room: [create_network(room.snapshot, request, room.now).txn]


def changes(change: NetworkUpdate) -> Planner:
    return lambda room: [update_network(room.snapshot, change).txn]


def observes(host: str, *networks: str) -> Planner:
    def plan(room: Room) -> Sequence[Txn | None]:
        seen = tuple(NetworkObservation(name, Phase.READY) for name in networks)
        observation = room.observation(host, networks=seen, revision=room.snapshot.revision)
        return settle(room.snapshot, host, room.snapshot.sessions[host].mod_revision, observation, room.now + 1).status

    return plan


def hello(host: str, **labels: str) -> Planner:
    facts = HostFacts(host, f"machine-{host}", uplinks=UPLINKS, labels=labels)
    return lambda room: [register(room.snapshot, facts, "r2", room.next_lease(), room.now).txn]


WEB = container("new")
BUILT_LATER = "02:05:1e:00:00:01"
"""What the first address of the next network, number 5, builds in 30.0.0.0/28."""

PLANS: dict[str, Planner] = {
    "attach": asks(AttachmentRequest("h1", "red", WEB)),
    "attach elsewhere": asks(AttachmentRequest("h2", "red", WEB)),
    "attach static": asks(AttachmentRequest("h2", "red", container("s"), addresses=("20.0.0.9",))),
    "attach static too": asks(AttachmentRequest("h1", "red", container("t"), addresses=("20.0.0.9",))),
    "attach with the MAC of a static": asks(AttachmentRequest("h2", "flat", WEB, mac="02:01:14:00:00:09")),
    "attach with the MAC of a network to come": asks(AttachmentRequest("h2", "flat", WEB, mac=BUILT_LATER)),
    "attach with a MAC": asks(AttachmentRequest("h1", "flat", container("m"), mac="06:00:01:00:00:01")),
    "attach with that MAC": asks(AttachmentRequest("h2", "flat", container("n"), mac="06:00:01:00:00:01")),
    "attach without address": asks(AttachmentRequest("h1", "bare", WEB, no_ip=True)),
    "attach to the empty one": asks(AttachmentRequest("h2", "bare", WEB)),
    "attach its old owner": asks(AttachmentRequest("h1", "bare", container("was"))),
    "attach to the absent host": asks(AttachmentRequest("h3", "red", WEB)),
    "detach": lambda room: [detach(room.snapshot, "h1", "web/red").txn],
    "finish detach": lambda room: [
        finish_detach(room.snapshot, "h1", "gone/red", room.now, room.next_lease(), room.snapshot.revision)
    ],
    "create overlapping": makes(NetworkRequest("n1", vlan=200, prefixes=(Prefix("30.0.0.0/24"),))),
    "create overlapped": makes(NetworkRequest("n2", vlan=201, prefixes=(Prefix("30.0.0.0/28"),))),
    "create auto": makes(NetworkRequest("n3")),
    "create auto too": makes(NetworkRequest("n4")),
    "create by that id": makes(NetworkRequest("n5", vlan=104)),
    "create in place of the old": makes(NetworkRequest("n6", vlan=50, prefixes=(Prefix("20.3.0.0/28"),))),
    "exclude": changes(NetworkUpdate("red", (PrefixChange("20.0.0.0/28", excludes=("20.0.0.9", "20.0.0.6")),))),
    "exclude in the empty one": changes(NetworkUpdate("bare", (PrefixChange("20.1.0.0/28", excludes=("20.1.0.2",)),))),
    "gateway of the empty one": changes(NetworkUpdate("bare", (PrefixChange("20.1.0.0/28", gateway="20.1.0.2"),))),
    "select": changes(NetworkUpdate("red", host_selector=("h1",))),
    "delete": lambda room: [delete_network(room.snapshot, "bare").txn],
    "finish delete": lambda room: finish_delete(room.snapshot, "old") or (),
    "shrink uplink": lambda room: [set_uplink(room.snapshot, "default", ((100, 103),)).txn],
    "grow uplink": lambda room: [set_uplink(room.snapshot, "default", ((100, 300),)).txn],
    "drain": lambda room: [drain(room.snapshot, "h2").txn],
    "forget": lambda room: forget(room.snapshot, "h3", room.now, room.next_lease()).steps,
    "forget on": lambda room: forget(room.snapshot, "h5", room.now, room.next_lease()).steps,
    "hello": hello("h1"),
    "hello with a new label": hello("h1", new="label"),
    "hello of the absent": hello("h3"),
    "hello of a new host": hello("h6"),
    "hello of another new host": hello("h7"),
    "observe": observes("h1", "red", "bare"),
    "observe the old network again": observes("h1", "red", "old"),
}

BETWEEN: dict[str, Planner] = {"attach to the overlapped": asks(AttachmentRequest("h1", "n2", WEB))}
"""What can only be planned after another."""


def commit(room: Room, txns: Sequence[Txn | None]) -> bool:
    for txn in txns:
        if txn is None or room.store.commit(txn) is None:
            return False
        room.follow()
        assert violations(room.snapshot) == []
    return bool(txns)


@pytest.mark.parametrize("name", PLANS)
def test_plan_alone_commits(name: str) -> None:
    room = scene()
    assert commit(room, PLANS[name](room))


@pytest.mark.parametrize("first", PLANS)
def test_plan_pairs_on_one_snapshot(first: str) -> None:
    for second in PLANS:
        room = scene()
        one, two = PLANS[first](room), PLANS[second](room)
        assert commit(room, one)
        commit(room, two)
        assert violations(room.snapshot) == [], (first, second)


@pytest.mark.parametrize(
    ("stale", "between"),
    [
        # A MAC is claimed on a snapshot in which no network could build it; then one is made that does.
        ("attach with the MAC of a network to come", ("create overlapped", "attach to the overlapped")),
        # The number and the VLAN id it would take are still free, so only the guard on all networks sees the overlap.
        ("create overlapping", ("finish delete", "create overlapped")),
        ("hello", ("observe the old network again",)),
        ("delete", ("attach to the empty one", "observe")),
        ("forget", ("hello of the absent", "observe")),
        ("finish delete", ("observe the old network again",)),
        ("observe the old network again", ("finish delete",)),
        ("attach", ("forget on", "drain", "delete")),
        ("detach", ("detach", "hello")),
    ],
    ids=str,
)
def test_plan_committed_after_others(stale: str, between: Sequence[str]) -> None:
    room = scene()
    old = PLANS[stale](room)
    for other in between:
        try:
            commit(room, {**PLANS, **BETWEEN}[other](room))
        except TrunklineError:
            continue
    commit(room, old)
    assert violations(room.snapshot) == []


def test_plan_finish_delete_sees_a_network_come_back() -> None:
    room = scene()
    late = finish_delete(room.snapshot, "old")
    assert late
    assert commit(room, PLANS["observe the old network again"](room))
    assert finish_delete(room.snapshot, "old") is None
    assert room.store.commit(late[-1]) is None


def test_plan_forget_leaves_a_session_alone() -> None:
    room = scene()
    steps = PLANS["forget"](room)
    assert commit(room, PLANS["hello of the absent"](room))
    assert not commit(room, steps)
    assert not room.snapshot.hosts["h3"].value.forgetting


def test_plan_hello_keeps_what_was_just_observed() -> None:
    room = scene()
    late = PLANS["hello"](room)
    assert commit(room, PLANS["observe the old network again"](room))
    assert not commit(room, late)
    assert commit(room, PLANS["hello"](room))
    assert "old" in room.snapshot.host_status["h1"].value.networks


def test_plan_late_twin_of_a_finished_step_does_nothing() -> None:
    """A transaction that was sent twice, the second arriving after the object was made anew."""
    room = scene()
    late = finish_delete(room.snapshot, "old")
    gone = PLANS["finish detach"](room)
    assert late
    assert commit(room, late)
    assert commit(room, gone)
    room.network("old", "20.2.0.0/28")
    room.attach("h1", "old", "again")
    room.attach("h1", "red", "gone")
    for txn in (*late, *gone):
        assert txn is not None
        assert room.store.commit(txn) is None
    assert keys.network("old") in room.store.entries


def test_plan_observation_of_a_gone_network_is_no_status() -> None:
    room = scene()
    session = room.snapshot.sessions["h1"].mod_revision
    seen = Observation(
        "e1", room.snapshot.revision, (NetworkObservation("unknown", Phase.READY),), uplinks=UPLINKS, complete=True
    )
    room.settle("h1", session, seen)
    assert ("h1", "unknown") not in room.snapshot.network_status
    assert room.snapshot.host_status["h1"].value.networks == ("unknown",)
