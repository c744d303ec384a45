"""Docker networks that somebody made by hand, and the containers on them, as the fabric would have them. Pure."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.plan import dockernets
from agent.plan.docker import DockerNetwork
from agent.plan.state import HostConfig, Link
from trunkline.model import Mode, Prefix


@dataclass(frozen=True, slots=True)
class HandMade:
    """A Docker network with all that is needed to make it again: `recipe` is the request that would, as JSON.
    `auxiliary` are addresses that it keeps from containers."""

    network: DockerNetwork
    auxiliary: tuple[str, ...] = ()
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A container that is set up with a Docker network. `addresses` carry the prefix length and are () while it does
    not run, `fixed` are those its user asked for, without. `gateways` are what Docker routes it through. `settings`
    is the endpoint configuration that connects it again as it was, as JSON, without addresses; () of `gateways` and
    "" of `settings` where only a listing was asked for. `by_id`: it was made with the network's id, not its name."""

    id: str
    name: str
    running: bool
    addresses: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    mac: str = ""
    gateways: tuple[str, ...] = ()
    settings: str = ""
    by_id: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Its addresses without prefix length: those it has, else those that were fixed for it."""
        return tuple(text.partition("/")[0] for text in self.addresses) or self.fixed


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is to be exchanged, written down before anything is touched: the hand-made network as it can be made
    again, and every container that has to end on ours with its addresses."""

    network: str
    recipe: str
    members: tuple[Member, ...] = ()

    def merged(self, seen: Iterable[Member], recipe: str = "") -> Exchange:
        """With containers that are seen on the hand-made network now; the others keep what was written of them."""
        found = {member.id: member for member in seen}
        known = {member.id: member for member in self.members}
        # One that was cut off and started again by its user may have lost what it had; what was written first stays.
        fresh = {name: member if member.wanted else known.get(name, member) for name, member in found.items()}
        return replace(self, recipe=recipe or self.recipe, members=tuple({**known, **fresh}.values()))


@dataclass(frozen=True, slots=True)
class Place:
    """What a parent link is to the fabric: an uplink's label ("" when it belongs to none), VLAN id, MTU."""

    uplink: str
    vlan: int
    mtu: int


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A hand-made network as the fabric would have it; `problem`: why it cannot be taken over."""

    id: str
    parent: str
    place: Place
    prefixes: tuple[Prefix, ...]
    mode: Mode
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A hand-made network of this host with its containers."""

    network: DockerNetwork
    surveyed: Surveyed
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What an exchange did. `container` "" for a step of the host; `off_ms`: how long the container was off."""

    message: str
    container: str = ""
    off_ms: int = 0


def foreign(found: Iterable[HandMade], name: str) -> list[HandMade]:
    """Those of the name that this agent did not make, and that are no swarm's."""
    return [
        one
        for one in found
        if one.network.name == name and not dockernets.ours(one.network) and one.network.scope == "local"
    ]


def place(parent: str, config: HostConfig, links: Sequence[Link]) -> Place:
    """Where a parent link belongs: an uplink's device itself, or an 802.1Q link on it, whatever its name."""
    by_name = {link.name: link for link in links}
    labels = {
        by_name[uplink.device].index: label for label, uplink in config.uplinks.items() if uplink.device in by_name
    }
    link = by_name.get(parent)
    if link is None:
        return Place("", 0, 0)
    if link.index in labels:
        return Place(labels[link.index], 0, link.mtu)
    if link.kind == "vlan" and link.vlan is not None and link.parent in labels:
        return Place(labels[link.parent], link.vlan, link.mtu)
    return Place("", link.vlan or 0, link.mtu)


def survey(found: HandMade, members: Sequence[Member], config: HostConfig, links: Sequence[Link]) -> Surveyed:
    """A hand-made network as the fabric would have it."""
    network = found.network
    mode = network.mode or Mode.BRIDGE.value
    return Surveyed(
        id=network.id,
        parent=network.parent,
        place=place(network.parent, config, links),
        prefixes=tuple(_prefixes(found, members)),
        mode=Mode(mode) if mode in set(Mode) else Mode.BRIDGE,
        problem=problem(network, links),
    )


