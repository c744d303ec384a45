"""What the agent sees of its host, as values. Pure.

The kernel's part (`Link`, `Interface`) is re-exported by `agent.ports`, whose adapters make these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from trunkline.errors import TrunklineError
from trunkline.model import Target


@dataclass(frozen=True, slots=True)
class Link:
    """A network link as the kernel shows it. `vlan` is None unless it is an 802.1Q link (an 802.1ad one is not);
    `parent` is the index of the link it sits on (IFLA_LINK). `parent_on_host` says that `parent` is an index of the
    host's namespace: so for the host's own links, and for a link inside a target only when its IFLA_LINK_NETNSID
    names the host's namespace; without it, two machines' worth of namespaces on one kernel could be taken for one.
    `promiscuous` is IFF_PROMISC as an administrator set it; `promiscuity` also counts the kernel's own users.
    `host_addresses` ("192.0.2.7/24") are what the host itself is reached by here: only of links of the host's own
    namespace, without link-local ones and those that the kernel drew from router advertisements."""

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    carrier: bool
    alias: str = ""
    parent: int = 0
    master: int = 0
    vlan: int | None = None
    mode: str = ""
    promiscuity: int = 0
    promiscuous: bool = False
    parent_on_host: bool = False
    host_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Interface:
    """A link inside a target with its addresses ("20.0.0.17/24") and the gateways of its default routes."""

    link: Link
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    accept_ra: bool = False


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace to work in: a path that can be opened now, and its identity ("device:inode")."""

    path: str
    identity: str


@dataclass(frozen=True, slots=True)
class ResolvedTarget:
    """A target that runs. `target_id` is the container id, or the namespace's identity. `birth` tells a process
    that was named by its pid from any other that has had, or will have, the pid; empty for other targets."""

    namespace: Namespace
    target_id: str
    name: str
    birth: str = ""


@dataclass(frozen=True, slots=True)
class MacvlanSpec:
    """An interface to make inside a target."""

    parent_index: int
    temporary_name: str
    name: str
    alias: str
    mac: str
    mode: str
    mtu: int
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    accept_ra: bool = False


ROUTE_PROTOCOL: Final = 149
"""rtm_protocol of every route we give the host itself; only routes that bear it are ever changed or removed. Unassigned
in linux/rtnetlink.h and in iproute2's rt_protos; from 4 on the kernel leaves the meaning to user space."""


@dataclass(frozen=True, slots=True)
class ShimRoute:
    """A route of ours in the host's main table, straight to the link, with the source address that the host takes
    when a program names none ("" when there is none). `destination` is a prefix, "20.0.0.17/32"."""

    index: int
    destination: str
    source: str
    metric: int


@dataclass(frozen=True, slots=True)
class ShimSpec:
    """The host's own interface on a network. `interface` has host addresses ("20.0.0.5/32") and no gateways. `routes`
    are (destination, source), all of one `metric`. `strange` are addresses that do not belong on it."""

    interface: MacvlanSpec
    routes: tuple[tuple[str, str], ...] = ()
    metric: int = 0
    strange: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UplinkConfig:
    """A label of the agent's config: the device behind it, and whether it is to be promiscuous."""

    label: str
    device: str
    promiscuous: bool = False


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What the agent's config says that plans depend on. `promiscuous_by_us` names devices whose promiscuous
    flag was set by this agent, now or in an earlier life; no other device's flag is ever cleared. `made` are indexes of
    sub-interfaces of ours by their mark, as last seen, 0 since the host was booted; `docked` names links that Docker
    networks sit on."""

    host: str
    uplinks: Mapping[str, UplinkConfig] = field(default_factory=dict)
    promiscuous_by_us: frozenset[str] = frozenset()
    made: Mapping[str, int] = field(default_factory=dict)
    docked: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class View:
    """A namespace with all its interfaces, as read at one moment."""

    namespace: Namespace
    interfaces: tuple[Interface, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """The host at one moment. `views` and `unread` are keyed by namespace identity; every namespace that was
    read is in `views`, every one that should have been and could not is in `unread`. `swept`: all namespaces of
    the host were listed for this observation, not only those where something of ours is known to be.
    `complete`: every namespace that could hold an interface of ours was read, so absence proves something.
    `routes` are those of ours in the host's own table, read where the host has or wants an interface of its own."""

    links: tuple[Link, ...] = ()
    targets: Mapping[Target, ResolvedTarget | TrunklineError] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)
    unread: Mapping[str, TrunklineError] = field(default_factory=dict)
    swept: bool = False
    complete: bool = False
    docker: str = ""
    routes: tuple[ShimRoute, ...] = ()

    def link(self, index: int) -> Link | None:
        """The host's link of that index."""
        return next((link for link in self.links if link.index == index), None)

    def named(self, name: str) -> Link | None:
        """The host's link of that name."""
        return next((link for link in self.links if link.name == name), None)
