"""The agent put together: picks the adapters, starts them in order and ends them in the reverse one."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path
from random import random

from agent import dns
from agent.activation import Notifier
from agent.cleanup import cleanup
from agent.config import Config
from agent.docker_side import DockerSide, docker_side
from agent.engine import DockerTargets
from agent.kernel.links import KernelLinks
from agent.kernel.siblings import KernelSiblings
from agent.loop import Loop, Memory, World
from agent.names import Names
from agent.plan import uplinks
from agent.plan.state import HostConfig
from agent.probes.prober import ChildProber
from agent.session import Answers, Controllers, Dialogue, Imports, Outbox, Session
from agent.session.granting import SessionGranter
from agent.session.live import Live
from agent.spool import Spool
from agent.undocking import undock
from trunkline import log
from trunkline.clock import SystemClock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import HostFacts, HostUplink, Observation


async def serve(config: Config) -> None:
    """Run the agent until SIGTERM or SIGINT. What it made on the host stays: containers keep running."""
    notifier = Notifier()
    spool = Spool(config.state_dir)
    spool.prepare()
    with alone(config.state_dir):
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            async with _world(config, probing=True) as world:
                try:
                    await _run(config, spool, world, notifier)
                finally:
                    notifier.stopping()
        log.get("agent").info("stopped", host=config.host)


@contextlib.asynccontextmanager
async def _world(config: Config, probing: bool) -> AsyncIterator[World]:
    """All adapters. With `probing` the probes' child is loaded ahead, so that the first probe need not wait."""
    async with contextlib.AsyncExitStack() as stack:
        links = KernelLinks()
        stack.push_async_callback(links.close)
        targets = DockerTargets(config.docker_socket, config.host)
        stack.push_async_callback(targets.close)
        prober = ChildProber(KernelSiblings(links))
        stack.push_async_callback(prober.close)
        if probing:
            await prober.start()
        yield World(links, targets, prober, SystemClock(), random)


async def _run(config: Config, spool: Spool, world: World, notifier: Notifier) -> None:
    memory = await asyncio.to_thread(Memory, spool, config.host, _boot_id())
    outbox = Outbox()
    live = Live()
    names = Names(config, spool, live, world.clock)

    def report(observation: Observation) -> None:
        outbox.report(names.noted(observation))

    def main() -> Loop:
        return loop

    async with contextlib.AsyncExitStack() as stack:
        side: DockerSide | None = None
        if config.plugin_socket:
            granter = SessionGranter(config.host, live)
            making = docker_side(config, world, spool, memory.spooled, granter, lambda: main().tell(), main)
            side = await stack.enter_async_context(making)
        dock = side.loop if side else None
        loop = Loop(world, config.host, config.uplinks, memory, report, config.tick_seconds, dock)
        answers = Answers(world.links, world.targets, world.prober, lambda: loop.config)
        controllers = Controllers(config.controllers, config.tls)
        imports = Imports(side.imports.survey, side.imports.replace) if side else None
        dialogue = Dialogue(outbox, answers, lambda: _facts(config, world, loop), loop.want, imports)
        session = Session(controllers, dialogue, world.clock, world.draw, live)
        log.get("agent").info("started", host=config.host, version=version("trunkline"))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(loop.run())
        tasks.create_task(session.run())
        tasks.create_task(_notify(notifier, loop))
        tasks.create_task(names.run())
        if side is not None:
            tasks.create_task(side.serve(loop.settled, live))


def _boot_id() -> str:
    """random(4): a new one at each boot of the kernel."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


async def _notify(notifier: Notifier, loop: Loop) -> None:
    """Tell the service manager when what was spooled is there, and then that we live."""
    await loop.settled.wait()
    notifier.ready()
    while notifier.watchdog_seconds:
        notifier.alive()
        await asyncio.sleep(notifier.watchdog_seconds / 3)


async def _facts(config: Config, world: World, loop: Loop) -> HostFacts:
    docker, links = await asyncio.gather(world.targets.version(), world.links.host_links())
    current = loop.intake.current
    return HostFacts(
        host=config.host,
        machine_id=config.machine_id,
        version=version("trunkline"),
        kernel=os.uname().release,
        docker=docker,
        labels=config.labels,
        uplinks=uplinks.facts(loop.config, links),
        epoch=current.epoch if current else "",
        revision=current.revision if current else 0,
    )


@contextlib.contextmanager
def alone(state_dir: Path) -> Iterator[None]:
    """Hold the state directory; raises CONFIG_INVALID when another agent does."""
    # The directory itself, since a lock file could not be made on a disk that is full or read-only.
    descriptor = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrunklineError(
                Reason.CONFIG_INVALID,
                f"another agent works with {state_dir}",
                "stop it first, or give this one another [agent] state_dir",
            ) from None
        yield
    finally:
        os.close(descriptor)


async def inspect_uplinks(config: Config) -> tuple[HostUplink, ...]:
    """The uplinks of a config as this host has them, with what is wrong with each."""
    links = KernelLinks()
    try:
        host = HostConfig(config.host, {uplink.label: uplink for uplink in config.uplinks})
        return uplinks.facts(host, await links.host_links())
    finally:
        await links.close()


async def remove(config: Config, attachments: bool) -> tuple[list[str], list[str]]:
    """Take back what the agent made on this host; the names of what is gone, and why what stays stays."""
    spool = Spool(config.state_dir)
    spool.prepare()
    with alone(config.state_dir):
        async with _world(config, probing=False) as world:
            docker = await undock(config, spool)
            gone, left = await cleanup(world, config.host, config.uplinks, spool, attachments, docker.parents)
        gone += await asyncio.to_thread(dns.remove, config.dns)
        return docker.gone + gone, docker.left + left
