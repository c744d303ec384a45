"""Two hosts with real pools and journals, a controller that frees at once what it is not told of, and everything late,
lost or cut short: no address is ever two hosts', nor two containers'."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fakes.docked_agent import DockedAgent, HandClock
from fakes.docker import FakeDocker
from fakes.granting import FakeFabric, FakeGranter
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.docking import Granted, GrantRequest, PoolRequest
from agent.journal import NAME
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, EndpointObservation, EndpointState, Grant, HostNetwork, Prefix, Reservation

T = TypeVar("T")

NET = HostNetwork(
    "blue",
    1,
    "default",
    10,
    prefixes=(Prefix("10.9.0.0/29", "10.9.0.1"),),
    rest_seconds=5,
    hold_seconds=20,
    reserved=(Reservation("c", "10.9.0.6"),),
)
HOSTS = ("h1", "h2")
host = st.sampled_from(HOSTS)
name = st.sampled_from(["a", "b", "c"])


class LossyGranter(FakeGranter):
    """Loses the next answer when told to: the controller has given, and the host does not hear. `late` happens between
    the giving and the hearing."""

    lost = False
    late: Callable[[], Awaitable[None]] | None = None

    async def grant(self, request: GrantRequest, seconds: float) -> Granted:
        answer = await super().grant(request, seconds)
        if self.late is not None:
            late, self.late = self.late, None
            await late()
        if self.lost:
            self.lost = False
            raise TrunklineError(Reason.DEADLINE, "the answer was lost")
        return answer


class Hosts(RuleBasedStateMachine):
    """What may happen to two hosts of one fabric."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = contextlib.ExitStack()
        self.runner = self.scene.enter_context(asyncio.Runner())
        self.fabric = FakeFabric((NET,))
        self.agents: dict[str, DockedAgent] = {}
        self.ids: dict[tuple[str, str], str] = {}
        self.later: dict[tuple[str, str], str] = {}
        self.down: dict[str, Desired] = {}
        self.up: dict[str, tuple[int, tuple[EndpointObservation, ...], bool]] = {}
        clock = HandClock()
        for one in HOSTS:
            directory = Path(self.scene.enter_context(tempfile.TemporaryDirectory()))
            docker = FakeDocker()
            docker.network("blue", "10.9.0.0/29")
            agent = DockedAgent(directory, self.fabric, docker, one)
            agent.granter, agent.clock = LossyGranter(self.fabric, one), clock
            self.agents[one] = agent
            self.run(agent.start())
            self.run(agent.told())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        for agent in self.agents.values():
            self.run(agent.stop())
        self.scene.close()

    # Containers

    @rule(
        where=host,
        what=name,
        ip=st.sampled_from(["", "", "", "10.9.0.2", "10.9.0.5"]),
        named=st.booleans(),
        end=st.sampled_from(["runs", "runs", "runs", "later", "fails", "leaks", "crashes"]),
        lost=st.booleans(),
    )
    def start(self, where: str, what: str, ip: str, named: bool, end: str, lost: bool) -> None:
        agent, docker = self.agents[where], self.agents[where].docker
        key = (where, what)
        if key not in self.ids:
            self.ids[key] = docker.create(what, *docker.docker_networks.values(), ip=ip)
        container = docker.all[self.ids[key]]
        if container.runs or key in self.later:
            return
        asked = container.endpoints[0].requested
        docker.begin(container.id)
        agent.granter.lost = lost  # type: ignore[attr-defined]
        request = PoolRequest("blue", "10.9.0.0/29", asked[0] if asked else "", what if named else "")
        try:
            answer = self.run(agent.pools.request(request))
        except TrunklineError:
            docker.failed(container.id)
            return
        finally:
            agent.granter.lost = False  # type: ignore[attr-defined]
        if end == "runs":
            docker.runs(container.id, answer)
            return
        if end == "later":
            self.later[key] = answer
            return
        docker.failed(container.id)
        if end == "fails":
            self.run(agent.pools.release("blue", "10.9.0.0/29", answer.partition("/")[0]))
        if end == "crashes":
            self.run(agent.restart())

    @rule()
    def finish(self) -> None:
        """Docker is done with what it was starting."""
        for (where, what), answer in self.later.items():
            self.agents[where].docker.runs(self.ids[where, what], answer)
        self.later.clear()

    @rule(where=host, what=name, seconds=st.sampled_from([6, 25]))
    def use_up(self, where: str, what: str, seconds: int) -> None:
        """From the start to the end of a container, and of all that is kept for it."""
        self.start(where, what, "", True, "runs", False)
        self.remove(where, what)
        self.look(where)
        self.wait(seconds)
        self.look(where)

    @rule(where=host, what=name, told=st.sampled_from([True, True, False]))
    def stop(self, where: str, what: str, told: bool) -> None:
        docker = self.agents[where].docker
        container = docker.all.get(self.ids.get((where, what), ""))
        if container is None or not container.runs:
            return
        docker.ends(container.id)
        if told:
            address = container.endpoints[0].addresses[0].partition("/")[0]
            self.run(self.agents[where].pools.release("blue", "10.9.0.0/29", address))

    @rule(where=host, what=name)
    def remove(self, where: str, what: str) -> None:
        if (where, what) in self.later:
            return
        self.stop(where, what, True)
        if (where, what) in self.ids:
            self.agents[where].docker.remove(self.ids.pop((where, what)))

    # The agent and the controller, each message as late as it likes

    @rule(where=host)
    def look(self, where: str) -> None:
        self.run(self.agents[where].seen())

    @rule(where=host)
    def observe(self, where: str) -> None:
        agent = self.agents[where]
        assert agent.spooled is not None
        self.up[where] = (agent.spooled.revision, agent.pools.endpoints(), agent.pools.complete)

    @rule(where=host)
    def settle(self, where: str) -> None:
        if where in self.up:
            self.fabric.settle(where, *self.up.pop(where))

    @rule(where=host)
    def send(self, where: str) -> None:
        self.down[where] = self.fabric.desired(where)

    @rule(where=host)
    def deliver(self, where: str) -> None:
        agent = self.agents[where]
        desired = self.down.pop(where, None)
        assert agent.spooled is not None
        if desired is not None and desired.revision >= agent.spooled.revision:
            self.run(agent.pools.desired(desired))
            agent.spooled = desired

    @rule(where=host)
    def round_trip(self, where: str) -> None:
        self.observe(where)
        self.settle(where)
        self.send(where)
        self.deliver(where)

    @rule(pick=st.integers(0, 9), owner=st.sampled_from(["", "c"]))
    def recall(self, pick: int, owner: str) -> None:
        if self.fabric.held:
            network, address = sorted(self.fabric.held)[pick % len(self.fabric.held)]
            self.fabric.recall(network, address, owner)

    @rule(where=host)
    def top_up(self, where: str) -> None:
        with contextlib.suppress(TrunklineError):
            self.fabric.give(where, GrantRequest("blue", 4))

    @rule(seconds=st.sampled_from([1, 6, 25, 121, -20, -3600]))
    def wait(self, seconds: int) -> None:
        self.finish()
        self.agents["h1"].clock.ms += seconds * 1000

    @rule(where=host)
    def restart(self, where: str) -> None:
        self.run(self.agents[where].restart())

    @rule(where=host, cut=st.integers(0, 400), how=st.sampled_from(["gone", "cut", "rotten"]))
    def lose_journal(self, where: str, cut: int, how: str) -> None:
        agent = self.agents[where]
        self.run(agent.stop())
        path = agent.directory / NAME
        data = path.read_bytes() if path.exists() else b""
        if how == "gone":
            path.unlink(missing_ok=True)
        elif how == "rotten" and data:
            at = cut % len(data)
            path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        elif how == "cut" and data:
            path.write_bytes(data + data[: cut % data.index(b"\n")])
        self.run(agent.start())

    # The law

    @invariant()
    def nothing_is_twice(self) -> None:
        running = [
            (address.partition("/")[0], where, container.name)
            for where, agent in self.agents.items()
            for container in agent.docker.all.values()
            if container.runs
            for endpoint in container.endpoints
            for address in endpoint.addresses
        ]
        running += [(answer.partition("/")[0], *key) for key, answer in self.later.items()]
        addresses = [one[0] for one in running]
        assert len(addresses) == len(set(addresses)), running
        first, second = (set(agent.pools.entries()) for agent in self.agents.values())
        assert not first & second
        for where, agent in self.agents.items():
            for key in agent.pools.entries():
                assert self.fabric.held[key].host == where if key in self.fabric.held else True
        promised = [one for one in running if one[0] == "10.9.0.6"]
        assert all(one[2] == "c" for one in promised), promised

    @invariant()
    def what_runs_is_the_hosts(self) -> None:
        for where, agent in self.agents.items():
            for container in agent.docker.all.values():
                for endpoint in container.endpoints if container.runs else ():
                    for address in endpoint.addresses:
                        held = self.fabric.held.get(("blue", address.partition("/")[0]))
                        assert held is not None
                        assert held.host == where


