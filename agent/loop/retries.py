"""What failed, and when it is tried again: per object, so that one that cannot be had never keeps others waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from agent.plan.steps import Subject
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import TrunklineError

_FIRST_SECONDS: Final = 0.5
_LIMIT_SECONDS: Final = 30.0


@dataclass(slots=True)
class _Failure:
    error: TrunklineError
    backoff: Backoff
    due: float


class Retries:
    """Failures by subject. A retryable error is tried again after a wait that doubles, another one after the
    longest wait, since only somebody's hand can mend it."""

    def __init__(self, clock: Clock, draw: Callable[[], float]) -> None:
        self._clock = clock
        self._draw = draw
        self._failures: dict[Subject, _Failure] = {}
        self._planned = clock.monotonic()

    def plan(self) -> None:
        """What is to be tried is decided now. One moment for all of it and for `due`: a wait that ends while the
        others are worked on would else be neither tried nor waited for."""
        self._planned = self._clock.monotonic()

    def failed(self, subject: Subject, error: TrunklineError) -> None:
        """A job of `subject` failed."""
        known = self._failures.get(subject)
        backoff = known.backoff if known else Backoff(_FIRST_SECONDS, _LIMIT_SECONDS, self._draw)
        wait = backoff.next() if error.retryable else _LIMIT_SECONDS
        self._failures[subject] = _Failure(error, backoff, self._clock.monotonic() + wait)

    def forget(self, subjects: Iterable[Subject]) -> None:
        """These were done, or something else is wanted of them now."""
        for subject in subjects:
            self._failures.pop(subject, None)

    def waits(self, subject: Subject) -> bool:
        """Whether `subject` was not to be tried yet when that was decided."""
        failure = self._failures.get(subject)
        return failure is not None and failure.due > self._planned

    def subjects(self) -> set[Subject]:
        """All that failed and were not done since."""
        return set(self._failures)

    def errors(self) -> dict[Subject, TrunklineError]:
        """Their last errors."""
        return {subject: failure.error for subject, failure in self._failures.items()}

    def due(self) -> float | None:
        """Monotonic time of the next try to come, which may be over already; None when nothing waits."""
        return min((failure.due for failure in self._failures.values() if failure.due > self._planned), default=None)
