"""A host whose Docker does not answer, or that has none: what it says of networks that are to be in Docker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from agent.docking import DockerAbsent, Engine, Ground
from agent.engine.engine import DockerEngine
from agent.native.chronicle import Chronicle
from agent.native.loop import DockerLoop, DockerWorld
from agent.plan.docked import Standing
from agent.ports import Links, Prober
from agent.spool import Spool
from trunkline.clock import SystemClock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, HostNetwork, Prefix

WHY = TrunklineError(Reason.DOCKER_UNAVAILABLE, "the Docker Engine of h1 does not answer", "start Docker")


class Mute:
    """An Engine that answers nothing; `error` says how."""

    def __init__(self, error: TrunklineError) -> None:
        self.error = error
        self.asked = asyncio.Event()

    async def version(self) -> str:
        self.asked.set()
        raise self.error

    async def events(self) -> AsyncGenerator[None]:
        raise self.error
        yield


def network(name: str) -> HostNetwork:
    return HostNetwork(name, 1, "default", 10, prefixes=(Prefix("20.0.0.0/24", "20.0.0.1"),))


class Stage:
    def __init__(self, engine: Engine, directory: Path) -> None:
        self.news = asyncio.Event()
        unused = cast(Any, None)
        world = DockerWorld(
            engine, cast(Links, unused), cast(Prober, unused), SystemClock(), lambda: 0.5, lambda name: 0
        )
        clock = SystemClock()
        self.loop = DockerLoop(world, "h1", Spool(directory), Chronicle(clock), self.news.set)
        self.task = asyncio.create_task(self.loop.run())

    async def want(self, *names: str) -> None:
        desired = Desired("epoch", 1, tuple(network(name) for name in names))
        await self.loop.desired(desired, True)
        self.loop.ground(Ground(desired, True))

    async def says(self, name: str, docker: str) -> Standing:
        async with asyncio.timeout(10):
            while self.loop.view().networks[name].docker != docker:
                self.news.clear()
                await self.news.wait()
        return self.loop.view().networks[name]


@pytest.fixture
async def stages(tmp_path: Path) -> AsyncIterator[list[Stage]]:
    made: list[Stage] = []
    yield made
    for stage in made:
        stage.task.cancel()
    await asyncio.gather(*(stage.task for stage in made), return_exceptions=True)


async def test_nobody_waits_for_a_docker_that_is_not_there(stages: list[Stage], tmp_path: Path) -> None:
    """The real adapter, with no socket where the Engine's should be."""
    stage = Stage(DockerEngine(str(tmp_path / "docker.sock"), "h1"), tmp_path)
    stages.append(stage)
    await stage.want("blue")
    assert "No such file" in (await stage.says("blue", "")).message


async def test_a_network_is_pending_until_docker_was_looked_for_with_it(stages: list[Stage], tmp_path: Path) -> None:
    mute = Mute(DockerAbsent(WHY.reason, WHY.message))
    stage = Stage(cast(Engine, mute), tmp_path)
    stages.append(stage)
    await stage.want("blue")
    await stage.says("blue", "")
    await stage.want("blue", "green")
    found = stage.loop.view().networks
    assert (found["blue"].docker, found["green"].docker) == ("", "PENDING")
    await stage.says("green", "")


async def test_a_docker_that_is_only_slow_is_waited_for(stages: list[Stage], tmp_path: Path) -> None:
    mute = Mute(WHY)
    stage = Stage(cast(Engine, mute), tmp_path)
    stages.append(stage)
    await stage.want("blue")
    for _ in range(2):
        mute.asked.clear()
        async with asyncio.timeout(10):
            await mute.asked.wait()
    assert stage.loop.view().networks["blue"].docker == "PENDING"
