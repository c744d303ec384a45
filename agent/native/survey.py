"""What a host has of hand-made Docker networks: the answer to a controller that asks before it takes them over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent.docking import Handmade
from agent.plan import handmade
from agent.plan.handmade import Found
from agent.plan.state import HostConfig
from agent.ports import Links


class Surveyor:
    """Reads only. `config` says what stands behind which uplink label."""

    def __init__(self, handmade: Handmade, links: Links, config: Callable[[], HostConfig]) -> None:
        self._handmade = handmade
        self._links = links
        self._config = config

    async def survey(self, name: str) -> list[Found]:
        """Hand-made Docker networks of a name on this host; [] when there is none. Raises DOCKER_UNAVAILABLE."""
        named, links = await asyncio.gather(self._handmade.named(name), self._links.host_links())
        found = []
        for one in handmade.foreign(named, name):
            members = await self._handmade.members(one)
            surveyed = handmade.survey(one, members, self._config(), links)
            found.append(Found(one.network, surveyed, tuple(members)))
        return found
