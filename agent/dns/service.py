"""DNS on this host as one piece: the server, where it passes questions on, and how the host reaches it."""

from __future__ import annotations

import asyncio
import enum
import time
from dataclasses import dataclass
from typing import Final

from agent.dns import resolvconf
from agent.dns.forwarding import Forwarder, Upstream
from agent.dns.resolver import Places, Resolver
from agent.dns.serving import Server
from agent.dns.zone import Zone, is_domain
from trunkline import log
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Problem

PORT: Final = 53
LOOK: Final = 1.0
"""Seconds between two looks at the host's resolver files: stat calls of some microseconds."""

LISTEN: Final = Upstream("127.0.0.153", PORT)
"""Where names are answered unless told otherwise: 127.0.0.53 and .54 are systemd-resolved's."""

RETRY: Final = 10.0
"""Seconds until an address that could not be had is tried again."""

_log = log.get("names")


class Reach(enum.StrEnum):
    """Whether the host's resolver is led to us."""

    AUTO = "auto"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the table [dns]. No `listen`: no DNS at all. No `upstreams`: those of the host are followed."""

    listen: Upstream | None = LISTEN
    domain: str = "trunkline.internal"
    reach: Reach = Reach.AUTO
    upstreams: tuple[Upstream, ...] = ()


OFF: Final = Settings(listen=None)


def settings(listen: str, domain: str, reach: str, upstreams: tuple[str, ...]) -> Settings:
    """The settings that these texts mean. Raises ValueError saying what is wrong with which key."""
    domain = domain.lower().rstrip(".")
    if not is_domain(domain):
        raise ValueError(f"domain {domain!r} is no domain name")
    if reach not in set(Reach):
        raise ValueError(f'resolver {reach!r} is neither "auto" nor "off"')
    where = _server("listen", listen) if listen else None
    if where is not None and where.port != PORT and reach == Reach.AUTO:
        raise ValueError(f'listen {listen!r}: resolvers of hosts ask port 53 only; with another, resolver = "off"')
    others = tuple(_server("upstreams", text) for text in upstreams)
    if where in others:
        raise ValueError(f"upstreams name {where}, where names are answered themselves")
    return Settings(where, domain, Reach(reach), others)


def _server(key: str, text: str) -> Upstream:
    host, port = text, str(PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not resolvconf.is_server(host) or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"{key} {text!r} is no address; write it as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53")
    return Upstream(host, int(port))


class NameService:
    """Answers from `zone`. Whatever fails here costs names, never the agent."""

    def __init__(self, settings: Settings, zone: Zone, places: Places | None = None) -> None:
        self._settings = settings
        self._places = places
        self._forwarder = Forwarder(zone.domain, time.monotonic)
        self._server = Server(zone, self._forwarder)
        self._problem = ""
        self._resolver: Resolver | None = None
        self.serving = asyncio.Event()
        """Set while questions are answered and the host's resolver, if it is to be, was led here."""

    def problems(self, host: str) -> tuple[Problem, ...]:
        """What keeps this host from resolving names, for its observation."""
        found = [self._problem or (self._resolver.problem if self._resolver else "")]
        found += [f"upstream server {server} asks us; it is left out" for server in self._forwarder.looping]
        return tuple(Problem("host", host, Reason.NAMES_UNREACHED.name, text) for text in found if text)

    async def run(self) -> None:
        """Serve until cancelled; then the host's resolver is as it was."""
        where = self._settings.listen
        if where is None:
            await self._withdraw(Resolver(LISTEN.address, self._settings.domain, time.monotonic, self._places))
            return
        self._resolver = resolver = Resolver(where.address, self._settings.domain, time.monotonic, self._places)
        try:
            await self._listen(where, resolver)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._forwarder.run())
                tasks.create_task(self._lead(resolver))
        finally:
            resolver.end()
            # First the way back, then the end: a question in between finds somebody.
            await asyncio.shield(self._withdraw(resolver))
            await self._server.close()

    async def _listen(self, where: Upstream, resolver: Resolver) -> None:
        while True:
            try:
                await self._server.start(where)
            except TrunklineError as error:
                if not self._problem:
                    _log.warning("names not answered", problem=error.message, remedy=error.remedy)
                    # What a killed agent left would lead to whoever listens there now, or nowhere.
                    await self._withdraw(resolver)
                self._problem = error.message
                await asyncio.sleep(RETRY)
            else:
                self._problem = ""
                _log.info("names answered", address=str(where), domain=self._settings.domain)
                return

    async def _lead(self, resolver: Resolver) -> None:
        auto = self._settings.reach is Reach.AUTO
        if not auto:
            await self._withdraw(resolver)
        while True:
            look = resolver.look if auto else resolver.upstreams
            found = await asyncio.to_thread(look)
            if self._settings.upstreams:
                self._forwarder.use(self._settings.upstreams)
            elif found is not None:
                self._forwarder.use([Upstream(server) for server in found])
            self.serving.set()
            await asyncio.sleep(LOOK)

    async def _withdraw(self, resolver: Resolver) -> None:
        self.serving.clear()
        try:
            if await asyncio.to_thread(resolver.undo):
                _log.info("resolver put back")
        except TrunklineError as error:
            _log.warning("resolver not put back", problem=error.message, remedy=error.remedy)


def remove(settings: Settings, places: Places | None = None) -> list[str]:
    """Put back what an agent that was killed changed of the host's resolver; the names of what is gone. Raises
    NAMES_UNREACHED."""
    resolver = Resolver((settings.listen or LISTEN).address, settings.domain, time.monotonic, places)
    return ["the way of the host's resolver to the fabric's names"] if resolver.undo() else []
