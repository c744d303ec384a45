"""A fabric network beside Docker's own bridges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine.containers import (
    NETWORK,
    address,
    agreed,
    create,
    default_route,
    interface,
    kept,
    remove,
    run,
    settings,
)
from engine.fabric import Fabric
from engine.host import Host
from engine.peer import Peer
from engine.wire import Wire
from lab.docker import IMAGE
from lab.waiting import until


@pytest.fixture(scope="module")
def router(wire: Wire) -> Peer:
    return wire.peer("router", "20.0.0.1/24")


@pytest.fixture(scope="module", autouse=True)
def network(fabric: Fabric, router: Peer) -> None:
    create(fabric, "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1")


@pytest.fixture
def host(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[Host]:
    yield pair[0]
    remove(pair[0])
    assert agreed(fabric) == {}


def test_a_running_container_on_the_default_bridge_is_connected_and_disconnected(
    fabric: Fabric, host: Host, router: Peer
) -> None:
    bridged = run(host, "web", "bridge")
    host.docker("network", "connect", NETWORK, "web")
    first = address(host, "web")
    assert interface(host, "web", bridged) == "eth0"
    assert interface(host, "web", first) == "eth1"
    assert router.pings(first)
    assert agreed(fabric)[first].container == "web"
    host.docker("network", "disconnect", NETWORK, "web")
    assert interface(host, "web", first) == ""
    assert agreed(fabric) == {}
    assert kept(fabric)[first] == ("h1", "web")
    assert default_route(host, "web")[1] == "eth0"


def test_the_default_route_stays_with_the_default_bridge(fabric: Fabric, host: Host) -> None:
    run(host, "web", "bridge")
    before = default_route(host, "web")
    host.docker("network", "connect", NETWORK, "web")
    assert default_route(host, "web") == before
    assert before[1] == "eth0"
    host.docker("restart", "web")
    assert default_route(host, "web") == before


def test_a_container_that_is_connected_again_has_its_address_again(fabric: Fabric, host: Host) -> None:
    run(host, "web", "bridge")
    host.docker("network", "connect", NETWORK, "web")
    first = address(host, "web")
    agreed(fabric)
    host.docker("network", "disconnect", NETWORK, "web")
    agreed(fabric)
    host.docker("network", "connect", NETWORK, "web")
    assert address(host, "web") == first


def test_a_container_of_the_fabric_is_connected_to_the_default_bridge(fabric: Fabric, host: Host, router: Peer) -> None:
    first = run(host, "web", NETWORK)
    assert default_route(host, "web") == ("20.0.0.1", "eth0")
    host.docker("network", "connect", "bridge", "web")
    assert router.pings(first)
    host.docker("network", "disconnect", "bridge", "web")
    assert address(host, "web") == first
    assert router.pings(first)


def test_names_of_a_user_defined_bridge_still_resolve(fabric: Fabric, host: Host) -> None:
    host.docker("network", "create", "back")
    try:
        run(host, "db", "back")
        backed = address(host, "db", "back")
        run(host, "web", "back")
        host.docker("network", "connect", NETWORK, "web")
        assert backed in host.docker("exec", "web", "nslookup", "-type=a", "db.", "127.0.0.11")
        assert "1 packets received" in host.docker("exec", "web", "ping", "-c", "1", "-W", "2", "db")
        agreed(fabric)
    finally:
        remove(host)
        host.docker("network", "rm", "back")


def test_containers_of_the_fabric_network_find_each_other_by_name(fabric: Fabric, host: Host) -> None:
    db = run(host, "db", NETWORK, "--network-alias", "store")
    run(host, "web", NETWORK)
    for name in ("db.", "store."):
        assert db in host.docker("exec", "web", "nslookup", "-type=a", name, "127.0.0.11")


@pytest.mark.parametrize("first", ["bridge", NETWORK])
def test_published_ports_of_a_bridge_still_work(fabric: Fabric, wire: Wire, host: Host, first: str) -> None:
    """By docker-proxy: iptables is off on the rig's hosts."""
    serve = ("sh", "-c", "while true; do echo served | nc -l -p 80; done")
    second = NETWORK if first == "bridge" else "bridge"
    host.docker("create", "--init", "--name", "web", "--network", first, "-p", "8080:80", IMAGE, *serve)
    host.docker("network", "connect", second, "web")
    host.docker("start", "web")
    assert settings(host, "web")["IPAddress"]
    mine = host.run(["ip", "-4", "-o", "addr", "show", "dev", "mgmt0"]).split()[3].partition("/")[0]
    asked = ["timeout", "5", "bash", "-c", f"exec 3<>/dev/tcp/{mine}/8080; cat <&3"]
    until(lambda: "served" in wire.run(asked).out, "the published port to answer")


@pytest.mark.parametrize(("bridge", "routes"), [("back", "back"), ("zone", NETWORK)])
def test_the_default_route_is_with_the_network_whose_name_comes_first(
    fabric: Fabric, host: Host, docker_version: tuple[int, ...], bridge: str, routes: str
) -> None:
    host.docker("network", "create", bridge)
    try:
        run(host, "web", bridge)
        gateway = {bridge: default_route(host, "web")[0], NETWORK: "20.0.0.1"}
        host.docker("network", "connect", NETWORK, "web")
        assert default_route(host, "web")[0] == gateway[routes]
        host.docker("restart", "web")
        assert default_route(host, "web")[0] == gateway[routes]
        host.docker("network", "disconnect", routes, "web")
        other = NETWORK if routes == bridge else bridge
        assert default_route(host, "web")[0] == gateway[other]
        if docker_version >= (28,):
            host.docker("network", "connect", "--gw-priority", "-1", routes, "web")
            assert default_route(host, "web")[0] == gateway[other]
    finally:
        remove(host)
        host.docker("network", "rm", bridge)


def test_one_that_is_on_both_from_the_start(fabric: Fabric, host: Host, router: Peer) -> None:
    """Created, connected to the second network, started: both interfaces are there with the first process."""
    listing = ("sh", "-c", "ip -o -4 addr; exec sleep 100000")
    host.docker("create", "--init", "--name", "web", "--network", "bridge", IMAGE, *listing)
    host.docker("network", "connect", NETWORK, "web")
    host.docker("start", "web")
    has = address(host, "web")
    assert router.pings(has)
    until(lambda: has in host.docker("logs", "web"), "the first process to have seen it")
