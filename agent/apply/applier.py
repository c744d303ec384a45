"""Runs the jobs of a plan against the ports."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, assert_never

from agent.apply.undo import Undo
from agent.plan.diff import Plan
from agent.plan.state import Interface, MacvlanSpec, Namespace
from agent.plan.steps import (
    AddMacvlan,
    AddShim,
    AddVlan,
    ConfigureInterface,
    ConfigureShim,
    DeleteInterface,
    DeleteLink,
    Job,
    LowerLink,
    MarkLink,
    RaiseLink,
    SetMtu,
    SetPromiscuous,
    Step,
    Subject,
    inverse,
)
from agent.ports import Announcement, Links, Prober
from trunkline import log
from trunkline.errors import Reason, TrunklineError

Failures = dict[Subject, TrunklineError]

HERE: Final = Namespace("/proc/self/ns/net", "")
"""The host's own namespace, which the agent and its probes' child are in."""


class Applier:
    """Does what a plan says. Whoever calls reads the result off the host, not off what this returns."""

    def __init__(self, links: Links, prober: Prober) -> None:
        self._links = links
        self._prober = prober
        self._announcing: set[asyncio.Task[None]] = set()
        self._unannounced: dict[str, TrunklineError] = {}
        self._log = log.get("apply")

    async def run(self, plan: Plan) -> Failures:
        """Run all jobs in the plan's order; the failure of each that failed. One that fails leaves the host as it
        found it, and is followed by no other of the same subject."""
        failures: Failures = {}
        for job in plan.host:
            await self._alone(job, failures)
        # Each deletion waits for grace periods of the kernel, so they wait together.
        await asyncio.gather(*(self._alone(job, failures) for job in plan.deletions))
        await self._change([job for job in plan.changes if job.subject not in failures], failures)
        for job in plan.removals:
            await self._alone(job, failures)
        return failures

    async def _alone(self, job: Job, failures: Failures) -> None:
        try:
            await self.do(job)
        except TrunklineError as error:
            failures.setdefault(job.subject, error)
            self._log_failure(job, error)

    async def do(self, job: Job) -> None:
        """All steps of a job, or none: raises the first failure after everything before it was taken back."""
        async with Undo(self._step) as undo:
            for step in job.steps:
                undo.done(inverse(step, await self._step(step)))
            undo.commit()
        for step in job.steps:
            self._log.info(_verb(step), subject=job.subject.name, **_details(step))

    async def _change(self, jobs: Sequence[Job], failures: Failures) -> None:
        """Interfaces to make go down in one call, which pipelines them; repairs one by one beside it."""
        new = [(job, step) for job in jobs for step in job.steps if isinstance(step, AddMacvlan)]
        repairs = [job for job in jobs if not any(isinstance(step, AddMacvlan) for step in job.steps)]
        if new:
            await self._make(new, failures)
        await asyncio.gather(*(self._alone(job, failures) for job in repairs))
        mended = [step for job in repairs if job.subject not in failures for step in job.steps]
        self._announce((step.namespace, step.spec) for step in mended if isinstance(step, ConfigureInterface))
        self._announce((HERE, step.spec.interface) for step in mended if isinstance(step, AddShim | ConfigureShim))

    async def _make(self, new: Sequence[tuple[Job, AddMacvlan]], failures: Failures) -> None:
        made = await self._links.add_macvlans([(step.namespace, step.spec) for _, step in new])
        good: list[tuple[Namespace, MacvlanSpec]] = []
        for (job, step), result in zip(new, made, strict=True):
            if isinstance(result, Interface):
                good.append((step.namespace, step.spec))
                self._log.info(_verb(step), subject=job.subject.name, **_details(step))
            else:
                failures.setdefault(job.subject, result)
                self._log_failure(job, result)
        self._announce(good)

    def _log_failure(self, job: Job, error: TrunklineError) -> None:
        self._log.warning(
            "failed", kind=job.subject.kind, subject=job.subject.name, reason=error.reason.name, why=error.text
        )

    async def _step(self, step: Step) -> int:
        """Do one step; the index of the link it made, else 0."""
        match step:
            case RaiseLink(index):
                await self._links.set_up(index)
            case LowerLink(index):
                await self._links.set_down(index)
            case SetPromiscuous(index, _, on):
                await self._links.set_promiscuous(index, on)
            case AddVlan(parent, name, vid, mtu, alias):
                return await self._links.add_vlan(parent, name, vid, mtu, alias)
            case MarkLink(index, _, alias):
                await self._links.set_alias(index, alias)
            case DeleteLink(index, _, alias):
                await self._links.delete_link(index, alias)
            case SetMtu(index, _, mtu):
                await self._links.set_mtu(index, mtu)
            case AddShim(shim):
                return await self._links.add_shim(shim)
            case ConfigureShim(index, shim):
                await self._links.configure_shim(index, shim)
            case AddMacvlan() | ConfigureInterface() | DeleteInterface():
                return await self._inside(step)
            case _:
                assert_never(step)
        return 0

    async def _inside(self, step: AddMacvlan | ConfigureInterface | DeleteInterface) -> int:
        """Do one step in a target."""
        match step:
            case AddMacvlan(namespace, spec):
                made = (await self._links.add_macvlans([(namespace, spec)]))[0]
                if isinstance(made, TrunklineError):
                    raise made
                return made.link.index
            case ConfigureInterface(namespace, index, spec):
                await self._links.configure(namespace, index, spec)
            case DeleteInterface(namespace, index, _, alias):
                await self._links.delete_interface(namespace, index, alias)
            case _:
                assert_never(step)
        return 0

    def _announce(self, made: Iterable[tuple[Namespace, MacvlanSpec]]) -> None:
        """Tell switches and neighbours, beside the loop: an interface is ready whether or not anybody was told."""
        announcements = {
            spec.alias: Announcement(namespace, spec.name, spec.mac, _bare(spec.addresses), spec.gateways)
            for namespace, spec in made
            if spec.addresses
        }
        if announcements:
            task = asyncio.create_task(self._tell(announcements))
            self._announcing.add(task)
            task.add_done_callback(self._announcing.discard)

    async def _tell(self, announcements: dict[str, Announcement]) -> None:
        try:
            results = await self._prober.announce(list(announcements.values()))
        except TrunklineError as error:
            results = [error] * len(announcements)
        for alias, result in zip(announcements, results, strict=True):
            self._unannounced.pop(alias, None)
            if result is not None and result.reason is not Reason.NETNS_NOT_FOUND:
                self._unannounced[alias] = result
                self._log.warning("not announced", interface=alias, reason=result.reason.name, why=result.text)

    def unannounced(self) -> dict[str, TrunklineError]:
        """Marks of interfaces whose last announcement failed: neighbours may know an old place for up to their
        ARP timeout."""
        return dict(self._unannounced)

    async def close(self) -> None:
        """End announcements under way. Idempotent."""
        for task in self._announcing:
            task.cancel()
        await asyncio.gather(*self._announcing, return_exceptions=True)


def _bare(addresses: Sequence[str]) -> tuple[str, ...]:
    return tuple(address.partition("/")[0] for address in addresses)


_VERBS = {
    RaiseLink: "set up",
    LowerLink: "set down",
    SetPromiscuous: "promiscuous mode",
    AddVlan: "sub-interface made",
    MarkLink: "sub-interface recognised",
    DeleteLink: "link removed",
    SetMtu: "MTU set",
    AddMacvlan: "interface made",
    ConfigureInterface: "interface repaired",
    DeleteInterface: "interface removed",
    AddShim: "the host's own interface made",
    ConfigureShim: "the host's own interface repaired",
}


def _verb(step: Step) -> str:
    return _VERBS[type(step)]


def _details(step: Step) -> dict[str, str]:
    match step:
        case SetPromiscuous(_, device, on):
            return {"link": device, "on": str(on)}
        case SetMtu(_, name, mtu, was):
            return {"link": name, "mtu": str(mtu), "was": str(was)}
        case AddMacvlan(namespace, spec):
            return {
                "interface": spec.name,
                "namespace": namespace.path,
                "mac": spec.mac,
                "addresses": " ".join(spec.addresses),
            }
        case ConfigureInterface(namespace, _, spec, differences):
            return {"interface": spec.name, "namespace": namespace.path, "because": "; ".join(differences)}
        case DeleteInterface(namespace, _, name):
            return {"interface": name, "namespace": namespace.path}
        case AddShim(shim):
            return {"interface": shim.interface.name, "addresses": " ".join(shim.interface.addresses)}
        case ConfigureShim(_, shim, differences):
            return {"interface": shim.interface.name, "because": "; ".join(differences)}
        case RaiseLink(_, name) | LowerLink(_, name) | AddVlan(_, name) | MarkLink(_, name) | DeleteLink(_, name):
            return {"link": name}
        case _:
            assert_never(step)
