"""What controller and agent must agree on, as values. Pure: standard library only.

A host's desired state comes down whole; an observation of it goes up whole. See docs/architecture.md.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Mode(enum.StrEnum):
    """Macvlan modes on offer; passthru is refused because one interface per parent leaves none to probe from."""

    BRIDGE = "bridge"
    PRIVATE = "private"
    VEPA = "vepa"


class Phase(enum.StrEnum):
    """Where an attachment, or a network on one host, stands."""

    PENDING = "pending"
    READY = "ready"
    WAITING = "waiting"
    FAILED = "failed"
    DETACHING = "detaching"


class TargetKind(enum.StrEnum):
    """What gets an interface."""

    CONTAINER = "container"
    NETNS = "netns"
    PID = "pid"


@dataclass(frozen=True, slots=True)
class Target:
    """A Docker container by name or id, a network namespace by path, or the namespace of a process."""

    kind: TargetKind
    value: str

    def __str__(self) -> str:
        return self.value if self.kind is TargetKind.CONTAINER else f"{self.kind}:{self.value}"


@dataclass(frozen=True, slots=True)
class Prefix:
    """One prefix of a network; strings in canonical form, ranges and excludes as "first-last"."""

    cidr: str
    gateway: str = ""
    ranges: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostUplink:
    """What a host has behind an uplink label, as last seen."""

    label: str
    device: str
    present: bool = False
    up: bool = False
    carrier: bool = False
    mtu: int = 0
    mac: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """A network as one host must have it. `vlan` 0 means untagged; `mtu` 0 takes the uplink's."""

    name: str
    number: int
    uplink: str
    vlan: int
    mtu: int = 0
    mode: Mode = Mode.BRIDGE
    prefixes: tuple[Prefix, ...] = ()
    probe_mac: str = ""


@dataclass(frozen=True, slots=True)
class HostAttachment:
    """An attachment as its host must have it. `addresses` carry the prefix length ("20.0.0.17/24")."""

    name: str
    network: str
    target: Target
    mac: str
    addresses: tuple[str, ...] = ()
    ifname: str = ""
    gateways: tuple[str, ...] = ()
    default_route: bool = False
    accept_ra: bool = False


@dataclass(frozen=True, slots=True)
class Desired:
    """The whole desired state of one host, made from store revision `revision` of history `epoch`."""

    epoch: str
    revision: int
    networks: tuple[HostNetwork, ...] = ()
    attachments: tuple[HostAttachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not well: reason code of `errors.Reason`, and what was seen and is to be done."""

    kind: str
    object: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class NetworkObservation:
    """A network as seen on one host: READY, PENDING or FAILED."""

    name: str
    phase: Phase
    reason: str = ""
    message: str = ""
    link: str = ""
    owned: bool = False
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class AttachmentObservation:
    """An attachment as seen on its host: READY, WAITING, PENDING or FAILED."""

    name: str
    phase: Phase
    reason: str = ""
    message: str = ""
    ifname: str = ""
    mac: str = ""
    addresses: tuple[str, ...] = ()
    target_id: str = ""
    present: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What an agent saw after working towards (epoch, revision). Absence proves something only if `complete`."""

    epoch: str
    revision: int
    networks: tuple[NetworkObservation, ...] = ()
    attachments: tuple[AttachmentObservation, ...] = ()
    uplinks: tuple[HostUplink, ...] = ()
    complete: bool = False
    docker: str = ""
    problems: tuple[Problem, ...] = ()
    session: int = 0


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a host says of itself when its session opens."""

    host: str
    machine_id: str
    version: str = ""
    kernel: str = ""
    docker: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    uplinks: tuple[HostUplink, ...] = ()
    epoch: str = ""
    revision: int = 0
