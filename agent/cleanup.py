"""Taking back everything the agent did to a host: `trunkline-agent cleanup`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from agent.apply import Applier
from agent.engine import namespaces
from agent.loop import Look, Observer, World
from agent.plan import diff, users
from agent.plan.diff import Plan
from agent.plan.state import HostConfig, Interface, Link, Namespace, Observed, UplinkConfig
from agent.plan.steps import DeleteInterface, DeleteLink, Job, LowerLink, SetPromiscuous, Subject
from agent.spool import Deeds, Spool
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired

_ROUNDS: Final = 4


async def cleanup(
    world: World,
    host: str,
    uplinks: Sequence[UplinkConfig],
    spool: Spool,
    attachments: bool,
    held: Mapping[str, str] = MappingProxyType({}),
) -> tuple[list[str], list[str]]:
    """Remove marked links, clear promiscuous flags that the agent set, and set uplinks down again that it raised
    and nobody uses. Interfaces of containers only with `attachments`; without it, what carries them stays. `held` are
    links that Docker networks sit on, and why they stay.

    Returns the names of what is gone, and why what stays of ours stays. Raises the first failure; running it again
    goes on from there.
    """
    deeds = spool.deeds()
    plain = {uplink.label: replace(uplink, promiscuous=False) for uplink in uplinks}
    config = HostConfig(host, plain, deeds.promiscuous)
    observer, applier = Observer(world.links, world.targets), Applier(world.links, world.prober)
    gone: list[str] = []
    plan = Plan()
    for _ in range(_ROUNDS):
        observed = await observer.observe(Desired("", 0), Look.SWEEP)
        if not observed.complete:
            raise _incomplete(host, observed)
        plan = diff.plan(Desired("", 0), observed, config, fresh=True, held=held)
        if not attachments:
            plan = replace(plan, deletions=())
        if not any(plan.jobs()):
            break
        await _run(applier, plan)
        gone += _names(plan)
    await _lower(world, applier, deeds, gone)
    spool.keep_deeds(Deeds(epoch=deeds.epoch))
    return gone, [problem.message for problem in plan.problems]


async def _run(applier: Applier, plan: Plan) -> None:
    failures = await applier.run(plan)
    if failures:
        raise next(iter(failures.values()))


def _incomplete(host: str, observed: Observed) -> TrunklineError:
    why = next(iter(observed.unread.values()), None)
    return TrunklineError(
        why.reason if why else Reason.KERNEL_REFUSED,
        f"not every network namespace of {host} can be read{f': {why.message}' if why else ''}; nothing was removed",
        "run it as root",
    )


def _names(plan: Plan) -> list[str]:
    names = []
    for job in plan.jobs():
        for step in job.steps:
            match step:
                case DeleteLink(name=name):
                    names.append(f"link {name}")
                case DeleteInterface(namespace=namespace, name=name):
                    names.append(f"interface {name} in {namespace.path}")
                case SetPromiscuous(device=device):
                    names.append(f"promiscuous mode of {device}")
    return names


async def _lower(world: World, applier: Applier, deeds: Deeds, gone: list[str]) -> None:
    """Set uplinks down that were down when the agent came, unless somebody has put them to use since."""
    own = Namespace("/proc/self/ns/net", namespaces.own())
    read = (await world.links.interfaces([own]))[0]
    if isinstance(read, TrunklineError):
        raise read
    links = tuple(interface.link for interface in read)
    for interface in read:
        if interface.link.name in deeds.raised and interface.link.up and not _in_use(interface, links):
            step = LowerLink(interface.link.index, interface.link.name)
            await applier.do(Job(Subject("link", interface.link.name), (step,)))
            gone.append(f"link state up of {interface.link.name}")


def _in_use(interface: Interface, links: tuple[Link, ...]) -> bool:
    own = [address for address in interface.addresses if not address.startswith("fe80:")]
    return bool(own or users.of(interface.link, Observed(links)) != users.Users())
