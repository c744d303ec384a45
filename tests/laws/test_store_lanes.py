"""Laws of the lanes: through lost requests, lost answers and late deliveries, a commit is what its caller was told."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

import pytest
from fakes import fast_loop
from fakes.etcd_wire import Fate, LossyRing, Model
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.state.txn import Absent, Delete, Put, Txn
from controller.store.etcd.channel import EtcdSettings
from controller.store.etcd.commit import Committer
from controller.store.port import Committed, Conflict
from trunkline.errors import Reason, StoreUnavailable, TrunklineError

DATA = b"/trunkline/1/"
# Faulty often, yet answered in the end: fates run out, and then all requests are answered.
fates = st.lists(st.sampled_from([*Fate, Fate.ANSWERED]), max_size=60)


def create(key: str, token: str) -> Txn:
    return Txn((Absent(key),), (Put(key, token.encode()),))


def ring_for(model: Model, script: list[Fate], deadline: float = 30.0, replica: str = "c1") -> LossyRing:
    return LossyRing(model, EtcdSettings(("model",), replica, deadline=deadline, lanes=3), iter(script))


def committer(ring: LossyRing) -> Committer:
    return Committer(cast("Any", ring))


def tokens(model: Model) -> Counter[str]:
    """How often each transaction was applied; each puts a token of its own."""
    return Counter(value.decode() for _, key, value in model.applied if key.startswith(DATA))


@settings(deadline=None)
@given(fates, st.lists(st.integers(0, 9), min_size=1, max_size=25), st.integers(0, 3))
def test_committed_means_once_and_conflict_means_never(script: list[Fate], wanted: list[int], early: int) -> None:
    model = Model()

    async def run() -> None:
        ring = ring_for(model, script)
        store = committer(ring)
        calls = [store.commit([create(f"k{key}", f"t{n}")]) for n, key in enumerate(wanted)]
        running = asyncio.gather(*calls)
        for _ in range(early):
            await asyncio.sleep(0)
            ring.release(1)
        outcomes = [outcome for (outcome,) in await running]
        # Deletion makes every "must not exist" true again: only the lanes stand in the way of what was held.
        for number in sorted(set(wanted)):
            await store.commit([Txn((), (Delete(f"k{number}"),))])
        ring.release()
        count = tokens(model)
        for n, outcome in enumerate(outcomes):
            assert count[f"t{n}"] == int(isinstance(outcome, Committed))
            if isinstance(outcome, Committed):
                key = DATA + f"k{wanted[n]}".encode()
                assert (outcome.revision, key, f"t{n}".encode()) in model.applied
        for number in set(wanted):
            winners = [o for n, o in enumerate(outcomes) if wanted[n] == number and isinstance(o, Committed)]
            assert len(winners) == 1, "the first of a key must win: nobody else writes it"
        assert not any(key.startswith(DATA) for key in model.entries)
        await store.close()

    fast_loop.run(run())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([Fate.LATE, Fate.REQUEST_LOST, Fate.ANSWER_LOST]), min_size=8, max_size=40))
def test_what_a_caller_gave_up_is_never_applied_after_a_later_commit(script: list[Fate]) -> None:
    model = Model()

    async def run() -> None:
        # The lanes are taken over first, without faults; then nothing is answered until the deadline is over.
        ring = ring_for(model, [], deadline=0.02)
        store = committer(ring)
        await store.commit([create("warm", "warm")])
        ring._fates = iter(script + [Fate.LATE] * 2000)
        results = await asyncio.gather(
            *(store.commit([create(f"k{n}", f"t{n}")]) for n in range(6)), return_exceptions=True
        )
        assert all(isinstance(result, StoreUnavailable) for result in results)
        ring._fates = iter(())
        while True:
            try:
                await store.commit([create("later", "later")])
                break
            except StoreUnavailable:
                continue
        marker = model.revision
        for n in range(6):
            await store.commit([Txn((), (Delete(f"k{n}"),))])
        ring.release()
        assert not any(
            revision > marker and value.startswith(b"t")
            for revision, key, value in model.applied
            if key.startswith(DATA)
        )
        assert all(count == 1 for count in tokens(model).values())
        await store.close()

    fast_loop.run(run())


@settings(deadline=None)
@given(fates, fates)
def test_the_later_process_of_a_name_fences_the_earlier(first: list[Fate], second: list[Fate]) -> None:
    model = Model()

    async def run() -> None:
        old_ring, new_ring = ring_for(model, first), ring_for(model, second)
        old, new = committer(old_ring), committer(new_ring)
        await old.commit([create("a", "old")])
        (outcome,) = await new.commit([create("a", "new")])
        assert isinstance(outcome, Conflict)
        applied = len(model.applied)
        with pytest.raises(TrunklineError) as caught:
            await old.commit([Txn((), (Put("b", b"old"),))])
        assert caught.value.reason is Reason.STORE_FENCED
        old_ring.release()
        assert len(model.applied) == applied, "nothing of the earlier process is applied any more"
        assert old.stopped is not None
        await new.commit([create("b", "new")])
        for store in (old, new):
            await store.close()

    fast_loop.run(run())
