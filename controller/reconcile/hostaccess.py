"""Gives hosts their own interface on networks with host access, and takes it away, after every change that may call
for it. Every replica does; the guards let one of them win."""

from __future__ import annotations

import asyncio
import secrets

from controller.plan.addresses import Cursors
from controller.plan.hostaccess import AccessStep, access_steps, access_txn, network_named
from controller.reconcile.follower import Follower
from controller.reconcile.releasing import LOOK_SECONDS, Releaser
from controller.state.snapshot import Dirty
from trunkline import log
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import Reason, TrunklineError

_log = log.get("hostaccess")


class HostAccess:
    """Looks at networks whose record changed, at all of them when a host's record did, and at all every half minute:
    an address that was not to be had may have become free."""

    def __init__(self, releaser: Releaser, follower: Follower, cursors: Cursors, clock: Clock) -> None:
        self._releaser = releaser
        self._follower = follower
        self._clock = clock
        self._cursors = cursors
        self._backoff = Backoff(0.1, 5.0)
        self._wake = asyncio.Event()
        self._pending: set[str] = set()
        self._networks: dict[str, int] = {}
        self._hosts: dict[str, int] = {}
        self._refused: dict[AccessStep, Reason] = {}
        self._beaten: set[AccessStep] = set()

    def changed(self, dirty: Dirty, _flapped: frozenset[str]) -> None:
        """Listener of the follower. Most changes are of addresses and statuses, and cost one comparison."""
        snapshot = self._follower.snapshot
        for name in dirty.networks:
            network = snapshot.networks.get(name)
            if _moved(self._networks, name, network.mod_revision if network is not None else 0):
                self._pending.add(name)
        for name in dirty.hosts:
            host = snapshot.hosts.get(name)
            if _moved(self._hosts, name, host.mod_revision if host is not None else 0):
                self._pending.update(snapshot.networks)
        self._pending.update(found for _, name in dirty.attachments if (found := network_named(name)))
        if self._pending:
            self._wake.set()

    async def run(self) -> None:
        """Do what is to be done, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                self._pending.update(self._follower.snapshot.networks if self._follower.level else ())
            self._wake.clear()
            if await self._look():
                self._backoff.reset()
            else:
                self._wake.set()
                await self._clock.sleep(self._backoff.next())

    async def _look(self) -> bool:
        """Whether nothing is left that another try right away could do."""
        if not self._follower.level:
            return not self._pending
        names, self._pending = self._pending, set()
        done = True
        for name in sorted(names):
            for step in access_steps(self._follower.snapshot, name):
                try:
                    finished = await self._take(step)
                except TrunklineError as error:
                    finished = self._refuse(step, error)
                if not finished:
                    done = False
                    self._pending.add(name)
        return done

    async def _take(self, step: AccessStep) -> bool:
        draw, now_ms = secrets.randbits(64), self._clock.now_ms()
        txn = access_txn(self._follower.snapshot, step, self._cursors, draw, now_ms)
        if txn is None:
            return True
        beaten = step in self._beaten
        self._beaten.discard(step)
        if not await self._releaser.commit(txn):
            if self._cursors.lost(self._follower.snapshot, txn, draw >> 8, beaten):
                self._beaten.add(step)
            return False
        self._refused.pop(step, None)
        _log.info("host access given" if step.give else "host access withdrawn", host=step.host, network=step.network)
        return True

    def _refuse(self, step: AccessStep, error: TrunklineError) -> bool:
        """Whether only a change, or time, can help; then it is logged once."""
        if error.retryable:
            _log.warning("host access failed", host=step.host, network=step.network, problem=error.message)
            return False
        if self._refused.get(step) is not error.reason:
            self._refused[step] = error.reason
            _log.warning("no host access", host=step.host, network=step.network, problem=error.text)
        return True


def _moved(known: dict[str, int], name: str, revision: int) -> bool:
    """Whether the record is another one than when it was last looked at."""
    if known.get(name, 0) == revision:
        return False
    if revision:
        known[name] = revision
    else:
        known.pop(name, None)
    return True