async def gone(agent: DockedAgent) -> None:
    """A container of the host comes and goes, and its address is let go of."""
    answer = await agent.pools.request(PoolRequest("blue", "10.9.0.0/29", endpoint="a"))
    await agent.pools.release("blue", "10.9.0.0/29", answer.partition("/")[0])
    agent.clock.ms += 60_000
    await agent.seen()


async def two(tmp_path: Path) -> tuple[FakeFabric, DockedAgent, DockedAgent]:
    fabric, agents = FakeFabric((NET,)), []
    clock = HandClock()
    for one in HOSTS:
        (tmp_path / one).mkdir()
        agent = DockedAgent(tmp_path / one, fabric, FakeDocker(), one)
        agent.granter, agent.clock = LossyGranter(fabric, one), clock
        await agent.start()
        await agent.told()
        agents.append(agent)
    return fabric, agents[0], agents[1]


async def test_what_was_let_go_of_is_not_taken_from_a_state_that_did_not_know(tmp_path: Path) -> None:
    fabric, h1, h2 = await two(tmp_path)
    fabric.give("h1", GrantRequest("blue", 4))
    await h1.told()
    assert list(h1.pools.entries()) == [("blue", "10.9.0.2")]
    await gone(h1)
    assert h1.spooled is not None
    without = (h1.spooled.revision, h1.pools.endpoints(), h1.pools.complete)
    for restarts in (False, True):
        fabric.revision += 1
        if restarts:
            await h1.restart()
        await h1.told()
        assert [grant.address for grant in h1.spooled.grants] == ["10.9.0.2"]
        assert h1.pools.entries() == {}
    fabric.settle("h1", *without)
    assert (await h2.pools.request(PoolRequest("blue", "10.9.0.0/29"))).startswith("10.9.0.2/")
    await h1.stop()
    await h2.stop()


