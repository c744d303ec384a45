"""What a watcher has yet to be shown: names of touched objects, merged while it is busy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from controller.reconcile.touched import Touched
from controller.state.snapshot import Dirty
from trunkline.errors import TrunklineError


class Subscription:
    """Collects what was touched since the last look; a slow watcher holds names, never a queue of states."""

    def __init__(self) -> None:
        self._pending = Touched()
        self._wake = asyncio.Event()
        self._closed: TrunklineError | None = None

    def add(self, dirty: Dirty, flapped: Iterable[str]) -> None:
        """Something changed."""
        self._pending.merge(dirty, flapped)
        self._wake.set()

    def close(self, error: TrunklineError) -> None:
        """Tell the watcher that nothing will come any more."""
        self._closed = error
        self._wake.set()

    async def next(self) -> Touched:
        """What was touched since the last call; waits until something was. Raises what it was closed with."""
        await self._wake.wait()
        if self._closed is not None:
            raise self._closed
        self._wake.clear()
        pending, self._pending = self._pending, Touched()
        return pending
