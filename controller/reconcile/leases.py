"""Leases: one for this replica's sessions, and shared ones that resting addresses hang on (laws 5 and 8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from controller.store.port import Reload, Store
from trunkline import log
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import StoreUnavailable, TrunklineError

SESSION_TTL = 10.0
"""Seconds a replica's sessions outlive it. Less would end sessions at every change of etcd's leader."""

BUCKET = 30
"""Seconds whose releases share one lease per network."""

_log = log.get("leases")


class ReplicaLease:
    """This replica's lease. Its holder stops acting at its own monotonic deadline, whatever the store says later:
    another replica may take the hosts over from then on."""

    def __init__(self, store: Store, clock: Clock, backoff: Backoff, lost: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._backoff = backoff
        self._lost = lost
        self._lease = 0
        self._deadline = float("-inf")

    def current(self) -> int:
        """The lease, while it is certain to live; StoreUnavailable otherwise."""
        if not self._lease or self._clock.monotonic() >= self._deadline:
            raise StoreUnavailable("this replica holds no lease, so it can take no session")
        return self._lease

    async def run(self) -> None:
        """Hold a lease until cancelled; calls `lost` each time one could not be kept."""
        while True:
            try:
                started = self._clock.monotonic()
                self._lease = await self._store.grant(SESSION_TTL)
                self._deadline = started + SESSION_TTL
                self._backoff.reset()
                await self._keep()
            except TrunklineError as error:
                _log.warning("lease lost", problem=error.message)
            if self._lease:
                self._lease, self._deadline = 0, float("-inf")
                self._lost()
            await self._clock.sleep(self._backoff.next())

    async def _keep(self) -> None:
        pause = SESSION_TTL / 3
        while (left := self._deadline - self._clock.monotonic()) > 0:
            await self._clock.sleep(min(pause, left))
            started = self._clock.monotonic()
            try:
                async with asyncio.timeout(max(self._deadline - started, 0)):
                    self._deadline = started + await self._store.renew(self._lease)
                pause = SESSION_TTL / 3
            except Reload:
                raise
            except (StoreUnavailable, TimeoutError):
                pause = 0.2
        raise StoreUnavailable("the lease of this replica's sessions could not be renewed in time")

    async def end(self) -> None:
        """Give the lease back, so that other replicas see the sessions gone at once."""
        if self._lease:
            lease, self._lease = self._lease, 0
            try:
                await self._store.revoke(lease)
            except TrunklineError as error:
                _log.info("lease left to run out", problem=error.message)


class RestLeases:
    """Leases for resting addresses: one per network, half-minute and length. The first release after a quiet minute
    waits for its grant; from then on the lease of the half-minute before serves until the next one is there."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._granted: dict[tuple[str, int, int], asyncio.Task[int]] = {}

    async def lease(self, network: str, seconds: int) -> int:
        """A lease that lives at least `seconds` from now; an address may come back late, never early."""
        bucket = int(self._clock.monotonic()) // BUCKET
        task = self._granted.get((network, bucket, seconds))
        if task is None or _failed(task):
            task = self._begin(network, bucket, seconds)
        before = self._granted.get((network, bucket - 1, seconds))
        if not task.done() and before is not None and before.done() and not _failed(before):
            return before.result()
        return await asyncio.shield(task)

    def _begin(self, network: str, bucket: int, seconds: int) -> asyncio.Task[int]:
        for old in [known for known in self._granted if known[1] < bucket - 1]:
            del self._granted[old]
        # Three buckets: a lease is used in its own and in the next one, and its transaction may come later yet.
        task = asyncio.create_task(self._store.grant(seconds + 3 * BUCKET))
        task.add_done_callback(_failed)  # an error that nobody waits for is met again by the next release
        self._granted[network, bucket, seconds] = task
        return task

    def drop(self) -> None:
        """Forget all leases: one of them was refused by the store."""
        self._granted.clear()


def _failed(grant: asyncio.Task[int]) -> bool:
    return grant.done() and (grant.cancelled() or grant.exception() is not None)
