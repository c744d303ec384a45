"""Taking the agent's networks out of Docker: `trunkline-agent cleanup`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.config import Config
from agent.docking import PoolRequest
from agent.engine import DockerEngine
from agent.engine.plugin import Plugin
from agent.plan import dockernets, users
from agent.spool import DockerDeeds, Spool
from trunkline.errors import Reason, Refusal, TrunklineError


@dataclass(frozen=True, slots=True)
class Undocked:
    """`gone` and `left` in words; `parents` are links that must stay, and why."""

    gone: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    parents: Mapping[str, str] = field(default_factory=dict)


class _Nothing:
    """`agent.docking.Pools` of an agent that is being removed."""

    async def check_pool(self, network: str, cidr: str, version: int, ip_range: str = "") -> tuple[str, str]:
        """None is there."""
        raise _removed()

    async def request(self, request: PoolRequest) -> str:
        """None is given."""
        raise _removed()

    async def release(self, network: str, cidr: str, address: str) -> None:
        """It is heard."""


def _removed() -> Refusal:
    return Refusal(Reason.CONFIG_INVALID, "the agent is being removed from this host", "start it again first")


async def undock(config: Config, spool: Spool) -> Undocked:
    """Remove Docker networks of ours that no container is set up with. Raises DOCKER_NETWORK_FAILED."""
    if not config.docker_socket:
        return Undocked()
    engine = DockerEngine(config.docker_socket, config.host)
    try:
        return await _undock(config, spool, engine)
    except TrunklineError as error:
        if error.reason is not Reason.DOCKER_UNAVAILABLE:
            raise
        made = spool.docker().networks.values()
        why = "Docker does not answer, and may have network"
        return Undocked(
            left=[f"Docker network {one.name}: {error.text}" for one in made],
            parents={one.parent: f"{why} {one.name} on it" for one in made},
        )
    finally:
        await engine.close()


async def _undock(config: Config, spool: Spool, engine: DockerEngine) -> Undocked:
    found, containers = await engine.networks(), await engine.containers()
    done = Undocked()
    ours = [one for one in found if dockernets.ours(one)]
    async with _answering(config.plugin_socket, bool(ours)):
        for one in ours:
            if names := dockernets.on(one, containers):
                done.left.append(f"Docker network {one.name}: containers are set up with it: {users.few(names)}")
            else:
                await engine.remove_network(one.id)
                done.gone.append(f"Docker network {one.name}")
    left = await engine.networks()
    if not any(dockernets.ours(one) for one in left):
        spool.keep_docker(DockerDeeds())
    return Undocked(done.gone, done.left, dockernets.parents(left))


@contextlib.asynccontextmanager
async def _answering(path: str, wanted: bool) -> AsyncIterator[None]:
    """Docker asks the plugin when a network goes, and waits for the agent that was stopped: it is answered here."""
    if not wanted or not path:
        yield
        return
    plugin = Plugin(_Nothing())
    with _aside(Path(path)):
        try:
            await plugin.start(Path(path))
            yield
        finally:
            await plugin.close()


@contextlib.contextmanager
def _aside(socket: Path) -> Iterator[None]:
    """Whoever holds the socket for the agent finds it where it was."""
    aside = socket.with_name(f".{socket.name}.aside")
    with contextlib.suppress(FileNotFoundError):
        socket.rename(aside)
    try:
        yield
    finally:
        socket.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            aside.rename(socket)
