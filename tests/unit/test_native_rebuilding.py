"""An interface that a running container lost with the link under it comes back; nothing else is touched."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from fakes.links import FakeKernel, FakeLinks, Route

from agent.docking import Container, DockerNetwork, Engine, Ground
from agent.native.chronicle import Chronicle
from agent.native.rebuilding import SURE_SECONDS, Rebuilder
from agent.plan.docker import DockerPool, Endpoint
from agent.plan.networks import NetworkPlan, Parent
from agent.plan.state import Namespace
from trunkline import naming
from trunkline.clock import SystemClock
from trunkline.model import Desired, HostNetwork, Prefix

MAC = "02:42:14:00:00:02"
BLUE = HostNetwork("blue", 1, "default", 10, prefixes=(Prefix("20.0.0.0/24", "20.0.0.1"),))
DOCKER_BLUE = DockerNetwork(
    "n1",
    "blue",
    "macvlan",
    parent="enp7s0.10",
    pools=(DockerPool("20.0.0.0/24", "20.0.0.1"),),
    ipam_driver=naming.DOCKER_DRIVER,
    ipam_network="blue",
    labels={naming.DOCKER_LABEL: "blue"},
)
ENDPOINT = Endpoint("n1", "blue", "e1", ("20.0.0.2/24",), (), MAC)


class Time(SystemClock):
    """Goes on only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Docker:
    """An Engine as far as it is asked: what it lists, and where the containers live."""

    places: dict[str, Namespace]
    listed: list[Container] = field(default_factory=list)

    async def containers(self) -> list[Container]:
        return list(self.listed)

    async def namespace(self, container_id: str) -> Namespace | None:
        return self.places.get(container_id)


class Stage:
    """web runs on blue with eth0, its default route included, on enp7s0.10."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.uplink = self.kernel.add_link(self.kernel.host, "enp7s0")
        self.place = self.kernel.add_namespace("/proc/web/ns/net")
        self.links = FakeLinks(self.kernel)
        self.docker = Docker({"c1": self.place}, [Container("c1", "web", "running", endpoints=(ENDPOINT,))])
        self.clock = Time()
        self.chronicle = Chronicle(self.clock)
        self.announced: list[str] = []
        self.rebuilder = Rebuilder(
            cast(Engine, self.docker),
            self.links,
            self.chronicle,
            self.clock,
            lambda: 1.0,
            lambda: None,
            self.announced.append,
        )
        self.parent = self.subinterface()
        self.kernel.add_link(
            self.place, "eth0", "macvlan", mac=MAC, parent=self.parent, parent_on_host=True, mode="bridge"
        )

    def subinterface(self) -> int:
        return self.kernel.add_link(self.kernel.host, "enp7s0.10", "vlan", vlan=10, parent=self.uplink)

    async def read(self) -> None:
        """The announcer has seen the container's interface."""
        (inside,) = await self.links.interfaces([self.place])
        assert isinstance(inside, list)
        one = next(found for found in inside if found.link.name == "eth0")
        self.rebuilder.seen("e1", replace(one, addresses=("20.0.0.2/24",), gateways=("20.0.0.1",)))

    def lose_the_link(self) -> None:
        self.kernel.remove_link(self.kernel.host, self.parent)
        self.parent = self.subinterface()

    async def look(self) -> None:
        """One look of the loop, to its end."""
        await self.begin()
        if (task := cast(Any, self.rebuilder)._task) is not None:
            await task

    async def begin(self) -> None:
        link = next(link for link in await self.links.host_links() if link.index == self.parent)
        plans = {"blue": NetworkPlan(Parent(link, True, 1500), None)}
        self.rebuilder.look(self.docker.listed, [DOCKER_BLUE], Ground(Desired("epoch", 1, (BLUE,)), True, plans))

    async def inside(self) -> dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]:
        (found,) = await self.links.interfaces([self.place])
        assert isinstance(found, list)
        return {one.link.name: (one.link.mac, one.addresses, one.gateways) for one in found if one.link.name != "lo"}


@pytest.fixture
def stage() -> Stage:
    return Stage()


BACK = {"eth0": (MAC, ("20.0.0.2/24",), ("20.0.0.1",))}


async def test_it_comes_back_as_it_was(stage: Stage) -> None:
    await stage.read()
    await stage.look()
    assert stage.announced == []
    stage.lose_the_link()
    assert await stage.inside() == {}
    await stage.look()
    assert await stage.inside() == BACK
    assert stage.announced == ["e1"]
    (event,) = stage.chronicle.events()
    assert event.object == "container web"
    assert "20.0.0.2/24" in event.message
    await stage.look()
    assert stage.rebuilder.due() is None


async def test_an_agent_that_never_saw_it_waits_a_moment_and_makes_what_docker_would(stage: Stage) -> None:
    stage.lose_the_link()
    await stage.look()
    assert await stage.inside() == {}
    due = stage.rebuilder.due()
    assert due is not None
    stage.clock.now = due
    await stage.look()
    assert await stage.inside() == BACK


async def test_a_default_route_by_another_network_stays_the_containers(stage: Stage) -> None:
    other = stage.kernel.add_link(stage.place, "eth1", "veth")
    stage.kernel.space(stage.place).routes.append(Route(other, "172.17.0.1", 0))
    stage.lose_the_link()
    await stage.look()
    stage.clock.now = stage.rebuilder.due() or 0.0
    await stage.look()
    assert (await stage.inside())["eth0"] == (MAC, ("20.0.0.2/24",), ())


async def test_one_that_is_disconnected_meanwhile_gets_nothing(stage: Stage) -> None:
    await stage.read()
    stage.lose_the_link()
    await stage.begin()
    stage.docker.listed = [replace(stage.docker.listed[0], endpoints=())]
    await cast(Any, stage.rebuilder)._task
    assert await stage.inside() == {}
    assert stage.chronicle.events() == ()
    assert stage.clock.now == 100.0 + SURE_SECONDS


async def test_one_that_is_being_started_is_left_alone(stage: Stage) -> None:
    """dockerd holds its lock: an inspection does not tell where it lives."""
    await stage.read()
    stage.lose_the_link()
    stage.docker.places.clear()
    await stage.look()
    assert await stage.inside() == {}
    stage.docker.places["c1"] = stage.place
    stage.clock.now = stage.rebuilder.due() or 0.0
    await stage.look()
    assert await stage.inside() == BACK


async def test_an_interface_whose_address_somebody_took_away_is_the_containers_affair(stage: Stage) -> None:
    await stage.look()
    stage.clock.now = stage.rebuilder.due() or 0.0
    await stage.look()
    assert await stage.inside() == {"eth0": (MAC, (), ())}
    assert stage.chronicle.events() == ()


async def test_what_the_kernel_refuses_is_a_problem_and_tried_again(stage: Stage) -> None:
    await stage.read()
    stage.lose_the_link()
    squatter = stage.kernel.add_link(stage.kernel.host, "mv0", "macvlan", mac=MAC, parent=stage.parent, mode="bridge")
    await stage.look()
    (problem,) = stage.rebuilder.problems()
    assert (problem.kind, problem.object) == ("container", "web")
    stage.kernel.remove_link(stage.kernel.host, squatter)
    stage.clock.now = stage.rebuilder.due() or 0.0
    await stage.look()
    assert await stage.inside() == BACK
    await stage.look()
    assert stage.rebuilder.problems() == ()
