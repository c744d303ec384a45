"""`trunkline network import` with a real controller and scripted hosts: what is shown, asked and done, exit codes."""

from __future__ import annotations

import json

import pytest
from contract.cli.terminal import Cli
from contract.controller.rig import Rig
from fakes.handmade_host import NAME, Host

from trunkline.cli import import_run, present


@pytest.fixture
async def pair(rig: Rig) -> tuple[Host, Host]:
    """docker1 with web, docker2 with db and a stopped container, all on the hand-made network."""
    one = Host(rig.endpoint, "docker1", running={"web": "20.0.0.11"})
    two = Host(rig.endpoint, "docker2", running={"db": "20.0.0.12"}, stopped={"old": "20.0.0.13"})
    for host in (one, two):
        rig.agents.append(host)
        await host.start()
    return one, two


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal whose user gives the first answer of the list; questions are put into it."""
    said: list[str] = []

    def confirm(question: str, **_: object) -> bool:
        answer = said.pop(0)
        said.append(question)
        return answer == "y"

    monkeypatch.setattr("click.confirm", confirm)
    monkeypatch.setattr(import_run, "_terminal", lambda: True)
    return said


def imported(rig: Rig) -> bool:
    return NAME in rig.app.replica.snapshot.networks


async def test_a_preview_shows_networks_containers_and_warnings(rig: Rig, cli: Cli, pair: tuple[Host, Host]) -> None:
    told = await cli("network", "import", NAME, "--dry-run")
    assert told.code == present.OK
    for word in ("docker1", "enp7s0.10", "20.0.0.0/24", "20.0.0.1", "web", "20.0.0.11/24", "old", "stopped"):
        assert word in told.out
    assert "warning: container old on docker2 does not run" in told.err
    assert not imported(rig)


async def test_without_a_terminal_nothing_is_done_unless_yes_is_said(
    rig: Rig, cli: Cli, pair: tuple[Host, Host]
) -> None:
    told = await cli("network", "import", NAME)
    assert told.code == present.USAGE
    assert "nothing was done" in told.err
    assert "--yes" in told.err
    assert not imported(rig)
    told = await cli("network", "import", NAME, "--yes")
    assert told.code == present.OK
    assert "2 containers are theirs, 1 reserved for stopped ones" in told.err
    assert imported(rig)


async def test_on_a_terminal_it_asks(rig: Rig, cli: Cli, pair: tuple[Host, Host], terminal: list[str]) -> None:
    terminal.append("n")
    assert (await cli("network", "import", NAME)).code == present.INTERRUPTED
    assert terminal.pop() == f"Import Docker network {NAME}?"
    assert not imported(rig)
    terminal.append("y")
    assert (await cli("network", "import", NAME)).code == present.OK
    assert imported(rig)
    terminal[:] = ["y"]
    assert (await cli("network", "import", NAME, "--replace", "--hosts", "docker1")).code == present.OK
    assert "off the network for a moment, on docker1" in terminal[0]


async def test_refusals_are_listed(rig: Rig, cli: Cli, pair: tuple[Host, Host]) -> None:
    pair[1].running["db"] = "20.0.0.11"
    pair[1].vlan = 11
    told = await cli("network", "import", NAME, "--yes")
    assert told.code == present.CONFLICT
    assert "- hosts differ in VLAN: 10 on docker1; 11 on docker2" in told.err
    assert "- address 20.0.0.11 is used by container web on docker1 and container db on docker2" in told.err
    assert told.part("reason") == "IMPORT_REFUSED"
    assert not imported(rig)


async def test_an_exchange_tells_its_steps_and_times(rig: Rig, cli: Cli, pair: tuple[Host, Host]) -> None:
    told = await cli("network", "import", NAME, "--replace", "--yes")
    assert told.code == present.OK
    assert "docker1/web: connected (0.2 s off)" in told.err
    assert "done on docker1, docker2; longest time off 0.2 s" in told.out
    again = await cli("network", "import", NAME, "--replace", "--yes", "-o", "json")
    data = json.loads(again.out)
    assert (data["preview"], data["imported"]) == (None, None), "it was imported before"
    assert [step["host"] for step in data["replaced"] if step["done"]] == ["docker1", "docker2"]


async def test_the_first_host_that_fails_is_named_after_what_was_done(
    rig: Rig, cli: Cli, pair: tuple[Host, Host]
) -> None:
    pair[1].failing_exchange = "DOCKER_NETWORK_FAILED"
    told = await cli("network", "import", NAME, "--replace", "--yes")
    assert told.code == present.CONFLICT
    assert "done on docker1;" in told.out
    assert "host docker2" in told.part("error")
    assert "--replace" in told.part("next")


async def test_hosts_without_replace_are_a_mistake(rig: Rig, cli: Cli, pair: tuple[Host, Host]) -> None:
    told = await cli("network", "import", NAME, "--hosts", "docker1")
    assert told.code == present.USAGE
    assert "--replace" in told.err
