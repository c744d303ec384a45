"""Watching the fabric until the hosts have done what was asked for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from trunkline.backoff import Backoff
from trunkline.cli import standing
from trunkline.cli.choices import Choices
from trunkline.cli.connect import Fabric
from trunkline.cli.progress import Progress
from trunkline.cli.standing import Stand, Stands
from trunkline.errors import Reason, TrunklineError

_TICK: Final = 0.25
_SILENCE: Final = 2.0
"""Seconds without a message after which the state is asked for: a watch that began after the last change says
nothing, and that must not look like "still pending"."""

_AGAIN: Final = (Reason.CONTROLLER_UNREACHABLE, Reason.STORE_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to wait for. `watch` and `look` yield where the hosts stand, None for "gone"; `away_is_done`: hosts out
    of reach are not waited for; `ends_gone`: the object's end is what is wanted, else it is an error of reason
    `lost`."""

    what: str
    watch: Callable[[], Iterator[Stands | None]]
    look: Callable[[], Stands | None]
    away_is_done: bool = False
    ends_gone: bool = False
    lost: Reason = Reason.NETWORK_NOT_FOUND


@dataclass(frozen=True, slots=True)
class Waited:
    """How it ended without an error: where the hosts stood at last, and how long it took in seconds."""

    stands: Stands
    seconds: float
    gone: bool = False

    @property
    def away(self) -> list[str]:
        """Hosts that were out of reach."""
        return [s.host for s in self.stands if s.stand is Stand.AWAY]


_Item = Stands | TrunklineError | None


class _Reader:
    """Follows the watch in a thread, reconnecting to any controller while the deadline lasts."""

    def __init__(self, fabric: Fabric, wanted: Wanted) -> None:
        self.items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._fabric = fabric
        self._wanted = wanted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the channel's closing ends a stream it waits in."""
        self._stop.set()

    def _run(self) -> None:
        backoff = Backoff(0.2, 2.0)
        while not self._stop.is_set():
            try:
                for item in self._wanted.watch():
                    backoff.reset()
                    self.items.put(item)
                    if self._stop.is_set():
                        return
            except TrunklineError as error:
                if error.reason not in _AGAIN:
                    self.items.put(error)
                    return
            if not self._stop.wait(backoff.next()):
                self._reconnect()

    def _reconnect(self) -> None:
        try:
            self._fabric.connect()
        except TrunklineError as error:
            if error.reason not in _AGAIN:
                self.items.put(error)
                self._stop.set()


class _Course:
    """Where the hosts stand, and since when nothing moves."""

    def __init__(self, wanted: Wanted) -> None:
        self.stands: Stands = ()
        self.seen = False
        self._wanted = wanted
        self._met: set[str] = set()
        self._failed_at: float | None = None
        self._away_at: float | None = None

    def take(self, stands: Stands) -> None:
        self.stands, self.seen = stands, True
        now = time.monotonic()
        kinds = {s.stand for s in stands}
        self._met |= {s.host for s in stands if s.stand is not Stand.AWAY}
        self._failed_at = (self._failed_at or now) if Stand.FAILED in kinds else None
        self._away_at = (self._away_at or now) if kinds <= {Stand.AWAY, Stand.DONE} else None

    def _lost(self) -> bool:
        """A host went out of reach during the wait: most likely the controller restarted, and it comes back."""
        return any(s.stand is Stand.AWAY and s.host in self._met for s in self.stands)

    def over(self) -> bool:
        """Whether to stop waiting. Where the end of the object is wanted, hosts that are done do not suffice."""
        if not self.seen:
            return False
        if self._wanted.ends_gone and all(s.stand is Stand.DONE for s in self.stands):
            return False
        now = time.monotonic()
        return standing.enough(
            self.stands,
            self._wanted.away_is_done and not self._lost(),
            None if self._failed_at is None else now - self._failed_at,
            0.0 if self._away_at is None else now - self._away_at,
        )


def wait(fabric: Fabric, choices: Choices, wanted: Wanted) -> Waited:
    """Return once what is wanted holds on every host concerned.

    Raises the reason of hosts that failed for good, HOST_UNREACHABLE when only hosts out of reach are left (and they
    matter), and DEADLINE with what each host lacks.
    """
    course = _Course(wanted)
    reader = _Reader(fabric, wanted)
    try:
        with Progress(choices, wanted.what) as progress:
            gone = _until_over(fabric, choices, course, reader, progress, wanted)
            seconds = progress.elapsed()
    finally:
        reader.stop()
    if gone and wanted.ends_gone:
        return Waited(course.stands, seconds, gone=True)
    if gone:
        raise TrunklineError(wanted.lost, f"{wanted.what} was removed meanwhile by somebody else")
    error = standing.failure(course.stands, wanted.what)
    if error is None and not wanted.away_is_done:
        error = standing.away(course.stands, wanted.what)
    if error is not None:
        raise error
    return Waited(course.stands, seconds)


def wait_gone(fabric: Fabric, choices: Choices, wanted: Wanted, held: str) -> Waited:
    """As `wait`, for the end of an object; `held` says what stays claimed while hosts keep it from ending."""
    try:
        return wait(fabric, choices, wanted)
    except TrunklineError as error:
        if error.reason in (Reason.HOST_UNREACHABLE, Reason.DEADLINE):
            error.remedy = held
        raise


def _until_over(
    fabric: Fabric, choices: Choices, course: _Course, reader: _Reader, progress: Progress, wanted: Wanted
) -> bool:
    """Follow until waiting is over; True when the object is gone."""
    heard = time.monotonic()
    while not course.over():
        item = _next(fabric, choices, course, reader, wanted, heard)
        progress.tick()
        if isinstance(item, TrunklineError):
            if item.reason is Reason.DEADLINE:
                raise standing.missing(course.stands, wanted.what, choices.deadline)
            raise item
        if item is None:
            return True
        if item is not _NOTHING:
            heard = time.monotonic()
            course.take(item)
            progress.show(item)
    return False


_NOTHING: Final[Stands] = (standing.HostStand("", Stand.PENDING, "nothing heard"),)


def _next(fabric: Fabric, choices: Choices, course: _Course, reader: _Reader, wanted: Wanted, heard: float) -> _Item:
    try:
        return reader.items.get(timeout=min(_TICK, fabric.remaining()))
    except queue.Empty:
        pass
    except TrunklineError as error:
        return error
    if time.monotonic() - heard < _SILENCE:
        return _NOTHING
    try:
        return wanted.look()
    except TrunklineError as error:
        # The reader reconnects; a controller that is away for a moment is no reason to give up.
        return _NOTHING if error.reason in _AGAIN else error
