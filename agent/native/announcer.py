"""Announces what Docker started: twice, a second apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from agent.docking import Container, DockerNetwork, Engine
from agent.plan import announcing
from agent.plan.announcing import Due
from agent.ports import Announcement, Interface, Links, Prober
from trunkline import log
from trunkline.clock import Clock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, Problem

AGAIN_SECONDS: Final = 1.0
"""A switch that has just seen the container's first frame on another port may still be learning."""

TRIES: Final = 3
_LOOKUPS: Final = 8


class Announcer:
    """Knows which endpoints were announced. Works beside the loop, since finding a namespace waits for dockerd. `seen`
    is told each endpoint's id and the interface that was found for it."""

    def __init__(
        self,
        engine: Engine,
        links: Links,
        prober: Prober,
        clock: Clock,
        seen: Callable[[str, Interface], None] = lambda endpoint, interface: None,
    ) -> None:
        self._engine = engine
        self._links = links
        self._prober = prober
        self._clock = clock
        self._seen = seen
        self._told: set[str] = set()
        self._unseen: set[str] = set()
        self._names: dict[str, tuple[Due, str]] = {}
        self._tries: dict[str, int] = {}
        self._failed: dict[str, tuple[Due, TrunklineError]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lookups = asyncio.Semaphore(_LOOKUPS)
        self._log = log.get("docker")

    def announce(
        self, containers: Sequence[Container], found: Sequence[DockerNetwork], desired: Desired | None
    ) -> None:
        """Announce what lives and was not announced yet."""
        living = announcing.living(containers)
        self._told &= living
        self._unseen &= living
        self._names = {key: named for key, named in self._names.items() if key in living}
        self._tries = {key: tries for key, tries in self._tries.items() if key in living}
        self._failed = {key: failed for key, failed in self._failed.items() if key in living}
        for due in announcing.due(containers, found, desired, self._told):
            self._told.add(due.id)
            task = asyncio.create_task(self._tell(due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def again(self, endpoint: str) -> None:
        """An endpoint has a new interface: it is announced with the next look."""
        self._told.discard(endpoint)
        self._tries.pop(endpoint, None)
        self._failed.pop(endpoint, None)

    async def _tell(self, due: Due) -> None:
        try:
            announcement = await self._announcement(due)
            if announcement is None:
                self._told.discard(due.id)  # it is gone, or not there yet
                self._unseen.add(due.id)
                return
            await self._send(announcement)
            await self._clock.sleep(AGAIN_SECONDS)
            await self._send(announcement)
            self._failed.pop(due.id, None)
        except TrunklineError as error:
            await self._failure(due, error)
        except Exception as error:
            self._log.error("announcement failed", container=due.container, exc_info=error)

    async def _failure(self, due: Due, error: TrunklineError) -> None:
        try:
            ended = await self._engine.namespace(due.container_id) is None
        except TrunklineError:
            ended = False
        if ended:
            return
        self._tries[due.id] = self._tries.get(due.id, 0) + 1
        if self._tries[due.id] < TRIES:
            self._told.discard(due.id)
        self._failed[due.id] = (due, error)
        self._log.warning("not announced", container=due.container, network=due.network, why=error.text)

    async def _announcement(self, due: Due) -> Announcement | None:
        async with self._lookups:
            namespace = await self._engine.namespace(due.container_id)
            if namespace is None:
                return None
            read = (await self._links.interfaces([namespace]))[0]
        if isinstance(read, TrunklineError):
            raise read
        found = announcing.interface(due, read)
        if found is None:
            raise TrunklineError(
                Reason.DOCKER_NETWORK_LOST,
                f"container {due.container} has no interface with {', '.join(due.addresses)}, although Docker says so: "
                f"the link that carried it on network {due.network} was deleted, or the address taken away",
                f"docker restart {due.container}",
            )
        self._unseen.discard(due.id)
        self._names[due.id] = (due, found.link.name)
        self._seen(due.id, found)
        mac = found.link.mac or due.mac
        return Announcement(namespace, found.link.name, mac, due.addresses, due.gateways)

    async def _send(self, announcement: Announcement) -> None:
        error = (await self._prober.announce([announcement]))[0]
        if error is not None:
            raise error

    def unannounced(self) -> bool:
        """Whether something waits to be tried again."""
        return bool(self._unseen) or any(self._tries.get(key, 0) < TRIES for key in self._failed)

    def named(self) -> dict[tuple[str, str], str]:
        """Names of interfaces inside containers, by network and address, as far as they were seen."""
        return {(due.network, address): name for due, name in self._names.values() for address in due.addresses}

    def problems(self) -> tuple[Problem, ...]:
        """What could not be announced: neighbours may know an old place for up to their ARP timeout."""
        return tuple(
            Problem("container", due.container, error.reason.name, error.text) for due, error in self._failed.values()
        )

    async def close(self) -> None:
        """End announcements under way. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
