"""Group commit: which waiting transactions may share one transaction of the store (law 9). Pure logic, no I/O.

A batch applies all its transactions at one revision or none of them. That equals a serial order only if no member
relies on a fact that another member writes; here members are even independent in both directions, so every order
of them gives the same result:

- no key is written by two members;
- no guard of one member, key or range, covers a key that another member writes;
- guards that cannot hold together never meet, since one of them would fail the whole batch.

Equal guards are stated once. When a guard fails, nobody knows whose: the batch is split in halves until a member
stands alone, and only then is told of a conflict.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from controller.state.txn import MAX_BYTES, MAX_OPS, Guard, NoneNewer, Op, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal

T = TypeVar("T")

_GUARD_BYTES: Final = 64
"""Bytes of a guard or operation around its key and value: tags, lengths, revisions and the store's prefix."""

_SMALL: Final = 4
"""Guards, or operations, of a small transaction; where there is room for no more, few others are tried."""

_PATIENCE: Final = 64
"""Waiting transactions that may be passed over while a batch is filled, so that filling stays linear."""


def _length(key: str) -> int:
    return len(key.encode(errors="surrogateescape"))


def size(txn: Txn) -> int:
    """Upper estimate of the bytes of a transaction in a request."""
    total = _GUARD_BYTES * (len(txn.guards) + len(txn.ops))
    for guard in txn.guards:
        key = guard.prefix if isinstance(guard, NoneNewer) else guard.key
        total += len(key) if key.isascii() else _length(key)
    for op in txn.ops:
        key = op.key
        total += len(key) if key.isascii() else _length(key)
        if isinstance(op, Put):
            total += len(op.value)
    return total


def check(txn: Txn) -> None:
    """Raise INVALID_ARGUMENT when a transaction is larger than the store takes, or guards a revision below 1."""
    guards, ops, length = len(txn.guards), len(txn.ops), size(txn)
    if guards > MAX_OPS:
        guards = len(set(txn.guards))
    if guards > MAX_OPS or ops > MAX_OPS or length > MAX_BYTES:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"a transaction of {guards} guards, {ops} writes and {length} bytes is larger than the store takes"
            f" ({MAX_OPS} guards, {MAX_OPS} writes, {MAX_BYTES} bytes)",
            "ask for less at once",
        )
    # etcd gives an absent key the revision 0, so such a guard would mean "absent" there and nothing here.
    for guard in txn.guards:
        if isinstance(guard, Unchanged) and guard.mod_revision < 1:
            raise ValueError("a guard on an unchanged key needs the revision of a change")


class Batch:
    """Transactions that are applied together. The first one added is always taken; see the module for the rules.

    `guards` states equal ones once."""

    __slots__ = ("_exact", "_ranges", "_size", "_written", "guards", "ops", "txns")

    def __init__(self) -> None:
        self.txns: list[Txn] = []
        self.guards: list[Guard] = []
        self.ops: list[Op] = []
        self._exact: dict[str, Guard] = {}
        self._ranges: list[NoneNewer] = []
        self._written: set[str] = set()
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether not even the smallest transaction would fit."""
        return len(self.ops) >= MAX_OPS or len(self.guards) >= MAX_OPS

    @property
    def patience(self) -> int:
        """Transactions worth passing over to find one that may still be taken."""
        crowded = len(self.ops) > MAX_OPS - _SMALL or len(self.guards) > MAX_OPS - _SMALL
        return _SMALL if crowded else _PATIENCE

    def add(self, txn: Txn) -> bool:
        """Take `txn` in and return True, or leave the batch as it is and return False."""
        length = size(txn)
        fresh = self._fresh(txn.guards)
        if self.txns and not (self._fits(txn, fresh, length) and self._independent(txn) and self._compatible(txn)):
            return False
        self.txns.append(txn)
        self.guards += fresh
        self.ops += txn.ops
        self._size += length
        for guard in fresh:
            if isinstance(guard, NoneNewer):
                self._ranges.append(guard)
            else:
                self._exact[guard.key] = guard
        for op in txn.ops:
            self._written.add(op.key)
        return True

    def _fresh(self, guards: Sequence[Guard]) -> list[Guard]:
        """Those that the batch does not state yet. By key: hashing whole guards was a third of a batch's time."""
        exact = self._exact
        mine: dict[str, Guard] = {}
        fresh: list[Guard] = []
        for guard in guards:
            if isinstance(guard, NoneNewer):
                if guard not in self._ranges and guard not in fresh:
                    fresh.append(guard)
            elif exact.get(guard.key) != guard and mine.get(guard.key) != guard:
                fresh.append(guard)
                mine[guard.key] = guard
        return fresh

    def _fits(self, txn: Txn, fresh: list[Guard], length: int) -> bool:
        return (
            self._size + length <= MAX_BYTES
            and len(self.ops) + len(txn.ops) <= MAX_OPS
            and len(self.guards) + len(fresh) <= MAX_OPS
        )

    def _independent(self, txn: Txn) -> bool:
        """No key written twice, and no guard of one covers a key written by another."""
        for op in txn.ops:
            if op.key in self._written or op.key in self._exact:
                return False
            if self._ranges and any(op.key.startswith(guard.prefix) for guard in self._ranges):
                return False
        for guard in txn.guards:
            if isinstance(guard, NoneNewer):
                if any(key.startswith(guard.prefix) for key in self._written):
                    return False
            elif guard.key in self._written:
                return False
        return True

    def _compatible(self, txn: Txn) -> bool:
        """All guards can hold at the same time."""
        for guard in txn.guards:
            if isinstance(guard, NoneNewer):
                if any(_denies(guard, other) for other in self._exact.values()):
                    return False
            elif self._exact.get(guard.key, guard) != guard or (
                self._ranges and any(_denies(r, guard) for r in self._ranges)
            ):
                return False
        return True


def _denies(newest: NoneNewer, guard: Guard) -> bool:
    """Whether "none newer" rules out that a key below it has the revision that `guard` asks for."""
    return isinstance(guard, Unchanged) and guard.mod_revision > newest.revision and guard.key.startswith(newest.prefix)


def take(waiting: deque[T], txn_of: Callable[[T], Txn]) -> tuple[Batch, list[T]]:
    """Move from `waiting` into a batch what may share it, the oldest first and always; the rest keeps its order."""
    batch = Batch()
    taken: list[T] = []
    passed: list[T] = []
    while waiting and not batch.full and len(passed) < batch.patience:
        item = waiting.popleft()
        if batch.add(txn_of(item)):
            taken.append(item)
        else:
            passed.append(item)
    waiting.extendleft(reversed(passed))
    return batch, taken


def halves(items: Sequence[T]) -> tuple[list[T], list[T]]:
    """Split the members of a failed batch, of two or more, in two; each half is a legal batch again."""
    middle = len(items) // 2
    return list(items[:middle]), list(items[middle:])


def batch_of(txns: Sequence[Txn]) -> Batch:
    """The batch of transactions that shared one before."""
    batch = Batch()
    for txn in txns:
        if not batch.add(txn):
            raise ValueError("transactions that may not share a batch")
    return batch
