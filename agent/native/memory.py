"""What was done to Docker, on disk: written before it is done, never a reason to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from agent.spool import DockerDeeds, MadeNetwork, Spool
from trunkline import log
from trunkline.errors import TrunklineError
from trunkline.model import Problem


class DockerMemory:
    """The deeds, in memory and on disk. A disk that fails is a problem to be reported."""

    def __init__(self, spool: Spool, host: str) -> None:
        self._spool = spool
        self._host = host
        self._problem: Problem | None = None
        self._log = log.get("spool")
        self.deeds = self._read()

    def _read(self) -> DockerDeeds:
        try:
            return self._spool.docker()
        except TrunklineError as error:
            self._failed(error)
            return DockerDeeds()

    def _failed(self, error: TrunklineError) -> None:
        if self._problem is None:
            self._log.error("spool failed", reason=error.reason.name, why=error.text)
        self._problem = Problem("host", self._host, error.reason.name, error.text)

    def problems(self) -> tuple[Problem, ...]:
        """What could not be read or written."""
        return (self._problem,) if self._problem else ()

    async def network(self, network: str, made: MadeNetwork | None) -> None:
        """A network's Docker network is about to be made, was made, or is gone (None)."""
        others = {name: one for name, one in self.deeds.networks.items() if name != network}
        await self._write(replace(self.deeds, networks=others | ({network: made} if made else {})))

    async def containers(self, containers: Mapping[str, tuple[str, ...]]) -> None:
        """The Docker networks of ours that each container is set up with."""
        await self._write(replace(self.deeds, containers=dict(containers)))

    async def _write(self, deeds: DockerDeeds) -> None:
        if deeds == self.deeds:
            return
        self.deeds = deeds
        try:
            await asyncio.to_thread(self._spool.keep_docker, deeds)
        except TrunklineError as error:
            self._failed(error)
        else:
            self._problem = None
