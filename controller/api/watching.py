"""Watch streams: the latest state of each object, merged while the watcher is busy, never a queue of states."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Protocol, TypeVar

from controller.api.reading import BREATH
from controller.reconcile.replica import Replica
from controller.reconcile.touched import Touched
from controller.state.snapshot import Snapshot

PACE = 0.02
"""Seconds between two looks: changes of one object that come closer together are shown as one."""

DUTY = 9.0
"""A watcher's next look waits this many times as long as the last one took, so that nobody who watches a large
fabric takes the loop from those who change it."""


class Message(Protocol):
    """What of a protobuf message is needed here."""

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes:  # noqa: N802
        """The message as bytes."""
        ...


K = TypeVar("K", bound=Any)
M = TypeVar("M", bound=Message)


async def watch(
    replica: Replica,
    named: Iterable[K],
    every: Callable[[Snapshot], Iterable[K]],
    touched: Callable[[Snapshot, Touched], Iterable[K]],
    build: Callable[[Snapshot, K], M | None],
) -> AsyncIterator[tuple[K, M | None]]:
    """First the state of `named` objects, or of `every` one when none is named, then each that looks different.

    None stands for "gone", also at once for a named object that does not exist: who waits for its end must not wait
    for ever. `touched` may name objects that nobody asked for; `named` decides.
    """
    wanted = set(named)
    shown: dict[K, bytes] = {}
    with replica.subscribed() as subscription:
        snapshot, _ = await replica.reading()
        names = sorted(wanted or every(snapshot))
        shown.update((key, b"") for key in wanted)
        while True:
            spent = 0.0
            for turn, key in enumerate(names):
                if turn % BREATH == BREATH - 1:
                    await asyncio.sleep(0)
                started = time.perf_counter()
                message = build(replica.snapshot, key)
                spent += time.perf_counter() - started
                if message is None:
                    if shown.pop(key, None) is not None:
                        yield key, None
                    continue
                data = message.SerializeToString(deterministic=True)
                if shown.get(key) != data:
                    shown[key] = data
                    yield key, message
            await asyncio.sleep(max(PACE, DUTY * spent))
            what = await subscription.next()
            names = sorted(key for key in touched(replica.snapshot, what) if not wanted or key in wanted)
