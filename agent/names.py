"""Names across hosts as the agent runs them: the copy of the directory, and DNS in front of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from agent.config import Config
from agent.dns import NameService, Zone
from agent.session.directory import Directory
from agent.session.live import Live
from agent.spool import Spool
from trunkline.clock import Clock
from trunkline.model import Observation


class Names:
    """Answers from what was kept before anybody is heard of."""

    def __init__(self, config: Config, spool: Spool, live: Live, clock: Clock) -> None:
        self._host = config.host
        self._off = config.dns.listen is None
        zone = Zone(config.dns.domain)
        self._directory = Directory(zone, spool, config.host, live, clock)
        self._service = NameService(config.dns, zone)

    def noted(self, observation: Observation) -> Observation:
        """The observation with what keeps this host from resolving names."""
        problems = self._service.problems(self._host)
        return replace(observation, problems=(*observation.problems, *problems)) if problems else observation

    async def run(self) -> None:
        """Follow and answer until cancelled; then the host's resolver is as it was."""
        if self._off:
            await self._service.run()
            return
        await asyncio.to_thread(self._directory.load)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._directory.run())
            tasks.create_task(self._service.run())
