"""The agent's Docker side put together: the plugin that Docker asks, the ledger behind it, and the loop beside it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent import activation
from agent.config import Config
from agent.docking import Granter
from agent.engine import DockerEngine
from agent.engine.handmade import DockerHandmade
from agent.engine.plugin import Plugin
from agent.journal import Journal
from agent.loop import Loop, World
from agent.native.attentive import Attentive
from agent.native.chronicle import Chronicle
from agent.native.expected import Expected
from agent.native.importing import ImportSide
from agent.native.loop import DockerLoop, DockerWorld
from agent.native.pools import HostPools, PoolPorts
from agent.session.live import Live
from agent.spool import Spool
from trunkline import log
from trunkline.errors import TrunklineError
from trunkline.model import Desired

SETTLE_SECONDS: Final = 5.0
"""How long Docker's first questions wait for the sub-interfaces."""

SESSION_SECONDS: Final = 1.0
"""How long they wait for a controller: a restart of the agent is to cost no container its start."""


@dataclass(frozen=True, slots=True)
class DockerSide:
    """What of it the rest of the agent needs."""

    engine: DockerEngine
    loop: DockerLoop
    pools: HostPools
    plugin: Plugin
    imports: ImportSide
    listener: socket.socket | None

    async def serve(self, settled: asyncio.Event, live: Live) -> None:
        """Answer Docker, and keep its networks, until cancelled. What Docker asks before the sub-interfaces are there,
        or just before the first session is, waits in the socket's backlog."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.loop.run())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(settled.wait(), SETTLE_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(live.open(), SESSION_SECONDS)
            if self.listener is not None:
                await self.plugin.start(self.listener)
            tasks.create_task(self.imports.run())


@contextlib.asynccontextmanager
async def docker_side(
    config: Config,
    world: World,
    spool: Spool,
    spooled: Desired | None,
    granter: Granter,
    changed: Callable[[], None],
    main: Callable[[], Loop],
) -> AsyncIterator[DockerSide]:
    """Everything, not yet running; ends what it opened. `changed` is called when the controller is to be told; `main`
    is asked for the main loop once that is there."""
    async with contextlib.AsyncExitStack() as stack:
        engine = DockerEngine(config.docker_socket, config.host)
        stack.push_async_callback(engine.close)
        journal = Journal(config.state_dir)
        stack.push_async_callback(journal.close)
        chronicle = Chronicle(world.clock)
        ports = PoolPorts(engine, granter, journal, world.clock)
        docker_world = DockerWorld(engine, world.links, world.prober, world.clock, world.draw, _index_of)
        loop = DockerLoop(docker_world, config.host, spool, chronicle, changed)
        expected = Expected()
        pools = HostPools(config.host, ports, loop.unready, loop.tell, expected, loop.boots)
        loop.ledger = pools
        await pools.load(spooled)
        plugin = Plugin(Attentive(pools, loop.refused))
        stack.push_async_callback(plugin.close)
        handmade = DockerHandmade(config.docker_socket, config.host)
        stack.push_async_callback(handmade.close)
        imports = ImportSide(
            engine,
            handmade,
            world.links,
            spool,
            pools,
            expected,
            world.clock,
            config=lambda: main().config,
            desired=lambda: main().intake.current,
            look=lambda: main().wake(),
        )
        yield DockerSide(engine, loop, pools, plugin, imports, _listen(config.plugin_socket))


def _listen(path: str) -> socket.socket | None:
    """The socket that the service manager holds for us, else one of our own; None, and said in the log, when neither
    can be had: containers that run lose nothing by it."""
    handed = activation.handed_over()
    if handed is not None:
        return handed
    try:
        return activation.bind(Path(path))
    except TrunklineError as error:
        log.get("agent").error("docker cannot ask for addresses", reason=error.reason.name, why=error.text)
        return None


def _index_of(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0
