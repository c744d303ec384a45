"""Reads: as fresh as the store when it answers, and marked with their age when it does not."""

from __future__ import annotations

from typing import Any

from grpc import aio

from controller.reconcile.replica import Replica
from controller.state.snapshot import Snapshot

STALE = "trunkline-stale-seconds"
"""Trailing metadata of an answer made from the last known state while the store is away: its age in seconds."""


BREATH = 100
"""Objects that a long answer is built from before others get their turn. What changes meanwhile is shown as it then is:
everything acknowledged before the call is covered, each object is whole."""


async def stamped(replica: Replica, context: aio.ServicerContext[Any, Any]) -> Snapshot:
    """A snapshot that covers all that was acknowledged before the call, or the last known one, then marked as stale.
    Raises STORE_UNAVAILABLE when nothing is known yet."""
    snapshot, age = await replica.reading()
    if age:
        context.set_trailing_metadata(((STALE, f"{age:.0f}"),))
    return snapshot
