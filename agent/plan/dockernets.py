"""Desired networks against those in Docker: what is to be made, made anew, removed or reported. Pure.

A Docker network is ours by its label only, and nobody else's is ever changed or removed. Docker cannot change a
network, and a container's configuration names it by its id, so one that differs is made anew only while no container,
running or not, is set up with it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.plan import users
from agent.plan.docked import Ground, Standing
from agent.plan.docker import Container, DockerNetwork, DockerNetworkSpec, DockerPool
from agent.plan.networks import NetworkPlan, Parent
from trunkline import naming
from trunkline.errors import Reason
from trunkline.model import DockerMode, HostNetwork

READY: Final = "READY"
PENDING: Final = "PENDING"
FAILED: Final = "FAILED"
FOREIGN: Final = "FOREIGN"


@dataclass(frozen=True, slots=True)
class Creation:
    """Make a Docker network."""

    spec: DockerNetworkSpec


@dataclass(frozen=True, slots=True)
class Removal:
    """Remove a Docker network of ours; `why` in words."""

    found: DockerNetwork
    network: str
    why: str


@dataclass(frozen=True, slots=True)
class DockerPlan:
    """What to do, removals first, and how each network stands while that is not done."""

    removals: tuple[Removal, ...] = ()
    creations: tuple[Creation, ...] = ()
    standings: Mapping[str, Standing] = field(default_factory=dict)
    reasons: Mapping[str, Reason] = field(default_factory=dict)


def wanted_name(network: HostNetwork) -> str:
    """Name of a network's Docker network; "" where there is to be none."""
    if network.docker is DockerMode.NONE or not network.prefixes:
        return ""
    return naming.docker_config_name(network.name) if network.docker is DockerMode.SWARM else network.name


def spec(network: HostNetwork, parent: str) -> DockerNetworkSpec:
    """The Docker network of a network with prefixes, on a link of this name.

    Without any gateway it is internal: Docker up to 28 otherwise asks for one, and sets a default route to it.
    """
    pools = tuple(DockerPool(prefix.cidr, prefix.gateway) for prefix in network.prefixes)
    config_only = network.docker is DockerMode.SWARM
    return DockerNetworkSpec(
        name=wanted_name(network),
        network=network.name,
        parent=parent,
        mode=network.mode.value,
        pools=pools,
        labels={naming.DOCKER_LABEL: network.name},
        internal=not config_only and not any(pool.gateway for pool in pools),
        config_only=config_only,
    )


def ours(found: DockerNetwork) -> str:
    """The network of the fabric that this agent made a Docker network for; "" when it did not make it. What swarm makes
    from a config-only network inherits the label, but is its maker's."""
    if found.config_from or found.scope == "swarm":
        return ""
    return found.labels.get(naming.DOCKER_LABEL, "")


def on(found: DockerNetwork, containers: Iterable[Container], *, live: bool = False) -> tuple[str, ...]:
    """Names of the containers that are set up with a Docker network; with `live`, of those that have an interface on it
    now."""
    return tuple(
        sorted(
            container.name
            for container in containers
            if any(
                endpoint.network_id == found.id or (not endpoint.network_id and endpoint.network == found.name)
                for endpoint in container.endpoints
                if not live or (container.runs and endpoint.id)
            )
        )
    )


@dataclass(frozen=True, slots=True)
class Rebinding:
    """A container that does not run and is set up with a Docker network that is gone; `network` has its name now."""

    container: Container
    network: DockerNetwork


def stale(found: Sequence[DockerNetwork], containers: Iterable[Container]) -> list[Rebinding]:
    """Containers that could never start again, since somebody removed the Docker network of ours that they are set up
    with: Docker looks a network up by the id that a container has had since its first start (seen on 20.10 and 28)."""
    known = {network.id for network in found}
    by_name = {network.name: network for network in found if ours(network)}
    return [
        Rebinding(container, by_name[endpoint.network])
        for container in containers
        for endpoint in container.endpoints
        if not container.runs
        and endpoint.network_id
        and endpoint.network_id not in known
        and endpoint.network in by_name
    ]


