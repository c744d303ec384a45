"""The agent's loop on a simulated machine: what wakes it, what it waits for, what it never lets end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.links import FakeKernel, FakeLinks
from fakes.prober import FakeProber, FakeWire
from fakes.targets import FakeTargets

from agent.apply import Quarantine
from agent.loop import Intake, Loop, Memory, World
from agent.loop.retries import Retries
from agent.plan.state import Interface, Link, Namespace, UplinkConfig
from agent.plan.steps import Subject
from agent.ports import ConflictProbe
from agent.spool import Spool
from trunkline import naming
from trunkline.clock import SystemClock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import (
    AttachmentObservation,
    Desired,
    HostAttachment,
    HostNetwork,
    Observation,
    Phase,
    Prefix,
    Target,
    TargetKind,
)

BLUE = HostNetwork("blue", 1, "default", 10, prefixes=(Prefix("20.0.0.0/24"),))


def container(name: str, number: int) -> HostAttachment:
    return HostAttachment(
        f"{name}/blue",
        "blue",
        Target(TargetKind.CONTAINER, name),
        f"06:01:14:00:00:{number:02x}",
        (f"20.0.0.{number}/24",),
    )


class FastClock(SystemClock):
    """Seconds pass a hundred times as fast."""

    def monotonic(self) -> float:
        return super().monotonic() * 100

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 100)


class Machine:
    """A simulated host with the real loop on it."""

    def __init__(self, directory: Path, tick: float = 3000.0) -> None:
        self.kernel = FakeKernel()
        self.uplink = self.kernel.add_link(self.kernel.host, "up0")
        self.links = FakeLinks(self.kernel)
        self.targets = FakeTargets(self.kernel, docker="29.0.0")
        self.wire = FakeWire()
        self.prober = FakeProber(self.wire, "h1")
        self.spool = Spool(directory)
        self.spool.prepare()
        self.tick = tick
        self.seen: list[Observation] = []
        self._heard = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._notices: set[asyncio.Task[None]] = set()

    def start(self) -> Loop:
        world = World(self.links, self.targets, self.prober, FastClock(), lambda: 0.5)
        uplinks = [UplinkConfig("default", "up0")]
        self.loop = Loop(world, "h1", uplinks, Memory(self.spool, "h1"), self._report, self.tick)
        self._task = asyncio.create_task(self.loop.run())
        return self.loop

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _report(self, observation: Observation) -> None:
        self.seen.append(observation)
        notice = asyncio.ensure_future(self._notify())
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)

    async def _notify(self) -> None:
        async with self._heard:
            self._heard.notify_all()

    async def until(self, what: Callable[[Observation], bool], timeout: float = 10) -> Observation:
        """The latest observation, once `what` holds of it."""
        async with asyncio.timeout(timeout), self._heard:
            await self._heard.wait_for(lambda: bool(self.seen) and what(self.seen[-1]))
        return self.seen[-1]

    async def quiet(self) -> None:
        """Until the loop has looked and found nothing to wake it again."""
        while self.loop._wake.is_set() or self.loop._eventful:
            await asyncio.sleep(0.01)

    def run_container(self, name: str) -> None:
        self.targets.containers[name] = self.kernel.add_namespace(f"/proc/{name}/ns/net").path
        self.targets.woken.set()

    def inside(self, name: str) -> list[str]:
        path = self.targets.containers[name]
        assert path is not None
        return [one.link.name for one in self.kernel.spaces[path].interfaces.values()]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    made = Machine(tmp_path / "state")
    yield made
    await made.stop()


def one(seen: Observation, name: str) -> AttachmentObservation:
    return next(one for one in seen.attachments if one.name == name)


def phases(*wanted: Phase) -> Callable[[Observation], bool]:
    return lambda seen: tuple(one.phase for one in seen.attachments) == wanted


async def test_a_first_word_that_comes_while_the_host_is_read_takes_nothing_away(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool is lost, the interfaces are there. What was read is compared with nothing known yet, and the right
    to remove that the first word brings must not apply to that."""
    wanted = Desired("e1", 5, (BLUE,), (container("web", 2),))
    machine.run_container("web")
    machine.start().want(wanted)
    await machine.until(phases(Phase.READY))
    await machine.stop()
    machine.spool = Spool(tmp_path / "other")
    machine.spool.prepare()
    machine.seen.clear()
    read = machine.links.host_links

    async def interrupted() -> list[Link]:
        monkeypatch.undo()
        links = await read()
        machine.loop.want(wanted)
        return links

    monkeypatch.setattr(machine.links, "host_links", interrupted)
    machine.links.calls.clear()
    machine.start()
    await machine.until(phases(Phase.READY))
    assert "delete_interface" not in machine.links.calls
    assert all(one.present for seen in machine.seen for one in seen.attachments)
    assert all(seen.revision == 5 for seen in machine.seen)


