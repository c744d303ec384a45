"""What is wrong with a host, as an operator meets it in the program: a real agent on a simulated kernel that has been
set up badly, a real controller, and the command. Nothing of anybody else's is touched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from contract.cli.terminal import Cli, contents, refused
from contract.controller.rig import Rig
from fakes.machine import Machine

from agent.plan.state import UplinkConfig
from controller.store.memory import MemoryStore
from trunkline import log
from trunkline.errors import Reason, TrunklineError


@pytest.fixture
async def machine(rig: Rig, tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine("docker1", rig.endpoint, tmp_path / "state")
    for name in ("web", "db"):
        machine.run_container(name)
    yield machine
    await machine.stop()


async def up(rig: Rig, machine: Machine) -> None:
    """Run the agent, and wait for its session."""
    machine.start()
    await rig.until_host(machine.host, lambda seen: seen.host.connected)


def unplugged(machine: Machine) -> None:
    machine.kernel.remove_link(machine.kernel.host, machine.uplink)


def dead(machine: Machine) -> None:
    """The uplink is down, and does not come up."""
    machine.kernel.change(machine.kernel.host, machine.uplink, up=False)

    def refuse(step: str) -> None:
        if step == "set_up":
            raise TrunklineError(Reason.KERNEL_REFUSED, "cannot set enp7s0 up: Operation not possible due to RF-kill")

    machine.links.before = refuse


def bonded(machine: Machine) -> None:
    bond = machine.kernel.add_link(machine.kernel.host, "bond0", "bond")
    machine.kernel.change(machine.kernel.host, machine.uplink, master=bond)
    machine.uplinks = (UplinkConfig("default", "enp7s0"), UplinkConfig("storage", "bond0"))


def in_the_way(machine: Machine) -> None:
    machine.kernel.add_link(machine.kernel.host, "enp7s0.10", "dummy")


def narrow(machine: Machine) -> None:
    """Somebody's own sub-interface carries the VLAN, with a smaller MTU than the network needs."""
    machine.kernel.add_link(machine.kernel.host, "enp7s0.10", "vlan", parent=machine.uplink, vlan=10, mtu=1400)


BLUE = ("network", "create", "blue", "--subnet", "20.0.0.0/24", "--no-gateway", "--vlan", "10", "--mtu", "1500")

BADLY: dict[str, tuple[Callable[[Machine], None], Reason, tuple[str, ...]]] = {
    "uplink missing": (unplugged, Reason.UPLINK_MISSING, ("docker1", "enp7s0", "default")),
    "two labels on one device": (bonded, Reason.UPLINK_SHARED, ("docker1", "default", "storage", "both reach")),
    "name taken by a foreign link": (in_the_way, Reason.LINK_CLASH, ("docker1", "enp7s0.10", "dummy")),
    "foreign sub-interface with a small MTU": (narrow, Reason.UPLINK_MTU, ("docker1", "enp7s0.10", "1400", "1500")),
}


@pytest.mark.parametrize("wrong", BADLY)
async def test_host_that_is_set_up_badly(rig: Rig, memory: MemoryStore, machine: Machine, cli: Cli, wrong: str) -> None:
    spoil, reason, mentions = BADLY[wrong]
    spoil(machine)
    before = machine.names()
    await up(rig, machine)
    made = await cli(*BLUE, "--deadline", "3")
    assert made.code != 0, made
    for word in mentions:
        assert word in made.part("error"), made
    assert "trunkline network show blue" in made.part("next"), made
    shown = await cli("network", "show", "blue", "-o", "json")
    assert [host["reason"] for host in json.loads(shown.out)["hosts"]] == [reason.name], shown
    unchanged = await contents(memory)
    refused(await cli("attach", "docker1/web", "--network", "blue"), reason, 4, *mentions)
    assert await contents(memory) == unchanged, "an attachment that cannot be is not half there"
    assert machine.names() == before, "nothing was made, and nothing of anybody else's was touched"


