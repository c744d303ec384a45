"""The store in memory: etcd's rules without etcd. For tests only; passes the same contract suite as `store.etcd`.

Simulated: one revision per transaction that writes, mod and create revisions, range compares that see additions and
changes but not deletions, leases on an injected clock, watches from a revision, compaction.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from controller.state.entry import Change, Changes, Entry, Listing
from controller.state.txn import Absent, Guard, NoneNewer, Put, Txn
from controller.store import batch
from controller.store.port import Committed, Conflict, Member, Outcome, Reload
from trunkline.errors import StoreUnavailable


@dataclass(slots=True)
class _Lease:
    ttl: float
    expires: float
    keys: set[str] = field(default_factory=set)


class MemoryStore:
    """A `controller.store.port.Store`. `now` is a monotonic clock in seconds; `away` makes every call fail."""

    def __init__(self, now: Callable[[], float] = time.monotonic, progress: float = 1.0) -> None:
        self.away = False
        self._now = now
        self._progress = progress
        self._revision = 1
        self._compacted = 0
        self._entries: dict[str, Entry] = {}
        self._history: list[Changes] = []
        self._leases: dict[int, _Lease] = {}
        self._ids = itertools.count(1)
        self._moved = asyncio.Event()
        self._closed = False

    async def read(self, prefix: str) -> Listing:
        """See the port."""
        await self._answer()
        keys = sorted(key for key in self._entries if key.startswith(prefix))
        return Listing(self._revision, tuple(self._entries[key] for key in keys))

    async def revision(self) -> int:
        """See the port."""
        await self._answer()
        return self._revision

    async def commit(self, txn: Txn) -> Outcome:
        """See the port."""
        batch.check(txn)
        await self._answer()
        return self._apply(txn)

    async def commit_many(self, txns: Sequence[Txn]) -> list[Outcome]:
        """See the port."""
        for txn in txns:
            batch.check(txn)
        await self._answer()
        outcomes: list[Outcome] = []
        gone: Reload | None = None
        for txn in txns:
            try:
                outcomes.append(self._apply(txn))
            except Reload as error:
                gone = gone or error
        if gone:
            raise gone
        return outcomes

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Changes]:
        """See the port."""
        reached = after
        while not self._closed:
            moved = self._moved
            if not self.away:
                self._expire()
                if reached + 1 < self._compacted or reached > self._revision:
                    raise Reload(f"the store has no history after revision {reached}")
                # What is committed while the watcher takes these comes in the next turn.
                covered = self._revision
                for changes in self._since(reached):
                    reached = changes.revision
                    yield Changes(reached, tuple(c for c in changes.changes if c.key.startswith(prefix)))
                reached = max(reached, covered)
                yield Changes(reached, ())
            await self._wait(moved)

    async def grant(self, ttl: float) -> int:
        """See the port."""
        await self._answer()
        lease = next(self._ids)
        self._leases[lease] = _Lease(float(math.ceil(ttl)), self._now() + math.ceil(ttl))
        return lease

    async def renew(self, lease: int) -> float:
        """See the port."""
        await self._answer()
        held = self._leases.get(lease)
        if held is None:
            raise Reload(f"lease {lease:x} is gone")
        held.expires = self._now() + held.ttl
        return held.ttl

    async def revoke(self, lease: int) -> None:
        """See the port."""
        await self._answer()
        self._end(lease)

    async def members(self) -> list[Member]:
        """See the port."""
        off = self.away or self._closed
        return [Member("memory", not off, "memory", "switched off" if off else "")]

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        self._moved.set()

    def compact(self, revision: int) -> None:
        """Forget the history before `revision`, as etcd's periodic compaction does."""
        self._compacted = revision
        self._history = [changes for changes in self._history if changes.revision >= revision]
        self._wake()

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.away or self._closed:
            raise StoreUnavailable("the memory store is switched off")
        self._expire()

    def _holds(self, guard: Guard) -> bool:
        if isinstance(guard, NoneNewer):
            return all(e.mod_revision <= guard.revision for k, e in self._entries.items() if k.startswith(guard.prefix))
        entry = self._entries.get(guard.key)
        if isinstance(guard, Absent):
            return entry is None
        return entry is not None and entry.mod_revision == guard.mod_revision

    def _apply(self, txn: Txn) -> Outcome:
        if not all(map(self._holds, txn.guards)):
            return Conflict(self._revision)
        for op in txn.ops:
            if isinstance(op, Put) and op.lease and op.lease not in self._leases:
                raise Reload(f"lease {op.lease:x} is gone")
        writes: dict[str, tuple[bytes, int] | None] = {}
        for op in txn.ops:
            writes[op.key] = (op.value, op.lease) if isinstance(op, Put) else None
        self._write(writes)
        return Committed(self._revision)

    def _write(self, writes: dict[str, tuple[bytes, int] | None]) -> None:
        revision, changes = self._revision + 1, []
        for key, written in writes.items():
            before = self._entries.pop(key, None)
            if before is not None and before.lease:
                self._leases[before.lease].keys.discard(key)
            if written is None:
                changes += [] if before is None else [Change(key, revision, None)]
                continue
            value, lease = written
            entry = Entry(key, value, revision, revision if before is None else before.create_revision, lease)
            self._entries[key] = entry
            if lease:
                self._leases[lease].keys.add(key)
            changes.append(Change(key, revision, entry))
        if changes:
            self._revision = revision
            self._history.append(Changes(revision, tuple(changes)))
            self._wake()

    def _since(self, revision: int) -> list[Changes]:
        found = []
        for changes in reversed(self._history):
            if changes.revision <= revision:
                break
            found.append(changes)
        return found[::-1]

    def _expire(self) -> None:
        now = self._now()
        for lease in [number for number, held in self._leases.items() if held.expires <= now]:
            self._end(lease)

    def _end(self, lease: int) -> None:
        held = self._leases.get(lease)
        if held is not None:
            self._write(dict.fromkeys(sorted(held.keys)))
            del self._leases[lease]

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _wait(self, moved: asyncio.Event) -> None:
        expiries = [held.expires - self._now() for held in self._leases.values()]
        pause = max(0.01, min([self._progress, *expiries]))
        try:
            async with asyncio.timeout(pause):
                await moved.wait()
        except TimeoutError:
            pass
