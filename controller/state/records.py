"""The values behind the keys of `keys.py`. Pure; `codec` turns them into JSON and back.

Times are Unix milliseconds. Addresses, prefixes and MACs are canonical text.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from trunkline.model import DockerMode, Event, HostUplink, Mode, Origin, Phase, Prefix, Problem, Target

REST_SECONDS = 300
"""Default rest: longer than the ARP caches of hosts and most routers keep a silent neighbour."""

HOLD_SECONDS = 86_400
"""Default hold of an address for its last owner."""


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """Random id of this history of the store."""

    id: str


@dataclass(frozen=True, slots=True)
class UplinkRecord:
    """What the switches carry on an uplink label: inclusive ranges of VLAN ids, ascending, disjoint."""

    label: str
    vlans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """Spec of a network. `number` goes into MACs; `deleting` is set once and never cleared (law 3)."""

    name: str
    uplink: str
    vlan: int
    number: int
    prefixes: tuple[Prefix, ...] = ()
    vlan_auto: bool = False
    mtu: int = 0
    mode: Mode = Mode.BRIDGE
    overlap: bool = False
    host_selector: tuple[str, ...] = ()
    rest_seconds: int = REST_SECONDS
    hold_seconds: int = HOLD_SECONDS
    generation: int = 1
    created_ms: int = 0
    deleting: bool = False
    docker: DockerMode = DockerMode.LOCAL
    host_access: bool = False
    imported: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """Holder of a VLAN id or number (a network), a host number (a host), or a MAC ("<host>/<attachment>")."""

    holder: str


class AddressKind(enum.StrEnum):
    """Who or what an address record stands for."""

    ATTACHMENT = "attachment"
    STOCK = "stock"
    KEPT = "kept"
    RESTING = "resting"
    RESERVED = "reserved"
    CONFLICT = "conflict"


GIVEN = frozenset({AddressKind.STOCK, AddressKind.KEPT})
"""Kinds of an address that a host has and nobody uses."""


@dataclass(frozen=True, slots=True)
class AddressRecord:
    """One address. ATTACHMENT: held by `holder` on `host`. RESTING: until `rest_until_ms` only for `owner`,
    then held for it until `hold_until_ms` unless the pool is otherwise empty (law 5).

    STOCK: given to `host`, which hands it out itself, only to `owner` unless that is "". KEPT: Docker gave it back on
    `host`, which keeps it for `owner` and may hand it out again. Both, and those of attachments of origin `docker`,
    are the host's until it was seen to have let them go; `recalled`: it was asked to. `promised`: the address goes
    back to RESERVED for `owner` when it is let go. `shared`: the owner is cluster-wide."""

    kind: AddressKind
    owner: str
    host: str = ""
    holder: str = ""
    since_ms: int = 0
    rest_until_ms: int = 0
    hold_until_ms: int = 0
    recalled: bool = False
    promised: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class AttachmentRecord:
    """Intent of an attachment. `addresses` carry the prefix length; `requested` is what the user asked for, so
    that a repeated request can be told from a different one. `mac_claimed`: a key under `macs/` goes with it."""

    host: str
    name: str
    network: str
    target: Target
    mac: str
    owner: str
    addresses: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()
    requested_mac: str = ""
    mac_claimed: bool = False
    no_ip: bool = False
    ifname: str = ""
    default_route: bool = False
    accept_ra: bool = False
    created_ms: int = 0
    detaching: bool = False
    origin: Origin = Origin.TRUNKLINE


@dataclass(frozen=True, slots=True)
class AttachmentStatus:
    """Last observation of an attachment, written by the host's live session only (law 8)."""

    phase: Phase
    reason: str = ""
    message: str = ""
    ifname: str = ""
    mac: str = ""
    addresses: tuple[str, ...] = ()
    target_id: str = ""
    present: bool = False
    observed_ms: int = 0


@dataclass(frozen=True, slots=True)
class NetworkHostStatus:
    """Last observation of a network on one host. No key means not observed, or observed clean after removal."""

    phase: Phase
    reason: str = ""
    message: str = ""
    link: str = ""
    owned: bool = False
    mtu: int = 0
    observed_ms: int = 0
    docker: str = ""
    docker_message: str = ""


@dataclass(frozen=True, slots=True)
class HostRecord:
    """Identity and admin state of a host; attach guards its mod-revision, so nothing volatile is in here."""

    name: str
    machine_id: str
    number: int
    labels: dict[str, str] = field(default_factory=dict)
    drained: bool = False
    forgetting: bool = False
    registered_ms: int = 0


@dataclass(frozen=True, slots=True)
class HostStatus:
    """Last observation of a host, less its networks and attachments. `networks` names those it still has
    anything of, so that a network's claims are kept until they are seen gone (law 3)."""

    version: str = ""
    kernel: str = ""
    docker: str = ""
    uplinks: tuple[HostUplink, ...] = ()
    problems: tuple[Problem, ...] = ()
    networks: tuple[str, ...] = ()
    observed_revision: int = 0
    observed_ms: int = 0
    events: tuple[Event, ...] = ()
    disputed: tuple[tuple[str, str], ...] = ()
    """Addresses, as (network, address), that the host lists though they are not its own: it is asked to let go."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """Live session of a host. Its number is the revision of the transaction that wrote this key: unique, growing."""

    host: str
    replica: str
    started_ms: int = 0
