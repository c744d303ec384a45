"""The address part of an agent, whole: real pools, journal on disk and plugin on a unix socket; Docker and the
controller are simulated."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import aiohttp
from fakes.docker import FakeDocker
from fakes.granting import FakeFabric, FakeGranter

from agent.docking import Engine
from agent.engine.plugin import Plugin
from agent.journal import Journal
from agent.native.pools import HostPools, PoolPorts
from trunkline.clock import SystemClock
from trunkline.errors import TrunklineError
from trunkline.model import Desired, EndpointState


class HandClock(SystemClock):
    """Wall time that tests move; the rest is real."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def now_ms(self) -> int:
        self.ms += 1
        return self.ms


class DockedAgent:
    """`docker` and `fabric` outlive it; `restart` is what a crash and a new start leave: the journal and the spool."""

    def __init__(self, directory: Path, fabric: FakeFabric, docker: FakeDocker, host: str = "h1") -> None:
        self.directory = directory
        self.fabric = fabric
        self.docker = docker
        self.host = host
        self.clock = HandClock()
        self.granter = FakeGranter(fabric, host)
        self.spooled: Desired | None = None
        self.unready: dict[str, TrunklineError] = {}
        self.changes = 0

    async def start(self) -> None:
        self.journal = Journal(self.directory)
        ports = PoolPorts(cast("Engine", self.docker), self.granter, self.journal, self.clock)
        self.pools = HostPools(self.host, ports, self.unready.get, self._changed)
        await self.pools.load(self.spooled)

    def _changed(self) -> None:
        self.changes += 1

    async def listen(self) -> None:
        self.plugin = Plugin(self.pools)
        self.socket = self.directory / "trunkline.sock"
        await self.plugin.start(self.socket)
        connector = aiohttp.UnixConnector(str(self.socket))
        self.client = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(10))

    async def stop(self) -> None:
        if hasattr(self, "plugin"):
            await self.client.close()
            await self.plugin.close()
        await self.journal.close()

    async def restart(self) -> None:
        listening = hasattr(self, "plugin")
        await self.stop()
        await self.start()
        if listening:
            await self.listen()

    async def call(self, method: str, body: Mapping[str, Any] | bytes | None = None) -> dict[str, Any]:
        """One call as dockerd makes it, on a connection of its own choice; the JSON answer."""
        data = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        headers = {"Accept": "application/vnd.docker.plugins.v1.2+json", "Host": str(self.socket)}
        async with self.client.post(f"http://plugin/{method}", data=io.BytesIO(data), headers=headers) as response:
            assert response.status == 200
            answer = json.loads(await response.read())
        assert isinstance(answer, dict)
        return answer

    async def told(self) -> None:
        """The desired state of now comes down, and is spooled."""
        desired = self.fabric.desired(self.host)
        await self.pools.desired(desired)
        self.spooled = desired

    async def seen(self) -> None:
        """Docker is listed."""
        await self.pools.seen(self.docker.listing(self.clock, self.spooled))

    def observe(self) -> None:
        """What the host shows reaches the controller."""
        assert self.spooled is not None
        if self.spooled.epoch == self.fabric.epoch:
            told, complete = self.pools.endpoints(), self.pools.complete
            self.fabric.settle(self.host, self.spooled.revision, told, complete)

    def states(self, network: str) -> dict[str, tuple[EndpointState, str]]:
        """State and owner of each address of a network."""
        return {key[1]: (one.state, one.owner) for key, one in self.pools.entries().items() if key[0] == network}
