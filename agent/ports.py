"""What the agent's loop needs of the world: links, targets, probes. Adapters are picked in `app` only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.plan.state import Interface as Interface
from agent.plan.state import Link as Link
from agent.plan.state import MacvlanSpec as MacvlanSpec
from agent.plan.state import Namespace as Namespace
from agent.plan.state import ResolvedTarget as ResolvedTarget
from agent.plan.state import ShimRoute as ShimRoute
from agent.plan.state import ShimSpec as ShimSpec
from trunkline.errors import TrunklineError
from trunkline.model import Target


class Links(Protocol):
    """The kernel. Every call raises TrunklineError with the kernel's reason; none touches an unmarked link's
    existence. Indexes, not names, identify links, since names can be changed by anybody at any time."""

    async def host_links(self) -> list[Link]:
        """All links of the host's namespace, one consistent dump."""
        ...

    async def interfaces(self, namespaces: Sequence[Namespace]) -> list[list[Interface] | TrunklineError]:
        """All interfaces of each namespace, or why it could not be read; in the order asked for."""
        ...

    async def add_vlan(self, parent: int, name: str, vid: int, mtu: int, alias: str) -> int:
        """Make an 802.1Q link, mark it, set it up; its index. All or nothing."""
        ...

    async def delete_link(self, index: int, alias: str) -> None:
        """Delete a link of the host's namespace if it still carries exactly this alias; no error when gone.
        SUBINTERFACE_IN_USE when the host is reached by it, or it is a port of something, right now; an interface that
        was made for the host itself (`naming.SHIM_MARK`) goes with its addresses and routes."""
        ...

    async def set_up(self, index: int) -> None:
        """Set a link of the host's namespace up."""
        ...

    async def set_down(self, index: int) -> None:
        """Set a link of the host's namespace down: only ever the inverse of `set_up`."""
        ...

    async def set_mtu(self, index: int, mtu: int) -> None:
        """Set the MTU of a link of the host's namespace."""
        ...

    async def set_promiscuous(self, index: int, on: bool) -> None:
        """Set or clear the promiscuous flag of a link of the host's namespace."""
        ...

    async def set_alias(self, index: int, alias: str) -> None:
        """Mark a link of the host's namespace (a link of ours that lost its mark is told by its name)."""
        ...

    async def add_macvlans(self, work: Sequence[tuple[Namespace, MacvlanSpec]]) -> list[Interface | TrunklineError]:
        """Make each interface straight inside its target: under its temporary name, renamed, marked, MAC, accept_ra
        and autoconf as wanted, addresses, up, default routes last. Each is all or nothing; pipelined together."""
        ...

    async def configure(self, namespace: Namespace, index: int, spec: MacvlanSpec) -> Interface:
        """Bring an existing interface of ours to the spec (name, addresses, routes, up): repairs drift."""
        ...

    async def delete_interface(self, namespace: Namespace, index: int, alias: str) -> None:
        """Delete an interface inside a target if it still carries exactly this alias; no error when gone. With an
        empty alias, only one that still has a temporary name: an agent was killed before it could mark it."""
        ...

    async def shim_routes(self) -> list[ShimRoute]:
        """Routes of the host's main table that bear our protocol number, on whatever link."""
        ...

    async def add_shim(self, spec: ShimSpec) -> int:
        """Make the host's own interface on a network: like those in targets, with reverse path filtering loose and
        ARP strict to its own addresses, and with its routes; its index. All or nothing. Raises as `add_macvlans`;
        KERNEL_REFUSED when somebody else's route stands where one of ours must (same prefix, same metric)."""
        ...

    async def configure_shim(self, index: int, spec: ShimSpec) -> None:
        """Bring a marked one to the spec. Addresses in `spec.strange` go, others that are not wanted stay; of routes
        only those of our protocol on this link change."""
        ...

    def events(self) -> AsyncIterator[frozenset[str]]:
        """Wakes whenever links or addresses may have changed, on the host or in a namespace where interfaces of ours
        were seen or made since somebody listens; says only *look*, never what. Where to look: identities of such
        namespaces; none of them when it was on the host, or cannot be told. What it misses, the tick finds."""
        ...

    async def close(self) -> None:
        """Release sockets and threads. Idempotent."""
        ...


