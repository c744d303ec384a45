"""Containers while the agent, the controller or its etcd is away."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from engine.containers import (
    FOREVER,
    NETWORK,
    address,
    agreed,
    create,
    holdings,
    in_docker,
    kept,
    reached,
    remove,
    run,
    state,
)
from engine.fabric import Fabric
from engine.host import Host
from engine.peer import Peer
from engine.wire import Wire
from lab.docker import IMAGE
from lab.waiting import until


@pytest.fixture(scope="module")
def peer(wire: Wire) -> Peer:
    return wire.peer("peer", "20.0.0.250/24")


@pytest.fixture(scope="module", autouse=True)
def network(fabric: Fabric) -> None:
    create(fabric, "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1", "--exclude", "20.0.0.250")


@pytest.fixture
def hosts(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    yield pair
    for host in pair:
        remove(host)
    assert agreed(fabric) == {}


def asking(host: Host, *words: str) -> subprocess.Popen[Any]:
    """A `docker` command that goes on while the test does."""
    return host.popen(["docker", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(process: subprocess.Popen[Any], timeout: float = 40) -> str:
    """What it said at its good end."""
    out, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, out
    return str(out)


def stocked(fabric: Fabric) -> None:
    """Each host has addresses in stock."""

    def full() -> bool:
        found = [one["host"] for one in holdings(fabric, "stock").values()]
        return all(found.count(name) >= 2 for name in fabric.hosts)

    until(full, "each host to have two addresses in stock")


# The agent


def test_a_start_waits_for_an_agent_that_is_being_restarted(
    fabric: Fabric, hosts: tuple[Host, Host], peer: Peer
) -> None:
    host = hosts[0]
    fabric.agents["h1"].kill()
    start = asking(host, "run", "-d", "--init", "--name", "web", "--network", NETWORK, IMAGE, *FOREVER)
    until(lambda: state_or(host, "web") == "created", "the container to be made")
    fabric.agents["h1"].start()
    said(start)
    reached(peer, address(host, "web"))
    assert len(agreed(fabric)) == 1


def state_or(host: Host, name: str) -> str:
    """Its state without waiting for its start, as `docker inspect` does; "" while it is not there."""
    return host.docker("ps", "-a", "--filter", f"name=^{name}$", "--format", "{{.State}}")


def test_a_stop_while_the_agent_is_away_loses_no_release(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    host = hosts[0]
    has = run(host, "web", NETWORK)
    agreed(fabric)
    fabric.agents["h1"].kill()
    stop = asking(host, "stop", "web")
    fabric.agents["h1"].start()
    said(stop)
    assert agreed(fabric) == {}
    assert kept(fabric)[has] == ("h1", "web")
    host.docker("start", "web")
    assert address(host, "web") == has


def test_traffic_goes_on_without_the_agent(fabric: Fabric, hosts: tuple[Host, Host], peer: Peer) -> None:
    has = run(hosts[0], "web", NETWORK)
    before = agreed(fabric)
    fabric.agents["h1"].kill()
    assert peer.pings(has)
    fabric.agents["h1"].start()
    fabric.wait_connected(["h1"])
    assert agreed(fabric) == before


def test_the_agent_is_restarted_while_containers_start(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    host, failures = hosts[0], list[str]()

    def starts() -> None:
        for number in range(12):
            words = ("run", "-d", "--init", "--name", f"web{number}", "--network", NETWORK, IMAGE, *FOREVER)
            done = host.docker_result(*words)
            if done.status:
                failures.append(done.err)

    thread = threading.Thread(target=starts)
    thread.start()
    restarts = 0
    while thread.is_alive():
        before = len(host.docker("ps", "-q").split())
        fabric.agents["h1"].restart()
        restarts += 1
        until(lambda: len(host.docker("ps", "-q").split()) > before or not thread.is_alive(), "one more to run", 30)  # noqa: B023
    thread.join()
    assert failures == []
    assert restarts > 1
    fabric.wait_connected(["h1"])
    assert {place.container for place in agreed(fabric).values()} == {f"web{number}" for number in range(12)}


# The controller and its etcd


@pytest.fixture
def alone(fabric: Fabric, hosts: tuple[Host, Host]) -> Iterator[Fabric]:
    """The fabric, whose controller a test takes away; it is back afterwards."""
    stocked(fabric)
    yield fabric
    if fabric.cli("status").status:
        fabric.start_controller()
    fabric.wait_connected()


def test_containers_restart_without_a_controller(alone: Fabric, hosts: tuple[Host, Host], peer: Peer) -> None:
    given = {host.name: run(host, "web", NETWORK) for host in hosts}
    agreed(alone)
    alone.stop_controller()
    for host in hosts:
        host.docker("restart", "web")
        assert address(host, "web") == given[host.name]
        reached(peer, given[host.name])
    alone.start_controller()
    alone.wait_connected()
    assert set(agreed(alone)) == set(given.values())


def test_new_containers_start_from_stock_without_a_controller(
    alone: Fabric, hosts: tuple[Host, Host], peer: Peer
) -> None:
    alone.stop_controller()
    given = [run(host, f"new{number}", NETWORK) for host in hosts for number in range(2)]
    assert len(set(given)) == 4
    for of in given:
        reached(peer, of)
    alone.start_controller()
    alone.wait_connected()
    assert set(agreed(alone)) == set(given)


def test_without_a_controller_and_without_stock_docker_run_says_so(alone: Fabric, hosts: tuple[Host, Host]) -> None:
    host = hosts[0]
    alone.stop_controller()
    more = iter(range(30))
    done = host.docker_result("version")
    while done.status == 0:
        words = ("run", "-d", "--init", "--name", f"new{next(more)}", "--network", NETWORK, IMAGE, *FOREVER)
        done = host.docker_result(*words)
    assert all(word in done.err for word in ("trunkline: ", "20.0.0.0/24", NETWORK, "controller")), done.err
    alone.start_controller()
    alone.wait_connected()
    agreed(alone)


def test_an_agent_that_restarts_without_a_controller_knows_its_addresses(
    alone: Fabric, hosts: tuple[Host, Host]
) -> None:
    host = hosts[0]
    has = run(host, "web", NETWORK)
    agreed(alone)
    alone.stop_controller()
    alone.agents["h1"].kill()
    alone.agents["h1"].start()
    host.docker("restart", "web")
    assert address(host, "web") == has
    fresh = run(host, "new", NETWORK)
    assert fresh != has
    alone.start_controller()
    alone.wait_connected()
    assert set(agreed(alone)) == {has, fresh}


def test_a_host_boots_without_a_controller(alone: Fabric, hosts: tuple[Host, Host], peer: Peer) -> None:
    host = hosts[0]
    has = run(host, "web", NETWORK, "--restart", "always")
    agreed(alone)
    alone.stop_controller()
    host.stop_docker()
    alone.agents["h1"].stop()
    host.launch_docker()
    alone.agents["h1"].start()
    host.wait_docker()
    until(lambda: has in in_docker(alone, hosts=[host]), "the container to have its address again", 30)
    reached(peer, has)
    alone.start_controller()
    alone.wait_connected()
    assert set(agreed(alone)) == {has}


def test_a_host_cut_off_from_the_controller_keeps_its_addresses(
    alone: Fabric, wire: Wire, hosts: tuple[Host, Host]
) -> None:
    h1, h2 = hosts
    has = run(h1, "web", NETWORK)
    agreed(alone)
    wire.cut(h1, management=True)
    h1.docker("stop", "web")
    mine = run(h1, "mine", NETWORK)
    theirs = {run(h2, f"theirs{number}", NETWORK) for number in range(4)}
    assert theirs.isdisjoint({has, mine})
    h1.docker("start", "web")
    assert address(h1, "web") == has
    wire.mend(h1, management=True)
    alone.wait_connected()
    assert set(agreed(alone)) == {has, mine, *theirs}
    assert state(h1, "web") == "running"
