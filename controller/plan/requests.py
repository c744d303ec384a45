"""What planners are asked for, as values; the API parses messages into these. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.model import DockerMode, Mode, Prefix, Target


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """A network as asked for; text as typed, checked by the planner. `vlan` None chooses from the uplink's range;
    times None take the defaults."""

    name: str
    uplink: str = "default"
    vlan: int | None = None
    prefixes: tuple[Prefix, ...] = ()
    mtu: int = 0
    mode: Mode = Mode.BRIDGE
    overlap: bool = False
    host_selector: tuple[str, ...] = ()
    rest_seconds: int | None = None
    hold_seconds: int | None = None
    docker: DockerMode = DockerMode.LOCAL
    host_access: bool = False


@dataclass(frozen=True, slots=True)
class PrefixChange:
    """Changes of one prefix; None leaves a field alone."""

    cidr: str
    ranges: tuple[str, ...] | None = None
    excludes: tuple[str, ...] | None = None
    gateway: str | None = None


@dataclass(frozen=True, slots=True)
class NetworkUpdate:
    """Changes of a network; None leaves a field alone."""

    name: str
    prefixes: tuple[PrefixChange, ...] = ()
    host_selector: tuple[str, ...] | None = None
    rest_seconds: int | None = None
    hold_seconds: int | None = None
    mtu: int | None = None
    host_access: bool | None = None


@dataclass(frozen=True, slots=True)
class AttachmentRequest:
    """An attachment as asked for. `name` empty becomes "<target>/<network>", `owner` empty the target's name."""

    host: str
    network: str
    target: Target
    name: str = ""
    addresses: tuple[str, ...] = ()
    mac: str = ""
    no_ip: bool = False
    ifname: str = ""
    default_route: bool = False
    accept_ra: bool = False
    owner: str = ""
