"""Work that must go on: a bug in one turn of a loop must not end the loop unseen."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from trunkline import log
from trunkline.clock import Clock

PAUSE = 1.0
"""Seconds before work that failed unexpectedly is begun again."""

_log = log.get("keeping")


async def keep(name: str, work: Callable[[], Coroutine[Any, Any, None]], clock: Clock) -> None:
    """Run `work` until it returns or is cancelled, beginning it again when it raises; each time is logged."""
    while True:
        try:
            await work()
        except Exception as error:
            _log.error("task failed", task=name, exc_info=error)
            await clock.sleep(PAUSE)
        else:
            return
