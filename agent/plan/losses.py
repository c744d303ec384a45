"""Containers that run without a Docker network they were set up with. Pure.

Since Docker 29 a start that fails while a container joins a network (a parent link that is missing, for one) drops the
network from the container's configuration: the next start succeeds, with nothing but a loopback.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.plan import dockernets
from agent.plan.docker import Container, DockerNetwork
from trunkline.errors import Reason
from trunkline.model import Problem

Known = Mapping[str, tuple[str, ...]]
"""By container id, the Docker networks of ours that it was set up with."""

FIRST: Final = (29, 0)
"""The first Docker that loses networks."""


@dataclass(frozen=True, slots=True)
class Losses:
    """`known` is what is to be remembered; `lost` names, by container, what it runs without; `running` are the Docker
    networks that each running container has; `bare`, by container, those it has been on without an interface for two
    looks."""

    known: Known = field(default_factory=dict)
    lost: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    running: Known = field(default_factory=dict)
    bare: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unjoined: Known = field(default_factory=dict)

    @property
    def unsure(self) -> bool:
        """Whether another look has to tell a container without its interface from one that is being connected."""
        return sum(map(len, self.unjoined.values())) != sum(map(len, self.bare.values()))


def find(
    known: Known, before: Losses, containers: Iterable[Container], found: Iterable[DockerNetwork], docker: str
) -> Losses:
    """What was lost, as far as `known` tells. `before` is the last look: a network that a container had then and, still
    running, has no more was taken away by somebody, which is no loss."""
    ours = {network.name for network in found if dockernets.ours(network)}
    remembered: dict[str, tuple[str, ...]] = {}
    lost: dict[str, tuple[str, ...]] = {}
    running: dict[str, tuple[str, ...]] = {}
    bare: dict[str, tuple[str, ...]] = {}
    unjoined: dict[str, tuple[str, ...]] = {}
    for container in containers:
        now = {endpoint.network for endpoint in container.endpoints} & ours
        gone = (set(known.get(container.id, ())) & ours) - now
        if _version(docker) < FIRST:
            gone.clear()
        if container.runs:
            gone -= set(before.running.get(container.id, ()))
            running[container.id] = tuple(sorted(now))
            without = tuple(sorted(one.network for one in container.endpoints if one.network in ours and not one.id))
            unjoined[container.id] = without
            # One look may have been made in the middle of a start or a connection.
            if still := tuple(name for name in without if name in before.unjoined.get(container.id, ())):
                bare[container.name] = still
            if gone:
                lost[container.name] = tuple(sorted(gone))
        if now or gone:
            remembered[container.id] = tuple(sorted(now | gone))
    return Losses(remembered, lost, running, bare, unjoined)


def _version(docker: str) -> tuple[int, ...]:
    parts = docker.partition("+")[0].partition("-")[0].split(".")[:2]
    return tuple(int(part) for part in parts if part.isdecimal())


def problems(losses: Losses, host: str) -> tuple[Problem, ...]:
    """What an operator is told."""
    lost = [
        (
            name,
            f"container {name} of {host} runs without Docker network {network}, which it was set up with: Docker "
            f"dropped it when a start failed; give it back with `docker network connect {network} {name}`",
        )
        for name, networks in losses.lost.items()
        for network in networks
    ]
    bare = [
        (
            name,
            f"container {name} of {host} runs with no interface on Docker network {network}: its start went wrong "
            f"inside Docker; start it again with `docker restart {name}`",
        )
        for name, networks in losses.bare.items()
        for network in networks
    ]
    return tuple(
        Problem("container", name, Reason.DOCKER_NETWORK_LOST.name, what) for name, what in sorted(lost + bare)
    )
