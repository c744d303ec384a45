"""The host's own interfaces on networks (`--host-access`), and the routes that lead to them. Pure.

A host cannot reach its own macvlan children through their parent; through a sibling of theirs it can. Two sorts of
routes lead there. One to each address that a container of this host has: nothing else reaches it from here, whatever
the host's other routes say. And one to the network's prefix, for containers of other hosts and the gateway's side,
with a metric behind any that people or their tools use: where the host's own LAN is that prefix, its own route stays
in force. A LAN of the host's that is wider than the prefix would lose to it for being less specific; there the
prefix gets no route.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

from agent.plan import match
from agent.plan.networks import NetworkPlan, Parent
from agent.plan.state import Link, MacvlanSpec, Observed, ShimSpec
from agent.plan.steps import AddShim, ConfigureShim, DeleteLink, Job, Subject
from agent.plan.uplinks import Blocked, refused
from trunkline import naming
from trunkline.errors import Reason, TrunklineError
from trunkline.model import AttachmentObservation, Desired, HostAttachment, HostNetwork, Mode, Origin, Phase

Local = Mapping[str, Collection[str]]
"""Addresses, without prefix length, that containers of this host have by Docker's hand, by network."""

METRIC: Final = 40_000
"""Metric of a network's routes, to which its number is added (14 bits): so networks of overlapping prefixes never
ask for one route. NetworkManager's highest is 20,000 above what it is told, others stay below 2,048."""


@dataclass(frozen=True, slots=True)
class ShimPlan:
    """A host's own interface as it is wanted now and as it was found, with what differs in words."""

    spec: ShimSpec
    found: Link | None
    differences: tuple[str, ...]
    note: str = ""


@dataclass(slots=True)
class ShimPlans:
    """Jobs: what must go, and what is to come or be mended. `wanted` by attachment, without those `blocked`."""

    deletions: list[Job] = field(default_factory=list)
    changes: list[Job] = field(default_factory=list)
    wanted: dict[str, ShimPlan] = field(default_factory=dict)
    blocked: dict[str, Blocked] = field(default_factory=dict)


def hosts_own(desired: Desired) -> list[HostAttachment]:
    """Attachments of the host itself."""
    return [wanted for wanted in desired.attachments if wanted.origin is Origin.HOST]


def without(desired: Desired) -> Desired:
    """`desired` with only attachments that have a target."""
    kept = tuple(wanted for wanted in desired.attachments if wanted.origin is not Origin.HOST)
    return desired if len(kept) == len(desired.attachments) else replace(desired, attachments=kept)


def is_shim(link: Link) -> bool:
    """Whether a link of the host is one that we made for the host itself."""
    return link.kind == "macvlan" and link.alias.startswith(naming.SHIM_MARK)


def present(observed: Observed) -> dict[str, Link]:
    """The host's own interfaces, by the name of their attachment; of two of one name, the first."""
    found: dict[str, Link] = {}
    for link in observed.links:
        if is_shim(link):
            found.setdefault(naming.attachment_of(link.alias), link)
    return found


def plan(
    desired: Desired, observed: Observed, networks: Mapping[str, NetworkPlan], removals: bool, local: Local
) -> ShimPlans:
    """Jobs for all of the host's own interfaces. Without `removals` nothing is taken away or made anew."""
    plans = ShimPlans()
    by_name = {network.name: network for network in desired.networks}
    wanted = {one.name: one for one in hosts_own(desired)}
    found = present(observed)
    for link in observed.links:
        name = naming.attachment_of(link.alias)
        if is_shim(link) and (name not in wanted or found[name] is not link):
            _remove(plans, name, link, removals)
        elif _unfinished(link):
            _remove(plans, link.name, link, removals=True)
    for one in wanted.values():
        parent = _parent(one, networks)
        if isinstance(parent, Blocked):
            plans.blocked[one.name] = parent
        else:
            routes = _routes(one, by_name[one.network], desired, observed, local)
            _plan_one(plans, one, by_name[one.network], parent, found.get(one.name), routes, observed, removals)
    return plans


def _unfinished(link: Link) -> bool:
    """One that an agent was killed over before it could be marked. Nothing else of ours has such a name here."""
    return link.kind == "macvlan" and not link.alias and naming.is_temporary(link.name)


def _remove(plans: ShimPlans, name: str, link: Link, removals: bool) -> None:
    if removals:
        job = Job(Subject("attachment", name), (DeleteLink(link.index, link.name, link.alias),))
        plans.deletions.append(job)
    else:
        plans.blocked.setdefault(name, _kept(link, "is no longer wanted"))