def problem(network: DockerNetwork, links: Sequence[Link]) -> str:
    """Why a Docker network cannot be taken over by itself, in words; "" when it can."""
    what = f"Docker network {network.name}"
    if network.config_only:
        return f"{what} is config-only"
    if network.driver != "macvlan":
        return f"{what} has driver {network.driver}, not macvlan"
    if network.config_from:
        return f"{what} is made from config-only network {network.config_from}"
    if network.ipam_driver != "default":
        return f"{what} has its addresses from IPAM driver {network.ipam_driver}, which has to be asked instead"
    if not network.parent:
        return f"{what} has no parent link: it never leaves the host"
    if network.parent not in {link.name for link in links}:
        return f"the parent {network.parent} of {what} does not exist"
    if (network.mode or Mode.BRIDGE.value) not in set(Mode):
        return f"{what} has mode {network.mode}, which leaves no interface to probe from; use bridge, private or vepa"
    if not network.pools:
        return f"{what} has no subnet"
    return ""


def _prefixes(found: HandMade, members: Sequence[Member]) -> Iterator[Prefix]:
    for pool in found.network.pools:
        net = _net(pool.cidr)
        cidr = str(net) if net is not None else pool.cidr
        inside = tuple(text for text in found.auxiliary if net is not None and _in(text, net))
        ranges = (pool.ip_range,) if pool.ip_range and _net(pool.ip_range) != net else ()
        gateway = "" if found.network.internal else _plain(pool.gateway) or _routed(net, members)
        yield Prefix(cidr, gateway, ranges, inside)


def _routed(net: ipaddress.IPv4Network | ipaddress.IPv6Network | None, members: Sequence[Member]) -> str:
    """The gateway that Docker chose where its user named none; "" while no container shows it."""
    gateways = {text for member in members for text in member.gateways if net is not None and _in(text, net)}
    return min(gateways, default="")


def _plain(text: str) -> str:
    # Docker 29 shows a gateway with its prefix length in some places.
    try:
        return str(ipaddress.ip_address(text.partition("/")[0])) if text else ""
    except ValueError:
        return text


def _net(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _in(text: str, net: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(text) in net
    except ValueError:
        return False


def with_length(member: Member, found: DockerNetwork) -> tuple[str, ...]:
    """Addresses of a container with prefix length, those fixed for it included while it does not run."""
    if member.addresses:
        return member.addresses
    nets = [net for pool in found.pools if (net := _net(pool.cidr)) is not None]
    lengths = {text: next((net.prefixlen for net in nets if _in(text, net)), None) for text in member.fixed}
    return tuple(f"{text}/{length}" if length is not None else text for text, length in lengths.items())


def bound(members: Iterable[Member]) -> list[str]:
    """Containers that were made with the id of the network (`--network ID`): once that is gone, Docker 28
    connects them to no network at all (20.10 does)."""
    return [member.name for member in members if member.by_id]


def outside(exchange: Exchange, prefixes: Iterable[Prefix]) -> list[str]:
    """Containers with an address that ours could not give them, in words."""
    nets = [net for prefix in prefixes if (net := _net(prefix.cidr)) is not None]
    return [
        f"{member.name} has {text}"
        for member in exchange.members
        for text in member.wanted
        if not any(_in(text, net) for net in nets)
    ]


def owned_by_us(networks: Iterable[DockerNetwork], name: str) -> DockerNetwork | None:
    """Our Docker network of a network, if it is there."""
    return next((one for one in networks if one.name == name and dockernets.ours(one) == name), None)


def fixed_mac(member: Member) -> str:
    """The MAC that the container's user asked for; "" when none."""
    try:
        settings = json.loads(member.settings or "{}")
    except ValueError:
        return ""
    return str(settings.get("MacAddress", "")).lower() if isinstance(settings, dict) else ""
