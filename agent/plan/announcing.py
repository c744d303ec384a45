"""Which interfaces that Docker made are to be announced on the wire. Pure.

With a remote IPAM driver dockerd 28 and 29 announce 0.0.0.0 and draw a new MAC at each start, so neighbours would send
to the old one until their caches expire; 20.10 announces nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from agent.plan import owners
from agent.plan.docker import Container, DockerNetwork, Endpoint
from agent.plan.state import Interface
from trunkline import naming
from trunkline.model import Desired


@dataclass(frozen=True, slots=True)
class Due:
    """An endpoint to be announced: `id` is Docker's id of it, new at each start."""

    id: str
    container_id: str
    container: str
    network: str
    mac: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]


def due(
    containers: Iterable[Container], found: Sequence[DockerNetwork], desired: Desired | None, told: Collection[str]
) -> list[Due]:
    """Live endpoints on Docker networks with our IPAM that were not `told` yet."""
    names = owners.docker_names(found, desired).by_id
    ours = {one.id: names[one.id] for one in found if one.ipam_driver == naming.DOCKER_DRIVER and names[one.id]}
    gateways = {
        network.name: tuple(prefix.gateway for prefix in network.prefixes if prefix.gateway)
        for network in (desired.networks if desired else ())
    }
    return [
        Due(
            endpoint.id,
            container.id,
            container.name,
            ours[endpoint.network_id],
            endpoint.mac,
            tuple(address.partition("/")[0] for address in endpoint.addresses),
            gateways.get(ours[endpoint.network_id], ()),
        )
        for container in containers
        if container.runs
        for endpoint in container.endpoints
        if _live(endpoint) and endpoint.network_id in ours and endpoint.id not in told
    ]


def _live(endpoint: Endpoint) -> bool:
    return bool(endpoint.id and endpoint.addresses)


def interface(wanted: Due, interfaces: Iterable[Interface]) -> Interface | None:
    """The endpoint's interface inside its namespace, whatever its name."""
    return next((one for one in interfaces if set(wanted.addresses) & _bare(one.addresses)), None)


def _bare(addresses: Iterable[str]) -> set[str]:
    return {address.partition("/")[0] for address in addresses}


def living(containers: Iterable[Container]) -> frozenset[str]:
    """Ids of all live endpoints."""
    return frozenset(
        endpoint.id for container in containers if container.runs for endpoint in container.endpoints if endpoint.id
    )
