"""An event loop whose clock stands still while there is work and jumps to the next timer when there is none.

Sleeps take no time, and a busy machine makes nothing late.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Jumping(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout is not None and timeout > 0:
            self.skipped += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.skipped


def run(main: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run` on such a loop; only for code that waits for nothing outside of the process."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(main)
