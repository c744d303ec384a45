"""From a plan to a transaction: lost races, stale snapshots, contention, groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from controller.reconcile.commit import Committer, Planned
from controller.reconcile.follower import Follower
from controller.state import codec, keys
from controller.state.records import UplinkRecord
from controller.state.snapshot import Snapshot
from controller.state.txn import Absent, Put, Txn, Unchanged
from controller.store.memory import MemoryStore
from trunkline.backoff import Backoff
from trunkline.clock import SystemClock
from trunkline.errors import Reason, Refusal, StoreUnavailable, TrunklineError


class Behind(MemoryStore):
    """A store whose watch can be held back, so that a snapshot is stale for certain."""

    def __init__(self) -> None:
        super().__init__()
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def watch(self, prefix: str, after: int) -> AsyncIterator:  # type: ignore[type-arg]
        async for changes in super().watch(prefix, after):
            await self.flowing.wait()
            yield changes


@pytest.fixture
async def store() -> AsyncIterator[Behind]:
    store = Behind()
    yield store
    await store.close()


@pytest.fixture
async def committer(store: Behind) -> AsyncIterator[Committer]:
    follower = Follower(store, SystemClock(), Backoff(0.01, 0.1))
    task = asyncio.create_task(follower.run())
    await follower.loaded()
    yield Committer(store, follower)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def value(vlan: int = 10) -> bytes:
    return codec.encode(UplinkRecord("blue", ((vlan, vlan),)))


def claim(snapshot: Snapshot) -> Planned[str]:
    """Take the label once; say so when it is taken."""
    if "blue" in snapshot.uplinks:
        return Planned(None, "taken")
    return Planned(Txn((Absent(keys.uplink("blue")),), (Put(keys.uplink("blue"), value()),)), "mine")


def grow(snapshot: Snapshot) -> Planned[int]:
    """Count up: every commit makes every plan made before it fail."""
    key = keys.uplink("blue")
    stored = snapshot.uplinks.get("blue")
    guard = Absent(key) if stored is None else Unchanged(key, stored.mod_revision)
    count = 1 if stored is None else stored.value.vlans[0][0] + 1
    return Planned(Txn((guard,), (Put(key, value(count)),)), count)


def refuse_unless_there(snapshot: Snapshot) -> Planned[str]:
    if "blue" not in snapshot.uplinks:
        raise Refusal(Reason.NETWORK_NOT_FOUND, "not there", "make it")
    return Planned(None, "there")


async def test_one_of_many_wins_and_the_others_see_it(committer: Committer) -> None:
    results = await asyncio.gather(*(committer.commit(claim) for _ in range(50)))
    assert sorted(result for result, _ in results) == ["mine"] + ["taken"] * 49
    assert all(bool(revision) == (result == "mine") for result, revision in results)


async def test_refusal_is_only_answered_from_a_snapshot_that_is_not_stale(committer: Committer, store: Behind) -> None:
    store.flowing.clear()
    await store.commit(Txn((), (Put(keys.uplink("blue"), value()),)))
    asked = asyncio.create_task(committer.commit(refuse_unless_there))
    done, _ = await asyncio.wait([asked], timeout=0.05)
    assert not done, "it must not answer from what it knows"
    store.flowing.set()
    assert (await asked)[0] == "there"


async def test_malformed_requests_are_refused_with_the_store_away(committer: Committer, store: Behind) -> None:
    def malformed(_: Snapshot) -> Planned[None]:
        raise Refusal(Reason.INVALID_NAME, "bad", "write another")

    store.away = True
    with pytest.raises(Refusal, match="INVALID_NAME"):
        await committer.commit(malformed)
    with pytest.raises(StoreUnavailable):
        await committer.commit(refuse_unless_there)


async def test_lost_race_is_planned_again_on_what_won(committer: Committer, store: Behind) -> None:
    counts = [(await committer.commit(grow))[0] for _ in range(3)]
    assert counts == [1, 2, 3]
    store.flowing.clear()
    entry = (await store.read(keys.uplink("blue"))).entries[0]
    await store.commit(Txn((Unchanged(entry.key, entry.mod_revision),), (Put(entry.key, value(7)),)))
    asked = asyncio.create_task(committer.commit(grow))
    await asyncio.wait([asked], timeout=0.05)
    store.flowing.set()
    assert (await asked)[0] == 8


async def test_contention_ends(committer: Committer, store: Behind) -> None:
    tried = 0

    def hopeless(_: Snapshot) -> Planned[str]:
        nonlocal tried
        tried += 1
        return Planned(Txn((Unchanged("never", 1),), (Put("never", b""),)), "never")

    with pytest.raises(TrunklineError, match="STORE_CONTENTION"):
        await committer.commit(hopeless, tries=5)
    assert tried == 5
    answers = await committer.commit_many([hopeless, claim], tries=3)
    assert isinstance(answers[0], TrunklineError)
    assert answers[1] == "mine"


async def test_in_turn_nobody_starves(committer: Committer) -> None:
    results = await asyncio.gather(*(committer.commit_in_turn(grow) for _ in range(100)))
    assert sorted(count for count, _ in results) == list(range(1, 101))


async def test_many_at_once_keep_their_order(committer: Committer) -> None:
    def plan(number: int):  # type: ignore[no-untyped-def]
        key = keys.uplink(f"u{number % 3}")
        label = f"u{number % 3}"

        def planned(snapshot: Snapshot) -> Planned[str]:
            if label in snapshot.uplinks:
                return Planned(None, f"{number}: there")
            record = codec.encode(UplinkRecord(label, ()))
            return Planned(Txn((Absent(key),), (Put(key, record),)), f"{number}: made")

        return planned

    answers = await committer.commit_many([plan(number) for number in range(6)])
    assert answers == ["0: made", "1: made", "2: made", "3: there", "4: there", "5: there"]


async def test_fresh_covers_what_was_acknowledged_before(committer: Committer, store: Behind) -> None:
    for number in range(20):
        outcome = await store.commit(Txn((), (Put(keys.uplink("blue"), value(number + 1)),)))
        snapshots = await asyncio.gather(*(committer.fresh() for _ in range(3)))
        assert all(snapshot.revision >= outcome.revision for snapshot in snapshots)
