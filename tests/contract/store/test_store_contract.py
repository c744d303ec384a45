"""What every store promises (controller/store/port.py), checked on each adapter."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest
from contract.store.conftest import Case

from controller.state.entry import Change, Changes
from controller.state.txn import MAX_OPS, Absent, Delete, Guard, NoneNewer, Op, Put, Txn, Unchanged
from controller.store.port import Committed, Conflict, Reload, Store
from trunkline.errors import Reason, Refusal, StoreUnavailable


def put(key: str, value: bytes = b"v", *guards: Guard, lease: int = 0) -> Txn:
    return Txn(guards, (Put(key, value, lease),))


def create(key: str, value: bytes = b"v") -> Txn:
    return put(key, value, Absent(key))


async def done(store: Store, txn: Txn) -> int:
    outcome = await store.commit(txn)
    assert isinstance(outcome, Committed)
    return outcome.revision


async def refused(store: Store, txn: Txn) -> int:
    outcome = await store.commit(txn)
    assert isinstance(outcome, Conflict)
    return outcome.revision


async def values(store: Store, prefix: str = "") -> dict[str, bytes]:
    return {entry.key: entry.value for entry in (await store.read(prefix)).entries}


async def collect(store: Store, after: int, until: int, prefix: str = "") -> list[Change]:
    found: list[Change] = []
    async with asyncio.timeout(10), contextlib.aclosing(store.watch(prefix, after)) as watch:  # type: ignore[type-var]
        async for changes in watch:
            found.extend(changes.changes)
            if changes.revision >= until:
                return found
    raise AssertionError("the watch ended")


async def test_a_key_is_created_once(store: Store) -> None:
    revision = await done(store, create("a", b"1"))
    assert await refused(store, create("a", b"2")) >= revision
    assert await values(store) == {"a": b"1"}


async def test_unchanged_holds_for_one_revision_only(store: Store) -> None:
    first = await done(store, put("a", b"1"))
    second = await done(store, put("a", b"2", Unchanged("a", first)))
    await refused(store, put("a", b"3", Unchanged("a", first)))
    await done(store, Txn((Unchanged("a", second),), (Delete("a"),)))
    await refused(store, put("a", b"4", Unchanged("a", second)))
    await done(store, create("a", b"5"))
    await refused(store, put("a", b"6", Unchanged("a", second)))
    assert await values(store) == {"a": b"5"}


async def test_none_newer_sees_additions_and_changes_but_not_deletions(store: Store) -> None:
    await done(store, put("p/a"))
    await done(store, put("p/b"))
    seen = await store.revision()
    await done(store, put("q/x"))
    await done(store, put("out", b"1", NoneNewer("p/", seen)))
    await done(store, Txn((), (Delete("p/a"),)))
    await done(store, put("out", b"2", NoneNewer("p/", seen)))
    changed = await done(store, put("p/b", b"new"))
    await refused(store, put("out", b"3", NoneNewer("p/", seen)))
    await done(store, put("out", b"4", NoneNewer("p/", changed)))
    await done(store, put("p/c"))
    await refused(store, put("out", b"5", NoneNewer("p/", changed)))
    await done(store, put("out", b"6", NoneNewer("nothing/", 1)))


async def test_one_failed_guard_stops_the_whole_transaction(store: Store) -> None:
    await done(store, create("a"))
    await refused(store, Txn((Absent("b"), Absent("a")), (Put("b", b"x"), Delete("a"), Put("c", b"x"))))
    assert await values(store) == {"a": b"v"}


async def test_all_writes_of_a_transaction_share_a_revision(store: Store) -> None:
    await done(store, put("gone"))
    revision = await done(store, Txn((), (Put("a", b"1"), Put("b", b"2"), Delete("gone"), Delete("never"))))
    entries = (await store.read("")).entries
    assert [(e.key, e.mod_revision, e.create_revision) for e in entries] == [
        ("a", revision, revision),
        ("b", revision, revision),
    ]


async def test_create_revision_stays_until_the_key_is_made_anew(store: Store) -> None:
    made = await done(store, create("a"))
    changed = await done(store, put("a"))
    (entry,) = (await store.read("a")).entries
    assert (entry.create_revision, entry.mod_revision) == (made, changed)
    await done(store, Txn((), (Delete("a"),)))
    again = await done(store, create("a"))
    (entry,) = (await store.read("a")).entries
    assert entry.create_revision == again


async def test_a_listing_is_in_order_of_key_and_keeps_to_its_prefix(store: Store) -> None:
    for key in ("b/2", "b/10", "b", "b0", "b/é", "c/1", "a"):
        await done(store, put(key))
    listing = await store.read("b/")
    assert [entry.key for entry in listing.entries] == ["b/10", "b/2", "b/é"]
    assert len((await store.read("")).entries) == 7
    assert listing.revision >= max(entry.mod_revision for entry in listing.entries)
    assert (await store.read("nothing/")).entries == ()


async def test_values_are_any_bytes(store: Store) -> None:
    value = bytes(range(256)) * 200
    await done(store, put("a", value))
    await done(store, put("empty", b""))
    assert await values(store) == {"a": value, "empty": b""}


async def test_the_revision_covers_what_was_acknowledged(store: Store) -> None:
    for i in range(5):
        revision = await done(store, put("a", str(i).encode()))
        assert await store.revision() >= revision


async def test_of_many_callers_one_creates_the_key(case: Case) -> None:
    stores = [case.store, case.another()]
    outcomes = await asyncio.gather(*(stores[i % 2].commit(create("a", str(i).encode())) for i in range(64)))
    winners = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Committed)]
    assert len(winners) == 1
    assert await values(case.store) == {"a": str(winners[0]).encode()}


async def test_counting_under_contention_loses_nothing(case: Case) -> None:
    stores = [case.store, case.another()]
    await done(case.store, create("n", b"0"))

    async def add(store: Store) -> None:
        while True:
            (entry,) = (await store.read("n")).entries
            txn = put("n", str(int(entry.value) + 1).encode(), Unchanged("n", entry.mod_revision))
            if isinstance(await store.commit(txn), Committed):
                return

    await asyncio.gather(*(add(stores[i % 2]) for i in range(20)))
    assert await values(case.store) == {"n": b"20"}


async def test_many_transactions_are_answered_in_their_order(store: Store) -> None:
    await done(store, create("k/7"))
    await done(store, create("k/300"))
    outcomes = await store.commit_many([create(f"k/{i}", str(i).encode()) for i in range(500)])
    assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Conflict)] == [7, 300]
    assert len(await values(store)) == 500
    assert await store.commit_many([]) == []


async def test_transactions_that_rely_on_what_others_write_are_not_mixed_up(store: Store) -> None:
    """Write skew: each guards a range that the other writes into; exactly one of them may win."""
    seen = await store.revision()
    outcomes = await store.commit_many([put(f"r/{i}", b"x", NoneNewer("r/", seen)) for i in range(8)])
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 1
    assert len(await values(store, "r/")) == 1


async def test_a_transaction_without_writes_checks_its_guards(store: Store) -> None:
    revision = await done(store, create("a"))
    await done(store, Txn((Unchanged("a", revision),), ()))
    await refused(store, Txn((Absent("a"),), ()))


async def test_the_largest_transaction_is_taken_and_a_larger_one_refused(store: Store) -> None:
    keys = [f"k/{i}" for i in range(MAX_OPS + 1)]
    full = Txn(tuple(map(Absent, keys[:MAX_OPS])), tuple(Put(key, b"x") for key in keys[:MAX_OPS]))
    await done(store, full)
    for txn in (
        Txn((), tuple(Put(key, b"x") for key in keys)),
        Txn(tuple(map(Absent, keys)), ()),
        put("big", b"x" * 2_000_000),
    ):
        with pytest.raises(Refusal) as caught:
            await store.commit(txn)
        assert caught.value.reason is Reason.INVALID_ARGUMENT
    await done(store, put("large", b"x" * 1_000_000))


async def test_a_cancelled_caller_does_not_cancel_its_transaction(store: Store) -> None:
    task = asyncio.ensure_future(store.commit(create("a")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    # Either it was under way and is applied, or it never will be; the store itself goes on.
    await done(store, put("b"))
    first = await values(store)
    await done(store, put("b"))
    assert (await values(store)).keys() == first.keys()


async def test_a_watch_delivers_each_change_once_and_in_order(case: Case) -> None:
    store = case.store
    start = await done(store, put("before"))
    await done(store, Txn((), (Put("x/a", b"1"), Put("y", b"1"))))
    await done(store, put("x/a", b"2"))
    await done(store, Txn((), (Delete("x/a"), Delete("never"))))
    last = await done(case.another(), put("x/b", b"3"))
    everything = await collect(store, start, last)
    assert [(c.key, c.entry.value if c.entry else None) for c in everything] in (
        [("x/a", b"1"), ("y", b"1"), ("x/a", b"2"), ("x/a", None), ("x/b", b"3")],
    )
    assert [c.revision for c in everything] == sorted(c.revision for c in everything)
    assert everything[-1].revision == last
    assert [c.key for c in await collect(store, start, last, "x/")] == ["x/a", "x/a", "x/a", "x/b"]
    (entry,) = (await store.read("x/")).entries
    assert everything[-1].entry == entry


async def test_a_listing_and_a_watch_from_it_miss_nothing(store: Store) -> None:
    async def write() -> int:
        revision = 0
        for i in range(200):
            revision = await done(store, put(f"k/{i % 17}", str(i).encode()))
        return revision

    writer = asyncio.ensure_future(write())
    while not (await store.read("k/")).entries:
        await asyncio.sleep(0.001)
    listing = await store.read("k/")
    state = {entry.key: entry.value for entry in listing.entries}
    last = await writer
    for change in await collect(store, listing.revision, last, "k/"):
        assert change.entry is not None
        state[change.key] = change.entry.value
    assert state == await values(store, "k/")


async def first_progress(watch: AsyncIterator[Changes], reach: int) -> Changes:
    async with asyncio.timeout(6):
        async for changes in watch:
            if changes.revision >= reach:
                return changes
    raise AssertionError("the watch ended")


async def test_a_quiet_watch_shows_progress(store: Store) -> None:
    revision = await done(store, put("a"))
    async with contextlib.aclosing(store.watch("", revision)) as watch:  # type: ignore[type-var]
        for _ in range(2):
            assert (await first_progress(watch, revision)).changes == ()


async def test_a_watch_reaches_the_revision_that_a_conflict_names(case: Case) -> None:
    revision = await done(case.store, create("a"))
    conflict = await refused(case.another(), create("a"))
    async with contextlib.aclosing(case.store.watch("", revision)) as watch:  # type: ignore[type-var]
        assert (await first_progress(watch, conflict)).changes == ()


async def test_a_watch_of_compacted_history_asks_for_a_reload(case: Case) -> None:
    store = case.store
    first = await done(store, put("a", b"0"))
    for i in range(10):
        last = await done(store, put("a", str(i).encode()))
    await case.compact(last)
    with pytest.raises(Reload):
        await collect(store, first, last)
    assert [c.revision for c in await collect(store, last - 1, last)] == [last]


async def test_a_watch_from_a_revision_that_was_never_reached_asks_for_a_reload(store: Store) -> None:
    """What a restored backup looks like to a process that knew more."""
    revision = await done(store, put("a"))
    with pytest.raises(Reload):
        await collect(store, revision + 1_000_000, revision + 2_000_000)


async def test_one_error_among_many_leaves_the_others_committed(store: Store) -> None:
    lease = await store.grant(10)
    await store.revoke(lease)
    with pytest.raises(Reload):
        await store.commit_many([put(f"k/{i}", b"x", lease=lease if i == 3 else 0) for i in range(8)])
    assert len(await values(store)) == 7


async def test_a_live_watch_outlives_a_compaction(case: Case) -> None:
    store = case.store
    revision = await done(store, put("a", b"0"))
    async with contextlib.aclosing(store.watch("", revision)) as watch:  # type: ignore[type-var]
        for i in range(5):
            revision = await done(store, put("a", str(i).encode()))
            assert (await first_progress(watch, revision)).revision >= revision
            await case.compact(revision)


async def test_a_lease_takes_its_keys_with_it(store: Store) -> None:
    lease = await store.grant(2)
    assert lease > 0
    revision = await done(store, Txn((), (Put("s/a", b"x", lease), Put("s/b", b"x", lease), Put("kept", b"x"))))
    (entry, _) = (await store.read("s/")).entries
    assert entry.lease == lease
    began = asyncio.get_running_loop().time()
    gone = []
    async with asyncio.timeout(15), contextlib.aclosing(store.watch("s/", revision)) as watch:  # type: ignore[type-var]
        async for changes in watch:
            gone += [change.key for change in changes.changes if change.entry is None]
            if len(gone) == 2:
                break
    assert asyncio.get_running_loop().time() - began > 1.5, "a lease never ends early"
    assert sorted(gone) == ["s/a", "s/b"]
    assert await values(store) == {"kept": b"x"}
    with pytest.raises(Reload):
        await store.renew(lease)


async def test_a_renewed_lease_lives_on(store: Store) -> None:
    lease = await store.grant(2)
    await done(store, put("a", b"x", lease=lease))
    give_up = asyncio.get_running_loop().time() + 4
    while asyncio.get_running_loop().time() < give_up:
        assert 1.0 <= await store.renew(lease) <= 10
        await asyncio.sleep(0.3)
    assert await values(store) == {"a": b"x"}
    await store.revoke(lease)
    assert await values(store) == {}
    await store.revoke(lease)


async def test_writing_under_a_lease_that_is_gone_fails_alone(store: Store) -> None:
    lease = await store.grant(10)
    await store.revoke(lease)
    results = await asyncio.gather(
        *(store.commit(put(f"k/{i}", b"x", lease=lease if i == 3 else 0)) for i in range(8)), return_exceptions=True
    )
    assert [i for i, result in enumerate(results) if isinstance(result, Reload)] == [3]
    assert sum(isinstance(result, Committed) for result in results) == 7
    assert len(await values(store)) == 7


async def test_a_key_leaves_its_lease_when_it_is_written_without(store: Store) -> None:
    lease = await store.grant(10)
    await done(store, put("a", b"1", lease=lease))
    await done(store, put("a", b"2"))
    await store.revoke(lease)
    assert await values(store) == {"a": b"2"}


async def test_members_answer(store: Store) -> None:
    members = await store.members()
    assert members
    assert all(member.healthy and member.version and not member.problem for member in members)


async def test_a_closed_store_says_so(store: Store) -> None:
    await done(store, put("a"))
    await store.close()
    await store.close()
    for call in (store.commit(put("b")), store.read(""), store.revision(), store.grant(10), store.renew(1)):
        with pytest.raises(StoreUnavailable):
            await call
    assert not any(member.healthy for member in await store.members())


def random_txn(draw: random.Random, revisions: dict[str, list[int]]) -> tuple[list[tuple[str, str, int]], list[Op]]:
    """Guards by the number of the write they refer to, so that stores with different revisions can be compared."""
    guards = []
    for key in draw.sample("abcd", draw.randint(0, 2)):
        kind = draw.choice(["absent", "unchanged", "newest"])
        if kind == "unchanged" and not revisions[key]:
            continue
        history = revisions[key] if kind == "unchanged" else [len(revisions["all"])]
        guards.append((kind, key, draw.choice(history[-2:])))
    ops: list[Op] = [
        Put(key, draw.randbytes(4)) if draw.random() < 0.7 else Delete(key)
        for key in draw.sample(["a", "ax", "b", "c", "d"], draw.randint(1, 3))
    ]
    return guards, ops


@pytest.mark.parametrize("seed", range(4))
async def test_random_histories_end_as_in_memory(case: Case, seed: int) -> None:
    """Differential: 150 random transactions give the same outcomes and contents as on the store in memory."""
    from controller.store.memory import MemoryStore

    draw, model = random.Random(seed), MemoryStore()
    revisions: dict[str, list[int]] = {key: [] for key in ["a", "ax", "b", "c", "d", "all"]}
    real, ideal = [await case.store.revision()], [await model.revision()]
    for _ in range(150):
        symbolic, ops = random_txn(draw, revisions)

        def guards(known: list[int], symbolic: list[tuple[str, str, int]] = symbolic) -> tuple[Guard, ...]:
            made: list[Guard] = []
            for kind, key, index in symbolic:
                if kind == "absent":
                    made.append(Absent(key))
                elif kind == "unchanged":
                    made.append(Unchanged(key, known[index]))
                else:
                    made.append(NoneNewer(key, known[index]))
            return tuple(made)

        got = await case.store.commit(Txn(guards(real), tuple(ops)))
        wanted = await model.commit(Txn(guards(ideal), tuple(ops)))
        assert type(got) is type(wanted)
        if isinstance(got, Committed):
            real.append(got.revision)
            ideal.append(wanted.revision)
            revisions["all"].append(len(real) - 1)
            for op in ops:
                revisions[op.key].append(len(real) - 1)
    assert await values(case.store) == await values(model)
