"""Group commit over lanes: who waits, what is sent together, and what every caller is told.

A lone transaction is sent at once. While one batch is under way, another starts only when there is enough for a whole
one, or after HOLD seconds: what arrives meanwhile shares the next batch (as RFC 896 does with small segments). When
a caller has given up on a transaction whose outcome is open, no new batch starts until that lane is settled, so an
old transaction never applies after a later commit of this adapter (rules 4 and 5 of the adapter, see `txn`).
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from grpc import aio

from controller.state.txn import MAX_OPS, Txn
from controller.store import batch as grouping
from controller.store.etcd.channel import Endpoint, Refused, Ring, Unknown, no_space
from controller.store.etcd.lanes import Lane, Lanes
from controller.store.etcd.txn import Attempt, Codec, Ending, Verdict
from controller.store.port import Committed, Conflict, Outcome, Reload
from trunkline.errors import Reason, StoreUnavailable, TrunklineError
from trunkline.etcd import kv_pb2
from trunkline.etcd import rpc_pb2 as pb

_FIRST_PAUSE: Final = 0.02
_LAST_PAUSE: Final = 0.5

HOLD: Final = 0.01
"""Seconds for which what is less than a whole batch waits at most for the batch that is under way."""

GATHER: Final = 0.004
"""Seconds for which a batch is gathered at most after an answer, while those who were answered may come back with
their next. As many as were there before are not waited for any longer: one caller alone never waits."""

_WHOLE: Final = MAX_OPS // 2
"""Waiting transactions that are taken for a whole batch: few write less than two keys."""

_PER_SECOND: Final = 500
"""Transactions a second that a caller of many may at least count on when its deadline is set."""


class Ticket:
    """What one caller waits for: the outcomes of its transactions, in their order."""

    __slots__ = ("done", "entries", "error", "left", "outcomes")

    def __init__(self, txns: Sequence[Txn]) -> None:
        self.entries = [Pending(txn, self, index) for index, txn in enumerate(txns)]
        self.outcomes: list[Outcome | None] = [None] * len(txns)
        self.left = len(txns)
        self.error: TrunklineError | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, index: int, result: Outcome | TrunklineError) -> None:
        """Note one result; the caller wakes when all are there."""
        if isinstance(result, TrunklineError):
            self.error = self.error or result
        else:
            self.outcomes[index] = result
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: TrunklineError) -> None:
        """Settle with `error` whatever is open."""
        for entry in self.entries:
            entry.settle(error)

    def result(self) -> list[Outcome]:
        """The outcomes; raises the first error."""
        if self.error is not None:
            raise self.error
        return [outcome for outcome in self.outcomes if outcome is not None]


@dataclass(slots=True, eq=False)
class Pending:
    """One transaction of a ticket. `over`: its caller has its answer, or has gone."""

    txn: Txn
    ticket: Ticket
    index: int
    sent: bool = False
    over: bool = False

    def settle(self, result: Outcome | TrunklineError) -> None:
        """Answer the caller, once."""
        if not self.over:
            self.over = True
            self.ticket.settle(self.index, result)


def _txn(endpoint: Endpoint) -> aio.UnaryUnaryMultiCallable[pb.TxnRequest, pb.TxnResponse]:
    return endpoint.kv.Txn


def _txn_of(entry: Pending) -> Txn:
    return entry.txn


class Committer:
    """Commits transactions for one adapter."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._settings = ring.settings
        self._codec = Codec(ring.settings.prefix)
        self._name = os.urandom(8).hex()
        self._sequence = 0
        self._lanes = Lanes(ring, self._name)
        self._waiting: deque[Pending] = deque()
        self._split: deque[list[Pending]] = deque()
        self._tickets: set[Ticket] = set()
        self._unsettled: set[bytes] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._owning: asyncio.Task[None] | None = None
        self._pumping = False
        self._crowd = 1
        self._started = self._ended = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._trouble: TrunklineError | None = None
        self._stopped: TrunklineError | None = None
        self._loop = asyncio.get_running_loop()

    async def commit(self, txns: Sequence[Txn]) -> list[Outcome]:
        """Outcomes in order; raises when any outcome could not be learnt."""
        for txn in txns:
            grouping.check(txn)
        if self._stopped:
            raise self._stopped
        if not txns:
            return []
        ticket = Ticket(txns)
        self._tickets.add(ticket)
        patience = self._settings.deadline + (len(txns) - 1) / _PER_SECOND
        timer = self._loop.call_later(patience, self._expire, ticket)
        self._waiting.extend(ticket.entries)
        self._pump_soon()
        try:
            await ticket.done
        except asyncio.CancelledError:
            # What is under way goes on; what was not sent never will be.
            for entry in ticket.entries:
                entry.over = entry.over or not entry.sent
            raise
        finally:
            timer.cancel()
            self._tickets.discard(ticket)
        return ticket.result()

    def moved_by_another(self, kv: kv_pb2.KeyValue) -> bool:
        """Whether a change shows that another process may have taken our name over; a commit tells for certain."""
        return self._lanes.moved_by_another(kv)

    @property
    def stopped(self) -> TrunklineError | None:
        """Why this adapter commits no more, if so."""
        return self._stopped

    async def close(self) -> None:
        """End all tasks; callers that still wait are told that the outcome is unknown."""
        self._stop(StoreUnavailable("the store is closed"))
        tasks = [*self._tasks, *([self._owning] if self._owning else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop(self, error: TrunklineError) -> None:
        self._stopped = self._stopped or error
        for ticket in self._tickets:
            ticket.fail(error)
        self._waiting.clear()
        self._split.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _pump_soon(self) -> None:
        # One turn of the loop lets requests that arrived together share a batch, at no cost to a lone one.
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        while self._waiting and self._waiting[0].over:
            self._waiting.popleft()
        if self._stopped or self._unsettled or not (self._waiting or self._split):
            return
        if not self._lanes.owned:
            if self._owning is None or self._owning.done():
                self._owning = self._loop.create_task(self._own(), name="etcd-lanes")
            return
        while self._lanes.idle and (self._waiting or self._split) and self._due():
            self._started = self._loop.time()
            batch, entries = self._next()
            if entries:
                lane = self._lanes.idle.pop()
                task = self._loop.create_task(self._run(lane, batch, entries))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _due(self) -> bool:
        """Whether what waits is to be sent now; if not, a timer is set for when it is."""
        if self._split or len(self._waiting) >= _WHOLE:
            return True
        now = self._loop.time()
        if self._lanes.busy():
            left = self._started + HOLD - now
        elif len(self._waiting) >= self._crowd:
            return True
        else:
            left = self._ended + GATHER - now
        if left <= 0:
            return True
        if self._timer is None:
            self._timer = self._loop.call_later(left, self._timed)
        return False

    def _timed(self) -> None:
        self._timer = None
        self._pump_soon()

    def _next(self) -> tuple[grouping.Batch, list[Pending]]:
        if not self._split:
            batch, entries = grouping.take(self._waiting, _txn_of)
            if not any(entry.over for entry in entries):
                return batch, entries
        else:
            entries = self._split.popleft()
        entries = [entry for entry in entries if not entry.over]
        return grouping.batch_of([entry.txn for entry in entries]), entries

    async def _own(self) -> None:
        pause = _FIRST_PAUSE
        while any(not entry.over for entry in self._waiting):
            try:
                if await self._lanes.take_over():
                    break
            except Refused as refused:
                self._refuse_waiting(refused.error("to take the lanes of this controller over"))
                return
            except Unknown as unknown:
                if unknown.full and await self._ring.is_full():
                    self._refuse_waiting(no_space())
                    return
            await asyncio.sleep(pause)
            pause = min(_LAST_PAUSE, pause * 2)
        self._pump_soon()

    def _refuse_waiting(self, error: TrunklineError) -> None:
        for entry in self._waiting:
            entry.settle(error)
        self._waiting.clear()

    async def _run(self, lane: Lane, batch: grouping.Batch, entries: list[Pending]) -> None:
        """Commit `entries` on `lane`, then give the lane back."""
        for entry in entries:
            entry.sent = True
        self._sequence += 1
        attempt = Attempt(lane.key, lane.known, f"{self._name} {self._sequence}".encode())
        try:
            verdict, error = await self._settle(attempt, batch, entries)
        except Exception as bug:
            # The lane's state is not known any more: without it nothing may be committed.
            self._stop(StoreUnavailable(f"the store adapter failed: {bug!r}"))
            raise
        finally:
            self._unsettled.discard(lane.key)
        if verdict is not None and verdict.ending is Ending.FENCED:
            self._stop(self._lanes.fenced())
            return
        if verdict is not None:
            lane.known = verdict.revision
        self._lanes.idle.append(lane)
        self._ended, self._crowd = self._loop.time(), len(entries) + len(self._waiting)
        self._answer(entries, verdict, error)
        self._pump_soon()

    def _answer(self, entries: list[Pending], verdict: Verdict | None, error: TrunklineError | None) -> None:
        if verdict is not None and verdict.ending is Ending.APPLIED:
            outcome = Committed(verdict.revision)
            for entry in entries:
                entry.settle(outcome)
        elif len(entries) > 1 and (error is None or error.reason is not Reason.STORE_NOSPACE):
            # A refusal for one member's lease, or size, hits the whole batch, too.
            for entry in entries:
                entry.sent = False
            self._split.extendleft(reversed(grouping.halves(entries)))
        elif error is not None:
            for entry in entries:
                entry.settle(error)
        elif verdict is not None:
            entries[0].settle(Conflict(verdict.revision))

    async def _settle(
        self, attempt: Attempt, batch: grouping.Batch, entries: list[Pending]
    ) -> tuple[Verdict | None, TrunklineError | None]:
        """Send the batch until its outcome is known.

        Returns the verdict and, for a batch that was not applied, the error if it was refused. Verdict None: etcd
        refused the first attempt, so the lane did not move.
        """
        request, judge = attempt.request(batch, self._codec), attempt.judge
        error: TrunklineError | None = None
        pause, sent = _FIRST_PAUSE, 0
        while True:
            sent += 1
            try:
                response = await self._ring.call(_txn, request)
                self._trouble = None
                return judge(response), error
            except Refused as refused:
                error = self._refusal(refused)
            except Unknown as unknown:
                if unknown.full and await self._ring.is_full():
                    self._trouble = error = no_space()
            if error is not None and sent == 1:
                return None, error
            # An earlier attempt may still be on its way: move the lane, so that it comes too late.
            if error is not None or all(entry.over for entry in entries):
                request, judge = attempt.cancellation(), attempt.judge_cancellation
            if sent > len(self._ring.endpoints):
                await asyncio.sleep(pause)
                pause = min(_LAST_PAUSE, pause * 2)

    def _refusal(self, refused: Refused) -> TrunklineError:
        # The only thing a transaction of ours names that may not exist is a lease.
        if refused.code is grpc.StatusCode.NOT_FOUND:
            return Reload(f"a lease that a transaction hangs keys on is gone ({refused})")
        return refused.error("a transaction")

    def _expire(self, ticket: Ticket) -> None:
        """The deadline of a caller is over: tell it, and let nothing new start before its lanes are settled."""
        if any(entry.sent and not entry.over for entry in ticket.entries):
            self._unsettled |= self._lanes.busy()
        ticket.fail(self._trouble or self._ring.unavailable("a transaction"))
