"""The agent's one loop. Triggers say *look*; what to do is read off the host each time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from agent.apply import Applier, Quarantine
from agent.docking import Dock, Docked, Ground
from agent.loop.intake import Intake
from agent.loop.memory import Memory
from agent.loop.observer import Look, Observer
from agent.loop.retries import Retries
from agent.loop.undocked import Undocked
from agent.plan import attachments, diff, networks, shims, verify
from agent.plan.diff import Plan
from agent.plan.docked import local, merged
from agent.plan.state import HostConfig, Observed, UplinkConfig
from agent.plan.steps import AddMacvlan, AddVlan, ConfigureInterface, DeleteInterface, Job, Subject
from agent.ports import Links, Prober, Targets
from trunkline import log, naming
from trunkline.clock import Clock, SystemClock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, Observation, Problem

T = TypeVar("T")

ROUNDS: Final = 6
"""Looks at the host in one convergence: uplink, sub-interface, interface, a deletion and a sweep each take one."""

PACE: Final = 0.02
"""Seconds in which wakes are taken for one."""

DUTY: Final = 4.0
"""Between two looks that only events asked for, rest this many times as long as a look took."""

_REST_LIMIT: Final = 5.0
_TROUBLE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class World:
    """The ports that the loop works through."""

    links: Links
    targets: Targets
    prober: Prober
    clock: Clock = SystemClock()  # noqa: RUF009 (it has no state)
    draw: Callable[[], float] = random.random


class Loop:
    """`report` gets every observation that differs from the last, and one at each tick of about `tick` seconds."""

    def __init__(
        self,
        world: World,
        host: str,
        uplinks: Sequence[UplinkConfig],
        memory: Memory,
        report: Callable[[Observation], None],
        tick: float,
        dock: Dock | None = None,
    ) -> None:
        self._world = world
        self._host = host
        self._uplinks = {uplink.label: uplink for uplink in uplinks}
        self._memory = memory
        self._report = report
        self._tick = tick
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._fresh = True
        self._eventful = True
        self._stale: set[str] = set()
        self._reported: Observation | None = None
        self._observer = Observer(world.links, world.targets)
        self._applier = Applier(world.links, world.prober)
        self._retries = Retries(world.clock, world.draw)
        self._quarantine = Quarantine(world.prober, world.clock, world.draw, self.wake)
        self._trouble: TrunklineError | None = None
        self._log = log.get("loop")
        self._dock = dock or Undocked()
        self._carried: dict[str, str] = {}
        self.settled = asyncio.Event()
        """Set when the sub-interfaces of what was spooled are there, as far as they can be."""
        self.intake = Intake(host, memory.deeds.epoch)
        if memory.spooled is not None:
            self.intake.restore(memory.spooled)
            self._quarantine.suspect(attachment.name for attachment in memory.spooled.attachments)

    @property
    def config(self) -> HostConfig:
        """What plans depend on, as it is now."""
        docked = frozenset(self._dock.view().parents)
        return HostConfig(self._host, self._uplinks, self._memory.deeds.promiscuous, self._memory.made(), docked)

    def want(self, desired: Desired) -> None:
        """A controller sent `desired`; the latest wins."""
        before = self.intake.current
        if self.intake.offer(desired):
            self._quarantine.vouch()
            self._retries.forget(_changed(before, desired, self._retries.subjects()))
        self._hurry.set()
        self._wake.set()

    def wake(self, places: Collection[str] = ()) -> None:
        """Something on the host may have changed: look again, in these namespaces, or everywhere when none is named."""
        self._stale.update(places)
        self._eventful = self._eventful or not places
        self._wake.set()

    def tell(self) -> None:
        """The Docker side has something new: look and report, without reading namespaces again."""
        self._wake.set()

    async def run(self) -> None:
        """Converge, report and wait, until cancelled. What was made stays."""
        world = self._world
        listeners = [
            asyncio.create_task(self._listen("links", world.links.events, self.wake)),
            asyncio.create_task(self._listen("targets", world.targets.events, lambda _: self.wake())),
        ]
        try:
            await self._prepare()
            await self._forever()
        finally:
            for listener in listeners:
                listener.cancel()
            await asyncio.gather(*listeners, return_exceptions=True)
            await self._quarantine.close()
            await self._applier.close()

    async def _listen(self, name: str, events: Callable[[], AsyncIterator[T]], wake: Callable[[T], None]) -> None:
        while True:
            try:
                async for what in events():
                    wake(what)
            except TrunklineError as error:
                self._log.warning("events cut", source=name, reason=error.reason.name, why=error.text)
            except Exception as error:
                self._log.error("events failed", source=name, exc_info=error)
            self.wake()
            await self._world.clock.sleep(_TROUBLE_SECONDS)

    async def _prepare(self) -> None:
        """Make the sub-interfaces of what was spooled, and nothing else: Docker waits for them, and does not answer
        before it was started."""
        try:
            desired = self.intake.current
            if desired is not None:
                await self._dock.desired(desired, self.intake.removals)
                for _ in range(2):
                    links = tuple(await self._world.links.host_links())
                    plans = networks.plan(desired.networks, self.config, Observed(links))
                    todo = Plan(host=tuple(planned.job for planned in plans.values() if planned.job))
                    if not todo.host:
                        break
                    await self._memory.before(todo, desired)
                    await self._memory.after(todo, await self._applier.run(todo))
                self._dock.ground(Ground(desired, self.intake.removals, plans))
        except TrunklineError as error:
            self._log.error("cannot make what was spooled", reason=error.reason.name, why=error.text)
        except Exception as error:
            self._log.error("cannot make what was spooled", exc_info=error)
        finally:
            self.settled.set()

    async def _forever(self) -> None:
        clock = self._world.clock
        tick_due = clock.monotonic()
        while True:
            started = clock.monotonic()
            ticked = started >= tick_due
            if ticked:
                tick_due = started + self._tick * (0.9 + 0.2 * self._world.draw())
            self._wake.clear()
            self._hurry.clear()
            await self._guarded(ticked)
            finished = clock.monotonic()
            calm = finished + min(_REST_LIMIT, max(PACE, DUTY * (finished - started)))
            await self._until(self._wake, self._next_look(tick_due))
            self._eventful = self._eventful or not self._wake.is_set()
            # A storm of events is taken for one wake; a new desired state waits for nothing.
            await self._until(self._hurry, min(max(calm, clock.monotonic() + PACE), tick_due))

    def _next_look(self, tick_due: float) -> float:
        """When to look although nothing wakes us: at the tick, or when a retry or a probe is due."""
        due = [tick_due, self._retries.due(), self._quarantine.due()]
        if self._trouble is not None:
            due.append(self._world.clock.monotonic() + _TROUBLE_SECONDS)
        return min(when for when in due if when is not None)

    async def _until(self, event: asyncio.Event, when: float) -> None:
        """Until the event is set or the time has come."""
        seconds = when - self._world.clock.monotonic()
        if event.is_set() or seconds <= 0:
            return
        waiting = asyncio.ensure_future(event.wait())
        sleeping = asyncio.ensure_future(self._world.clock.sleep(seconds))
        try:
            await asyncio.wait([waiting, sleeping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            sleeping.cancel()

    async def _guarded(self, ticked: bool) -> None:
        """One convergence; nothing that goes wrong in it ends the loop."""
        try:
            await self._converge(ticked)
        except TrunklineError as error:
            self._log.error("cannot look at the host", reason=error.reason.name, why=error.text)
            self._trouble = error
        except Exception as error:
            self._log.error("convergence failed", exc_info=error)
            self._trouble = TrunklineError(Reason.INTERNAL, "the agent failed; its log has the traceback")
        else:
            self._trouble = None

    async def _converge(self, ticked: bool) -> None:
        look = Look.SWEEP if ticked else Look.PLACES if self._eventful or self._trouble else Look.CHANGES
        self._eventful = False
        done: set[Job] = set()
        touched, self._stale = self._stale, set()
        for _ in range(ROUNDS):
            # Read once, before the host is looked at: a state that comes meanwhile must not lend its right to remove
            # to the one that is compared here, above all not to the empty one before the first.
            current, removals = await self._in_force()
            desired = current or Desired("", 0)
            if current is not None:
                await self._dock.desired(current, removals)
            docked = self._dock.view()
            observed = await self._observer.observe(desired, look, touched)
            if current is not None:
                observed = await self._memory.recognise(observed)
                await self._memory.mine(observed)
            plan = self._plan(desired, observed, removals, docked)
            if plan.sweep_first and not observed.swept and look is not Look.SWEEP:
                look = Look.SWEEP
                continue
            look = Look.CHANGES
            self._fresh = False
            todo = self._due(plan, observed, done)
            if not any(todo.jobs()):
                break
            await self._memory.before(todo, desired)
            self._note_rebuilt(todo)
            failures = await self._applier.run(todo)
            await self._memory.after(todo, failures)
            done |= self._settle(todo, failures)
            touched = _touched(todo)
        else:
            self.wake()
        if current is not None:
            self._dock.ground(Ground(current, removals, plan.networks))
            parents = {name: planned.parent for name, planned in plan.networks.items()}
            self._carried = {name: parent.link.name for name, parent in parents.items() if parent and parent.owned}
            self._tell(desired, observed, plan, ticked)

    async def _in_force(self) -> tuple[Desired | None, bool]:
        """The desired state to work towards, None before the first, and whether it may take anything away."""
        if await self._memory.operator_accepted():
            self.intake.accept_epoch()
        current, removals, accepted = self.intake.current, self.intake.removals, self.intake.accepted
        if current is not None:
            await self._memory.keep(current, accepted)
        return current, removals

    def _plan(self, desired: Desired, observed: Observed, removals: bool, docked: Docked) -> Plan:
        plan = diff.plan(
            desired,
            observed,
            self.config,
            removals=removals,
            fresh=self._fresh,
            held=docked.parents,
            local=local(docked),
        )
        there = attachments.present(observed).keys() | shims.present(observed).keys()
        self._quarantine.keep_only({wanted.name for wanted in desired.attachments}, there)
        return plan

    def _due(self, plan: Plan, observed: Observed, done: set[Job]) -> Plan:
        """What of a plan is to be done now. A job that was just done and is planned again did not do what it
        should: that is a failure, found by reading."""
        self._retries.plan()
        for job in plan.jobs():
            if job in done and not self._retries.waits(job.subject):
                self._retries.failed(job.subject, _not_verified(job))

        def due(jobs: Sequence[Job]) -> tuple[Job, ...]:
            return tuple(job for job in jobs if not self._retries.waits(job.subject))

        changes = self._quarantine.screen(due(plan.changes), observed.links)
        return replace(
            plan,
            host=due(plan.host),
            deletions=due(plan.deletions),
            changes=tuple(changes),
            removals=due(plan.removals),
        )

    def _note_rebuilt(self, todo: Plan) -> None:
        """A sub-interface that was there at the last look, and is to be made, went by somebody else's hand."""
        for job in todo.host:
            if any(isinstance(step, AddVlan) for step in job.steps) and (
                link := self._carried.pop(job.subject.name, "")
            ):
                subject = f"network {job.subject.name}"
                self._dock.note(
                    subject, f"its sub-interface {link} was deleted by somebody while in use; it is made again"
                )

    def _settle(self, todo: Plan, failures: dict[Subject, TrunklineError]) -> set[Job]:
        for subject, error in failures.items():
            self._retries.failed(subject, error)
        return {job for job in todo.jobs() if job.subject not in failures}

    def _tell(self, desired: Desired, observed: Observed, plan: Plan, ticked: bool) -> None:
        left = {job.subject for job in plan.jobs()}
        self._retries.forget(self._retries.subjects() - left)
        held = {Subject("attachment", name): error for name, error in self._quarantine.errors().items()}
        observation = verify.observation(
            desired,
            observed,
            plan,
            self.config,
            self._retries.errors() | held,
            former=self._memory.deeds.marks,
            problems=(*self.intake.problems(), *self._memory.problems(), *self._own_problems()),
        )
        observation = merged(observation, self._dock.view())
        if ticked or observation != self._reported:
            self._reported = observation
            self._report(observation)

    def _own_problems(self) -> list[Problem]:
        """What came up unprobed, or could not be announced; and namespaces that cannot be listed."""
        failed = {naming.attachment_of(mark): error for mark, error in self._applier.unannounced().items()}
        failed |= self._quarantine.doubtful()
        found = [Problem("attachment", name, error.reason.name, error.text) for name, error in sorted(failed.items())]
        if unlisted := self._observer.unlisted:
            found.append(Problem("host", self._host, unlisted.reason.name, unlisted.text))
        return found


def _touched(plan: Plan) -> set[str]:
    """Namespaces in which a plan does something."""
    inside = (AddMacvlan, ConfigureInterface, DeleteInterface)
    steps = [step for job in (*plan.deletions, *plan.changes) for step in job.steps]
    return {step.namespace.identity for step in steps if isinstance(step, inside)}


def _not_verified(job: Job) -> TrunklineError:
    what = " and ".join(type(step).__name__ for step in job.steps)
    return TrunklineError(
        Reason.VERIFY_FAILED,
        f"{job.subject.kind} {job.subject.name}: {what} was done, but the host does not show it",
        "something else on the host undoes it; look for NetworkManager, systemd-networkd or scripts",
    )


def _changed(before: Desired | None, after: Desired, failed: set[Subject]) -> set[Subject]:
    """Subjects of which something else is wanted now, so that their failures say nothing any more."""
    if before is None:
        return failed
    old = {("network", n.name): n for n in before.networks} | {("attachment", a.name): a for a in before.attachments}
    new = {("network", n.name): n for n in after.networks} | {("attachment", a.name): a for a in after.attachments}
    return {
        subject for subject in failed if old.get((subject.kind, subject.name)) != new.get((subject.kind, subject.name))
    }
