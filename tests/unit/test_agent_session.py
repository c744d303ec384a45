"""Sessions with a controller that speaks real gRPC over a unix socket; the host behind the agent is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.controller import Down, FakeController
from fakes.links import FakeKernel, FakeLinks
from fakes.prober import FakeProber, FakeWire
from fakes.targets import FakeTargets

from agent.plan.state import HostConfig, UplinkConfig
from agent.session import Answers, Controllers, Dialogue, Outbox, Session, outbox
from trunkline.agent.v1 import session_pb2
from trunkline.clock import SystemClock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, HostFacts, HostNetwork, Observation, Prefix, Target, TargetKind
from trunkline.v1 import check_pb2
from trunkline.wire import network_to_pb, target_to_pb

BLUE = HostNetwork("blue", 1, "default", 0, prefixes=(Prefix("20.0.0.0/24"),), probe_mac="06:01:00:00:00:01")


class Agent:
    """The session's side of an agent."""

    def __init__(self, *endpoints: str) -> None:
        self.kernel = FakeKernel()
        self.uplink = self.kernel.add_link(self.kernel.host, "up0")
        self.links = FakeLinks(self.kernel)
        self.targets = FakeTargets(self.kernel, docker="29.0.0")
        self.wire = FakeWire()
        self.wanted: list[Desired] = []
        self.outbox = Outbox()
        config = HostConfig("h1", {"default": UplinkConfig("default", "up0")})
        answers = Answers(self.links, self.targets, FakeProber(self.wire, "h1"), lambda: config)
        dialogue = Dialogue(self.outbox, answers, self.facts, self.wanted.append)
        self.session = Session(Controllers(endpoints, None), dialogue, SystemClock(), lambda: 0.2)
        self.task: asyncio.Task[None] | None = None

    async def facts(self) -> HostFacts:
        return HostFacts("h1", "0123", epoch="e1", revision=7)

    def start(self) -> None:
        self.task = asyncio.create_task(self.session.run())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[FakeController]:
    made = FakeController(tmp_path / "c.sock")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def agent(controller: FakeController) -> AsyncIterator[Agent]:
    made = Agent(controller.endpoint)
    yield made
    await made.stop()


async def test_hello_carries_what_is_in_force(agent: Agent, controller: FakeController) -> None:
    agent.start()
    await controller.until(lambda: bool(controller.hellos))
    hello = controller.hellos[0]
    assert (hello.host, hello.machine_id, hello.epoch, hello.revision) == ("h1", "0123", "e1", 7)


async def test_the_latest_observation_goes_up_and_again_in_the_next_session(
    agent: Agent, controller: FakeController
) -> None:
    for revision in (1, 2, 3):
        agent.outbox.report(Observation("e1", revision))
    agent.start()
    await controller.until(lambda: bool(controller.observations))
    assert [(seen.revision, seen.session) for seen in controller.observations] == [(3, 1)]
    await controller.stop()
    await controller.start()
    await controller.until(lambda: len(controller.observations) == 2)
    assert (controller.observations[1].revision, controller.observations[1].session) == (3, 2)


async def test_a_bug_in_sending_ends_the_session(
    agent: Agent, controller: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Observation) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(outbox, "observation_to_pb", broken)
    agent.start()
    await controller.until(lambda: controller.sessions == 1)
    agent.outbox.report(Observation("e1", 1))
    await controller.until(lambda: len(controller.hellos) == 2)
    monkeypatch.undo()
    await controller.until(lambda: bool(controller.observations))


async def test_desired_states_come_down(agent: Agent, controller: FakeController) -> None:
    controller.want(Desired("e1", 5, (BLUE,)))
    agent.start()
    await controller.until(lambda: bool(controller.hellos))
    controller.want(Desired("e1", 6, (BLUE,)))
    agent.outbox.report(Observation("e1", 0))
    await controller.until(lambda: bool(controller.observations))
    async with asyncio.timeout(5):
        while not agent.wanted or agent.wanted[-1].revision != 6:
            await asyncio.sleep(0.01)
    assert agent.wanted[-1].networks == (BLUE,)


def question(target: Target, ifname: str = "", network: HostNetwork = BLUE) -> Down:
    asked = session_pb2.InspectTarget(id=9, target=target_to_pb(target), network=network_to_pb(network), ifname=ifname)
    return Down(inspect=asked)


