"""When the collector is told to pass over what is there: at a new high of keys, and at no other time."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from controller.reconcile.follower import Follower
from controller.reconcile.growth import KEYS, Growth
from controller.state.entry import Entry, Listing
from controller.state.snapshot import Dirty, Snapshot


class Keys(Follower):
    """A follower of a store with as many keys as wanted."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()

    def hold(self, count: int) -> None:
        entries = tuple(Entry(f"uplinks/{i}", b"", 1, 1) for i in range(count))
        self._snapshot.replace(Listing(1, entries))


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def frozen(growth: Growth) -> bool:
    gc.unfreeze()
    growth.changed(Dirty(), frozenset())
    return gc.get_freeze_count() > 0


def test_only_a_new_high_is_frozen() -> None:
    follower = Keys()
    growth = Growth(follower)
    follower.hold(KEYS - 1)
    assert not frozen(growth)
    follower.hold(KEYS)
    assert frozen(growth)
    follower.hold(10)
    assert not frozen(growth)
    follower.hold(KEYS + 10)
    assert not frozen(growth), "what went and came again is no growth"
    follower.hold(2 * KEYS)
    assert frozen(growth)