async def test_uplink_that_stays_down(rig: Rig, machine: Machine, cli: Cli) -> None:
    dead(machine)
    await up(rig, machine)
    made = await cli(*BLUE, "--deadline", "3")
    assert made.code != 0, made
    for word in ("docker1", "enp7s0", "RF-kill"):
        assert word in made.part("error"), made
    assert machine.names() == {"lo", "enp7s0"}
    status = await cli("status")
    assert "enp7s0" in status.out, status


@pytest.mark.parametrize(
    ("container", "reason", "code"),
    [
        ("ghost", Reason.CONTAINER_NOT_FOUND, 3),
        ("stopped", Reason.CONTAINER_NOT_RUNNING, 4),
        ("hostnet", Reason.CONTAINER_HOST_NETWORK, 4),
    ],
)
async def test_container_that_cannot_be_attached(
    rig: Rig, memory: MemoryStore, machine: Machine, cli: Cli, container: str, reason: Reason, code: int
) -> None:
    machine.targets.containers.update({"stopped": None, "hostnet": machine.kernel.host.path})
    await up(rig, machine)
    assert (await cli(*BLUE)).code == 0
    before = await contents(memory)
    told = await cli("attach", f"docker1/{container}", "--network", "blue")
    refused(told, reason, code, container, "docker1")
    assert await contents(memory) == before


async def test_interface_name_that_is_taken(rig: Rig, memory: MemoryStore, machine: Machine, cli: Cli) -> None:
    space = machine.kernel.spaces["/proc/web/ns/net"]
    machine.kernel.add_link(space.namespace, "eth0", "veth")
    await up(rig, machine)
    assert (await cli(*BLUE)).code == 0
    before = await contents(memory)
    told = await cli("attach", "docker1/web", "--network", "blue", "--ifname", "eth0")
    refused(told, Reason.IFNAME_TAKEN, 4, "eth0", "web", "docker1")
    assert await contents(memory) == before


async def test_another_machine_under_a_known_name(
    rig: Rig, memory: MemoryStore, machine: Machine, cli: Cli, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    await up(rig, machine)
    await machine.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    before = await contents(memory)
    twin = Machine("docker1", rig.endpoint, tmp_path / "twin")
    twin.machine_id = "another"
    said = ""
    try:
        log.setup("warning", json=True)
        twin.start()
        async with asyncio.timeout(10):
            while "HOST_MACHINE_MISMATCH" not in said:
                said += capfd.readouterr().err
                await asyncio.sleep(0.02)
    finally:
        await twin.stop()
    for word in ("docker1", "machine-of-docker1", "another", "trunkline host forget docker1"):
        assert word in said
    assert await contents(memory) == before
    assert (await cli("host", "show", "docker1")).code == 0


async def test_spool_that_cannot_be_read_is_reported_and_kept(
    rig: Rig, machine: Machine, cli: Cli, tmp_path: Path
) -> None:
    await up(rig, machine)
    assert (await cli(*BLUE)).code == 0
    assert (await cli("attach", "docker1/web", "--network", "blue")).code == 0
    await machine.stop()
    (tmp_path / "state" / "desired.json").write_bytes(b"\x00 nonsense")
    inside = [one.link.name for one in machine.kernel.spaces["/proc/web/ns/net"].interfaces.values()]
    assert len(inside) == 1
    await up(rig, machine)
    seen = await rig.until_host(
        "docker1", lambda seen: any(one.reason == "SPOOL_CORRUPT" for one in seen.host.problems)
    )
    (problem,) = [one for one in seen.host.problems if one.reason == "SPOOL_CORRUPT"]
    assert "desired.json" in problem.message
    assert (tmp_path / "state" / "desired.json.corrupt").read_bytes() == b"\x00 nonsense"
    assert "SPOOL_CORRUPT" in (await cli("status")).out
    assert [one.link.name for one in machine.kernel.spaces["/proc/web/ns/net"].interfaces.values()] == inside