def _kept(link: Link, why: str) -> Blocked:
    return refused(
        Reason.EPOCH_CHANGED,
        f"interface {link.name} of the host {why}, but the fabric's history changed; confirm what it wants now with "
        "`trunkline-agent --config FILE accept-epoch` on this host",
    )


def _parent(wanted: HostAttachment, networks: Mapping[str, NetworkPlan]) -> Parent | Blocked:
    network = networks.get(wanted.network)
    if network is None:
        why = f"attachment {wanted.name} is on network {wanted.network}, which this host does not have"
        return refused(Reason.NETWORK_NOT_FOUND, why)
    return network.parent or network.blocked or Blocked(Phase.PENDING, None, f"network {wanted.network} is being made")


def _plan_one(
    plans: ShimPlans,
    wanted: HostAttachment,
    network: HostNetwork,
    parent: Parent,
    found: Link | None,
    routes: tuple[tuple[str, str], ...],
    observed: Observed,
    removals: bool,
) -> None:
    name = naming.shim_link(network.number)
    if found is not None and (why := _replaced_by(found, wanted, network, parent)):
        if not removals:
            plans.blocked[wanted.name] = _kept(found, f"would be made anew ({', '.join(why)})")
            return
        _remove(plans, wanted.name, found, removals)
        found = None
    holder = observed.named(name)
    if holder is not None and holder != found and not is_shim(holder):
        plans.blocked[wanted.name] = refused(
            Reason.LINK_CLASH,
            f"this host's own interface on network {network.name} is to be called {name}, which is the name of a link "
            f"that Trunkline did not make; rename that one (ip link set {name} down; ip link set {name} name OTHER)",
        )
        return
    spec = _spec(wanted, network, parent, routes, found)
    subject = Subject("attachment", wanted.name)
    differences = _repaired_by(found, spec, observed) if found else ()
    plans.wanted[wanted.name] = ShimPlan(spec, found, differences, _note(network))
    if found is None:
        plans.changes.append(Job(subject, (AddShim(spec),)))
    elif differences:
        plans.changes.append(Job(subject, (ConfigureShim(found.index, spec, differences),)))


def _spec(
    wanted: HostAttachment,
    network: HostNetwork,
    parent: Parent,
    routes: tuple[tuple[str, str], ...],
    found: Link | None,
) -> ShimSpec:
    alias = naming.shim_mark(wanted.name)
    addresses = tuple(_alone(address) for address in wanted.addresses)
    strange = {match.canonical(address) for address in found.host_addresses} - set(addresses) if found else set()
    cidrs = tuple(prefix.cidr for prefix in network.prefixes)
    interface = MacvlanSpec(
        parent_index=parent.link.index,
        temporary_name=naming.temporary(alias),
        name=naming.shim_link(network.number),
        alias=alias,
        mac=wanted.mac,
        mode=network.mode.value,
        mtu=parent.mtu,
        addresses=addresses,
    )
    inside = tuple(sorted(address for address in strange if match.inside(address, cidrs)))
    return ShimSpec(interface, routes, METRIC + network.number, inside)


@lru_cache(maxsize=65536)
def _alone(address: str) -> str:
    """An address as a prefix of its own: a longer one would bring the kernel's own route to the whole prefix, with a
    metric that may beat the host's."""
    ip = ip_interface(address).ip
    return f"{ip}/{ip.max_prefixlen}"


def _replaced_by(link: Link, wanted: HostAttachment, network: HostNetwork, parent: Parent) -> list[str]:
    differences = []
    if link.mac != wanted.mac:
        differences.append(f"MAC is {link.mac}, not {wanted.mac}")
    if link.parent != parent.link.index:
        differences.append(f"it sits on link {link.parent}, not on {parent.link.name}")
    if link.mode != network.mode.value:
        differences.append(f"macvlan mode is {link.mode}, not {network.mode.value}")
    return differences


def _repaired_by(link: Link, spec: ShimSpec, observed: Observed) -> tuple[str, ...]:
    wanted = spec.interface
    differences = []
    if link.name != wanted.name:
        differences.append(f"name is {link.name}, not {wanted.name}")
    if not link.up:
        differences.append("it is down")
    if link.mtu != wanted.mtu:
        differences.append(f"MTU is {link.mtu}, not {wanted.mtu}")
    there = {match.canonical(address) for address in link.host_addresses}
    differences += [f"address {address} is missing" for address in wanted.addresses if address not in there]
    differences += [f"address {address} is not its own" for address in spec.strange]
    routes = {(one.destination, one.source, one.metric) for one in observed.routes if one.index == link.index}
    meant = {(destination, source, spec.metric) for destination, source in spec.routes}
    differences += [f"the route to {one[0]} is missing" for one in sorted(meant - routes)]
    differences += [f"the route to {one[0]} leads nowhere any more" for one in sorted(routes - meant)]
    return tuple(differences)


