"""Keeps the snapshot level with the store: read all, watch from there, again when a watch cannot go on."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator, Callable

from controller.state.snapshot import Dirty, Snapshot
from controller.state.txn import Txn
from controller.store.port import Reload, Store
from trunkline import log
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import Reason, StoreUnavailable, TrunklineError

AWAY_AFTER = 8.0
"""Seconds without progress of the watch after which the store counts as away; it sends progress each few seconds."""

REACH_SECONDS = 5.0
"""How long a reader waits for the snapshot to reach a revision that the store has acknowledged."""

Listener = Callable[[Dirty, frozenset[str]], None]
"""Called with what changed, and the hosts whose record or connection did."""

_NOTHING = Dirty()

_log = log.get("follower")


class Follower:
    """Owns the snapshot. Planners read it between two awaits; nobody else writes it."""

    def __init__(self, store: Store, clock: Clock, backoff: Backoff) -> None:
        self._store = store
        self._clock = clock
        self._backoff = backoff
        self._snapshot = Snapshot()
        self._presence: dict[str, tuple[bool, int]] = {}
        self._progress = float("-inf")
        self._problem: TrunklineError | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` after each change of the snapshot, on the event loop."""
        self._listeners.append(listener)

    def forget(self, listener: Listener) -> None:
        """Stop calling `listener`."""
        self._listeners.remove(listener)

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot as it is; StoreUnavailable until the store was read once."""
        if not self._snapshot.revision:
            raise StoreUnavailable(f"the store has not been read yet{self._because()}")
        return self._snapshot

    async def loaded(self) -> Snapshot:
        """The snapshot; while the store has not been read yet, waits a little for that, so that a request that meets
        a starting replica is answered. StoreUnavailable when it is not read in time."""
        if not self._snapshot.revision:
            await self.reached(1)
        return self._snapshot

    def expect(self, txn: Txn) -> None:
        """This is about to be written through here; see `Snapshot.expect`."""
        self._snapshot.expect(txn)

    @property
    def level(self) -> bool:
        """The watch makes progress: the snapshot is at most some seconds old."""
        return self._snapshot.revision > 0 and self._clock.monotonic() - self._progress < AWAY_AFTER

    @property
    def age(self) -> float:
        """Seconds since the store was last heard of."""
        return self._clock.monotonic() - self._progress

    def _because(self) -> str:
        return f": {self._problem.message}" if self._problem else ""

    async def run(self) -> None:
        """Follow the store until cancelled. Each outage is logged once when it begins and once when it ends. Raises
        STORE_FENCED: what was learnt until then stays, and nothing will be added."""
        while True:
            try:
                await self._follow()
            except Reload as error:
                _log.info("store reload", problem=error.message)
            except TrunklineError as error:
                if error.reason is Reason.STORE_FENCED:
                    raise
                if self._problem is None:
                    _log.warning("store away", problem=error.message)
                self._problem = error
            await self._clock.sleep(self._backoff.next())

    async def _follow(self) -> None:
        listing = await self._store.read("")
        self._moved(self._snapshot.replace(listing))
        stream = self._store.watch("", listing.revision)
        try:
            async for changes in stream:
                self._moved(self._snapshot.apply(changes))
                self._backoff.reset()
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    def _moved(self, dirty: Dirty) -> None:
        self._progress = self._clock.monotonic()
        if self._problem is not None:
            _log.info("store back", revision=self._snapshot.revision)
            self._problem = None
        self._release()
        if dirty != _NOTHING:
            flapped = self._flapped(dirty)
            for listener in list(self._listeners):
                listener(dirty, flapped)

    def _flapped(self, dirty: Dirty) -> frozenset[str]:
        snapshot, found = self._snapshot, []
        for host in dirty.hosts:
            record = snapshot.hosts.get(host)
            presence = (host in snapshot.sessions, record.mod_revision if record else 0)
            if self._presence.get(host) != presence:
                self._presence[host] = presence
                found.append(host)
        return frozenset(found)

    def _release(self) -> None:
        revision = self._snapshot.revision
        while self._waiting and self._waiting[0][0] <= revision:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)

    async def reached(self, revision: int, timeout: float = REACH_SECONDS) -> None:
        """Return once the snapshot covers `revision`; StoreUnavailable after `timeout` seconds."""
        if self._snapshot.revision >= revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (revision, next(self._order), future))
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            raise StoreUnavailable(f"changes up to revision {revision} did not arrive{self._because()}") from None
