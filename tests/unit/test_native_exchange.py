"""Exchanging a hand-made Docker network: whatever fails, and wherever the agent dies, every container ends connected
with its address, or it is said which one does not."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from fakes.handmade_docker import MemoryDocker, MemorySpool, OneUplink, hand

from agent.docking import Engine, Handmade
from agent.native.exchange import Bench
from agent.native.expected import Expected
from agent.native.replace import Replacer
from agent.plan import handmade
from agent.plan.handmade import Step
from agent.plan.state import HostConfig, UplinkConfig
from agent.ports import Links
from trunkline.clock import SystemClock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, HostNetwork, Prefix

NETWORK = HostNetwork("hand", 1, "default", 0, prefixes=(Prefix("20.0.0.0/24", "20.0.0.1"),), imported=True)
CALLS = 40
"""More than an exchange makes; a kill after the last call is none."""

WEB, DB, OLD = ("20.0.0.11", ("web-alias",)), ("20.0.0.12", ("db-alias",)), ("20.0.0.13", ("old-alias",))
ALL = {"web": WEB, "db": DB, "old": OLD}


class Clock(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class World:
    """Docker, disk and desired state of a host; agents come and go on it."""

    def __init__(self) -> None:
        self.docker = MemoryDocker()
        self.spool = MemorySpool()
        self.desired: Desired | None = Desired("e", 1, (NETWORK,))
        self.held: set[str] | None = None
        self.looks = 0
        self.old = self.docker.add_network(hand("eth0"))
        self.docker.add(self.old, "web", "20.0.0.11")
        self.docker.add(self.old, "db", "20.0.0.12", fixed=True)
        self.docker.add(self.old, "old", "20.0.0.13", running=False)
        self.expected = Expected()

    def agent(self) -> Replacer:
        async def held(_: str) -> set[str]:
            return {f"20.0.0.{n}" for n in range(256)} if self.held is None else self.held

        docker = cast(Any, self.docker)
        self.expected = Expected()
        return Replacer(
            Bench(
                engine=cast(Engine, docker),
                handmade=cast(Handmade, docker),
                links=cast(Links, OneUplink()),
                spool=self.spool,
                expected=self.expected,
                config=lambda: HostConfig("docker1", {"default": UplinkConfig("default", "eth0")}),
                desired=lambda: self.desired,
                held=held,
                look=lambda: None,
                clock=Clock(),
            )
        )

    async def replace(self) -> list[Step]:
        return [step async for step in self.agent().replace("hand")]

    async def refused(self) -> TrunklineError:
        with pytest.raises(TrunklineError) as caught:
            await self.replace()
        return caught.value

    async def finish(self) -> None:
        """The next life of the agent, until it has nothing left to finish."""
        task = asyncio.create_task(self.agent().run())
        try:
            async with asyncio.timeout(5):
                while self.spool.kept:
                    await asyncio.sleep(0.001)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def there(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        return self.docker.on(self.docker.named_id("hand"))

    def is_ours(self) -> bool:
        return handmade.owned_by_us(self.docker.networks_by_id.values(), "hand") is not None


@pytest.fixture
def world() -> World:
    return World()


async def test_every_container_keeps_address_and_aliases(world: World) -> None:
    steps = await world.replace()
    assert world.is_ours()
    assert world.there() == ALL
    assert {step.container for step in steps if step.container} == {"web", "db", "old"}
    assert world.spool.kept == {}
    assert world.expected.user("hand", "20.0.0.11") == "", "it is over"
    assert [step.message for step in await world.replace()] == ["nothing to exchange"]


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("dies", range(1, CALLS))
async def test_the_next_life_finishes_what_a_killed_agent_began(world: World, dies: int, late: bool) -> None:
    world.docker.dies, world.docker.late = dies, late
    await world.replace()  # it ends without a word
    world.docker.dies = 0
    begun = bool(world.spool.kept)
    await world.finish()
    assert world.there() == ALL, world.docker.calls
    if begun:
        assert world.is_ours()
    await world.replace()
    assert world.is_ours()
    assert world.there() == ALL


@pytest.mark.parametrize("second", range(1, CALLS, 3))
@pytest.mark.parametrize("first", range(4, CALLS, 3))
async def test_a_life_that_is_cut_short_too_changes_nothing_about_that(world: World, first: int, second: int) -> None:
    world.docker.dies, world.docker.late = first, True
    await world.replace()
    world.docker.calls.clear()
    world.docker.dies = second
    task = asyncio.create_task(world.agent().run())
    for _ in range(200):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    world.docker.dies = 0
    await world.finish()
    assert world.there() == ALL, world.docker.calls


@pytest.mark.parametrize("call", ["disconnect", "remove_network"])
async def test_as_long_as_the_old_network_stands_it_is_undone(world: World, call: str) -> None:
    world.docker.refuses = {call: 9}
    error = await world.refused()
    assert "every container is on the hand-made network again" in error.message
    assert world.docker.named_id("hand") == world.old
    assert world.there() == ALL
    assert world.spool.kept == {}


async def test_if_ours_cannot_be_made_the_old_network_is_made_again(world: World) -> None:
    world.docker.refuses = {"create_network": 3}
    error = await world.refused()
    assert error.reason is Reason.DOCKER_NETWORK_FAILED
    assert "refuses to create_network" in error.message
    assert "every container is on the hand-made network again" in error.message
    assert not world.is_ours()
    running = {name: had for name, had in world.there().items() if name != "old"}
    assert running == {"web": WEB, "db": DB}
    assert world.spool.kept == {}


async def test_if_neither_can_be_made_it_is_said_and_tried_again(world: World) -> None:
    world.docker.refuses = {"create_network": 3, "create": 1}
    error = await world.refused()
    assert "containers off the network: web, db" in error.message
    assert world.spool.kept
    await world.finish()
    assert world.is_ours()
    assert world.there() == ALL


async def test_one_that_cannot_be_connected_is_named_and_tried_again(world: World) -> None:
    world.docker.refuses = {"connect": 7}
    error = await world.refused()
    assert "off the network" in error.message
    assert "web" in error.message
    assert world.expected.user("hand", "20.0.0.11") == "id-web", "its address stays its own"
    await world.finish()
    assert world.is_ours()
    assert world.there() == ALL


async def test_a_failed_exchange_goes_on_without_being_asked(world: World) -> None:
    agent = world.agent()
    task = asyncio.create_task(agent.run())
    world.docker.refuses = {"connect": 7}
    with pytest.raises(TrunklineError):
        [step async for step in agent.replace("hand")]
    async with asyncio.timeout(5):
        while world.spool.kept:
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert world.there() == ALL


async def test_a_container_that_is_started_meanwhile_comes_along(world: World) -> None:
    world.docker.joins = "late"
    await world.replace()
    assert world.is_ours()
    assert world.there() == ALL | {"late": ("20.0.0.99", ("late-alias",))}


async def test_a_container_that_is_removed_meanwhile_is_no_reason_to_stop(world: World) -> None:
    world.docker.dies, world.docker.late = 9, True
    await world.replace()
    del world.docker.boxes["id-web"]
    world.docker.dies = 0
    await world.finish()
    assert world.is_ours()
    assert world.there() == {"db": DB, "old": OLD}


@pytest.mark.parametrize(
    ("change", "mentions"),
    [
        ({"imported": False}, "was not imported"),
        ({"vlan": 10}, "is not VLAN 10"),
        ({"mtu": 1400}, "has MTU 1400"),
        ({"prefixes": (Prefix("30.0.0.0/24"),)}, "web has 20.0.0.11"),
    ],
)
async def test_what_would_fail_later_is_refused_before_anything_is_touched(
    world: World, change: dict[str, Any], mentions: str
) -> None:
    fields = {name: getattr(NETWORK, name) for name in NETWORK.__dataclass_fields__}
    world.desired = Desired("e", 1, (HostNetwork(**{**fields, **change}),))
    error = await world.refused()
    assert error.reason is Reason.IMPORT_REFUSED
    assert mentions in error.message
    assert "nothing was changed" in error.message
    assert world.there() == ALL
    assert world.docker.named_id("hand") == world.old
    assert world.spool.kept == {}
    assert "disconnect" not in world.docker.calls


async def test_addresses_that_the_ledger_lacks_are_not_risked(world: World) -> None:
    world.held = {"20.0.0.11"}
    error = await world.refused()
    assert "db (20.0.0.12)" in error.message
    assert "disconnect" not in world.docker.calls


async def test_a_container_that_has_the_network_by_its_id_is_not_cut_off_for_good(world: World) -> None:
    world.docker.boxes["id-web"].by_id = True
    error = await world.refused()
    assert "web has the network by its id" in error.message
    assert "nothing was changed" in error.message
    assert "disconnect" not in world.docker.calls


async def test_without_a_desired_state_nothing_is_begun(world: World) -> None:
    world.desired = None
    assert (await world.refused()).reason is Reason.CONTROLLER_UNREACHABLE
    assert world.there() == ALL


async def test_a_network_that_is_wanted_no_more_is_put_back(world: World) -> None:
    world.docker.dies, world.docker.late = 9, True
    await world.replace()
    assert world.spool.kept
    world.docker.dies = 0
    world.desired = Desired("e", 2)
    await world.finish()
    assert not world.is_ours()
    assert {name: had for name, had in world.there().items() if name != "old"} == {"web": WEB, "db": DB}


async def test_who_asks_twice_joins_and_who_leaves_ends_nothing(world: World) -> None:
    agent = world.agent()
    first = agent.replace("hand")
    await anext(first)
    await first.aclose()  # type: ignore[attr-defined]
    steps = [step async for step in agent.replace("hand")]
    assert steps[-1].message == "the network is exchanged"
    assert world.there() == ALL
