"""Desired state against what was read back: the observation that goes up. Pure.

READY is a finding about the observed state, made from it alone; that a step succeeded is no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.plan import attachments, match, networks, shims, uplinks
from agent.plan.diff import Plan
from agent.plan.networks import Parent
from agent.plan.state import HostConfig, Interface, Observed, ResolvedTarget, View
from agent.plan.steps import Subject
from agent.plan.uplinks import Blocked
from trunkline import naming
from trunkline.errors import Reason, TrunklineError
from trunkline.model import (
    AttachmentObservation,
    Desired,
    HostAttachment,
    HostNetwork,
    NetworkObservation,
    Observation,
    Phase,
    Problem,
)

Failures = Mapping[Subject, TrunklineError]


def observation(
    desired: Desired,
    observed: Observed,
    plan: Plan,
    config: HostConfig,
    failures: Failures,
    *,
    former: Mapping[str, str] | None = None,
    problems: tuple[Problem, ...] = (),
) -> Observation:
    """What is to be reported of `desired`. `plan` was made from this very `observed`; `failures` are steps that
    failed and were not done since; `former` maps marks of sub-interfaces to the networks they were made for."""
    present = attachments.present(observed)
    by_name = {network.name: network for network in desired.networks}
    in_targets = shims.without(desired)
    return Observation(
        epoch=desired.epoch,
        revision=desired.revision,
        networks=(
            *(_network(network, plan, failures) for network in desired.networks),
            *_former_networks(desired, observed, plan, former or {}, failures),
        ),
        attachments=(
            *(_attachment(wanted, by_name, observed, plan, failures, present) for wanted in in_targets.attachments),
            *_unwanted(in_targets, present, plan, failures),
            *shims.observations(desired, observed, plan.shims, failures),
        ),
        uplinks=uplinks.facts(config, observed.links),
        complete=observed.complete,
        docker=observed.docker,
        problems=(*plan.problems, *_other(failures), *problems),
    )


def _network(network: HostNetwork, plan: Plan, failures: Failures) -> NetworkObservation:
    planned = plan.networks[network.name]
    failure = failures.get(Subject("network", network.name))
    if planned.parent is not None and planned.job is None:
        parent = planned.parent
        return NetworkObservation(network.name, Phase.READY, "", "", parent.link.name, parent.owned, parent.mtu)
    if failure is None and planned.blocked is not None and planned.blocked.reason is Reason.UPLINK_DOWN:
        failure = failures.get(Subject("uplink", network.uplink))
    if failure is not None:
        return NetworkObservation(network.name, Phase.FAILED, failure.reason.name, failure.text)
    return NetworkObservation(network.name, *_words(planned.blocked))


def _words(blocked: Blocked | None) -> tuple[Phase, str, str]:
    if blocked is None:
        return Phase.PENDING, "", ""
    return blocked.phase, blocked.reason.name if blocked.reason else "", blocked.message


def _former_networks(
    desired: Desired, observed: Observed, plan: Plan, former: Mapping[str, str], failures: Failures
) -> list[NetworkObservation]:
    """Networks no longer wanted whose sub-interface is still there: their VLAN id stays claimed until it is gone."""
    wanted = {network.name for network in desired.networks}
    found = []
    for link in observed.links:
        name = former.get(link.alias, "") if link.alias.startswith(networks.VLAN_MARK) else ""
        if name and name not in wanted:
            failure = failures.get(Subject("link", link.name))
            words = (Phase.FAILED, failure.reason.name, failure.text) if failure else _words(plan.kept.get(link.index))
            found.append(NetworkObservation(name, *words, link.name, True, link.mtu))
    return found


def _attachment(
    wanted: HostAttachment,
    by_name: Mapping[str, HostNetwork],
    observed: Observed,
    plan: Plan,
    failures: Failures,
    present: Mapping[str, tuple[View, Interface]],
) -> AttachmentObservation:
    place = observed.targets.get(wanted.target)
    target_id = place.target_id if isinstance(place, ResolvedTarget) else ""
    found = _at_its_place(wanted.name, place, observed)
    parent = plan.parent(wanted.network)
    if found and parent and not differences(found, wanted, by_name[wanted.network], parent):
        return AttachmentObservation(wanted.name, Phase.READY, "", "", *_seen(found), target_id, True)
    phase, reason, message = _why_not(wanted, plan, failures, found, parent)
    somewhere = found or (present[wanted.name][1] if wanted.name in present else None)
    return AttachmentObservation(
        wanted.name, phase, reason, message, *_seen(somewhere), target_id, somewhere is not None
    )


def _at_its_place(name: str, place: ResolvedTarget | TrunklineError | None, observed: Observed) -> Interface | None:
    if not isinstance(place, ResolvedTarget):
        return None
    view = observed.views.get(place.namespace.identity)
    if view is None:
        return None
    return next((interface for interface in view.interfaces if match.owner(interface) == name), None)


def differences(found: Interface, wanted: HostAttachment, network: HostNetwork, parent: Parent) -> tuple[str, ...]:
    """Everything about an interface that is not as wanted, in words."""
    return match.replaced_by(found, wanted, network, parent) + match.repaired_by(found, wanted, network, parent)


def _seen(interface: Interface | None) -> tuple[str, str, tuple[str, ...]]:
    if interface is None:
        return "", "", ()
    own = tuple(address for address in interface.addresses if not address.startswith("fe80:"))
    return interface.link.name, interface.link.mac, own


def _why_not(
    wanted: HostAttachment, plan: Plan, failures: Failures, found: Interface | None, parent: Parent | None
) -> tuple[Phase, str, str]:
    blocked = plan.blocked.get(wanted.name)
    failure = failures.get(Subject("attachment", wanted.name))
    if blocked is None and failure is not None:
        return Phase.FAILED, failure.reason.name, failure.text
    if blocked is not None and blocked.phase is Phase.PENDING and parent is None:
        of_network = failures.get(Subject("network", wanted.network))
        if of_network is not None:
            return Phase.FAILED, of_network.reason.name, of_network.text
    if blocked is not None:
        return _words(blocked)
    what = "is being repaired" if found else "is being made"
    return Phase.PENDING, "", f"the interface {what}"


def _unwanted(
    desired: Desired, present: Mapping[str, tuple[View, Interface]], plan: Plan, failures: Failures
) -> list[AttachmentObservation]:
    wanted = {attachment.name for attachment in desired.attachments}
    found = []
    for name, (view, interface) in sorted(present.items()):
        if name in wanted:
            continue
        failure = failures.get(Subject("attachment", name))
        words = (Phase.FAILED, failure.reason.name, failure.text) if failure else _words(plan.blocked.get(name))
        found.append(AttachmentObservation(name, *words, *_seen(interface), view.namespace.identity, True))
    return found


def _other(failures: Failures) -> list[Problem]:
    """Failures that no network and no attachment of the observation speaks for."""
    return [
        Problem(subject.kind, subject.name, error.reason.name, error.text)
        for subject, error in sorted(failures.items(), key=lambda item: item[0])
        if subject.kind in ("uplink", "link")
    ]


def marks(desired: Desired) -> dict[str, str]:
    """Marks of the sub-interfaces that `desired` may have made, to their networks."""
    return {
        naming.subinterface_mark(network.uplink, network.vlan): network.name
        for network in desired.networks
        if network.vlan
    }
