"""Containers start, stop and keep their addresses whatever becomes of the agent, the controller and dockerd."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from engine.fabric import Fabric
from engine.host import Host
from lab.docker import IMAGE
from lab.waiting import until


def listed(host: Host) -> bool:
    return "mynet2" in host.docker("network", "ls")


@pytest.fixture
def net(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[str]:
    """A network that is in Docker of both hosts; gone after the test, containers first."""
    fabric.ok("network", "create", "mynet2", "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1", "--vlan", "0")
    for host in pair:
        until(partial(listed, host), f"mynet2 in Docker of {host.name}")
    yield "mynet2"
    for host in pair:
        if left := host.docker("ps", "-aq").split():
            host.docker("rm", "-f", *left)
    # The controller hears of the last container's end a moment later.
    until(lambda: fabric.cli("network", "delete", "mynet2").status == 0, "the network to be deleted", 60)


def run(host: Host, name: str, *options: str) -> str:
    """Its address."""
    host.docker("run", "-d", "--name", name, "--network", "mynet2", *options, IMAGE, "sleep", "3600")
    return address(host, name)


def address(host: Host, name: str) -> str:
    return str(host.inspect(name)["NetworkSettings"]["Networks"]["mynet2"]["IPAddress"])


def attached(fabric: Fabric, host: str) -> dict[str, dict[str, str]]:
    """Attachments of a host as the controller knows them, by name."""
    listed = fabric.ok("attachment", "list", "--host", host, "-o", "json").json()
    return {one["spec"]["name"]: one for one in listed}


def used(fabric: Fabric) -> int:
    told = fabric.ok("network", "show", "mynet2", "-o", "json").json()
    return int(told["pools"][0]["used"])


def test_addresses_are_sticky_over_stop_start_restart_and_kill(net: str, pair: tuple[Host, Host]) -> None:
    h1 = pair[0]
    first = run(h1, "c1")
    other = run(h1, "c2")
    h1.docker("restart", "-t", "0", "c1")
    assert address(h1, "c1") == first
    h1.docker("stop", "-t", "0", "c1")
    h1.docker("stop", "-t", "0", "c2")
    h1.docker("start", "c2")
    h1.docker("start", "c1")
    assert (address(h1, "c1"), address(h1, "c2")) == (first, other)
    h1.docker("kill", "c1")
    h1.docker("start", "c1")
    assert address(h1, "c1") == first


def test_the_controller_hears_of_renames_and_ends(fabric: Fabric, net: str, pair: tuple[Host, Host]) -> None:
    h1 = pair[0]
    run(h1, "c1")
    until(lambda: "c1/mynet2" in attached(fabric, "h1"), "the attachment")
    until(lambda: attached(fabric, "h1")["c1/mynet2"]["ifname"] == "eth0", "the interface")
    h1.docker("rename", "c1", "renamed")
    until(lambda: set(attached(fabric, "h1")) == {"renamed/mynet2"}, "the rename")
    h1.docker("rm", "-f", "renamed")
    until(lambda: not attached(fabric, "h1"), "the end")


def test_starts_go_on_while_the_agent_is_restarted(fabric: Fabric, net: str, pair: tuple[Host, Host]) -> None:
    h1 = pair[0]
    given: dict[str, str] = {}

    def start(number: int) -> None:
        given[f"c{number}"] = run(h1, f"c{number}")

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for number, thread in enumerate(threads):
        thread.start()
        if number == 2:
            fabric.agents["h1"].kill()
            fabric.agents["h1"].start()
    for thread in threads:
        thread.join()
    assert len(given) == len(set(given.values())) == 6
    until(lambda: len(attached(fabric, "h1")) == 6, "the controller to hear of all")
    assert {name: address(h1, name) for name in given} == given


def test_a_container_that_stops_without_the_agent_keeps_its_address(
    fabric: Fabric, net: str, pair: tuple[Host, Host]
) -> None:
    """dockerd waits in the socket's backlog; the agent that comes back takes what it is given."""
    h1 = pair[0]
    first = run(h1, "c1")
    pid = h1.container_pid("c1")
    fabric.agents["h1"].kill()
    stopping = threading.Thread(target=lambda: h1.docker("stop", "-t", "0", "c1"))
    stopping.start()
    until(lambda: not stopping.is_alive() or not Path(f"/proc/{pid}").exists(), "the container's process to end")
    fabric.agents["h1"].start()
    stopping.join()
    h1.docker("start", "c1")
    assert address(h1, "c1") == first