async def test_an_answer_that_comes_when_the_address_was_taken_back_is_not_used(tmp_path: Path) -> None:
    """Another is asked for instead: Docker is not refused."""
    fabric, h1, h2 = await two(tmp_path)

    async def meanwhile() -> None:
        fabric.recall("blue", "10.9.0.2")
        await h1.told()
        await h1.seen()
        h1.observe()
        assert (await h2.pools.request(PoolRequest("blue", "10.9.0.0/29"))).startswith("10.9.0.2/")

    assert isinstance(h1.granter, LossyGranter)
    h1.granter.late = meanwhile
    assert (await h1.pools.request(PoolRequest("blue", "10.9.0.0/29"))).startswith("10.9.0.3/")
    await h1.stop()
    await h2.stop()


async def test_what_is_another_hosts_by_now_is_not_handed_out(tmp_path: Path) -> None:
    """The store lost what it gave, gave it to another host, and says so; nothing may be removed here before an operator
    agreed."""
    fabric, h1, h2 = await two(tmp_path)
    for owner in ("a", "b"):
        await h1.pools.request(PoolRequest("blue", "10.9.0.0/29", endpoint=owner))
        h1.docker.create(owner, *h1.docker.docker_networks.values())
    await h1.pools.release("blue", "10.9.0.0/29", "10.9.0.3")
    await h1.seen()
    fabric.give("h1", GrantRequest("blue", 4))
    await h1.told()
    assert {address: state for address, (state, _) in h1.states("blue").items()} == {
        "10.9.0.2": EndpointState.USED,
        "10.9.0.3": EndpointState.KEPT,
        "10.9.0.4": EndpointState.STOCK,
    }
    fabric.epoch, fabric.held = "e2", {}
    for _ in range(3):
        fabric.give("h2", GrantRequest("blue", 4))
    wanted = tuple(Grant("blue", f"10.9.0.{last}", recalled=True, revision=fabric.revision) for last in (2, 3, 4))
    await h1.pools.desired(replace(fabric.desired("h1"), grants=wanted), removals=False)
    assert len(h1.pools.entries()) == 3
    assert (await h1.pools.request(PoolRequest("blue", "10.9.0.0/29", endpoint="b"))).startswith("10.9.0.5/")
    with pytest.raises(TrunklineError) as refused:
        await h1.pools.request(PoolRequest("blue", "10.9.0.0/29", "10.9.0.4"))
    assert refused.value.reason is Reason.ADDRESS_TAKEN
    await h1.stop()
    await h2.stop()


async def test_stock_that_the_controller_does_not_know_of_any_more_goes(tmp_path: Path) -> None:
    """The host was forgotten while it was away, and comes back with what it had."""
    fabric, h1, h2 = await two(tmp_path)
    fabric.give("h1", GrantRequest("blue", 4))
    await h1.told()
    fabric.held.clear()
    fabric.give("h2", GrantRequest("blue", 4))
    await h1.told()
    assert h1.pools.entries() == {}
    assert (await h1.pools.request(PoolRequest("blue", "10.9.0.0/29"))).startswith("10.9.0.3/")
    await h1.stop()
    await h2.stop()


Hosts.TestCase.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
TestHosts = Hosts.TestCase
