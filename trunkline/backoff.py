"""Waiting between attempts: exponential with full jitter, so that many clients cut off together return spread out."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Ceilings `first`, 2·`first`, 4·`first` … up to `limit` seconds; each wait is drawn evenly from 0 to the ceiling.

    `draw` returns a number in [0, 1).
    """

    def __init__(self, first: float, limit: float, draw: Callable[[], float] = random.random) -> None:
        if not 0 < first <= limit:
            raise ValueError(f"backoff needs 0 < first <= limit, got {first} and {limit}")
        self._first = first
        self._limit = limit
        self._draw = draw
        self._ceiling = first

    def next(self) -> float:
        """Seconds to wait before the next attempt; the ceiling doubles."""
        wait = self._draw() * self._ceiling
        self._ceiling = min(self._limit, self._ceiling * 2)
        return wait

    def reset(self) -> None:
        """Begin again at `first`: call it once an attempt has succeeded."""
        self._ceiling = self._first
