"""Containers that an address of ours kept from starting, and that Docker does not start again by itself. Pure.

Docker gives a restart policy up after one address that was refused (seen on 20.10, 28 and 29).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from agent.plan.docker import Container
from agent.plan.owners import DockerNames

SAID: Final = "trunkline: "
"""How each of our refusals begins, inside Docker's words around it."""

POLICIES: Final = frozenset({"always", "unless-stopped"})


_UNKNOWN: Final = re.compile(r'network id "?([0-9a-f]{64})"? not found')


def unknown_network(error: str) -> str:
    """Id of a Docker network that dockerd lists, but whose driver does not know it: its parent link was missing when
    dockerd started. Nothing can join it until it is made anew. "" when the error is another."""
    found = _UNKNOWN.search(error)
    return found.group(1) if found else ""


def suspects(containers: Iterable[Container], names: DockerNames) -> list[Container]:
    """Containers on networks of ours that may have died of a refusal, so that it is worth inspecting them. One that was
    never started is its user's to start: he was told."""
    return [
        container
        for container in containers
        if container.state in ("exited", "dead")
        and any(names.of(endpoint.network_id, endpoint.network) for endpoint in container.endpoints)
    ]


def refused(container: Container) -> bool:
    """Whether an inspected container is to be started."""
    if container.restart_policy not in POLICIES or container.state not in ("exited", "dead"):
        return False
    return SAID in container.error or bool(unknown_network(container.error))
