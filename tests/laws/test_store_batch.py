"""Laws of group commit: a batch ends like a serial order, nothing is lost, nothing is applied twice."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.state.txn import MAX_BYTES, MAX_OPS, Absent, Delete, Guard, NoneNewer, Op, Put, Txn, Unchanged
from controller.store import batch
from trunkline.errors import Refusal

KEYS = ["a", "a/1", "a/2", "b", "b/1", "b/2", "c"]
State = dict[str, int]
"""Key to modification revision; that is all that guards can see."""


def holds(guard: Guard, state: State) -> bool:
    if isinstance(guard, Absent):
        return guard.key not in state
    if isinstance(guard, Unchanged):
        return state.get(guard.key) == guard.mod_revision
    return all(revision <= guard.revision for key, revision in state.items() if key.startswith(guard.prefix))


def apply(txns: Sequence[Txn], state: State, revision: int) -> State | None:
    """All of `txns` at one revision, as etcd does with one transaction; None when a guard fails."""
    if not all(holds(guard, state) for txn in txns for guard in txn.guards):
        return None
    after = dict(state)
    for txn in txns:
        for op in txn.ops:
            if isinstance(op, Put):
                after[op.key] = revision
            else:
                after.pop(op.key, None)
    return after


guards: st.SearchStrategy[Guard] = st.one_of(
    st.builds(Absent, st.sampled_from(KEYS)),
    st.builds(Unchanged, st.sampled_from(KEYS), st.integers(1, 4)),
    st.builds(NoneNewer, st.sampled_from(["", "a", "a/", "b/", "c"]), st.integers(1, 4)),
)
ops: st.SearchStrategy[Op] = st.one_of(
    st.builds(Put, st.sampled_from(KEYS), st.just(b"x")), st.builds(Delete, st.sampled_from(KEYS))
)
txns = st.builds(
    Txn,
    st.lists(guards, max_size=3).map(tuple),
    st.lists(ops, max_size=3, unique_by=lambda op: op.key).map(tuple),
)
states = st.dictionaries(st.sampled_from(KEYS), st.integers(1, 4), max_size=6)
"""Revisions up to 4 are history; whatever a run writes is newer, as for any plan made before it."""


@st.composite
def plans(draw: st.DrawFn) -> tuple[State, list[Txn]]:
    """A state and transactions as planners make them from it: guards that hold when they are made."""
    state = draw(states)
    true: list[Guard] = [Unchanged(key, state[key]) if key in state else Absent(key) for key in KEYS]
    true += [NoneNewer(prefix, 4) for prefix in ("a", "a/", "b/", "c")]
    sound = st.builds(
        Txn,
        st.lists(st.sampled_from(true), max_size=2).map(tuple),
        st.lists(ops, max_size=2, unique_by=lambda op: op.key).map(tuple),
    )
    return state, draw(st.lists(sound, min_size=2, max_size=5))


@settings(max_examples=400)
@given(st.one_of(plans(), st.tuples(states, st.lists(txns, max_size=8))), st.randoms(use_true_random=False))
def test_a_batch_ends_like_every_serial_order(plan: tuple[State, list[Txn]], draw: random.Random) -> None:
    state, waiting = plan
    taken, members = batch.take(deque(waiting), lambda txn: txn)
    together = apply(members, state, 100)
    order = list(members)
    draw.shuffle(order)
    serial: State | None = dict(state)
    for step, txn in enumerate(order):
        serial = apply([txn], serial, 100 + step) if serial is not None else None
    assert (together is None) == (serial is None)
    if together is not None and serial is not None:
        assert together.keys() == serial.keys()
        assert {k for k, r in together.items() if r >= 100} == {k for k, r in serial.items() if r >= 100}
    # What is sent is what the members ask for, each guard and each write once.
    assert Counter(taken.ops) == Counter(op for txn in members for op in txn.ops)
    assert set(taken.guards) == {guard for txn in members for guard in txn.guards}
    assert len({op.key for op in taken.ops}) == len(taken.ops)


@given(states, st.lists(txns, max_size=12), st.integers(0, 5))
def test_every_caller_is_answered_once_and_truly(state: State, waiting: list[Txn], foreign: int) -> None:
    """The committer's loop, in pure form, with another replica's write between two batches."""
    queue = deque(enumerate(waiting))
    split: deque[list[tuple[int, Txn]]] = deque()
    answers: dict[int, bool] = {}
    applied: Counter[int] = Counter()
    revision = 100
    while queue or split:
        members = split.popleft() if split else batch.take(queue, lambda item: item[1])[1]
        assert members, "a batch takes at least the oldest"
        batch.batch_of([txn for _, txn in members])
        revision += 1
        after = apply([txn for _, txn in members], state, revision)
        if after is not None:
            state = after
            for number, _ in members:
                assert number not in answers
                answers[number] = True
                applied[number] += 1
        elif len(members) == 1:
            number, txn = members[0]
            assert number not in answers
            assert not all(holds(guard, state) for guard in txn.guards), "a conflict is only told of a failed guard"
            answers[number] = False
        else:
            split.extendleft(reversed(batch.halves(members)))
        if foreign:
            foreign -= 1
            revision += 1
            state = {**state, KEYS[foreign]: revision}
    assert answers.keys() == set(range(len(waiting)))
    assert all(applied[number] == int(won) for number, won in answers.items())


@given(st.lists(txns, max_size=10))
def test_what_is_passed_over_keeps_its_place(waiting: list[Txn]) -> None:
    queue = deque(enumerate(waiting))
    _, members = batch.take(queue, lambda item: item[1])
    rest = [number for number, _ in queue]
    assert rest == sorted(rest)
    assert sorted(rest + [number for number, _ in members]) == list(range(len(waiting)))
    assert not waiting or members[0][0] == 0


@given(st.lists(txns, min_size=1, max_size=10), states)
def test_guards_that_cannot_hold_together_do_not_meet(waiting: list[Txn], state: State) -> None:
    """Were each member's guards to hold in some state, a batch must not fail in all of them."""
    queue = deque(txn for txn in waiting if apply([txn], state, 100) is not None)
    everyone = list(queue)
    _, members = batch.take(queue, lambda txn: txn)
    if everyone:
        assert apply(members, state, 100) is not None, "all held in one state, so their batch does"