async def test_before_the_first_word_nothing_is_said_or_done(machine: Machine) -> None:
    machine.start()
    async with asyncio.timeout(5):
        while "host_links" not in machine.links.calls:
            await asyncio.sleep(0.01)
    assert machine.seen == []


async def test_a_container_that_starts_gets_its_interface(machine: Machine) -> None:
    machine.targets.containers["web"] = None
    machine.wire.hold("h1", "20.0.0.17", container("web", 17).mac)
    machine.start().want(Desired("e", 1, (BLUE,), (container("web", 17),)))
    await machine.until(phases(Phase.WAITING))
    machine.run_container("web")
    seen = await machine.until(phases(Phase.READY))
    assert machine.inside("web") == ["tl0"]
    assert seen.docker == "29.0.0"
    async with asyncio.timeout(5):
        while not machine.prober.announced:
            await asyncio.sleep(0.01)
    assert machine.prober.announced[0].addresses == ("20.0.0.17",)


async def test_an_uplink_that_appears_wakes(machine: Machine) -> None:
    machine.run_container("web")
    machine.kernel.remove_link(machine.kernel.host, machine.uplink)
    machine.start().want(Desired("e", 1, (BLUE,), (container("web", 17),)))
    seen = await machine.until(lambda seen: seen.networks[0].reason == "UPLINK_MISSING")
    assert one(seen, "web/blue").reason == "UPLINK_MISSING"
    machine.kernel.add_link(machine.kernel.host, "up0")
    await machine.until(phases(Phase.READY))


async def test_a_step_that_fails_is_tried_again_and_harms_no_other(machine: Machine) -> None:
    machine.run_container("web")
    machine.run_container("db")
    refusals = 3

    def refuse(step: str) -> None:
        nonlocal refusals
        if step == "create" and refusals and "add_macvlans" in machine.links.calls:
            refusals -= 1
            raise TrunklineError(Reason.KERNEL_REFUSED, "no buffer space")

    machine.links.before = refuse
    machine.start().want(Desired("e", 1, (BLUE,), (container("web", 17), container("db", 18))))
    await machine.until(phases(Phase.READY, Phase.READY))
    assert refusals == 0


class Hand(SystemClock):
    """A clock that is moved by hand."""

    seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


def test_a_wait_that_ends_before_the_loop_rests_is_not_forgotten() -> None:
    """It was not over when the loop planned, so it was not tried; the tick may be far away."""
    clock = Hand()
    retries, web = Retries(clock, lambda: 1.0), Subject("attachment", "web/blue")
    retries.failed(web, TrunklineError(Reason.KERNEL_REFUSED, "no buffer space"))
    retries.plan()
    assert retries.waits(web)
    clock.seconds += 10
    assert retries.waits(web), "what was decided stands"
    due = retries.due()
    assert due is not None
    assert due <= clock.seconds
    retries.plan()
    assert not retries.waits(web)
    assert retries.due() is None, "it is tried now"


async def test_a_probe_that_comes_due_before_the_loop_rests_is_not_forgotten() -> None:
    clock = Hand()
    quarantine = Quarantine(FakeProber(FakeWire(), "h1"), clock, lambda: 1.0, lambda: None)
    quarantine.suspect(["db/blue"])
    quarantine._suspects["db/blue"].due = clock.seconds + 1
    quarantine.screen([], [])
    clock.seconds += 10
    due = quarantine.due()
    assert due is not None
    assert due <= clock.seconds
    quarantine.screen([], [])
    assert quarantine.due() is None, "nothing is to be made for it, so nothing is to be probed"


