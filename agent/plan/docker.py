"""What the agent sees of the Docker Engine, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's interface on a Docker network. `addresses` with prefix length, () while it does not run;
    `requested` are addresses that the user fixed (`--ip`, `--ip6`), without prefix length. `id` is Docker's endpoint
    id: a new one at each start."""

    network_id: str
    network: str
    id: str = ""
    addresses: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()
    mac: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the list shows it. `state` is Docker's: created, running, paused, restarting, exited, dead or
    removing. `error` is State.Error and `restart_policy` its name, both known only once it was inspected."""

    id: str
    name: str
    state: str
    labels: Mapping[str, str] = field(default_factory=dict)
    endpoints: tuple[Endpoint, ...] = ()
    network_mode: str = ""
    restart_policy: str = ""
    error: str = ""

    @property
    def runs(self) -> bool:
        """It has processes, so its endpoints are live."""
        return self.state in ("running", "paused")


@dataclass(frozen=True, slots=True)
class DockerPool:
    """One prefix of a Docker network's IPAM config, as Docker tells it; "" where it says nothing."""

    cidr: str
    gateway: str = ""
    ip_range: str = ""


@dataclass(frozen=True, slots=True)
class DockerNetworkSpec:
    """A Docker network to make: driver macvlan with our IPAM, or a config-only one."""

    name: str
    network: str
    parent: str
    mode: str
    pools: tuple[DockerPool, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    config_only: bool = False


@dataclass(frozen=True, slots=True)
class DockerNetwork:
    """A Docker network as inspected. `ipam_network` is the option `network` given to our IPAM driver."""

    id: str
    name: str
    driver: str
    scope: str = "local"
    parent: str = ""
    mode: str = ""
    pools: tuple[DockerPool, ...] = ()
    ipam_driver: str = "default"
    ipam_network: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    ipv6: bool = False
    config_only: bool = False
    config_from: str = ""