def parents(found: Iterable[DockerNetwork]) -> dict[str, str]:
    """Links that Docker networks sit on, whoever made them, and why the links stay."""
    return {
        network.parent: f"Docker network {network.name} sits on it; it goes when that is gone"
        for network in found
        if network.parent and (network.driver in ("macvlan", "ipvlan") or network.config_only)
    }


def plan(
    ground: Ground,
    found: Sequence[DockerNetwork],
    containers: Sequence[Container],
    host: str = "this host",
    unknown: Collection[str] = (),
) -> DockerPlan:
    """What brings Docker's networks nearer to what is wanted; nothing when they are there. `unknown`: ids of Docker
    networks whose driver does not know them, so that nothing can join them."""
    planner = _Planner(ground, found, containers, host)
    planner.unknown = unknown
    for network in ground.desired.networks:
        planner.wanted(network)
    planner.unwanted()
    return DockerPlan(tuple(planner.removals), tuple(planner.creations), planner.standings, planner.reasons)


class _Planner:
    def __init__(
        self, ground: Ground, found: Sequence[DockerNetwork], containers: Sequence[Container], host: str
    ) -> None:
        self._ground = ground
        self._found = found
        self._containers = containers
        self._host = host
        self.unknown: Collection[str] = ()
        self.removals: list[Removal] = []
        self.creations: list[Creation] = []
        self.standings: dict[str, Standing] = {}
        self.reasons: dict[str, Reason] = {}

    def wanted(self, network: HostNetwork) -> None:
        name = wanted_name(network)
        if not name:
            if network.docker is not DockerMode.NONE:
                message = (
                    "it has no prefix, and Docker has no networks without; attach containers with `trunkline attach`"
                )
                self.standings[network.name] = Standing("", message)
            return
        named = [one for one in self._found if one.name == name]
        foreign = [one for one in named if ours(one) != network.name]
        if network.imported and foreign:
            self.standings[network.name] = Standing(READY)
        elif foreign:
            self._stands(network.name, FOREIGN, _foreign(foreign[0], self._host), Reason.DOCKER_NETWORK_FOREIGN)
        else:
            self._own(network, self._ground.plans.get(network.name), named)

    def _own(self, network: HostNetwork, planned: NetworkPlan | None, named: Sequence[DockerNetwork]) -> None:
        parent = planned.parent if planned else None
        if parent is None:
            # What Docker has stays as it is until it is known what it should sit on.
            why = planned.blocked.message if planned and planned.blocked else "its parent is being made"
            self._stands(network.name, PENDING, why)
            return
        if parent.mtu != parent.link.mtu:
            self._stands(network.name, FAILED, _mtu(network, parent, self._host), Reason.DOCKER_NETWORK_FAILED)
            return
        meant = spec(network, parent.link.name)
        differing = [(one, differences(meant, one)) for one in named]
        dead = next((one for one in named if one.id in self.unknown), None)
        if dead is not None and not on(dead, self._containers, live=True):
            # Containers that are set up with it do not run, and could not start: they follow the one that is made.
            self._stands(network.name, PENDING, "it is being made anew")
            self.removals.append(Removal(dead, network.name, "its parent was missing when dockerd started"))
        elif any(not differs for _, differs in differing):
            self.standings[network.name] = Standing(READY)
        elif not differing:
            self._stands(network.name, PENDING, "it is being made")
            self.creations.append(Creation(meant))
        else:
            self._anew(network, *differing[0])

    def _anew(self, network: HostNetwork, found: DockerNetwork, differs: Sequence[str]) -> None:
        what = f"{'; '.join(differs)}"
        if names := on(found, self._containers):
            why = (
                f"Docker network {found.name} of {self._host} differs from what is wanted: {what}; it is made anew "
                f"when no container is set up with it any more: {users.few(names)} (docker network disconnect "
                f"{found.name} CONTAINER, or docker rm)"
            )
            self._stands(network.name, FAILED, why, Reason.NETWORK_IN_USE)
        else:
            self._stands(network.name, PENDING, "it is being made anew")
            self.removals.append(Removal(found, network.name, what))

    def unwanted(self) -> None:
        """Docker networks of ours under a name, or for a network, that is not wanted."""
        names = {network.name: wanted_name(network) for network in self._ground.desired.networks}
        for found in self._found:
            network = ours(found)
            if not network or names.get(network) == found.name:
                continue
            live = on(found, self._containers, live=True)
            if not self._ground.removals:
                why = f"Docker network {found.name} stays, since the fabric's history changed and nobody confirmed it"
                self._stands(network, PENDING, why, Reason.EPOCH_CHANGED)
            elif live:
                why = (
                    f"Docker network {found.name} of {self._host} is no longer wanted, but {users.few(live)} still "
                    f"run{'s' if len(live) == 1 else ''} on it; it goes when they are stopped or disconnected"
                )
                self._stands(network, PENDING, why, Reason.NETWORK_IN_USE)
            else:
                self._stands(network, PENDING, f"Docker network {found.name} is being removed")
                self.removals.append(Removal(found, network, "it is no longer wanted"))

    def _stands(self, network: str, docker: str, message: str, reason: Reason | None = None) -> None:
        self.standings[network] = Standing(docker, message)
        if reason is not None:
            self.reasons[network] = reason


