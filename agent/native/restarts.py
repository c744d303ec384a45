"""Starts containers that an address of ours kept from starting: Docker's restart policy gives up after one refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.docking import Container, Engine
from agent.native.chronicle import Chronicle
from agent.plan import restarting
from agent.plan.owners import DockerNames
from trunkline import log
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Problem

_FIRST_SECONDS: Final = 2.0
_LIMIT_SECONDS: Final = 60.0
_INSPECT_SECONDS: Final = 1.0
_DOUBTS: Final = (0.3, 2.0)
"""Seconds after a refusal until containers are inspected: dockerd gives the start up first, and the list shows one
that failed at once as it was before."""

_AT_ONCE: Final = 4


@dataclass(slots=True)
class _Waiting:
    name: str
    error: str
    backoff: Backoff
    due: float


class Restarts:
    """Which containers wait to be started. Each is tried after a wait that doubles; a try that is refused again costs
    one question to the ledger."""

    def __init__(
        self, engine: Engine, chronicle: Chronicle, clock: Clock, draw: Callable[[], float], wake: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._chronicle = chronicle
        self._clock = clock
        self._draw = draw
        self._wake = wake
        self._judged: set[str] = set()
        self._waiting: dict[str, _Waiting] = {}
        self.unknown: frozenset[str] = frozenset()
        """Ids of Docker networks whose driver does not know them."""
        self._task: asyncio.Task[None] | None = None
        self._doubts: list[float] = []
        self._log = log.get("docker")

    async def look(self, containers: Sequence[Container], names: DockerNames, everything: bool) -> None:
        """Find those that died of a refusal among those not judged since they last ran, or, with `everything`, among
        all; start those whose time has come, beside the loop."""
        now = self._clock.monotonic()
        everything = everything or any(due <= now for due in self._doubts)
        self._doubts = [due for due in self._doubts if due > now]
        suspects = restarting.suspects(containers, names)
        ids = {container.id for container in suspects}
        self._judged &= ids
        self._waiting = {key: waiting for key, waiting in self._waiting.items() if key in ids}
        new = [container for container in suspects if everything or container.id not in self._judged]
        gate = asyncio.Semaphore(_AT_ONCE)

        async def judge(container: Container) -> None:
            async with gate:
                inspected = await self._engine.inspected(container, _INSPECT_SECONDS)
            if inspected is not None:
                self._judge(inspected)

        await asyncio.gather(*map(judge, new))
        if self._task is None or self._task.done():
            due = [key for key, waiting in self._waiting.items() if waiting.due <= self._clock.monotonic()]
            if due:
                self._task = asyncio.create_task(self._start(due))

    def doubt(self) -> None:
        """Docker was refused an address, or was not to be seen for a while: a container may have died of that."""
        now = self._clock.monotonic()
        self._doubts = [now + seconds for seconds in _DOUBTS]
        self._wake()

    def _judge(self, container: Container) -> None:
        self._judged.add(container.id)
        self._hear(container.error)
        if not restarting.refused(container):
            self._waiting.pop(container.id, None)
        elif container.id not in self._waiting:
            backoff = Backoff(_FIRST_SECONDS, _LIMIT_SECONDS, self._draw)
            due = self._clock.monotonic() + backoff.next()
            self._waiting[container.id] = _Waiting(container.name, container.error, backoff, due)

    async def _start(self, due: Sequence[str]) -> None:
        for key in due:
            waiting = self._waiting.get(key)
            if waiting is None:
                continue
            try:
                await self._engine.start(key)
            except TrunklineError as error:
                waiting.error = error.message
                self._hear(error.message)
                self._log.warning("not started", container=waiting.name, reason=error.reason.name, why=error.text)
            else:
                self._waiting.pop(key, None)
                self._chronicle.note(
                    f"container {waiting.name}",
                    f"it could not start, which its restart policy gives up on, and was started again: {waiting.error}",
                )
            waiting.due = self._clock.monotonic() + waiting.backoff.next()
        self._wake()

    def _hear(self, error: str) -> None:
        if network := restarting.unknown_network(error):
            self.unknown |= {network}
            self._wake()

    def due(self) -> float | None:
        """Monotonic time of the next start or inspection to come; None when none waits. None starts while one does."""
        starting = self._task is not None and not self._task.done()
        starts = () if starting else (waiting.due for waiting in self._waiting.values())
        return min((*self._doubts, *starts), default=None)

    def problems(self) -> tuple[Problem, ...]:
        """Containers that are down for want of an address."""
        return tuple(
            Problem(
                "container",
                waiting.name,
                Reason.CONTAINER_NOT_STARTED.name,
                f"container {waiting.name} is down although its restart policy wants it up: {waiting.error}; it is "
                "started as soon as that is mended",
            )
            for waiting in self._waiting.values()
        )

    async def close(self) -> None:
        """End what is under way. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
