"""A sub-interface that Docker made in the place of ours is ours again; nobody else's is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.loop import Memory
from agent.plan import diff
from agent.plan.state import HostConfig, Link, Observed, UplinkConfig
from agent.plan.steps import MarkLink, Step, inverse
from agent.spool import Spool
from trunkline import naming
from trunkline.model import Desired, HostNetwork, Prefix

MARK = naming.subinterface_mark("default", 10)
UP = Link(2, "enp7s0", "", "52:54:00:00:00:01", 1500, True, True)
BARE = Link(7, "enp7s0.10", "vlan", UP.mac, 1500, True, True, parent=2, vlan=10)
OURS = replace(BARE, index=3, alias=MARK)
BLUE = HostNetwork("blue", 1, "default", 10, prefixes=(Prefix("20.0.0.0/24", "20.0.0.1"),))
UPLINKS = {"default": UplinkConfig("default", "enp7s0")}
DOCKED = frozenset({"enp7s0.10"})


def planned(config: HostConfig, link: Link = BARE) -> list[Step]:
    plan = diff.plan(Desired("e", 7, (BLUE,)), Observed((UP, link), swept=True, complete=True), config)
    return [step for job in plan.jobs() for step in job.steps]


@pytest.mark.parametrize("was", [0, 3])
def test_another_link_in_the_place_of_ours_under_a_docker_network_is_marked(was: int) -> None:
    (step,) = planned(HostConfig("h1", UPLINKS, made={MARK: was}, docked=DOCKED))
    assert step == MarkLink(7, "enp7s0.10", MARK)
    assert inverse(step) == MarkLink(7, "enp7s0.10", "")


@pytest.mark.parametrize(
    ("config", "link"),
    [
        (HostConfig("h1", UPLINKS, docked=DOCKED), BARE),
        (HostConfig("h1", UPLINKS, made={MARK: 0}), BARE),
        (HostConfig("h1", UPLINKS, made={MARK: 7}, docked=DOCKED), BARE),
        (HostConfig("h1", UPLINKS, made={MARK: 0}, docked=DOCKED), replace(BARE, alias="storage of the finance team")),
        (HostConfig("h1", UPLINKS, made={MARK: 0}, docked=DOCKED | {"blue0"}), replace(BARE, name="blue0")),
    ],
    ids=["never ours", "no Docker network", "its mark was taken away", "somebody's", "under another name"],
)
def test_any_other_is_used_and_left_as_it_is(config: HostConfig, link: Link) -> None:
    assert planned(config, link) == []


async def test_a_reboot_tells_another_link_of_the_same_index(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first = Memory(spool, "h1", "boot1")
    await first.mine(Observed((UP, OURS)))
    assert first.made() == {MARK: 3}
    assert Memory(spool, "h1", "boot1").made() == {MARK: 3}
    rebooted = Memory(spool, "h1", "boot2")
    assert rebooted.made() == {MARK: 0}
    await rebooted.mine(Observed((UP, replace(OURS, alias=""))))
    assert rebooted.made() == {MARK: 0}


async def test_a_link_whose_mark_was_taken_away_is_forgotten(tmp_path: Path) -> None:
    memory = Memory(Spool(tmp_path), "h1", "boot1")
    await memory.mine(Observed((UP, OURS)))
    await memory.mine(Observed((UP, replace(OURS, alias=""))))
    assert memory.made() == {}