async def test_targets_are_judged_with_exact_reasons(agent: Agent, controller: FakeController) -> None:
    place = agent.kernel.add_namespace("/run/netns/a")
    agent.kernel.add_link(place, "eth0", "veth")
    agent.targets.containers.update({"web": place.path, "asleep": None})
    agent.start()
    await controller.until(lambda: controller.sessions == 1)
    web = Target(TargetKind.CONTAINER, "web")
    expected = {
        "": question(web),
        "IFNAME_TAKEN": question(web, "eth0"),
        "CONTAINER_NOT_RUNNING": question(Target(TargetKind.CONTAINER, "asleep")),
        "CONTAINER_NOT_FOUND": question(Target(TargetKind.CONTAINER, "nobody")),
        "NETNS_NOT_FOUND": question(Target(TargetKind.NETNS, "/run/netns/x")),
        "NETNS_IS_HOST": question(Target(TargetKind.NETNS, "/proc/1/ns/net")),
        "UPLINK_NOT_ON_HOST": question(web, network=HostNetwork("red", 2, "storage", 5)),
        "UPLINK_MTU": question(web, network=HostNetwork("red", 2, "default", 5, mtu=9000)),
    }
    for number, (reason, asked) in enumerate(expected.items(), 1):
        controller.send(asked)
        await controller.until(lambda number=number: len(controller.targets) == number)  # type: ignore[misc]
        report = controller.targets[-1]
        assert (report.id, report.reason) == (9, reason)
        assert bool(report.message) == bool(reason)
    assert controller.targets[0].name == "web"


async def test_probes_stream_and_end(agent: Agent, controller: FakeController) -> None:
    agent.wire.hold("", "20.0.0.1", "06:aa:00:00:00:01")
    agent.start()
    await controller.until(lambda: controller.sessions == 1)
    asked = session_pb2.ProbeAddress(address="20.0.0.1", kind=check_pb2.PROBE_KIND_GATEWAY)
    run = session_pb2.ProbeRun(id=4, network=network_to_pb(BLUE), addresses=[asked], timeout_ms=300)
    controller.send(Down(probe=run))
    await controller.until(lambda: any(report.done for report in controller.probes))
    results = [result for report in controller.probes for result in report.results]
    assert [(result.kind, result.outcome, result.mac) for result in results] == [
        (check_pb2.PROBE_KIND_GATEWAY, check_pb2.PROBE_OUTCOME_OK, "06:aa:00:00:00:01")
    ]
    assert controller.probes[-1].error == ""


async def test_a_probe_that_cannot_be_says_why(agent: Agent, controller: FakeController) -> None:
    agent.start()
    await controller.until(lambda: controller.sessions == 1)
    tagged = HostNetwork("red", 2, "default", 5, probe_mac="06:02:00:00:00:01")
    controller.send(Down(probe=session_pb2.ProbeRun(id=5, network=network_to_pb(tagged), timeout_ms=100)))
    await controller.until(lambda: any(report.done for report in controller.probes))
    assert "h1 cannot probe red" in controller.probes[-1].error


async def test_it_comes_back_after_a_refusal(
    agent: Agent, controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.refuse = TrunklineError(Reason.HOST_MACHINE_MISMATCH, "another machine", "forget it first")
    agent.start()
    await controller.until(lambda: len(controller.hellos) >= 4)
    controller.refuse = None
    await controller.until(lambda: controller.sessions == 1)
    assert capsys.readouterr().err.count("HOST_MACHINE_MISMATCH") <= 1 + len(controller.hellos)  # the server logs, too


async def test_silence_is_logged_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent = Agent(f"unix:{tmp_path}/nobody.sock")
    asked = 0
    facts = agent.facts

    async def counted() -> HostFacts:
        nonlocal asked
        asked += 1
        return await facts()

    agent.session._facts = counted
    agent.start()
    async with asyncio.timeout(10):
        while asked < 5:
            await asyncio.sleep(0.01)
    await agent.stop()
    assert capsys.readouterr().err.count("no session") == 1


async def test_the_second_endpoint_is_dialled(controller: FakeController, tmp_path: Path) -> None:
    agent = Agent(f"unix:{tmp_path}/nobody.sock", controller.endpoint)
    agent.start()
    await controller.until(lambda: controller.sessions == 1)
    await agent.stop()
