"""Reads the host: links, targets, and every namespace where an interface of ours can be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from agent.plan import attachments
from agent.plan.state import Link, Namespace, Observed, ResolvedTarget, View
from agent.ports import Links, Targets
from trunkline import log
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, Target, TargetKind


class Observer:
    """Remembers where interfaces of ours were last seen, so that a look between two sweeps need not read every
    namespace of the host. Only this agent makes such interfaces, so that memory and a first sweep miss nothing."""

    def __init__(self, links: Links, targets: Targets) -> None:
        self._links = links
        self._targets = targets
        self._places: dict[str, Namespace] = {}
        self._swept = False
        self._docker = ""
        self._log = log.get("observer")

    async def observe(self, desired: Desired, sweep: bool) -> Observed:
        """The host as it is. With `sweep`, or when it is the only way to know, every namespace is read. Raises when
        the host's own links cannot be read."""
        wanted = list(dict.fromkeys(attachment.target for attachment in desired.attachments))
        sweep = sweep or not self._swept
        links, resolved, everywhere = await asyncio.gather(
            self._links.host_links(), self._targets.resolve(wanted), self._everywhere() if sweep else _nothing()
        )
        targets = dict(zip(wanted, resolved, strict=True))
        await self._ask_version(targets, sweep)
        places = dict(self._places)
        for answer in resolved:
            if isinstance(answer, ResolvedTarget):
                places[answer.namespace.identity] = answer.namespace
        # A path found by the sweep can be opened now; one that was remembered may be gone.
        places.update({namespace.identity: namespace for namespace in everywhere or ()})
        views, unread = await self._read(places.values())
        if not sweep and self._lost(unread):
            return await self.observe(desired, sweep=True)
        self._swept = self._swept or everywhere is not None
        return self._made(links, targets, views, unread, everywhere is not None, sweep)

    def _made(
        self,
        links: list[Link],
        targets: dict[Target, ResolvedTarget | TrunklineError],
        views: dict[str, View],
        unread: dict[str, TrunklineError],
        swept: bool,
        sweep: bool,
    ) -> Observed:
        broken = [error for error in unread.values() if error.reason is not Reason.NETNS_NOT_FOUND]
        complete = self._swept and not broken and (swept or not sweep)
        observed = Observed(tuple(links), targets, views, unread, swept, complete, self._docker)
        kept = {identity: place for identity, place in self._places.items() if identity in unread and broken}
        self._places = kept | {place.identity: place for place in attachments.namespaces_of(observed)}
        return observed

    def _lost(self, unread: dict[str, TrunklineError]) -> bool:
        """Whether a namespace with an interface of ours can no longer be reached the way it was: it is gone, or
        something else keeps it alive."""
        return any(identity in self._places for identity in unread)

    async def _everywhere(self) -> list[Namespace] | None:
        try:
            return await self._targets.namespaces()
        except TrunklineError as error:
            self._log.warning("namespaces cannot be listed", reason=error.reason.name, why=error.text)
            return None

    async def _read(self, places: Iterable[Namespace]) -> tuple[dict[str, View], dict[str, TrunklineError]]:
        wanted = list(places)
        if not wanted:
            return {}, {}
        views: dict[str, View] = {}
        unread: dict[str, TrunklineError] = {}
        for place, answer in zip(wanted, await self._links.interfaces(wanted), strict=True):
            if isinstance(answer, TrunklineError):
                unread[place.identity] = answer
            else:
                views[place.identity] = View(place, tuple(answer))
        return views, unread

    async def _ask_version(self, targets: dict[Target, ResolvedTarget | TrunklineError], sweep: bool) -> None:
        containers = [answer for target, answer in targets.items() if target.kind is TargetKind.CONTAINER]
        away = any(
            isinstance(answer, TrunklineError) and answer.reason is Reason.DOCKER_UNAVAILABLE for answer in containers
        )
        if away:
            self._docker = ""
        elif sweep or (containers and not self._docker):
            self._docker = await self._targets.version()


async def _nothing() -> list[Namespace] | None:
    return None
