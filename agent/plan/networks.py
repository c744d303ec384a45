"""Networks on a host: the macvlan parent of each, and what is to be done for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from agent.plan import uplinks, users
from agent.plan.state import HostConfig, Link, Observed
from agent.plan.steps import AddVlan, DeleteLink, Job, MarkLink, RaiseLink, SetMtu, Step, Subject
from agent.plan.uplinks import Blocked, refused
from trunkline import naming
from trunkline.errors import Reason
from trunkline.model import HostNetwork, Phase

VLAN_MARK: Final = f"{naming.MARK}vlan:"
"""How the mark of every sub-interface of ours begins."""


@dataclass(frozen=True, slots=True)
class Parent:
    """The macvlan parent of a network: its sub-interface, or the uplink itself where untagged. `owned`: a
    sub-interface that this agent made. `mtu` is that of interfaces on it."""

    link: Link
    owned: bool
    mtu: int


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """A network's parent if it can be used as it is, else why not, and what is to be done about it. `sweep_first`:
    that depends on links in namespaces that were not looked at."""

    parent: Parent | None
    blocked: Blocked | None
    job: Job | None = None
    sweep_first: bool = False


def plan(networks: Iterable[HostNetwork], config: HostConfig, observed: Observed) -> dict[str, NetworkPlan]:
    """Each network on its own: one that cannot be had never harms another."""
    shares = uplinks.shared(config.uplinks, observed.links)
    taken: dict[tuple[str, int], str] = {}
    plans: dict[str, NetworkPlan] = {}
    for network in networks:
        first = taken.setdefault((network.uplink, network.vlan), network.name)
        if first != network.name:
            why = f"network {first} has VLAN {network.vlan} on uplink {network.uplink} of {config.host} already"
            plans[network.name] = NetworkPlan(None, refused(Reason.VLAN_TAKEN, why))
            continue
        plans[network.name] = plan_one(network, config, observed, shares)
    return plans


def plan_one(network: HostNetwork, config: HostConfig, observed: Observed, shares: Mapping[str, str]) -> NetworkPlan:
    """What one network needs."""
    links = observed.links
    uplink = uplinks.find(network.uplink, config, links, shares)
    if isinstance(uplink, Blocked):
        return NetworkPlan(None, uplink)
    mtu = network.mtu or uplink.mtu
    if mtu > uplink.mtu:
        why = (
            f"network {network.name} has MTU {mtu}, but uplink {network.uplink} ({uplink.name}) of {config.host} has "
            f"{uplink.mtu}; raise the uplink's MTU (ip link set {uplink.name} mtu {mtu}) or lower the network's"
        )
        return NetworkPlan(None, refused(Reason.UPLINK_MTU, why))
    found = subinterface(uplink, network.vlan, links) if network.vlan else None
    if found is None and (why := uplinks.enslaved(uplink, links)):
        of = (
            f"uplink {network.uplink} of {config.host} cannot carry network {network.name}: {why} in the agent's config"
        )
        return NetworkPlan(None, refused(Reason.UPLINK_ENSLAVED, of))
    if network.vlan == 0:
        return NetworkPlan(Parent(uplink, False, mtu), None)
    if found is None:
        return _missing(network, uplink, mtu, config, links)
    if found.alias.startswith(VLAN_MARK):
        return _ours(network, found, mtu, observed)
    if _made_by_docker(network, uplink, found, config):
        mark = naming.subinterface_mark(network.uplink, network.vlan)
        job = Job(Subject("network", network.name), (MarkLink(found.index, found.name, mark),))
        return NetworkPlan(None, _pending(f"sub-interface {found.name} is being recognised"), job)
    return _foreign(network, found, mtu, config)


def _made_by_docker(network: HostNetwork, uplink: Link, found: Link, config: HostConfig) -> bool:
    """Whether Docker made a sub-interface in the place of ours: it does when it starts and misses the one that a
    network of its sits on. It is another link than the one that was ours; that one without its mark would be the
    operator's, who took it away."""
    mark = naming.subinterface_mark(network.uplink, network.vlan)
    was = config.made.get(mark)
    return (
        not found.alias
        and found.name == naming.subinterface(uplink.name, network.vlan)
        and found.name in config.docked
        and was is not None
        and was != found.index
    )


def subinterface(uplink: Link, vid: int, links: Iterable[Link]) -> Link | None:
    """The 802.1Q link of `vid` on `uplink`, whatever its name: the kernel allows only one (vlan_check_real_dev)."""
    return next(
        (link for link in links if link.kind == "vlan" and link.vlan == vid and link.parent == uplink.index), None
    )


