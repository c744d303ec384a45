"""The store port: what the controller needs of etcd, and not a call more.

One contract suite (tests/contract/store) is run against `store.etcd` and `store.memory`.
Keys are text below a prefix that the adapter adds and strips; values are bytes; revisions are etcd's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.state.entry import Changes, Listing
from controller.state.txn import Txn
from trunkline.errors import Reason, TrunklineError


@dataclass(frozen=True, slots=True)
class Committed:
    """The transaction was applied at `revision`."""

    revision: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """A guard failed; nothing was written. The facts relied on had changed by `revision`: read on to there."""

    revision: int


Outcome = Committed | Conflict


class Reload(TrunklineError):
    """A watch cannot go on without a gap (compacted, cancelled): list again, then watch from there."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.STORE_UNAVAILABLE, message)


@dataclass(frozen=True, slots=True)
class Member:
    """One endpoint of the store, as last asked."""

    endpoint: str
    healthy: bool
    version: str = ""
    problem: str = ""
    db_size: int = 0


class Store(Protocol):
    """Every call ends within its deadline; all but `watch` raise StoreUnavailable when the store is away."""

    async def read(self, prefix: str) -> Listing:
        """All entries under `prefix` ("" for all) at one revision, in order of key; linearizable, paged inside."""
        ...

    async def revision(self) -> int:
        """The store's current revision, linearizable: all that was acknowledged before the call is covered."""
        ...

    async def commit(self, txn: Txn) -> Outcome:
        """Apply one transaction, grouped with others that wait at the same time (law 9).

        Committed is only answered for a transaction that was applied, exactly once; Conflict only for one that
        never was and never will be. When the outcome cannot be learnt within the deadline: StoreUnavailable, and
        the adapter guarantees that the transaction is settled before any later commit of this adapter.
        Cancelling the caller does not cancel a transaction under way. Reload when it hangs a key on a lease that is
        gone, INVALID_ARGUMENT when it is too large, STORE_NOSPACE when the store is full, STORE_FENCED when another
        process took this one's name over: nothing was written then, but for a transaction under way while fenced.
        """
        ...

    async def commit_many(self, txns: Sequence[Txn]) -> list[Outcome]:
        """Commit several independent transactions; outcomes in their order. Each is atomic, all together are not.

        When one ends without an outcome, its error is raised once all others have ended.
        """
        ...

    def watch(self, prefix: str, after: int) -> AsyncIterator[Changes]:
        """Every change under `prefix` with a revision greater than `after`, gapless, in order, until closed.

        Survives cuts, frozen and killed members by itself; raises Reload on compaction or cancellation.
        Sends an empty `Changes` as progress at least each few seconds while the store answers.
        """
        ...

    async def grant(self, ttl: float) -> int:
        """A new lease that lives at least `ttl` seconds; its id. It may end late, never early."""
        ...

    async def renew(self, lease: int) -> float:
        """Renew once; seconds the lease is good for, counted from before the call. Reload if it is gone."""
        ...

    async def revoke(self, lease: int) -> None:
        """End a lease, deleting its keys; no error when it is gone."""
        ...

    async def members(self) -> list[Member]:
        """Each endpoint, asked with a short deadline of its own; never raises."""
        ...

    async def close(self) -> None:
        """End all tasks and connections. Idempotent."""
        ...
