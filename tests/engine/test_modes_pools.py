"""Networks with exactly as many addresses as containers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine.commands import Answer
from engine.containers import (
    FOREVER,
    NETWORK,
    address,
    agreed,
    create,
    holdings,
    in_docker,
    refused,
    remove,
    run,
    state,
    there,
)
from engine.fabric import Fabric
from engine.host import Host
from engine.wire import Wire
from lab.docker import IMAGE
from lab.waiting import until

Make = Callable[..., None]
# says which address it has, lives for a moment, fails
CRASHING = ("sh", "-c", "ip -o -4 addr show dev eth0; sleep 0.1; exit 1")


@pytest.fixture(scope="module")
def trio(wire: Wire, pair: tuple[Host, Host]) -> tuple[Host, Host, Host]:
    third = wire.host("h3")
    third.start_docker()
    third.load_busybox()
    return (*pair, third)


@pytest.fixture(scope="module")
def fabric(wire: Wire, trio: tuple[Host, Host, Host]) -> Fabric:
    return Fabric(wire, trio, {"log": {"level": "debug", "json": True}}).up()


def longest_answer(fabric: Fabric) -> float:
    """Seconds that dockerd waited for any agent at most; each call is in an agent's log."""
    lines = (line for agent in fabric.agents.values() for line in agent.log.read_text().splitlines())
    told = [json.loads(line) for line in lines if "docker was answered" in line]
    assert len(told) > 50
    return max(float(one["seconds"]) for one in told)


@pytest.fixture
def make(fabric: Fabric) -> Iterator[Make]:
    """Makes the network; it goes with everything on it, and nothing of it is left."""
    yield lambda *options: create(fabric, "--gateway", "20.0.0.1", *options)
    for host in fabric.hosts.values():
        remove(host)
    agreed(fabric)
    fabric.ok("network", "delete", NETWORK)
    assert fabric.ok("address", "list", "-o", "json").json() == []
    until(lambda: not any(there(host) for host in fabric.hosts.values()), "the Docker networks to go")


def restarts(host: Host, name: str) -> int:
    return int(host.inspect(name)["RestartCount"])


def addresses_in_turn(host: Host, name: str) -> list[str]:
    """The address that it said it had, at each of its starts."""
    return re.findall(r"inet (\S+)/", host.docker("logs", name))


def test_crash_loops_in_a_full_pool_cost_nobody_an_address(
    fabric: Fabric, make: Make, trio: tuple[Host, Host, Host]
) -> None:
    make("--subnet", "20.0.0.0/29")
    h1, h2, _ = trio
    steady = {run(host, name, NETWORK): (host, name) for host, name in ((h1, "a1"), (h1, "a2"), (h2, "a3"))}
    loops = ((h1, "x1"), (h2, "x2"))
    for host, name in loops:
        host.docker("run", "-d", "--name", name, "--network", NETWORK, "--restart", "always", IMAGE, *CRASHING)
    until(lambda: all(restarts(*loop) >= 5 for loop in loops), "five crashes of each", 40)
    seen = [set(addresses_in_turn(*loop)) for loop in loops]
    assert [len(each) for each in seen] == [1, 1]
    assert {*steady, *seen[0], *seen[1]} == {f"20.0.0.{number}" for number in range(2, 7)}
    assert {of: address(*holder) for of, holder in steady.items()} == {of: of for of in steady}


def test_a_full_pool_refuses_with_its_use_and_its_holders(
    fabric: Fabric, make: Make, trio: tuple[Host, Host, Host]
) -> None:
    make("--subnet", "20.0.0.0/29")
    h1, h2, h3 = trio
    for host, name in ((h1, "a1"), (h1, "a2"), (h2, "a3"), (h2, "a4"), (h3, "a5")):
        run(host, name, NETWORK)
    agreed(fabric)
    said = refused(h3, "run", "-d", "--name", "late", "--network", NETWORK, IMAGE, *FOREVER)
    assert all(word in said for word in ("trunkline: ", NETWORK, "20.0.0.0/29", "5")), said
    assert state(h3, "late") == "created"
    remove(h3, "a5")
    h3.docker("start", "late")
    assert len(in_docker(fabric)) == 5


def test_one_that_found_the_pool_full_runs_once_there_is_room(
    fabric: Fabric, make: Make, trio: tuple[Host, Host, Host]
) -> None:
    make("--subnet", "20.0.0.0/29", "--rest", "1s")
    h1, h2, _ = trio
    names = [run(h1, f"a{number}", NETWORK) for number in range(5)]
    assert len(set(names)) == 5
    waiting = ("--name", "late", "--network", NETWORK, "--restart", "always")
    refused(h2, "run", "-d", *waiting, IMAGE, *FOREVER)
    remove(h1, "a0")
    until(lambda: h2.docker_result("start", "late").status == 0, "another host's address, once it has rested")
    assert len(agreed(fabric)) == 5


def test_fifty_at_once_on_three_hosts(fabric: Fabric, make: Make, trio: tuple[Host, Host, Host]) -> None:
    make("--subnet", "20.0.0.0/24", "--range", "20.0.0.100-20.0.0.149")
    homes = [(trio[number % 3], f"c{number}") for number in range(50)]

    def made(home: tuple[Host, str]) -> None:
        home[0].docker("create", "--init", "--name", home[1], "--network", NETWORK, IMAGE, *FOREVER)

    def started(home: tuple[Host, str]) -> Answer:
        return home[0].docker_result("start", home[1], timeout=120)

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(made, homes))
        failed = [done.err for done in pool.map(started, homes) if done.status]
    assert failed == []
    assert longest_answer(fabric) < 3
    assert set(in_docker(fabric)) == {f"20.0.0.{number}" for number in range(100, 150)}
    assert len(agreed(fabric)) == 50
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(remove, trio))
    agreed(fabric)
    left = holdings(fabric)
    assert {one["kind"] for one in left.values()} == {"kept"}
    assert len(left) == 50