def test_an_address_that_dockerd_lost_on_the_way_comes_back(fabric: Fabric, net: str, pair: tuple[Host, Host]) -> None:
    """dockerd is killed as soon as it was given an address, before the container runs with it."""
    h1 = pair[0]
    fixed = "20.0.0.123"
    log = fabric.agents["h1"].log
    words = ["run", "-d", "--name", "c1", "--network", net, "--ip", fixed, IMAGE, "sleep", "60"]
    trying = threading.Thread(target=lambda: h1.docker_result(*words))
    trying.start()
    while fixed not in log.read_text():
        assert trying.is_alive()
    h1.kill_docker()
    trying.join()
    h1.start_docker()
    assert not h1.inspect("c1")["State"]["Running"]
    h1.docker("start", "c1")
    if not address(h1, "c1"):
        # Docker 28 takes the end of the task that the killed dockerd had made for that of the new one, and runs the
        # container without its interface.
        until(lambda: "no interface" in fabric.ok("status").out, "the operator to be told")
        h1.docker("restart", "-t", "0", "c1")
    assert address(h1, "c1") == fixed
    until(lambda: set(attached(fabric, "h1")) == {"c1/mynet2"}, "the controller to hear of it")


def test_containers_start_from_stock_while_the_controller_is_away(
    fabric: Fabric, net: str, pair: tuple[Host, Host]
) -> None:
    h1 = pair[0]
    kept = run(h1, "c1")
    h1.docker("stop", "-t", "0", "c1")
    until(lambda: fabric.ok("network", "show", net, "-o", "json").json()["pools"][0]["stock"] >= 2, "stock")
    fabric.stop_controller()
    try:
        run(h1, "new")
        h1.docker("start", "c1")
        assert address(h1, "c1") == kept
        fabric.agents["h1"].restart()
        h1.docker("restart", "-t", "0", "new")
    finally:
        fabric.start_controller()
        fabric.wait_connected()
    until(lambda: set(attached(fabric, "h1")) == {"c1/mynet2", "new/mynet2"}, "the controller to hear of both")


def test_a_restart_policy_that_gave_up_is_helped(fabric: Fabric, net: str, pair: tuple[Host, Host]) -> None:
    """The uplink is missing when dockerd comes back, and there again later: Docker itself tries once."""
    h1 = pair[0]
    first = run(h1, "c1", "--restart", "always")
    run(h1, "c2", "--restart", "on-failure")
    h1.stop_docker()
    rename(h1, "enp7s0", "away0")
    try:
        h1.start_docker()
        until(lambda: "trunkline: " in h1.inspect("c1")["State"]["Error"], "the refusal")
        until(lambda: "c1 is down" in fabric.ok("status").out, "the operator to be told")
    finally:
        rename(h1, "away0", "enp7s0")
    until(lambda: h1.inspect("c1")["State"]["Running"], "it to be started", 30)
    assert address(h1, "c1") == first
    assert not h1.inspect("c2")["State"]["Running"]
    events = fabric.ok("host", "show", "h1", "-o", "json").json()["events"]
    assert any("started again" in event["message"] for event in events)


def rename(host: Host, old: str, new: str) -> None:
    host.run(["ip", "link", "set", old, "down"])
    host.run(["ip", "link", "set", old, "name", new])
    host.run(["ip", "link", "set", new, "up"])
