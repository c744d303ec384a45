"""Keeps the stock of the hosts whose sessions this replica holds."""

from __future__ import annotations

import asyncio
import secrets
import time

from controller.fleet import Fleet
from controller.plan.addresses import Cursors
from controller.plan.stock import stock_steps, stocked_hosts
from controller.reconcile.follower import Follower
from controller.state.snapshot import Dirty
from controller.state.txn import Txn
from controller.store.port import Conflict, Store
from trunkline import log
from trunkline.clock import Clock
from trunkline.errors import TrunklineError

PACE = 0.2
"""Seconds between a change and the look at what follows from it: what comes meanwhile is looked at together."""

DUTY = 10.0
"""The next look waits this many times as long as the last one took."""

LOOK_SECONDS = 30.0
"""How often all of it is looked at: some stock is only in the way once it is old."""

BREATH = 200
"""Pairs of host and network that are looked at before others get their turn."""

_log = log.get("stocking")


class Stocking:
    """Looks at a network when it or an address of it changed, and at a host when it came or its record changed."""

    def __init__(self, store: Store, follower: Follower, fleet: Fleet, cursors: Cursors, clock: Clock) -> None:
        self._store = store
        self._follower = follower
        self._fleet = fleet
        self._cursors = cursors
        self._clock = clock
        self._wake = asyncio.Event()
        self._networks: set[str] = set()
        self._hosts: set[str] = set()
        self._raced: set[str] = set()
        self._beaten: set[str] = set()
        self._everything = False

    def changed(self, dirty: Dirty, flapped: frozenset[str]) -> None:
        """Listener of the follower."""
        self._networks |= dirty.networks
        self._hosts |= flapped
        if self._networks or self._hosts:
            self._wake.set()

    async def run(self) -> None:
        """Look until cancelled."""
        pause = PACE
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                self._everything = True
            await self._clock.sleep(pause)
            self._wake.clear()
            started = time.monotonic()
            try:
                await self._look()
            except TrunklineError as error:
                _log.info("stock left for later", reason=error.reason.name, problem=error.message)
                self._everything = True
                self._wake.set()
            pause = max(PACE, (time.monotonic() - started) * DUTY)

    async def _look(self) -> None:
        if not self._follower.level:
            return
        snapshot, here = self._follower.snapshot, self._fleet.hosts()
        whole, hosts = self._networks | self._raced, self._hosts
        if self._everything:
            whole = set(snapshot.networks)
        self._networks, self._hosts, self._raced, self._everything = set(), set(), set(), False
        steps: list[tuple[str, Txn]] = []
        turn = 0
        for network in sorted(whole.union(snapshot.networks if hosts else ())):
            crowd = stocked_hosts(snapshot, network)
            for host in here if network in whole else [one for one in here if one in hosts]:
                turn += 1
                if turn % BREATH == 0:
                    await asyncio.sleep(0)
                found = stock_steps(snapshot, host, network, crowd, self._cursors, self._clock.now_ms())
                steps += [(network, txn) for txn in found]
        await self._commit(steps)

    async def _commit(self, steps: list[tuple[str, Txn]]) -> None:
        if not steps:
            return
        for _, txn in steps:
            self._follower.expect(txn)
        outcomes = await self._store.commit_many([txn for _, txn in steps])
        # Seen before the next look, so that nobody is given the same twice.
        await self._follower.reached(max(outcome.revision for outcome in outcomes))
        before, self._beaten = self._beaten, set()
        for (network, txn), outcome in zip(steps, outcomes, strict=True):
            if isinstance(outcome, Conflict):
                self._raced.add(network)
                draw = secrets.randbits(32)
                if self._cursors.lost(self._follower.snapshot, txn, draw, network in before):
                    self._beaten.add(network)
        if self._raced:
            self._wake.set()