def test_contradictions_are_kept_apart() -> None:
    pairs: list[tuple[Guard, Guard]] = [
        (Absent("a"), Unchanged("a", 3)),
        (Unchanged("a", 3), Unchanged("a", 4)),
        (NoneNewer("a/", 3), Unchanged("a/1", 4)),
    ]
    for one, two in [*pairs, *((b, a) for a, b in pairs)]:
        box = batch.Batch()
        assert box.add(Txn((one,), (Put("x", b""),)))
        assert not box.add(Txn((two,), (Put("y", b""),)))


def test_equal_guards_are_stated_once_so_that_many_share_a_batch() -> None:
    """The facts that all attaches to one network rely on must not use the compares up."""
    queue = deque(
        Txn(
            (Unchanged("networks/n", 7), Unchanged("hosts/h", 5), Absent(f"addresses/n/{i}")),
            (Put(f"addresses/n/{i}", b"x"),),
        )
        for i in range(200)
    )
    box, members = batch.take(queue, lambda txn: txn)
    assert len(members) == MAX_OPS - 2
    assert len(box.guards) == MAX_OPS


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500_000)), min_size=1, max_size=12))
def test_a_batch_keeps_within_the_limits(shapes: list[tuple[int, int, int]]) -> None:
    queue = deque(
        Txn(
            tuple(Absent(f"{n}/g{i}") for i in range(compares)),
            tuple(Put(f"{n}/o{i}", b"x" * (size // max(1, writes))) for i in range(writes)),
        )
        for n, (compares, writes, size) in enumerate(shapes)
    )
    while queue:
        box, members = batch.take(queue, lambda txn: txn)
        assert members
        assert len(box.guards) <= MAX_OPS
        assert len(box.ops) <= MAX_OPS
        assert sum(map(batch.size, members)) <= MAX_BYTES


def test_a_transaction_beyond_the_limits_is_refused() -> None:
    batch.check(Txn(tuple(Absent(str(i)) for i in range(MAX_OPS)), ()))
    for txn in (
        Txn(tuple(Absent(str(i)) for i in range(MAX_OPS + 1)), ()),
        Txn((), tuple(Delete(str(i)) for i in range(MAX_OPS + 1))),
        Txn((), (Put("a", b"x" * MAX_BYTES),)),
    ):
        with pytest.raises(Refusal):
            batch.check(txn)
    with pytest.raises(ValueError, match="revision"):
        batch.check(Txn((Unchanged("a", 0),), ()))