async def test_a_failure_is_reported_while_it_lasts(machine: Machine) -> None:
    machine.run_container("web")

    def refuse(step: str) -> None:
        if step == "up":
            raise TrunklineError(Reason.KERNEL_UNSUPPORTED, "no macvlan here", "modprobe macvlan")

    machine.links.before = refuse
    machine.start().want(Desired("e", 1, (BLUE,), (container("web", 17),)))
    seen = await machine.until(phases(Phase.FAILED))
    assert one(seen, "web/blue").reason == "KERNEL_UNSUPPORTED"
    assert one(seen, "web/blue").message == "no macvlan here; modprobe macvlan"
    assert machine.inside("web") == []
    machine.links.before = lambda step: None
    await machine.until(phases(Phase.READY))


async def test_a_kernel_that_says_yes_and_does_nothing_is_found_out(machine: Machine) -> None:
    machine.run_container("web")

    async def add_macvlans(work: list[object]) -> list[object]:
        return [Interface(Link(1, "tl0", "macvlan", "", 0, True, True)) for _ in work]

    machine.links.add_macvlans = add_macvlans  # type: ignore[method-assign, assignment]
    machine.start().want(Desired("e", 1, (BLUE,), (container("web", 17),)))
    seen = await machine.until(phases(Phase.FAILED))
    assert one(seen, "web/blue").reason == "VERIFY_FAILED"


async def test_a_host_that_cannot_be_read_ends_nothing(machine: Machine) -> None:
    machine.run_container("web")
    broken = True

    def refuse(step: str) -> None:
        if broken and step == "host_links":
            raise TrunklineError(Reason.KERNEL_REFUSED, "dump interrupted")

    machine.links.before = refuse
    machine.start().want(Desired("e", 1, (BLUE,), (container("web", 17),)))
    async with asyncio.timeout(5):
        while machine.links.calls.count("host_links") < 3:
            await asyncio.sleep(0.01)
    assert machine.seen == []
    broken = False
    await machine.until(phases(Phase.READY))


async def test_a_storm_of_events_is_few_looks(machine: Machine) -> None:
    machine.run_container("web")
    loop = machine.start()
    loop.want(Desired("e", 1, (BLUE,), (container("web", 17),)))
    await machine.until(phases(Phase.READY))
    before = machine.links.calls.count("host_links")
    for _ in range(500):
        loop.wake()
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # a storm has no end to wait for
    assert machine.links.calls.count("host_links") - before < 100


async def test_the_latest_desired_state_wins(machine: Machine) -> None:
    machine.run_container("web")
    loop = machine.start()
    for revision in range(1, 30):
        loop.want(Desired("e", revision, (BLUE,), (container("web", revision + 1),)))
    seen = await machine.until(lambda seen: seen.revision == 29 and seen.attachments[0].phase is Phase.READY)
    assert one(seen, "web/blue").addresses == ("20.0.0.30/24",)
    assert machine.spool.desired() == Desired("e", 29, (BLUE,), (container("web", 30),))


async def test_a_tick_reports_although_nothing_changed(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "state", tick=2.0)
    machine.start().want(Desired("e", 1, (BLUE,)))
    await machine.until(lambda seen: len(machine.seen) > 3)
    assert machine.seen[-1] == machine.seen[-2]
    await machine.stop()


# Boot from the spool


async def booted(machine: Machine, *wanted: HostAttachment) -> None:
    machine.spool.keep_desired(Desired("e", 5, (BLUE,), wanted))
    for attachment in wanted:
        machine.run_container(attachment.target.value)
    machine.start()


async def test_from_the_spool_conflicts_stay_down(machine: Machine) -> None:
    machine.wire.hold("", "20.0.0.18", "0a:00:00:00:00:99")
    await booted(machine, container("web", 17), container("db", 18))
    seen = await machine.until(phases(Phase.READY, Phase.FAILED))
    assert one(seen, "db/blue").reason == "ADDRESS_CONFLICT"
    assert "20.0.0.18 (0a:00:00:00:00:99)" in one(seen, "db/blue").message
    assert machine.inside("db") == []
    machine.loop.want(Desired("e", 6, (BLUE,), (container("web", 17), container("db", 18))))
    await machine.until(lambda seen: seen.revision == 6)
    assert machine.inside("db") == []
    machine.wire.release("20.0.0.18", "0a:00:00:00:00:99")
    await machine.until(phases(Phase.READY, Phase.READY))


