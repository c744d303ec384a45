"""Desired and observed state into jobs. Pure.

Level-triggered: a plan is made anew from what was read, never from what an earlier plan expected. A step that
needs what another makes waits for the next observation, so no step ever carries a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from agent.plan import attachments, networks, shims, uplinks, users
from agent.plan.networks import NetworkPlan, Parent
from agent.plan.shims import Local, ShimPlans
from agent.plan.state import HostConfig, Observed
from agent.plan.steps import DeleteLink, Job, Subject
from agent.plan.uplinks import Blocked, refused
from trunkline import naming
from trunkline.errors import Reason
from trunkline.model import Desired, Phase, Problem


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in order: the host's links, deletions in targets, what is made or mended there, and last the
    sub-interfaces that nobody needs any more. `kept` are those that stay although nobody needs them, by index.
    `sweep_first` asks for an observation of all namespaces before anything is removed, or given another MTU, that
    somebody unseen may sit on."""

    host: tuple[Job, ...] = ()
    deletions: tuple[Job, ...] = ()
    changes: tuple[Job, ...] = ()
    removals: tuple[Job, ...] = ()
    networks: Mapping[str, NetworkPlan] = field(default_factory=dict)
    blocked: Mapping[str, Blocked] = field(default_factory=dict)
    kept: Mapping[int, Blocked] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    sweep_first: bool = False
    shims: ShimPlans = field(default_factory=ShimPlans)

    def jobs(self) -> Iterator[Job]:
        """All jobs in order."""
        yield from self.host
        yield from self.deletions
        yield from self.changes
        yield from self.removals

    def parent(self, network: str) -> Parent | None:
        """A network's macvlan parent, when it can be used."""
        plan = self.networks.get(network)
        return plan.parent if plan else None


def plan(
    desired: Desired,
    observed: Observed,
    config: HostConfig,
    *,
    removals: bool = True,
    fresh: bool = False,
    held: Mapping[str, str] = MappingProxyType({}),
    local: Local = MappingProxyType({}),
) -> Plan:
    """Jobs that bring the host nearer to `desired`; empty when it is there.

    Without `removals` nothing is taken away. `fresh`: this agent has just started, so that probe interfaces which
    are found are those of an earlier life. `held`: names of links that something else than a link sits on, and what, in
    words. `local`: addresses that containers here have by Docker's hand.
    """
    network_plans = networks.plan(desired.networks, config, observed)
    host = uplinks.jobs(config, observed.links, {network.uplink for network in desired.networks})
    host += [network.job for network in network_plans.values() if network.job]
    if fresh:
        host = [*_stale_probes(observed), *host]
    for_targets = attachments.plan(shims.without(desired), observed, network_plans, removals)
    for_host = shims.plan(desired, observed, network_plans, removals, local)
    # A host's own interface goes whatever happens to those of containers, and before the sub-interface under it.
    host += for_host.deletions
    unneeded, kept, unsure = _unneeded(desired, observed, config, removals, held)
    return Plan(
        tuple(host),
        tuple(for_targets.deletions),
        (*for_targets.changes, *for_host.changes),
        tuple(unneeded),
        network_plans,
        for_targets.blocked,
        kept,
        tuple(_problem(observed, index, why) for index, why in kept.items()),
        unsure or any(network.sweep_first for network in network_plans.values()),
        for_host,
    )


def _stale_probes(observed: Observed) -> list[Job]:
    mark = naming.probe_mark("")
    return [
        Job(Subject("link", link.name), (DeleteLink(link.index, link.name, link.alias),))
        for link in observed.links
        if link.alias.startswith(mark)
    ]


def _unneeded(
    desired: Desired, observed: Observed, config: HostConfig, removals: bool, held: Mapping[str, str]
) -> tuple[list[Job], dict[int, Blocked], bool]:
    jobs: list[Job] = []
    kept: dict[int, Blocked] = {}
    unsure = False
    for link in networks.leftovers(desired.networks, config, observed.links):
        found = users.of(link, observed)
        if link.name in held:
            why = f"sub-interface {link.name} is no longer needed, but {held[link.name]}"
            kept[link.index] = Blocked(Phase.PENDING, Reason.NETWORK_IN_USE, why)
        elif found.others:
            kept[link.index] = _lent(link.name, config.host, found.others)
        elif found.fabric:
            kept[link.index] = _carrying(link.name, found.fabric)
        elif not removals:
            why = f"sub-interface {link.name} stays, since the fabric's history changed and nobody confirmed it"
            kept[link.index] = Blocked(Phase.PENDING, Reason.EPOCH_CHANGED, why)
        elif observed.swept and observed.complete:
            jobs.append(networks.removal(link))
        else:
            unsure = True
    return jobs, kept, unsure


def _carrying(name: str, interfaces: tuple[str, ...]) -> Blocked:
    what = users.few(interfaces)
    why = f"sub-interface {name} is no longer needed but carries {what}; it goes when they are gone"
    return Blocked(Phase.PENDING, Reason.NETWORK_IN_USE, why)


def _lent(name: str, host: str, others: tuple[str, ...]) -> Blocked:
    why = (
        f"sub-interface {name} of {host} is no longer needed, but carries what is not Trunkline's: "
        f"{users.few(others)}; move that elsewhere and it goes by itself, or keep it as your own link by taking its "
        f"mark away (ip link set dev {name} alias '')"
    )
    return refused(Reason.SUBINTERFACE_IN_USE, why)


def _problem(observed: Observed, index: int, why: Blocked) -> Problem:
    link = observed.link(index)
    return Problem("link", link.name if link else str(index), why.reason.name if why.reason else "", why.message)
