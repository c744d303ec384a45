"""Whose address it is: the owner's name of a container, and who could be asking for an address. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.plan.docker import Container, DockerNetwork
from trunkline import ids, naming
from trunkline.errors import Refusal
from trunkline.model import Desired

_COMPOSE: Final = "com.docker.compose."
_SWARM: Final = "com.docker.swarm."


@dataclass(frozen=True, slots=True)
class Asker:
    """Who could be asking. `owner` is the name that addresses are kept and reserved for; `shared`: it is meant
    cluster-wide, by the label `io.trunkline.owner`. `container_id` and `container` say which container that is."""

    owner: str
    shared: bool = False
    container_id: str = ""
    container: str = ""


def asker(container: Container) -> Asker:
    """A container as an asker.

    Owner is, in this order: the label `io.trunkline.owner`, unless it is no legal attachment name; project, service and
    number that Compose labels a service's container with (a one-off `run` goes by its name, since its number is that of
    another container too); service and slot of a swarm task, whose name ends with an id that is new each time; the
    container's name.
    """
    label = container.labels.get(naming.OWNER_LABEL, "")
    if label and not bad_label(container):
        return Asker(label, True, container.id, container.name)
    return Asker(_local(container), False, container.id, container.name)


def bad_label(container: Container) -> str:
    """What is wrong with the container's label `io.trunkline.owner`; "" when nothing is."""
    label = container.labels.get(naming.OWNER_LABEL, "")
    if not label:
        return ""
    try:
        ids.check_attachment_name(label)
    except Refusal as refusal:
        return f"label {naming.OWNER_LABEL} of container {container.name}: {refusal.text}"
    return ""


def _local(container: Container) -> str:
    labels = container.labels
    compose = [labels.get(_COMPOSE + key, "") for key in ("project", "service", "container-number")]
    if all(compose) and labels.get(_COMPOSE + "oneoff", "").lower() != "true":
        return "/".join(compose)
    task, ending = labels.get(_SWARM + "task.name", ""), labels.get(_SWARM + "task.id", "")
    if task and ending and task.endswith(f".{ending}"):
        return task.removesuffix(f".{ending}")
    return container.name


@dataclass(frozen=True, slots=True)
class DockerNames:
    """Which network of the fabric is behind each Docker network; "" behind those that are none of the fabric's."""

    by_id: Mapping[str, str] = field(default_factory=dict)
    by_name: Mapping[str, str] = field(default_factory=dict)

    def of(self, network_id: str, name: str) -> str | None:
        """The fabric's network; "" for another's; None for a Docker network that was not listed yet. Until a container
        was first started Docker may say only what the user called its network, which can be an id."""
        if network_id:
            return self.by_id.get(network_id)
        return self.by_name.get(name, self.by_id.get(name))


def docker_names(listed: Iterable[DockerNetwork], desired: Desired | None) -> DockerNames:
    """Names from a listing of all Docker networks. One with our IPAM is the network that its option `network` names, or
    else the one with exactly one of its prefixes; an imported one goes by its name."""
    networks = desired.networks if desired else ()
    imported = {network.name for network in networks if network.imported}
    prefixes: dict[str, list[str]] = {}
    for network in networks:
        for prefix in network.prefixes:
            prefixes.setdefault(prefix.cidr, []).append(network.name)
    by_id: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for found in listed:
        name = ""
        if found.ipam_driver == naming.DOCKER_DRIVER:
            matching = {known for pool in found.pools for known in prefixes.get(pool.cidr, ())}
            name = found.ipam_network or (matching.pop() if len(matching) == 1 else "")
        elif found.name in imported:
            name = found.name
        by_id[found.id] = name
        by_name.setdefault(found.name, name)
    return DockerNames(by_id, by_name)


def candidates(
    containers: Sequence[Container], names: DockerNames, network: str, version: int, address: str = ""
) -> list[Container]:
    """Containers that may be started right now with an address of a fabric network: not running, and set up with a
    Docker network behind which it is, or may be. Whom the user gave an address of that IP version asks for that one,
    and for no other; so with `address` only those are meant that the user gave it, if there are any."""
    found, fixed = [], []
    for container in containers:
        endpoints = [e for e in container.endpoints if names.of(e.network_id, e.network) in (network, None)]
        if container.runs or not endpoints:
            continue
        requested = [one for e in endpoints for one in e.requested if (6 if ":" in one else 4) == version]
        if address in requested:
            fixed.append(container)
        if address or not requested:
            found.append(container)
    return fixed or found


def outsiders(containers: Sequence[Container], names: DockerNames, network: str) -> list[Container]:
    """Containers that may be connected to a fabric network right now: running, and not on it."""
    return [
        container
        for container in containers
        if container.runs and not any(names.of(e.network_id, e.network) == network for e in container.endpoints)
    ]


def holders(containers: Sequence[Container], names: DockerNames, network: str) -> dict[str, str]:
    """Addresses that running containers have on a fabric network, or on a Docker network that was not listed yet, and
    the containers' names."""
    return {
        address.partition("/")[0]: container.name
        for container in containers
        if container.runs
        for endpoint in container.endpoints
        if names.of(endpoint.network_id, endpoint.network) in (network, None)
        for address in endpoint.addresses
    }
