"""Makes interfaces again that running containers lost with the link under them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.docking import Container, DockerNetwork, Engine, Ground
from agent.native.chronicle import Chronicle
from agent.plan import announcing, rebuilding
from agent.plan.rebuilding import Suspect
from agent.ports import Interface, Links, Namespace
from trunkline import log
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Problem

STRANGE_SECONDS: Final = 3.0
"""An endpoint that this agent has not seen yet is left alone for so long: it is being announced, which tells."""

SURE_SECONDS: Final = 0.5
"""Between two looks that must agree: Docker may be disconnecting the container."""

_FIRST_SECONDS: Final = 1.0
_LIMIT_SECONDS: Final = 30.0
_AT_ONCE: Final = 8


@dataclass(slots=True)
class _Try:
    """A suspect's next look, and what went wrong in the last one."""

    backoff: Backoff
    due: float
    error: TrunklineError | None = None


class Rebuilder:
    """Knows the interface of each live endpoint (`seen`, from whoever read it), and looks after those that have none on
    the network's link, beside the loop, which it wakes when that is done. `made` is called with the id of an endpoint
    whose interface was made again."""

    def __init__(
        self,
        engine: Engine,
        links: Links,
        chronicle: Chronicle,
        clock: Clock,
        draw: Callable[[], float],
        wake: Callable[[], None],
        made: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._links = links
        self._chronicle = chronicle
        self._clock = clock
        self._draw = draw
        self._wake = wake
        self._made = made
        self._seen: dict[str, Interface] = {}
        self._tries: dict[str, _Try] = {}
        self._suspects: dict[str, Suspect] = {}
        self._task: asyncio.Task[None] | None = None
        self._log = log.get("docker")

    def seen(self, endpoint: str, interface: Interface) -> None:
        """An endpoint's interface was read."""
        self._seen[endpoint] = interface

    def look(self, containers: Sequence[Container], found: Sequence[DockerNetwork], ground: Ground) -> None:
        """Find endpoints without an interface, and look at those whose time has come."""
        living = announcing.living(containers)
        self._seen = {key: one for key, one in self._seen.items() if key in living}
        suspects = rebuilding.suspects(containers, found, ground, self._seen)
        self._suspects = {suspect.due.id: suspect for suspect in suspects}
        self._tries = {key: one for key, one in self._tries.items() if key in self._suspects}
        now = self._clock.monotonic()
        for key, suspect in self._suspects.items():
            if key not in self._tries:
                backoff = Backoff(_FIRST_SECONDS, _LIMIT_SECONDS, self._draw)
                self._tries[key] = _Try(backoff, now if suspect.known else now + STRANGE_SECONDS)
        due = [self._suspects[key] for key, one in self._tries.items() if one.due <= now]
        if due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._all(due))

    async def _all(self, due: Sequence[Suspect]) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(suspect: Suspect) -> None:
            async with gate:
                await self._one(suspect)

        await asyncio.gather(*map(one, due))
        self._wake()

    async def _one(self, suspect: Suspect) -> None:
        key = suspect.due.id
        error: TrunklineError | None = None
        try:
            await self._mend(suspect)
        except TrunklineError as failure:
            # A container that ended meanwhile has nothing to mend.
            error = None if failure.reason is Reason.NETNS_NOT_FOUND else failure
        except Exception as bug:
            self._log.error("rebuilding failed", container=suspect.due.container, exc_info=bug)
            error = TrunklineError(Reason.INTERNAL, "the agent failed; its log has the traceback")
        tried = self._tries.get(key)
        if tried is not None:
            if error is not None and (tried.error is None or tried.error.message != error.message):
                self._log.warning("interface not made again", container=suspect.due.container, why=error.text)
            tried.error = error
            tried.due = self._clock.monotonic() + max(SURE_SECONDS, tried.backoff.next())

    async def _mend(self, suspect: Suspect) -> None:
        if await self._missing(suspect) is None:
            return
        await self._clock.sleep(SURE_SECONDS)
        if not rebuilding.still(suspect, await self._engine.containers()):
            return
        found = await self._missing(suspect)
        if found is None:
            return
        namespace, inside = found
        made = (await self._links.add_macvlans([(namespace, rebuilding.spec(suspect, inside))]))[0]
        if isinstance(made, TrunklineError):
            raise made
        if not rebuilding.still(suspect, await self._engine.containers()):
            # It was disconnected meanwhile: Docker has looked for an interface to remove, and found none.
            await self._links.delete_interface(namespace, made.link.index, made.link.alias)
            return
        self._seen[suspect.due.id] = made
        self._chronicle.note(
            f"container {suspect.due.container}",
            f"its interface {made.link.name} on network {suspect.due.network} went with the link under it; it was made "
            f"again with {', '.join(suspect.addresses)} and MAC {suspect.due.mac}",
        )
        self._made(suspect.due.id)

    async def _missing(self, suspect: Suspect) -> tuple[Namespace, Sequence[Interface]] | None:
        """The container's namespace and what is in it, when the interface is not."""
        namespace = await self._engine.namespace(suspect.due.container_id)
        if namespace is None:
            return None
        inside = (await self._links.interfaces([namespace]))[0]
        if isinstance(inside, TrunklineError):
            raise inside
        if rebuilding.lost(suspect, inside):
            return namespace, inside
        if (interface := announcing.interface(suspect.due, inside)) is not None:
            self._seen[suspect.due.id] = interface
        return None

    def due(self) -> float | None:
        """Monotonic time of the next look; None when nothing is amiss or one is under way."""
        if self._task is not None and not self._task.done():
            return None
        return min((one.due for one in self._tries.values()), default=None)

    def problems(self) -> tuple[Problem, ...]:
        """Interfaces that could not be made again."""
        return tuple(
            Problem("container", self._suspects[key].due.container, one.error.reason.name, one.error.text)
            for key, one in self._tries.items()
            if one.error is not None
        )

    async def close(self) -> None:
        """End what is under way. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
