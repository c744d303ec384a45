"""What becomes of a container's addresses through its life, on a network of both IP versions."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from engine.containers import (
    NETWORK,
    Place,
    agreed,
    attachments,
    create,
    in_docker,
    kept,
    reached,
    remove,
    run,
    settings,
    state,
    who,
)
from engine.fabric import Fabric
from engine.host import Host
from engine.peer import Peer
from engine.wire import Wire
from lab.waiting import until

ALWAYS = ("--restart", "always")
Ending = Callable[[Host], object]


@pytest.fixture(scope="module")
def router(wire: Wire) -> Peer:
    return wire.peer("router", "20.0.0.1/24", "fd00:20::1/64")


@pytest.fixture(scope="module", autouse=True)
def network(fabric: Fabric, router: Peer) -> None:
    prefixes = [
        "--subnet",
        "20.0.0.0/24",
        "--gateway",
        "20.0.0.1",
        "--subnet",
        "fd00:20::/64",
        "--gateway",
        "fd00:20::1",
    ]
    create(fabric, *prefixes)


@pytest.fixture
def host(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[Host]:
    yield pair[0]
    remove(pair[0])
    assert agreed(fabric) == {}


def crash(host: Host) -> None:
    """Kill the container's first process, as the kernel does when memory runs out."""
    os.kill(host.container_pid("web"), signal.SIGKILL)
    until(lambda: state(host, "web") == "exited", "the container to be dead")


def both(host: Host, name: str = "web") -> set[str]:
    """Its addresses, one of each version."""
    has = settings(host, name)
    return {has["IPAddress"], has["GlobalIPv6Address"]}


def both_reached(router: Peer, addresses: set[str]) -> None:
    for address in addresses:
        reached(router, address)


ENDINGS: dict[str, Ending] = {
    "stop": lambda host: host.docker("stop", "web"),
    "kill": lambda host: host.docker("kill", "web"),
    "crash": crash,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_addresses_are_kept_through_an_end_and_back_after_it(
    fabric: Fabric, host: Host, router: Peer, ending: str
) -> None:
    run(host, "web", NETWORK)
    has = both(host)
    assert set(agreed(fabric)) == has
    ENDINGS[ending](host)
    assert agreed(fabric) == {}
    assert {of: holder for of, holder in kept(fabric).items() if of in has} == dict.fromkeys(has, ("h1", "web"))
    assert attachments(fabric) == {}
    assert all(who(fabric, of) == [("kept", "h1", "web")] for of in has)
    host.docker("start", "web")
    assert both(host) == has
    assert set(agreed(fabric)) == has
    assert attachments(fabric) == {"h1/web/mynet2": "ready"}
    both_reached(router, has)


def test_a_restart_keeps_addresses(fabric: Fabric, host: Host, router: Peer) -> None:
    run(host, "web", NETWORK)
    has = both(host)
    for _ in range(3):
        host.docker("restart", "web")
        assert both(host) == has
    both_reached(router, has)
    assert set(agreed(fabric)) == has


def test_a_crash_under_a_restart_policy_keeps_addresses(fabric: Fabric, host: Host, router: Peer) -> None:
    run(host, "web", NETWORK, *ALWAYS)
    has, first = both(host), host.container_pid("web")
    os.kill(first, signal.SIGKILL)
    until(lambda: host.inspect("web")["State"]["Pid"] not in (0, first), "the restart policy to do its work")
    assert both(host) == has
    both_reached(router, has)
    assert set(agreed(fabric)) == has


def test_a_container_removed_and_made_again_has_its_addresses_again(fabric: Fabric, host: Host) -> None:
    run(host, "web", NETWORK)
    has = both(host)
    agreed(fabric)
    remove(host, "web")
    assert agreed(fabric) == {}
    run(host, "web", NETWORK)
    assert both(host) == has
    assert set(agreed(fabric)) == has


def test_a_paused_container_keeps_its_addresses_and_is_told_of(fabric: Fabric, host: Host, router: Peer) -> None:
    run(host, "web", NETWORK)
    has = both(host)
    host.docker("pause", "web")
    assert set(agreed(fabric)) == has
    assert attachments(fabric) == {"h1/web/mynet2": "ready"}
    both_reached(router, has)  # the kernel answers for it
    host.docker("unpause", "web")
    assert both(host) == has


def test_a_renamed_container_is_told_of_by_its_new_name(fabric: Fabric, host: Host) -> None:
    run(host, "web", NETWORK)
    has = both(host)
    agreed(fabric)
    host.docker("rename", "web", "shop")
    assert {place.container for place in agreed(fabric).values()} == {"shop"}
    assert attachments(fabric) == {"h1/shop/mynet2": "ready"}
    assert all(who(fabric, of) == [("attachment", "h1", "shop")] for of in has)
    host.docker("restart", "shop")
    assert both(host, "shop") == has


def test_a_container_renamed_while_it_is_stopped_has_its_addresses_again(fabric: Fabric, host: Host) -> None:
    run(host, "web", NETWORK)
    has = both(host)
    agreed(fabric)
    host.docker("stop", "web")
    host.docker("rename", "web", "shop")
    agreed(fabric)
    host.docker("start", "shop")
    assert both(host, "shop") == has
    assert {place.container for place in agreed(fabric).values()} == {"shop"}


def test_several_restarted_together_share_no_address_and_take_no_new_one(fabric: Fabric, host: Host) -> None:
    names = [f"web{number}" for number in range(5)]
    for name in names:
        run(host, name, NETWORK)
    before = agreed(fabric)
    host.docker("restart", *names)
    after = agreed(fabric)
    assert len(after) == 2 * len(names)
    assert set(after) == set(before)


def test_a_command_that_does_not_exist_costs_no_address(fabric: Fabric, host: Host) -> None:
    done = host.docker_result("run", "--name", "web", "--network", NETWORK, "busybox:lab", "/no/such/program")
    assert done.status == 127
    assert agreed(fabric) == {}
    host.docker("rm", "web")
    run(host, "web", NETWORK)
    assert set(agreed(fabric)) == both(host)


def test_each_version_is_chosen_and_inspected(fabric: Fabric, host: Host, router: Peer) -> None:
    run(host, "web", NETWORK, "--ip", "20.0.0.77", "--ip6", "fd00:20::77")
    has = {"20.0.0.77", "fd00:20::77"}
    assert both(host) == has
    both_reached(router, has)
    assert "1 received" in host.enter("web", ["ping", "-n", "-c", "1", "-W", "2", "fd00:20::1"])
    place = Place("h1", "web", settings(host, "web")["MacAddress"])
    assert agreed(fabric) == in_docker(fabric) == dict.fromkeys(has, place)
    assert attachments(fabric) == {"h1/web/mynet2": "ready"}