class Targets(Protocol):
    """Containers and namespaces. Adapter: `engine`."""

    async def resolve(self, targets: Sequence[Target]) -> list[ResolvedTarget | TrunklineError]:
        """Each target's namespace, or why not: CONTAINER_NOT_FOUND, CONTAINER_NOT_RUNNING, CONTAINER_HOST_NETWORK,
        NETNS_NOT_FOUND, NETNS_IS_HOST, DOCKER_UNAVAILABLE. `container:X` is resolved to X."""
        ...

    async def namespaces(self) -> list[Namespace]:
        """Every network namespace of this machine that a process lives in or a path holds, the host's own left
        out: where an interface of ours could be although nobody wants it there. Raises when it cannot be told."""
        ...

    async def version(self) -> str:
        """Version of the Docker Engine; empty when none answers."""
        ...

    def events(self) -> AsyncIterator[None]:
        """Wakes whenever a container or namespace may have come or gone; says only *look*, never what."""
        ...

    async def close(self) -> None:
        """Release connections. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Announcement:
    """Addresses to announce from an interface inside a target (gratuitous ARP, unsolicited NA), and gateways to
    send one packet to, so that the switches and the router learn the new place."""

    namespace: Namespace
    ifname: str
    mac: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConflictProbe:
    """An address to ask for on the macvlan parent before it goes up (RFC 5227, sender address zero). Answers
    from `own_macs` are not conflicts."""

    parent_index: int
    address: str
    own_macs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbePeer:
    """Another host of a network, with the MAC it probes with."""

    host: str
    mac: str


@dataclass(frozen=True, slots=True)
class ProbeAddress:
    """An address to ask for; `mac` is what should answer, empty when not known; `host` empty for a gateway."""

    address: str
    mac: str = ""
    host: str = ""
    gateway: bool = False


@dataclass(frozen=True, slots=True)
class ProbePlan:
    """A host's part in a check of one network: `mac` is this host's own probe MAC on macvlan parent
    `parent_index`; probing and listening end after `timeout` seconds. `mode` is the network's macvlan mode: in modes
    private and vepa the addresses that this very host holds cannot be reached from it and are not asked for."""

    run: int
    network: str
    link_name: str
    mark: str
    parent_index: int
    mac: str
    host: str
    peers: tuple[ProbePeer, ...]
    addresses: tuple[ProbeAddress, ...]
    timeout: float
    mode: str = "bridge"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One learnt fact. `kind`: broadcast, unicast, address or gateway; `outcome`: ok, silent, unknown or
    conflict; `rtt` in seconds."""

    run: int
    network: str
    from_host: str
    to_host: str
    kind: str
    outcome: str
    rtt: float = 0.0
    address: str = ""
    mac: str = ""
    message: str = ""


class Prober(Protocol):
    """Frames on the wire, in a child process that can be killed. Adapter: `probes`."""

    def run(self, plan: ProbePlan) -> AsyncIterator[ProbeResult]:
        """Take part in a check; results as they are learnt. Raises PROBE_FAILED when it cannot take part."""
        ...

    async def conflicts(self, probes: Sequence[ConflictProbe]) -> list[str | TrunklineError]:
        """For each address: "" when nobody answered, the MAC that did, or why it could not be judged. A probe that
        could not be sent is neither "conflict" nor "free"."""
        ...

    async def announce(self, announcements: Sequence[Announcement]) -> list[TrunklineError | None]:
        """Announce addresses; None where it was sent."""
        ...

    async def close(self) -> None:
        """End the child. Idempotent."""
        ...
