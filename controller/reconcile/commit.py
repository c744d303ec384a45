"""From a plan to a committed transaction: plan, commit, and on a lost race look again (laws 1 and 2)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from controller.reconcile.follower import Follower
from controller.state.snapshot import Snapshot
from controller.state.txn import Txn
from controller.store.port import Committed, Conflict, Store
from trunkline.errors import Reason, TrunklineError

TRIES = 16
"""Plans made for one request before it is refused with STORE_CONTENTION."""

TOGETHER = 72
"""Items of a batch that are planned in one go, some two transactions of attaches; the loop serves others in between."""

AHEAD = 4
"""Such parts that are under way at the same time: while the store writes one, the next is planned."""

MALFORMED = frozenset(
    {
        Reason.INVALID_NAME,
        Reason.INVALID_ARGUMENT,
        Reason.INVALID_PREFIX,
        Reason.INVALID_RANGE,
        Reason.INVALID_VLAN,
        Reason.INVALID_MAC,
        Reason.INVALID_MTU,
        Reason.MODE_REFUSED,
    }
)
"""Refusals that say something of the request alone: no newer snapshot could change them."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Planned(Generic[T]):
    """What a planner decided: the transaction, None when nothing is to be written, and what to answer."""

    txn: Txn | None
    result: T


Plan = Callable[[Snapshot], Planned[T]]


def _contention(tries: int) -> TrunklineError:
    return TrunklineError(
        Reason.STORE_CONTENTION, f"others changed the same objects each of the {tries} times it was tried", "try again"
    )


class Committer:
    """Plans on the follower's snapshot and commits.

    A snapshot may be some milliseconds behind. A plan that commits needs no more: its guards named every fact.
    A refusal, or "it is so already", is only answered from a snapshot that covers everything acknowledged before
    the request came.
    """

    def __init__(self, store: Store, follower: Follower) -> None:
        self._store = store
        self._follower = follower
        self._asking: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None
        self._turn = asyncio.Lock()

    async def fresh(self) -> Snapshot:
        """The snapshot, covering everything that was acknowledged before this call."""
        if self._next is None:
            self._next = asyncio.create_task(self._ask(self._asking))
        revision = await asyncio.shield(self._next)
        await self._follower.reached(revision)
        return self._follower.snapshot

    async def _ask(self, before: asyncio.Task[int] | None) -> int:
        # Callers that arrive while a question is under way share the one after it: its answer is newer than they are.
        if before is not None:
            await asyncio.wait([before])
        self._asking, self._next = self._next, None
        return await self._store.revision()

    async def commit(self, plan: Plan[T], tries: int = TRIES) -> tuple[T, int]:
        """Make `plan` true; what it answered, and the revision it was written at (0 when nothing was).

        Raises what the planner raises, STORE_UNAVAILABLE, and STORE_CONTENTION after `tries` lost races.
        """
        current = False
        for _ in range(tries):
            snapshot = await self._follower.loaded()
            try:
                planned = plan(snapshot)
            except TrunklineError as error:
                if current or error.reason in MALFORMED:
                    raise
            else:
                if planned.txn is not None:
                    self._follower.expect(planned.txn)
                    outcome = await self._store.commit(planned.txn)
                    if isinstance(outcome, Committed):
                        return planned.result, outcome.revision
                    await self._follower.reached(outcome.revision)
                    current = True
                    continue
                if current:
                    return planned.result, 0
            await self.fresh()
            current = True
        raise _contention(tries)

    async def commit_in_turn(self, plan: Plan[T]) -> tuple[T, int]:
        """As `commit`, one after the other, and the snapshot shows it on return. For plans that all want the same
        thing, such as the lowest free number: at once, only one of them could win each time."""
        async with self._turn:
            result, revision = await self.commit(plan)
            await self._follower.reached(revision)
        return result, revision

    async def commit_many(
        self, plans: Sequence[Callable[[Snapshot], Planned[T]]], tries: int = TRIES
    ) -> list[T | TrunklineError]:
        """Make each plan true on its own; answers or errors in their order. STORE_UNAVAILABLE is raised for all:
        what was committed before is found again when the batch is repeated."""
        await self._follower.loaded()
        answers: list[T | TrunklineError] = []
        running: deque[asyncio.Task[list[T | TrunklineError]]] = deque()
        try:
            for start in range(0, len(plans), TOGETHER):
                if len(running) == AHEAD:
                    answers += await running[0]
                    running.popleft()
                running.append(asyncio.create_task(self._commit_part(plans[start : start + TOGETHER], tries)))
                await asyncio.sleep(0)
            while running:
                answers += await running[0]
                running.popleft()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return answers

    async def _commit_part(
        self, plans: Sequence[Callable[[Snapshot], Planned[T]]], tries: int
    ) -> list[T | TrunklineError]:
        answers: dict[int, T | TrunklineError] = {}
        left = list(range(len(plans)))
        current = False
        for _ in range(tries):
            writing, waiting = self._plan_each(plans, left, answers, current)
            outcomes = await self._store.commit_many([planned.txn for _, planned in writing if planned.txn])
            reach = 0
            for (index, planned), outcome in zip(writing, outcomes, strict=True):
                if isinstance(outcome, Conflict):
                    reach = max(reach, outcome.revision)
                    waiting.append(index)
                else:
                    answers[index] = planned.result
            if not waiting:
                return [answers[index] for index in range(len(plans))]
            await self._follower.reached(reach)
            await self.fresh()
            current, left = True, sorted(waiting)
        return [answers.get(index, _contention(tries)) for index in range(len(plans))]

    def _plan_each(
        self, plans: Sequence[Plan[T]], left: Sequence[int], answers: dict[int, T | TrunklineError], current: bool
    ) -> tuple[list[tuple[int, Planned[T]]], list[int]]:
        """Plan what is left: what is to be written, and what must be looked at again on a newer snapshot."""
        snapshot = self._follower.snapshot
        writing: list[tuple[int, Planned[T]]] = []
        waiting: list[int] = []
        for index in left:
            try:
                planned = plans[index](snapshot)
            except TrunklineError as error:
                if current or error.reason in MALFORMED:
                    answers[index] = error
                else:
                    waiting.append(index)
                continue
            if planned.txn is not None:
                self._follower.expect(planned.txn)
                writing.append((index, planned))
            elif current:
                answers[index] = planned.result
            else:
                waiting.append(index)
        return writing, waiting