def _missing(network: HostNetwork, uplink: Link, mtu: int, config: HostConfig, links: Iterable[Link]) -> NetworkPlan:
    name = naming.subinterface(uplink.name, network.vlan)
    holder = next((link for link in links if link.name == name), None)
    if holder is None:
        alias = naming.subinterface_mark(network.uplink, network.vlan)
        job = Job(Subject("network", network.name), (AddVlan(uplink.index, name, network.vlan, mtu, alias),))
        return NetworkPlan(None, _pending(f"sub-interface {name} is being made"), job)
    if holder.alias.startswith(VLAN_MARK):
        return NetworkPlan(None, _pending(f"an earlier sub-interface {name} of ours is still in use"))
    why = (
        f"network {network.name} needs the name {name} on {config.host}, which is {describe(holder)} that Trunkline "
        f"did not make; rename or remove it (ip link show {name})"
    )
    return NetworkPlan(None, refused(Reason.LINK_CLASH, why))


def _pending(message: str) -> Blocked:
    return Blocked(Phase.PENDING, None, message)


def _ours(network: HostNetwork, link: Link, mtu: int, observed: Observed) -> NetworkPlan:
    steps: list[Step] = []
    if link.mtu != mtu:
        if others := users.of(link, observed).others:
            return _lent(network, link, mtu, others)
        if not (observed.swept and observed.complete):
            why = f"the MTU of sub-interface {link.name} changes once it is known who sits on it"
            return NetworkPlan(None, _pending(why), sweep_first=True)
        steps.append(SetMtu(link.index, link.name, mtu, link.mtu))
    if not link.up:
        steps.append(RaiseLink(link.index, link.name))
    if steps:
        job = Job(Subject("network", network.name), tuple(steps))
        return NetworkPlan(None, _pending(f"sub-interface {link.name} is being repaired"), job)
    return NetworkPlan(Parent(link, True, mtu), None)


def _lent(network: HostNetwork, link: Link, mtu: int, others: tuple[str, ...]) -> NetworkPlan:
    """A sub-interface of ours that somebody else uses, too: its MTU is his affair."""
    if link.mtu < mtu and network.mtu:
        why = (
            f"network {network.name} wants MTU {mtu}, but sub-interface {link.name} has {link.mtu} and carries what is "
            f"not Trunkline's: {users.few(others)}; set the MTU yourself (ip link set {link.name} mtu {mtu}), or take "
            "that away"
        )
        return NetworkPlan(None, refused(Reason.SUBINTERFACE_IN_USE, why))
    own = mtu if network.mtu else link.mtu
    if not link.up:
        job = Job(Subject("network", network.name), (RaiseLink(link.index, link.name),))
        return NetworkPlan(None, _pending(f"sub-interface {link.name} is being repaired"), job)
    return NetworkPlan(Parent(link, True, own), None)


def _foreign(network: HostNetwork, link: Link, mtu: int, config: HostConfig) -> NetworkPlan:
    whose = f"sub-interface {link.name} of {config.host}, which Trunkline uses but did not make,"
    if not link.up:
        why = f"{whose} is down; set it up (ip link set {link.name} up)"
        return NetworkPlan(None, refused(Reason.UPLINK_DOWN, why))
    if network.mtu == 0:
        return NetworkPlan(Parent(link, False, link.mtu), None)
    if link.mtu < mtu:
        why = (
            f"{whose} has MTU {link.mtu}, but network {network.name} wants {mtu}; raise it "
            f"(ip link set {link.name} mtu {mtu})"
        )
        return NetworkPlan(None, refused(Reason.UPLINK_MTU, why))
    return NetworkPlan(Parent(link, False, mtu), None)


def describe(link: Link) -> str:
    """A link in words, for those who must find out whose it is."""
    if link.kind == "vlan":
        what = "an 802.1ad" if link.vlan is None else f"the VLAN {link.vlan}"
        return f"{what} link on the link with index {link.parent}"
    article = "an" if link.kind[:1] in "aeiou" else "a"
    return f"{article} {link.kind} link" if link.kind else "a device"


def leftovers(networks: Iterable[HostNetwork], config: HostConfig, links: tuple[Link, ...]) -> list[Link]:
    """Marked sub-interfaces that no wanted network needs. One whose uplink is not to be found now is needed as
    long as a network of its mark is wanted."""
    by_name = {link.name: link for link in links}
    places: set[tuple[int, int]] = set()
    marks: set[str] = set()
    for network in networks:
        uplink = config.uplinks.get(network.uplink)
        if uplink is not None and uplink.device in by_name:
            places.add((by_name[uplink.device].index, network.vlan))
        else:
            marks.add(naming.subinterface_mark(network.uplink, network.vlan))
    return [
        link
        for link in links
        if link.alias.startswith(VLAN_MARK)
        and link.vlan is not None
        and link.alias not in marks
        and (link.parent, link.vlan) not in places
    ]


def removal(link: Link) -> Job:
    """Delete a sub-interface of ours."""
    return Job(Subject("link", link.name), (DeleteLink(link.index, link.name, link.alias),))
