"""From a host's observations to its status in the store (laws 6 and 8), one at a time, the latest wins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from controller.fleet import Session, superseded
from controller.plan.accounts import Leases
from controller.plan.settle import Settlement, settle
from controller.reconcile.follower import Follower
from controller.reconcile.releasing import Releaser
from controller.state.txn import Txn
from controller.store.port import Conflict, Reload, Store
from trunkline import log
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.model import Observation

TOGETHER = 128
"""Attachments whose last step is taken at the same time; they share transactions."""

_log = log.get("settling")


@dataclass(frozen=True, slots=True)
class Seen:
    """An observation and when it came."""

    observation: Observation
    at_ms: int


class Settling:
    """Settles one session's observations. Conflicts and outages are tried again with the latest observation, so a
    status that could not be written is written later, and one that is outdated never."""

    def __init__(self, session: Session, store: Store, follower: Follower, releaser: Releaser, clock: Clock) -> None:
        self._session = session
        self._store = store
        self._follower = follower
        self._releaser = releaser
        self._clock = clock
        self._backoff = Backoff(0.05, 2.0)
        self._latest: Seen | None = None
        self._wake = asyncio.Event()

    def observed(self, observation: Observation) -> None:
        """Take an observation; one of another session is not this session's to write and is dropped."""
        if observation.session == self._session.number:
            self._latest = Seen(observation, self._clock.now_ms())
            self._wake.set()

    async def run(self) -> None:
        """Settle until the session ends or the task is cancelled."""
        while self._session.ended is None:
            await self._wake.wait()
            self._wake.clear()
            if self._latest is None:
                continue
            try:
                done = await self._settle(self._latest)
            except TrunklineError as error:
                _log.warning("settle failed", host=self._session.host, reason=error.reason.name, problem=error.message)
                done = False
                if error.reason is Reason.STORE_FENCED:
                    self._session.end(error)  # this process writes nothing any more; the agent finds one that does
            if done:
                self._backoff.reset()
            else:
                self._wake.set()
                await self._clock.sleep(self._backoff.next())

    async def _settle(self, seen: Seen) -> bool:
        """Write what the observation says; False when it has to be looked at again."""
        try:
            settlement = self._plan(seen, {})
            if settlement.wanting:
                leases = await self._releaser.rest_leases(settlement.wanting)
                settlement = self._plan(seen, leases)
        except Refusal as error:
            if error.reason is Reason.SESSION_SUPERSEDED:
                self._session.end(error)
                return True
            if error.reason is Reason.EPOCH_MISMATCH:
                return True  # seen before the host had this history's desired state; the next one speaks of it
            raise
        written = await self._write(settlement.status)
        # What still wants a lease had its rest grow meanwhile.
        return (
            written and await self._release(settlement.detached, seen.observation.revision) and not settlement.wanting
        )

    def _plan(self, seen: Seen, leases: Leases) -> Settlement:
        snapshot, host, number = self._follower.snapshot, self._session.host, self._session.number
        return settle(snapshot, host, number, seen.observation, seen.at_ms, leases)

    async def _write(self, txns: Sequence[Txn]) -> bool:
        for txn in txns:
            self._follower.expect(txn)
        try:
            outcomes = await self._store.commit_many(txns) if txns else []
        except Reload:
            # The lease that an address was to rest on is gone; the next try is granted another.
            self._releaser.drop_leases()
            return False
        lost = [outcome.revision for outcome in outcomes if isinstance(outcome, Conflict)]
        if lost:
            await self._follower.reached(max(lost))
            self.check_session()
        return not lost

    async def _release(self, names: Sequence[str], observed_revision: int) -> bool:
        done = True
        for start in range(0, len(names), TOGETHER):
            part = names[start : start + TOGETHER]
            done &= all(
                await asyncio.gather(
                    *(self._releaser.finish_detach(self._session.host, name, observed_revision) for name in part)
                )
            )
        return done

    def check_session(self) -> None:
        """End the session when the store names another as the host's (law 8)."""
        snapshot, session = self._follower.snapshot, self._session
        if session.ended is not None or snapshot.revision < session.number:
            return
        stored = snapshot.sessions.get(session.host)
        if stored is None or stored.mod_revision != session.number:
            where = f"replica {stored.value.replica}" if stored else "no replica: its lease ran out"
            session.end(superseded(session.host, where))