async def test_a_probe_that_fails_is_no_verdict_but_does_not_hold_for_ever(machine: Machine) -> None:
    async def conflicts(probes: Sequence[ConflictProbe]) -> list[str | TrunklineError]:
        return [TrunklineError(Reason.PROBE_FAILED, "no buffer space") for _ in probes]

    machine.prober.conflicts = conflicts  # type: ignore[method-assign]
    machine.wire.hold("h1", "20.0.0.17", container("web", 17).mac)
    await booted(machine, container("web", 17))
    seen = await machine.until(phases(Phase.FAILED))
    assert one(seen, "web/blue").reason == "PROBE_FAILED"
    seen = await machine.until(phases(Phase.READY), timeout=20)
    assert ("web/blue", "PROBE_FAILED") in [(problem.object, problem.reason) for problem in seen.problems]


async def test_a_bug_in_probing_does_not_hold_for_ever(machine: Machine) -> None:
    async def conflicts(probes: Sequence[ConflictProbe]) -> list[str | TrunklineError]:
        raise ZeroDivisionError

    machine.prober.conflicts = conflicts  # type: ignore[method-assign]
    machine.wire.hold("h1", "20.0.0.17", container("web", 17).mac)
    await booted(machine, container("web", 17))
    seen = await machine.until(phases(Phase.FAILED))
    assert one(seen, "web/blue").reason == "INTERNAL"
    await machine.until(phases(Phase.READY), timeout=20)


async def test_on_a_dead_wire_nothing_is_judged(machine: Machine) -> None:
    machine.kernel.change(machine.kernel.host, machine.uplink, carrier=False)
    sub = machine.kernel.add_link(
        machine.kernel.host, "up0.10", "vlan", parent=machine.uplink, vlan=10, carrier=False,
        alias="trunkline:vlan:default:10",
    )  # fmt: skip
    await booted(machine, container("web", 17))
    seen = await machine.until(phases(Phase.FAILED))
    assert one(seen, "web/blue").reason == "UPLINK_DOWN"
    machine.kernel.change(machine.kernel.host, sub, carrier=True)
    await machine.until(phases(Phase.READY))


async def test_a_controllers_word_frees_suspects_but_not_conflicts(machine: Machine) -> None:
    machine.prober.failing = "still loading"
    await booted(machine, container("web", 17))
    await machine.until(phases(Phase.FAILED))
    machine.loop.want(Desired("e", 6, (BLUE,), (container("web", 17),)))
    await machine.until(phases(Phase.READY))


