"""Attachments on a host: which interfaces are to be made, mended, made anew or removed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.plan import match
from agent.plan.networks import NetworkPlan, Parent
from agent.plan.state import Interface, MacvlanSpec, Namespace, Observed, ResolvedTarget, View
from agent.plan.steps import AddMacvlan, ConfigureInterface, DeleteInterface, Job, Subject
from agent.plan.uplinks import Blocked, refused
from trunkline import naming
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, HostAttachment, HostNetwork, Phase

WAITING_FOR = frozenset(
    {
        Reason.CONTAINER_NOT_FOUND,
        Reason.CONTAINER_NOT_RUNNING,
        Reason.NETNS_NOT_FOUND,
        Reason.DOCKER_UNAVAILABLE,
    }
)
"""Reasons that pass when the target comes (back): the attachment waits. A container that does not exist may be
made again under its name, which is how `docker compose up` replaces one."""


@dataclass(slots=True)
class AttachmentPlans:
    """Jobs in the order of doing: what must go before what can come."""

    deletions: list[Job] = field(default_factory=list)
    changes: list[Job] = field(default_factory=list)
    blocked: dict[str, Blocked] = field(default_factory=dict)


def plan(desired: Desired, observed: Observed, networks: Mapping[str, NetworkPlan], removals: bool) -> AttachmentPlans:
    """Jobs for all attachments. Without `removals` nothing is taken away, whether wanted or not, and what would
    need that is blocked with EPOCH_CHANGED."""
    plans = AttachmentPlans()
    places = _places(desired, observed)
    going = _strays(desired, observed, places)
    wanted_networks = {network.name: network for network in desired.networks}
    if removals:
        plans.deletions += [_deletion(owner, view, interface) for owner, view, interface in going]
    doomed = {(view.namespace.identity, interface.link.index) for _, view, interface in going} if removals else set()
    if not removals:
        for owner, view, interface in going:
            plans.blocked.setdefault(owner, _kept(f"interface {interface.link.name} in {view.namespace.path}"))
    planner = _Planner(observed, networks, wanted_networks, removals, plans, doomed)
    for wanted in desired.attachments:
        place = places.get(wanted.name)
        if wanted.name in plans.blocked:
            continue
        if place is None:
            plans.blocked[wanted.name] = _unresolved(wanted, observed)
        else:
            planner.plan(wanted, place)
    return plans


def _places(desired: Desired, observed: Observed) -> dict[str, ResolvedTarget]:
    found = {}
    for wanted in desired.attachments:
        resolved = observed.targets.get(wanted.target)
        if isinstance(resolved, ResolvedTarget):
            found[wanted.name] = resolved
    return found


def _unresolved(wanted: HostAttachment, observed: Observed) -> Blocked:
    error = observed.targets.get(wanted.target)
    if isinstance(error, TrunklineError):
        phase = Phase.WAITING if error.reason in WAITING_FOR else Phase.FAILED
        return Blocked(phase, error.reason, error.text)
    return Blocked(Phase.PENDING, None, f"{wanted.target} was not looked at yet")


def _strays(
    desired: Desired, observed: Observed, places: Mapping[str, ResolvedTarget]
) -> list[tuple[str, View, Interface]]:
    """Interfaces of ours that nobody wants where they are. While a wanted attachment's target cannot be told, its
    interface stays wherever it is."""
    wanted = {attachment.name for attachment in desired.attachments}
    found = []
    for view in observed.views.values():
        seen: set[str] = set()
        for interface in view.interfaces:
            owner = match.owner(interface)
            if match.unfinished(interface):
                found.append((interface.link.name, view, interface))
            elif owner and (owner not in wanted or owner in seen or _elsewhere(owner, view, places)):
                found.append((owner, view, interface))
            seen.add(owner)
    return found


def _elsewhere(owner: str, view: View, places: Mapping[str, ResolvedTarget]) -> bool:
    return owner in places and places[owner].namespace.identity != view.namespace.identity


def _deletion(owner: str, view: View, interface: Interface) -> Job:
    link = interface.link
    return Job(Subject("attachment", owner), (DeleteInterface(view.namespace, link.index, link.name, link.alias),))


def _kept(what: str) -> Blocked:
    return refused(
        Reason.EPOCH_CHANGED,
        f"{what} would be removed or made anew, but the fabric's history changed; see with `trunkline attachment list` "
        "what it wants now, then confirm with `trunkline-agent --config FILE accept-epoch` on this host",
    )


def spec_of(wanted: HostAttachment, network: HostNetwork, parent: Parent, name: str) -> MacvlanSpec:
    """The interface an attachment wants, under the name `name`."""
    return MacvlanSpec(
        parent_index=parent.link.index,
        temporary_name=naming.temporary(wanted.name),
        name=name,
        alias=naming.attachment_mark(wanted.name),
        mac=wanted.mac,
        mode=network.mode.value,
        mtu=parent.mtu,
        addresses=wanted.addresses,
        gateways=wanted.gateways if wanted.default_route else (),
        accept_ra=wanted.accept_ra,
    )


class _Planner:
    """Plans attachments one after the other, remembering the interface names given away on the way."""

    def __init__(
        self,
        observed: Observed,
        networks: Mapping[str, NetworkPlan],
        wanted_networks: Mapping[str, HostNetwork],
        removals: bool,
        plans: AttachmentPlans,
        doomed: set[tuple[str, int]],
    ) -> None:
        self._observed = observed
        self._networks = networks
        self._wanted_networks = wanted_networks
        self._removals = removals
        self._plans = plans
        self._doomed = doomed
        self._names: dict[str, set[str]] = {}

    def plan(self, wanted: HostAttachment, place: ResolvedTarget) -> None:
        """Add the jobs of one attachment whose target runs, or say why there can be none."""
        parent = self._parent(wanted)
        if isinstance(parent, Blocked):
            self._plans.blocked[wanted.name] = parent
            return
        view = self._observed.views.get(place.namespace.identity)
        if view is None:
            self._plans.blocked[wanted.name] = self._unread(wanted, place)
            return
        network = self._wanted_networks[wanted.network]
        mine = next((i for i in view.interfaces if match.owner(i) == wanted.name), None)
        if mine is not None and (differences := match.replaced_by(mine, wanted, network, parent)):
            if not self._removals:
                what = f"interface {mine.link.name} of {wanted.name} ({', '.join(differences)})"
                self._plans.blocked[wanted.name] = _kept(what)
                return
            self._plans.deletions.append(_deletion(wanted.name, view, mine))
            self._doomed.add((view.namespace.identity, mine.link.index))
            self._forget_name(view.namespace, mine.link.name)
            mine = None
        if mine is None:
            self._make(wanted, network, parent, view)
        elif differences := match.repaired_by(mine, wanted, network, parent):
            self._mend(wanted, network, parent, view, mine, differences)

    def _parent(self, wanted: HostAttachment) -> Parent | Blocked:
        network = self._networks.get(wanted.network)
        if network is None:
            return refused(
                Reason.NETWORK_NOT_FOUND,
                f"attachment {wanted.name} is on network {wanted.network}, which this host does not have",
            )
        if network.parent is None:
            return network.blocked or Blocked(Phase.PENDING, None, f"network {wanted.network} is being made")
        return network.parent

    def _unread(self, wanted: HostAttachment, place: ResolvedTarget) -> Blocked:
        error = self._observed.unread.get(place.namespace.identity)
        if error is None:
            return Blocked(Phase.PENDING, None, f"{wanted.target} was not looked at yet")
        phase = Phase.WAITING if error.reason in WAITING_FOR else Phase.FAILED
        return Blocked(phase, error.reason, error.text)

    def _make(self, wanted: HostAttachment, network: HostNetwork, parent: Parent, view: View) -> None:
        names = self._used(view)
        name = wanted.ifname or match.free_name(names)
        if name in names:
            self._plans.blocked[wanted.name] = _name_taken(wanted, name)
            return
        names.add(name)
        step = AddMacvlan(view.namespace, spec_of(wanted, network, parent, name))
        self._plans.changes.append(Job(Subject("attachment", wanted.name), (step,)))

    def _mend(
        self,
        wanted: HostAttachment,
        network: HostNetwork,
        parent: Parent,
        view: View,
        mine: Interface,
        differences: tuple[str, ...],
    ) -> None:
        names = self._used(view)
        name = mine.link.name
        if wanted.ifname and wanted.ifname != name:
            if wanted.ifname in names:
                self._plans.blocked[wanted.name] = _name_taken(wanted, wanted.ifname)
                return
            name = wanted.ifname
        elif name == naming.temporary(wanted.name):
            name = match.free_name(names)
        names.add(name)
        spec = spec_of(wanted, network, parent, name)
        step = ConfigureInterface(view.namespace, mine.link.index, spec, differences)
        self._plans.changes.append(Job(Subject("attachment", wanted.name), (step,)))

    def _used(self, view: View) -> set[str]:
        identity = view.namespace.identity
        if identity not in self._names:
            self._names[identity] = {
                interface.link.name
                for interface in view.interfaces
                if (identity, interface.link.index) not in self._doomed
            }
        return self._names[identity]

    def _forget_name(self, namespace: Namespace, name: str) -> None:
        if namespace.identity in self._names:
            self._names[namespace.identity].discard(name)


def _name_taken(wanted: HostAttachment, name: str) -> Blocked:
    return refused(
        Reason.IFNAME_TAKEN,
        f"{wanted.target} has an interface {name} that is not of attachment {wanted.name}; ask for another --ifname",
    )


def present(observed: Observed) -> dict[str, tuple[View, Interface]]:
    """Every attachment that has an interface on this host, wanted or not."""
    found: dict[str, tuple[View, Interface]] = {}
    for view in observed.views.values():
        for interface in view.interfaces:
            if owner := match.owner(interface):
                found.setdefault(owner, (view, interface))
    return found


def namespaces_of(observed: Observed) -> Iterable[Namespace]:
    """Where interfaces of ours are."""
    return (
        view.namespace
        for view in observed.views.values()
        if any(match.owner(interface) or match.unfinished(interface) for interface in view.interfaces)
    )
