"""dockerd stopped, killed and started, with and without live-restore, before and after the agent."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.containers import NETWORK, address, agreed, create, in_docker, in_fabric, kept, reached, remove, run
from engine.fabric import Fabric
from engine.host import Host
from engine.peer import Peer
from engine.wire import Wire
from lab.waiting import until

ALWAYS = ("--restart", "always")


@pytest.fixture(scope="module")
def pair(wire: Wire) -> tuple[Host, Host]:
    """`h2` keeps its containers without dockerd, `h1` does not."""
    h1, h2 = wire.host("h1"), wire.host("h2")
    h1.start_docker()
    h2.start_docker(live_restore=True)
    for host in (h1, h2):
        host.load_busybox()
    return h1, h2


@pytest.fixture(scope="module")
def peer(wire: Wire) -> Peer:
    return wire.peer("peer", "20.0.0.250/24")


@pytest.fixture(scope="module", autouse=True)
def network(fabric: Fabric) -> None:
    create(fabric, "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1", "--range", "20.0.0.128-20.0.0.249")


@pytest.fixture
def hosts(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    yield pair
    for host in pair:
        remove(host)
    assert agreed(fabric) == {}


def end(host: Host, how: str) -> None:
    """Stop dockerd in order, or kill it."""
    if how == "stop":
        host.stop_docker()
    else:
        host.kill_docker()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_under_live_restore_traffic_goes_on_and_addresses_stay(
    fabric: Fabric, hosts: tuple[Host, Host], peer: Peer, how: str
) -> None:
    host = hosts[1]
    given = {name: run(host, name, NETWORK) for name in ("one", "two")}
    before = agreed(fabric)
    end(host, how)
    assert all(peer.pings(of) for of in given.values())
    assert set(in_fabric(fabric)) == set(before)
    host.start_docker()
    assert agreed(fabric) == before
    third = run(host, "three", NETWORK)
    assert third not in given.values()
    host.docker("restart", "one")
    assert address(host, "one") == given["one"]


def test_under_live_restore_a_container_that_ended_meanwhile_gives_its_address_back(
    fabric: Fabric, hosts: tuple[Host, Host]
) -> None:
    host = hosts[1]
    has, pid = run(host, "web", NETWORK), host.container_pid("web")
    agreed(fabric)
    host.kill_docker()
    ended(pid)
    host.start_docker()
    assert agreed(fabric) == {}
    assert kept(fabric)[has] == ("h2", "web")
    host.docker("start", "web")
    assert address(host, "web") == has


def ended(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the process to be gone")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_without_live_restore_containers_with_a_restart_policy_come_back(
    fabric: Fabric, hosts: tuple[Host, Host], peer: Peer, how: str
) -> None:
    host = hosts[0]
    run(host, "job", NETWORK)
    host.docker("stop", "job")
    has = run(host, "web", NETWORK, *ALWAYS)
    agreed(fabric)
    end(host, how)
    host.start_docker()
    until(lambda: has in in_docker(fabric), "the container to have its address again", 30)
    assert {place.container for place in agreed(fabric).values()} == {"web"}
    reached(peer, has)


def test_several_with_a_restart_policy_come_back_with_the_addresses_they_had_together(
    fabric: Fabric, hosts: tuple[Host, Host]
) -> None:
    """Which of them has which is certain from Docker 29 on, or with --ip."""
    host = hosts[0]
    given = {run(host, f"web{number}", NETWORK, *ALWAYS) for number in range(4)}
    fixed = run(host, "fixed", NETWORK, *ALWAYS, "--ip", "20.0.0.99")
    agreed(fabric)
    host.kill_docker()
    host.start_docker()
    until(lambda: len(in_docker(fabric)) == 5, "all to be back", 30)
    assert set(agreed(fabric)) == {*given, fixed}
    assert address(host, "fixed") == fixed


def test_dockerd_that_starts_before_the_agent_waits_for_it(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    host = hosts[0]
    has = run(host, "web", NETWORK, *ALWAYS)
    agreed(fabric)
    host.stop_docker()
    fabric.agents["h1"].stop()
    host.launch_docker()
    fabric.agents["h1"].start()
    host.wait_docker()
    until(lambda: has in in_docker(fabric), "the container to have its address again", 30)
    fabric.wait_connected(["h1"])
    agreed(fabric)


def test_an_agent_that_starts_before_dockerd_serves_it(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    host = hosts[0]
    has = run(host, "web", NETWORK, *ALWAYS)
    agreed(fabric)
    host.stop_docker()
    fabric.agents["h1"].restart()
    fabric.wait_connected(["h1"])
    host.start_docker()
    until(lambda: has in in_docker(fabric), "the container to have its address again", 30)
    agreed(fabric)
    run(host, "job", NETWORK)
    agreed(fabric)
