"""Reads the host: links, targets, and every namespace where an interface of ours can be."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Collection, Iterable
from dataclasses import replace

from agent.plan import attachments, match, shims
from agent.plan.state import Link, Namespace, Observed, ResolvedTarget, View
from agent.ports import Links, Targets
from trunkline import log
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, HostAttachment, Target, TargetKind


class Look(enum.Enum):
    """How far a look goes. The host's own links and the targets are read each time, whatever it is."""

    CHANGES = "changes"
    """Namespaces in which something else is wanted than at the last look, and those named; the others are as they
    were last read, at most a tick ago. A host with a thousand interfaces need not read them all to attach one."""

    PLACES = "places"
    """Every namespace that is wanted or where an interface of ours was seen."""

    SWEEP = "sweep"
    """Every namespace of the host."""


class Observer:
    """Remembers where interfaces of ours were last seen, so that a look between two sweeps need not read every
    namespace of the host. Only this agent makes such interfaces, so that memory and a first sweep miss nothing."""

    def __init__(self, links: Links, targets: Targets) -> None:
        self._links = links
        self._targets = targets
        self._places: dict[str, Namespace] = {}
        self._swept = False
        self._views: dict[str, View] = {}
        self._wanted: dict[str, HostAttachment] = {}
        self._carriers: tuple[object, ...] = ()
        self._docker = ""
        self.unlisted: TrunklineError | None = None
        """Why the namespaces of the host cannot be listed, so that no observation is complete; None when they can."""
        self._log = log.get("observer")

    async def observe(self, desired: Desired, look: Look, touched: Collection[str] = ()) -> Observed:
        """The host as it is. It goes further than `look` when that is the only way to know. `touched` are identities
        of namespaces in which something was done since. Raises when the host's own links cannot be read."""
        observed = await self._observe(shims.without(desired), look, touched)
        if shims.hosts_own(desired) or any(map(shims.is_shim, observed.links)):
            observed = replace(observed, routes=tuple(await self._links.shim_routes()))
        return observed

    async def _observe(self, desired: Desired, look: Look, touched: Collection[str] = ()) -> Observed:
        wanted = list(dict.fromkeys(attachment.target for attachment in desired.attachments))
        sweep = look is Look.SWEEP or not self._swept
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
        known = {} if sweep or look is not Look.CHANGES else self._unchanged(desired, links, targets, touched)
        views, unread = await self._read([place for identity, place in places.items() if identity not in known])
        if not sweep and self._lost(unread):
            return await self._observe(desired, Look.SWEEP)
        views |= {identity: view for identity, view in known.items() if identity in places}
        self._swept = self._swept or everywhere is not None
        observed = self._made(links, targets, views, unread, everywhere is not None, sweep)
        self._views = {identity: view for identity, view in views.items() if identity in self._places}
        self._wanted = {attachment.name: attachment for attachment in desired.attachments}
        self._carriers = _carriers(links)
        return observed

    def _unchanged(
        self,
        desired: Desired,
        links: list[Link],
        targets: dict[Target, ResolvedTarget | TrunklineError],
        touched: Collection[str],
    ) -> dict[str, View]:
        """Views that need not be read again; none when the links that carry them have changed."""
        if _carriers(links) != self._carriers:
            return {}
        wanted = {attachment.name: attachment for attachment in desired.attachments}
        changed = {name for name in wanted.keys() | self._wanted if wanted.get(name) != self._wanted.get(name)}
        answers = [targets.get(wanted[name].target) for name in changed if name in wanted]
        stale = {answer.namespace.identity for answer in answers if isinstance(answer, ResolvedTarget)}
        return {
            identity: view
            for identity, view in self._views.items()
            if identity not in stale
            and identity not in touched
            and not any(match.owner(interface) in changed for interface in view.interfaces)
        }

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
            found = await self._targets.namespaces()
        except TrunklineError as error:
            if self.unlisted is None:
                self._log.warning("namespaces cannot be listed", reason=error.reason.name, why=error.text)
            self.unlisted = error
            return None
        self.unlisted = None
        return found

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


def _carriers(links: Iterable[Link]) -> tuple[object, ...]:
    """What of the host's links interfaces in targets depend on; containers' own veths come and go all the time."""
    return tuple(
        (link.index, link.name, link.kind, link.parent, link.master, link.vlan, link.up, link.mtu, link.alias)
        for link in links
        if link.kind not in ("veth", "macvlan")
    )


async def _nothing() -> list[Namespace] | None:
    return None
