"""A whole agent on a simulated machine: loop, session, spool and plans are the real ones; kernel, Docker and probes are
the fakes that pass the contract suites."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from fakes.links import FakeKernel, FakeLinks
from fakes.prober import FakeProber, FakeWire
from fakes.targets import FakeTargets

from agent import app
from agent.activation import Notifier
from agent.config import Config, LogSection
from agent.loop import World
from agent.plan.state import UplinkConfig
from agent.spool import Spool
from trunkline.clock import SystemClock


class Machine:
    """One host with device enp7s0, named by its config as uplink `default`."""

    def __init__(self, host: str, controller: str, directory: Path) -> None:
        self.host = host
        self.kernel = FakeKernel()
        self.uplink = self.kernel.add_link(self.kernel.host, "enp7s0")
        self.links = FakeLinks(self.kernel)
        self.targets = FakeTargets(self.kernel, docker="29.0.0")
        self.uplinks: Sequence[UplinkConfig] = (UplinkConfig("default", "enp7s0"),)
        self.machine_id = f"machine-of-{host}"
        self._controller = controller
        self._directory = directory
        self._task: asyncio.Task[None] | None = None

    def run_container(self, name: str) -> None:
        """Start a container with a network namespace of its own."""
        self.targets.containers[name] = self.kernel.add_namespace(f"/proc/{name}/ns/net").path
        self.targets.woken.set()

    def names(self) -> set[str]:
        """Links of the host's namespace."""
        return {one.link.name for one in self.kernel.space(self.kernel.host).interfaces.values()}

    def start(self) -> None:
        """Run the agent until `stop`; what it did to the kernel and to its spool outlives it."""
        config = Config(
            host=self.host,
            machine_id=self.machine_id,
            controllers=(self._controller,),
            tls=None,
            state_dir=self._directory,
            tick_seconds=1.0,
            uplinks=tuple(self.uplinks),
            labels={},
            docker_socket="",
            plugin_socket="",
            log=LogSection(),
        )
        spool = Spool(self._directory)
        spool.prepare()
        world = World(self.links, self.targets, FakeProber(FakeWire(), self.host), SystemClock(), lambda: 0.5)
        self._task = asyncio.create_task(app._run(config, spool, world, Notifier()))

    async def stop(self) -> None:
        """End the agent as by kill -9."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