async def test_a_conflict_heard_too_late_is_told(machine: Machine) -> None:
    """The controller vouched while the probe was under way: the interface is up, and two answer for its address."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def conflicts(probes: Sequence[ConflictProbe]) -> list[str | TrunklineError]:
        asked.set()
        await answer.wait()
        return ["0a:00:00:00:00:99" for _ in probes]

    machine.prober.conflicts = conflicts  # type: ignore[method-assign]
    await booted(machine, container("web", 17))
    await asked.wait()
    machine.loop.want(Desired("e", 6, (BLUE,), (container("web", 17),)))
    await machine.until(phases(Phase.READY))
    answer.set()
    seen = await machine.until(lambda seen: any(one.reason == "ADDRESS_CONFLICT" for one in seen.problems))
    assert phases(Phase.READY)(seen)


async def test_a_new_attachment_reads_its_own_namespace_only(machine: Machine) -> None:
    crowd = [container(f"c{number}", number) for number in range(30, 40)]
    for one_of in (*crowd, container("web", 17)):
        machine.run_container(one_of.target.value)
        machine.wire.hold("h1", one_of.addresses[0].partition("/")[0], one_of.mac)
    loop = machine.start()
    loop.want(Desired("e", 1, (BLUE,), tuple(crowd)))
    await machine.until(lambda seen: {one.phase for one in seen.attachments} == {Phase.READY})
    await machine.quiet()
    read: list[str] = []
    honest = machine.links.interfaces

    async def counted(namespaces: Sequence[Namespace]) -> list[list[Interface] | TrunklineError]:
        read.extend(namespace.path for namespace in namespaces)
        return await honest(namespaces)

    machine.links.interfaces = counted  # type: ignore[method-assign]
    machine.kernel.changed.clear()  # nobody hears of the new link, so only the desired state wakes
    loop.want(Desired("e", 2, (BLUE,), (*crowd, container("web", 17))))
    await machine.until(lambda seen: seen.revision == 2 and {one.phase for one in seen.attachments} == {Phase.READY})
    assert set(read) == {"/proc/web/ns/net"}
    assert not any(one.reason == "VERIFY_FAILED" for seen in machine.seen for one in seen.attachments)


async def test_what_was_changed_is_read_again(machine: Machine) -> None:
    machine.run_container("web")
    loop = machine.start()
    loop.want(Desired("e", 1, (BLUE,), (container("web", 17),)))
    await machine.until(phases(Phase.READY))
    await machine.quiet()
    machine.kernel.changed.clear()
    moved = replace(container("web", 17), addresses=("20.0.0.21/24",))
    loop.want(Desired("e", 2, (BLUE,), (moved,)))
    seen = await machine.until(lambda seen: seen.revision == 2)
    assert phases(Phase.READY)(seen)
    assert one(seen, "web/blue").addresses == ("20.0.0.21/24",)


async def test_a_stopped_container_stays_suspect_until_it_runs(machine: Machine) -> None:
    machine.wire.hold("", "20.0.0.17", "0a:00:00:00:00:99")
    machine.spool.keep_desired(Desired("e", 5, (BLUE,), (container("web", 17),)))
    machine.targets.containers["web"] = None
    machine.start()
    await machine.until(phases(Phase.WAITING))
    machine.run_container("web")
    seen = await machine.until(phases(Phase.FAILED))
    assert one(seen, "web/blue").reason == "ADDRESS_CONFLICT"


async def test_what_is_there_after_a_restart_of_the_agent_is_not_probed(machine: Machine) -> None:
    machine.run_container("web")
    wanted = Desired("e", 5, (BLUE,), (container("web", 17),))
    machine.start().want(wanted)
    await machine.until(phases(Phase.READY))
    await machine.stop()
    machine.prober.failing = "must not be asked"
    machine.seen.clear()
    machine.start()
    await machine.until(phases(Phase.READY))


# Intake


def test_intake_follows_the_laws_of_history() -> None:
    intake = Intake("h1")
    assert not intake.removals
    assert intake.offer(Desired("e1", 5))
    assert intake.removals
    assert not intake.offer(Desired("e1", 4))
    assert [problem.reason for problem in intake.problems()] == ["REVISION_OLD"]
    assert intake.offer(Desired("e1", 5))
    assert intake.problems() == ()
    assert intake.offer(Desired("e2", 1))
    assert not intake.removals
    assert [problem.reason for problem in intake.problems()] == ["EPOCH_CHANGED"]
    intake.accept_epoch()
    assert intake.removals
    assert intake.accepted == "e2"


def test_an_unaccepted_history_stays_so_over_a_restart() -> None:
    intake = Intake("h1", accepted="e1")
    intake.restore(Desired("e2", 3))
    assert not intake.removals


async def test_a_sweep_that_cannot_be_had_is_not_tried_again_and_again(machine: Machine) -> None:
    """A sub-interface that nobody needs waits for a sweep; while the namespaces cannot be listed, the loop rests."""
    sweeps = 0

    async def refuse() -> list[Namespace]:
        nonlocal sweeps
        sweeps += 1
        raise TrunklineError(Reason.KERNEL_REFUSED, "processes may not be looked at")

    alias = naming.subinterface_mark("default", 10)
    machine.kernel.add_link(machine.kernel.host, "up0.10", "vlan", parent=machine.uplink, vlan=10, alias=alias)
    machine.targets.namespaces = refuse  # type: ignore[method-assign]
    loop = machine.start()
    loop.want(Desired("e", 1))
    await machine.until(lambda seen: seen.revision == 1)
    await machine.quiet()
    before = sweeps
    await asyncio.sleep(0.2)  # twenty seconds of the machine's
    assert sweeps <= before + 1
    assert "up0.10" in [one.link.name for one in machine.kernel.space(machine.kernel.host).interfaces.values()]
