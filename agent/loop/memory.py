"""The loop's part of the spool: written before what it speaks of is done, never a reason to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from agent.plan import verify
from agent.plan.diff import Plan
from agent.plan.networks import VLAN_MARK
from agent.plan.state import Observed, ResolvedTarget
from agent.plan.steps import DeleteLink, RaiseLink, SetPromiscuous, Step, Subject
from agent.spool import DEEDS, DESIRED, Deeds, Spool
from trunkline import log
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, Problem, TargetKind

T = TypeVar("T")


class Memory:
    """Desired state and deeds, in memory and on disk. A disk that fails is a problem to be reported."""

    def __init__(self, spool: Spool, host: str, boot: str = "") -> None:
        """`boot` tells this boot of the machine from every other."""
        self._spool = spool
        self._host = host
        self._boot = boot
        self._found: list[Problem] = []
        self._writing: dict[str, Problem] = {}
        self._log = log.get("spool")
        self.spooled: Desired | None = self._read(spool.desired)
        self.deeds: Deeds = self._read(spool.deeds) or Deeds()
        self._kept = self.spooled

    def _read(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except TrunklineError as error:
            self._log.error("spool cannot be read", reason=error.reason.name, why=error.text)
            self._found.append(self._problem(error))
            return None

    def _problem(self, error: TrunklineError) -> Problem:
        return Problem("host", self._host, error.reason.name, error.text)

    def problems(self) -> tuple[Problem, ...]:
        """What could not be read when the agent started, and what cannot be written now."""
        return (*self._found, *self._writing.values())

    async def operator_accepted(self) -> bool:
        """Whether `accept-epoch` was asked for since the last look."""
        return self._spool.take_acceptance()

    async def keep(self, desired: Desired, accepted: str) -> None:
        """Make `desired` what the next life starts from."""
        if desired != self._kept and await self._write(DESIRED, lambda: self._spool.keep_desired(desired)):
            self._kept = desired
        marks = self.deeds.marks | verify.marks(desired)
        await self._remember(replace(self.deeds, epoch=accepted, marks=marks))

    async def recognise(self, observed: Observed) -> Observed:
        """`observed`, with processes that have another's pid left out: after a reboot, or when pids wrap around, a
        pid that was attached would else lead an interface into a stranger's namespace."""
        births: dict[str, str] = {}
        targets = dict(observed.targets)
        for target, answer in observed.targets.items():
            if target.kind is not TargetKind.PID:
                continue
            known = self.deeds.births.get(target.value, "")
            now = answer.birth if isinstance(answer, ResolvedTarget) else ""
            births[target.value] = known or now
            if known and now and known != now:
                targets[target] = TrunklineError(
                    Reason.NETNS_NOT_FOUND,
                    f"process {target.value} of {self._host} has ended, and its pid is another process's now",
                    "detach it, and attach the process that is meant by its own pid",
                )
        await self._remember(replace(self.deeds, births={pid: birth for pid, birth in births.items() if birth}))
        return replace(observed, targets=targets)

    def made(self) -> Mapping[str, int]:
        """Indexes of sub-interfaces of ours by their mark, as last seen; 0 when that was before the host was booted."""
        deeds = self.deeds
        return deeds.made if deeds.boot == self._boot else dict.fromkeys(deeds.made, 0)

    async def mine(self, observed: Observed) -> None:
        """Remember which sub-interfaces are ours; one whose mark was taken away is the operator's from then on."""
        seen = {link.alias: link.index for link in observed.links if link.alias.startswith(VLAN_MARK)}
        given = {link.index for link in observed.links if not link.alias}
        kept = {mark: index for mark, index in self.made().items() if index not in given}
        await self._remember(replace(self.deeds, made=kept | seen, boot=self._boot))

    async def before(self, todo: Plan, desired: Desired) -> None:
        """Remember what is about to be done that only we can take back later."""
        steps = [step for job in todo.host for step in job.steps]
        on = {step.device for step in steps if isinstance(step, SetPromiscuous) and step.on}
        raised = {
            step.name
            for job in todo.host
            if job.subject.kind == "uplink"
            for step in job.steps
            if isinstance(step, RaiseLink)
        }
        deeds = self.deeds
        await self._remember(replace(deeds, promiscuous=deeds.promiscuous | on, raised=deeds.raised | raised))

    async def after(self, todo: Plan, failures: Mapping[Subject, TrunklineError]) -> None:
        """Forget what was taken back."""
        done: list[Step] = [step for job in todo.jobs() if job.subject not in failures for step in job.steps]
        off = {step.device for step in done if isinstance(step, SetPromiscuous) and not step.on}
        gone = {step.alias for step in done if isinstance(step, DeleteLink)}
        marks = {mark: network for mark, network in self.deeds.marks.items() if mark not in gone}
        made = {mark: index for mark, index in self.deeds.made.items() if mark not in gone}
        await self._remember(replace(self.deeds, promiscuous=self.deeds.promiscuous - off, marks=marks, made=made))

    async def _remember(self, deeds: Deeds) -> None:
        if deeds != self.deeds:
            self.deeds = deeds
            await self._write(DEEDS, lambda: self._spool.keep_deeds(deeds))

    async def _write(self, name: str, write: Callable[[], None]) -> bool:
        try:
            await asyncio.to_thread(write)
        except TrunklineError as error:
            if name not in self._writing:
                self._log.error("spool cannot be written", reason=error.reason.name, why=error.text)
            self._writing[name] = self._problem(error)
            return False
        self._writing.pop(name, None)
        return True