def differences(meant: DockerNetworkSpec, found: DockerNetwork) -> tuple[str, ...]:
    """Everything about a Docker network that is not as meant, in words."""
    pairs: list[tuple[str, object, object]] = [
        ("parent", found.parent, meant.parent),
        ("macvlan mode", found.mode or "bridge", meant.mode),
        ("prefixes", _pools(found.pools), _pools(meant.pools)),
        ("IPAM driver", found.ipam_driver, naming.DOCKER_DRIVER),
        ("IPAM option network", found.ipam_network, meant.network),
        ("config-only", found.config_only, meant.config_only),
    ]
    if not meant.config_only:
        pairs += [
            ("driver", found.driver, "macvlan"),
            ("internal", found.internal, meant.internal),
            ("IPv6", found.ipv6, any(":" in pool.cidr for pool in meant.pools)),
        ]
    return tuple(f"{what} is {is_ or 'none'}, not {should or 'none'}" for what, is_, should in pairs if is_ != should)


def _pools(pools: Iterable[DockerPool]) -> str:
    return ", ".join(sorted(_pool(pool) for pool in pools))


def _pool(pool: DockerPool) -> str:
    try:
        cidr = str(ipaddress.ip_network(pool.cidr, strict=False))
        # Docker 29 shows a gateway with its prefix length in some places.
        gateway = str(ipaddress.ip_address(pool.gateway.partition("/")[0])) if pool.gateway else ""
    except ValueError:
        return f"{pool.cidr} {pool.gateway}"
    of_range = f" range {pool.ip_range}" if pool.ip_range else ""
    return f"{cidr}{f' gateway {gateway}' if gateway else ''}{of_range}"


def _foreign(found: DockerNetwork, host: str) -> str:
    return (
        f"{host} has a Docker network {found.name} (driver {found.driver}) that Trunkline did not make, so it is left "
        f"as it is; remove it (docker network rm {found.name}), or take it over (trunkline network import {found.name})"
    )


def _mtu(network: HostNetwork, parent: Parent, host: str) -> str:
    return (
        f"network {network.name} has MTU {parent.mtu}, but Docker takes the MTU of {parent.link.name} of {host}, which "
        f"is {parent.link.mtu}; give the network a VLAN id of its own, or no MTU"
    )
