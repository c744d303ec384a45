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


class DockerMode(enum.StrEnum):
    """What an agent makes of a network in its Docker Engine: a network of the same name, a config-only one for swarm
    networks (`docker_config_name`), or nothing."""

    LOCAL = "local"
    SWARM = "swarm"
    NONE = "none"


class Origin(enum.StrEnum):
    """Who makes an attachment's interface: Trunkline for an operator, Docker, or Trunkline for the host itself."""

    TRUNKLINE = "trunkline"
    DOCKER = "docker"
    HOST = "host"


class EndpointState(enum.StrEnum):
    """What a host does with an address it was given."""

    STOCK = "stock"
    USED = "used"
    KEPT = "kept"


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
class Reservation:
    """An address promised to an owner, wherever in the fabric it starts."""

    owner: str
    address: str


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """A network as one host must have it. `vlan` 0 means untagged; `mtu` 0 takes the uplink's. `imported`: a Docker
    network of this name that somebody else made counts as this one, and is left as it is."""

    name: str
    number: int
    uplink: str
    vlan: int
    mtu: int = 0
    mode: Mode = Mode.BRIDGE
    prefixes: tuple[Prefix, ...] = ()
    probe_mac: str = ""
    docker: DockerMode = DockerMode.LOCAL
    rest_seconds: int = 300
    hold_seconds: int = 86_400
    reserved: tuple[Reservation, ...] = ()
    imported: bool = False


@dataclass(frozen=True, slots=True)
class HostAttachment:
    """An attachment as its host must have it. `addresses` carry the prefix length ("20.0.0.17/24"). `origin` is
    TRUNKLINE, or HOST: then the host itself gets the interface, and `target` says nothing."""

    name: str
    network: str
    target: Target
    mac: str
    addresses: tuple[str, ...] = ()
    ifname: str = ""
    gateways: tuple[str, ...] = ()
    default_route: bool = False
    accept_ra: bool = False
    origin: Origin = Origin.TRUNKLINE


@dataclass(frozen=True, slots=True)
class Grant:
    """An address given to a host ahead of use, `owner` "" for anybody's. `recalled`: the host lets it go unless it is
    in use, or rests for another owner. `revision`: of the store, when its record was last written; a host takes an
    address that it does not know only if that is newer than the desired state it had before."""

    network: str
    address: str
    owner: str = ""
    recalled: bool = False
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Desired:
    """The whole desired state of one host, made from store revision `revision` of history `epoch`."""

    epoch: str
    revision: int
    networks: tuple[HostNetwork, ...] = ()
    attachments: tuple[HostAttachment, ...] = ()
    grants: tuple[Grant, ...] = ()


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
    docker: str = ""
    docker_message: str = ""


@dataclass(frozen=True, slots=True)
class EndpointObservation:
    """An address this host was given, without prefix length, and what became of it. `shared`: the owner is meant
    cluster-wide. `container_id` to `ifname` are "" until they were seen. `present`: Docker lists the container as
    running with it. `released_ms`: when Docker gave a KEPT one back, Unix milliseconds."""

    network: str
    address: str
    state: EndpointState
    owner: str = ""
    shared: bool = False
    container_id: str = ""
    container: str = ""
    mac: str = ""
    ifname: str = ""
    present: bool = False
    released_ms: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on a host and was dealt with; `at_ms` in Unix milliseconds, `object` as in
    "network mynet2"."""

    at_ms: int
    object: str
    message: str


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
    """What an agent saw after working towards (epoch, revision). Absence proves something only if `complete`; of
    addresses, only if `endpoints_complete`."""

    epoch: str
    revision: int
    networks: tuple[NetworkObservation, ...] = ()
    attachments: tuple[AttachmentObservation, ...] = ()
    uplinks: tuple[HostUplink, ...] = ()
    complete: bool = False
    docker: str = ""
    problems: tuple[Problem, ...] = ()
    session: int = 0
    endpoints: tuple[EndpointObservation, ...] = ()
    endpoints_complete: bool = False
    events: tuple[Event, ...] = ()


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