def _routes(
    wanted: HostAttachment, network: HostNetwork, desired: Desired, observed: Observed, local: Local
) -> tuple[tuple[str, str], ...]:
    """(destination, source) of every route that the host is to have through the interface."""
    sources = {ip_interface(address).version: str(ip_interface(address).ip) for address in wanted.addresses}
    found = []
    if network.mode is not Mode.PRIVATE:
        cidrs = tuple(prefix.cidr for prefix in network.prefixes)
        own = set(sources.values())
        for address in sorted(_containers(network.name, desired, local) - own):
            source = sources.get(ip_address(address).version)
            if source and match.inside(address, cidrs):
                found.append((_alone(address), source))
    lans = [address for link in observed.links if not is_shim(link) for address in link.host_addresses]
    for prefix in network.prefixes:
        source = sources.get(ip_network(prefix.cidr).version)
        if source and not any(_wider(lan, prefix.cidr) for lan in lans):
            found.append((prefix.cidr, source))
    return tuple(found)


def _containers(network: str, desired: Desired, local: Local) -> set[str]:
    attached = {
        address.partition("/")[0]
        for one in desired.attachments
        if one.network == network and one.origin is not Origin.HOST
        for address in one.addresses
    }
    return attached | set(local.get(network, ()))


@lru_cache(maxsize=4096)
def _wider(lan: str, cidr: str) -> bool:
    """Whether an address of the host's comes with a LAN that a prefix is only a part of."""
    outer, inner = ip_interface(lan).network, ip_network(cidr)
    return outer.version == inner.version and outer.prefixlen < inner.prefixlen and inner.network_address in outer


def _note(network: HostNetwork) -> str:
    """What the interface cannot do, in words."""
    if network.mode is Mode.PRIVATE:
        return (
            f"network {network.name} has macvlan mode private, in which interfaces of one host never hear each other: "
            "the host does not reach its own containers here, only what is beyond its uplink"
        )
    if network.mode is Mode.VEPA:
        return (
            f"network {network.name} has macvlan mode vepa: the host reaches its own containers only when the switch "
            "sends frames back out of the port they came from (reflective relay)"
        )
    return ""


def observations(
    desired: Desired, observed: Observed, plans: ShimPlans, failures: Mapping[Subject, TrunklineError]
) -> Iterator[AttachmentObservation]:
    """What is to be reported of the host's own interfaces: those wanted, and those that are there all the same."""
    there = present(observed)
    for wanted in hosts_own(desired):
        link = there.pop(wanted.name, None)
        planned = plans.wanted.get(wanted.name)
        words = (Phase.READY, "", planned.note) if planned and planned.found and not planned.differences else None
        words = words or _of_network(wanted, plans, failures)
        words = words or _why_not(wanted.name, plans, failures, "repaired" if link else "made")
        yield AttachmentObservation(wanted.name, *words, *_seen(link, wanted.addresses), "", link is not None)
    for name, link in sorted(there.items()):
        yield AttachmentObservation(name, *_why_not(name, plans, failures, "removed"), *_seen(link, ()), "", True)


def _of_network(
    wanted: HostAttachment, plans: ShimPlans, failures: Mapping[Subject, TrunklineError]
) -> tuple[Phase, str, str] | None:
    blocked, failure = plans.blocked.get(wanted.name), failures.get(Subject("network", wanted.network))
    if failure is None or blocked is None or blocked.phase is not Phase.PENDING:
        return None
    return Phase.FAILED, failure.reason.name, failure.text


def _why_not(
    name: str, plans: ShimPlans, failures: Mapping[Subject, TrunklineError], what: str
) -> tuple[Phase, str, str]:
    blocked, failure = plans.blocked.get(name), failures.get(Subject("attachment", name))
    if blocked is not None:
        return blocked.phase, blocked.reason.name if blocked.reason else "", blocked.message
    if failure is not None:
        return Phase.FAILED, failure.reason.name, failure.text
    return Phase.PENDING, "", f"the interface is being {what}"


def _seen(link: Link | None, wanted: tuple[str, ...]) -> tuple[str, str, tuple[str, ...]]:
    """Name, MAC and addresses; an address that was given comes back in the fabric's spelling, with the network's
    prefix length."""
    if link is None:
        return "", "", ()
    spelling = {_alone(address): address for address in wanted}
    return link.name, link.mac, tuple(spelling.get(one, one) for one in map(match.canonical, link.host_addresses))
