"""What happened on this host lately."""

from __future__ import annotations

from collections import deque
from typing import Final

from trunkline import log
from trunkline.clock import Clock
from trunkline.model import Event

KEPT: Final = 20


class Chronicle:
    """The last KEPT events."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._log = log.get("docker")

    def note(self, subject: str, message: str) -> None:
        """Something happened; `subject` as in "network mynet2"."""
        self._events.append(Event(self._clock.now_ms(), subject, message))
        self._log.info("event", subject=subject, what=message)

    def events(self) -> tuple[Event, ...]:
        """Newest last."""
        return tuple(self._events)
