"""The snapshot: changes in any repetition, values that cannot be read, and what is dirty."""

from __future__ import annotations

import pytest
from fakes.applier import Applier
from fakes.planning import Room

from controller.plan.requests import NetworkUpdate
from controller.state import codec, keys
from controller.state.entry import Change, Changes, Entry, Listing
from controller.state.records import AddressKind, AddressRecord, Claim, UplinkRecord
from controller.state.snapshot import Dirty, Snapshot


def uplink(revision: int, *vlans: tuple[int, int]) -> Change:
    value = codec.encode(UplinkRecord("default", vlans))
    return Change("uplinks/default", revision, Entry("uplinks/default", value, revision, 2))


def vlans(snapshot: Snapshot) -> tuple[tuple[int, int], ...] | None:
    stored = snapshot.uplinks.get("default")
    return stored.value.vlans if stored is not None else None


def test_plan_snapshot_old_changes_are_ignored() -> None:
    snapshot = Snapshot()
    snapshot.apply(Changes(5, (uplink(4, (1, 9)), uplink(5, (2, 9)))))
    assert snapshot.apply(Changes(4, (uplink(4, (1, 9)),))) == Dirty()
    assert snapshot.apply(Changes(5, (uplink(5, (3, 9)),))) == Dirty()
    assert (snapshot.revision, vlans(snapshot)) == (5, ((2, 9),))
    snapshot.apply(Changes(6, (Change("uplinks/default", 6, None),)))
    assert snapshot.apply(Changes(6, (uplink(5, (2, 9)),))) == Dirty()
    assert vlans(snapshot) is None


def test_plan_snapshot_own_commits_may_come_early() -> None:
    snapshot = Snapshot()
    snapshot.apply(Changes(5, (uplink(5, (1, 9)),)))
    snapshot.apply(Changes(5, (uplink(9, (4, 9)),)))
    assert (snapshot.revision, vlans(snapshot)) == (5, ((4, 9),))
    snapshot.apply(Changes(7, (uplink(7, (3, 9)),)))
    assert vlans(snapshot) == ((4, 9),)
    assert snapshot.apply(Changes(9, (uplink(9, (4, 9)),))) == Dirty()
    snapshot.apply(Changes(9, (Change("uplinks/default", 12, None),)))
    snapshot.apply(Changes(11, (uplink(11, (5, 9)),)))
    assert vlans(snapshot) is None
    snapshot.apply(Changes(13, (Change("uplinks/default", 12, None), uplink(13, (6, 9)))))
    assert vlans(snapshot) == ((6, 9),)


def test_plan_snapshot_progress_moves_the_revision() -> None:
    snapshot = Snapshot()
    assert snapshot.apply(Changes(42, ())) == Dirty()
    assert snapshot.revision == 42


@pytest.mark.parametrize("key", ["addresses/red/20.0.0.3", "vlans/default/7", "odd/key", "macs/06:00:01:00:00:01"])
def test_plan_snapshot_broken_values_come_and_go(key: str) -> None:
    good = {
        "addresses/red/20.0.0.3": codec.encode(AddressRecord(AddressKind.CONFLICT, "x")),
        "vlans/default/7": codec.encode(Claim("red")),
        "macs/06:00:01:00:00:01": codec.encode(Claim("h1/x")),
    }
    store, snapshot = Applier(), Snapshot()

    def follow() -> None:
        snapshot.apply(store.changes(snapshot.revision))

    for value in (b"?", good.get(key, b"?"), b"", b"{}"):
        store.put(key, value)
        follow()
        assert snapshot.exists(key)
        assert (key in snapshot.broken) == (value != good.get(key))
        address = key.startswith(keys.ADDRESSES)
        assert not address or 0x14000003 in snapshot.pool("red", 4).taken
        assert snapshot.mod_revision(key) == store.revision
    store._delete(key)
    store.log[-1] = Change(key, store.revision + 1, None)
    store.revision += 1
    follow()
    assert not snapshot.exists(key)
    assert snapshot.broken == {}
    assert 0x14000003 not in snapshot.pool("red", 4).taken
    assert snapshot.pool("red", 4).unreadable == 0


def test_plan_snapshot_replace_is_everything() -> None:
    room = Room()
    room.host("h1")
    room.uplink(((2, 9),))
    room.network("red", "20.0.0.0/29")
    room.attach("h1", "red", "web")
    dirty = room.snapshot.replace(Listing(99, ()))
    assert (room.snapshot.revision, room.snapshot.networks, room.snapshot.broken) == (99, {}, {})
    assert dirty == Dirty(
        frozenset({"h1"}), frozenset({"red"}), frozenset({("h1", "web/red")}), frozenset({"h1"}), True, True
    )


def test_plan_snapshot_dirty() -> None:
    room = Room()
    room.host("h1")
    room.host("h2")
    assert room.dirty.desired == {"h2"}
    assert room.dirty.hosts == {"h2"}
    room.uplink(((2, 9),))
    assert room.dirty == Dirty(uplinks=True)
    room.network("red", "20.0.0.0/29")
    assert room.dirty.desired == {"h1", "h2"}
    assert room.dirty.networks == {"red"}
    room.network("green", "20.1.0.0/29")
    room.attach("h1", "red", "web")
    assert room.dirty == Dirty(frozenset({"h1"}), frozenset({"red"}), frozenset({("h1", "web/red")}), frozenset({"h1"}))
    room.observe("h1")
    assert room.dirty.desired == frozenset()
    assert room.dirty.networks == {"red", "green"}
    assert room.dirty.attachments == {("h1", "web/red")}
    room.detach("h1", "web/red")
    assert room.dirty.desired == {"h1"}
    room.release("h1", "web/red")
    assert room.dirty.desired == {"h1"}
    assert room.dirty.networks == {"red"}
    room.update(NetworkUpdate("green", mtu=1400))
    assert room.dirty.desired == {"h1", "h2"}
    assert room.dirty.networks == {"green"}
    room.cut("h1")
    assert room.dirty.desired == frozenset()
    assert room.dirty.hosts == {"h1"}
    assert room.dirty.networks == {"red", "green"}
