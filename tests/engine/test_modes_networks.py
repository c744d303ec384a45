"""The Docker networks of the fabric under Docker's own commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine.containers import (
    NETWORK,
    address,
    agreed,
    create,
    default_route,
    events,
    reached,
    refused,
    remove,
    run,
    there,
)
from engine.fabric import Fabric
from engine.host import Host
from engine.peer import Peer
from engine.wire import Wire
from lab.waiting import until


@pytest.fixture(scope="module", autouse=True)
def network(fabric: Fabric) -> None:
    create(fabric, "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1")


@pytest.fixture(scope="module")
def router(wire: Wire) -> Peer:
    return wire.peer("router", "20.0.0.1/24", "20.9.0.250/24")


@pytest.fixture
def host(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[Host]:
    yield pair[0]
    for one in fabric.hosts.values():
        remove(one)
    if there(pair[0]):
        assert agreed(fabric) == {}


def identity(host: Host) -> str:
    """Docker's id of the network; "" while there is none."""
    done = host.docker_result("network", "inspect", "--format", "{{.Id}}", NETWORK)
    return done.out.strip() if done.status == 0 else ""


def made_anew(fabric: Fabric, host: Host, old: str) -> None:
    """The network is there again under another id, and the operator is told why."""
    until(lambda: identity(host) not in ("", old), "the Docker network to be made again")
    until(lambda: "removed by somebody" in events(fabric, host.name), "the event")


def test_docker_inspects_what_the_fabric_has(fabric: Fabric, host: Host) -> None:
    has = run(host, "web", NETWORK)
    found = host.inspect(NETWORK)
    assert found["Driver"] == "macvlan"
    assert found["Scope"] == "local"
    assert found["Options"]["parent"] == "enp7s0"
    assert found["Labels"] == {"io.trunkline.network": NETWORK}
    assert found["IPAM"]["Driver"] == "trunkline"
    assert found["IPAM"]["Options"] == {"network": NETWORK}
    assert found["IPAM"]["Config"] == [{"Subnet": "20.0.0.0/24", "Gateway": "20.0.0.1"}]
    (one,) = found["Containers"].values()
    assert (one["Name"], one["IPv4Address"]) == ("web", f"{has}/24")
    assert default_route(host, "web") == ("20.0.0.1", "eth0")


def test_a_network_in_use_is_not_removed(fabric: Fabric, host: Host, router: Peer) -> None:
    has, before = run(host, "web", NETWORK), identity(host)
    assert "active endpoints" in refused(host, "network", "rm", NETWORK)
    assert NETWORK not in host.docker("network", "prune", "-f")
    assert identity(host) == before
    assert router.pings(has)


def test_a_free_network_that_is_removed_comes_back_with_an_event(fabric: Fabric, host: Host) -> None:
    before = identity(host)
    host.docker("network", "rm", NETWORK)
    made_anew(fabric, host, before)
    run(host, "web", NETWORK)
    agreed(fabric)


def test_a_free_network_that_is_pruned_comes_back_with_an_event(fabric: Fabric, host: Host) -> None:
    before = identity(host)
    assert NETWORK in host.docker("network", "prune", "-f").split()
    made_anew(fabric, host, before)
    run(host, "web", NETWORK)
    agreed(fabric)


def test_a_stopped_container_starts_after_its_network_was_pruned(fabric: Fabric, host: Host, router: Peer) -> None:
    has, before = run(host, "web", NETWORK), identity(host)
    agreed(fabric)
    host.docker("stop", "web")
    host.docker("network", "prune", "-f")
    made_anew(fabric, host, before)
    until(lambda: host.docker_result("start", "web").status == 0, "the container to start")
    assert address(host, "web") == has
    reached(router, has)
    agreed(fabric)


def test_a_network_of_the_same_name_by_somebody_else_is_reported_and_left_alone(fabric: Fabric, wire: Wire) -> None:
    """On a host that joins later and has one already."""
    host = wire.host("h3")
    host.start_docker()
    host.load_busybox()
    host.docker("network", "create", NETWORK)
    before = host.inspect(NETWORK)
    fabric.join(host)
    until(
        lambda: "that Trunkline did not make" in fabric.ok("network", "show", NETWORK, "-o", "json").out,
        "the report of the foreign network",
    )
    assert host.inspect(NETWORK) == before
    host.docker("network", "rm", NETWORK)
    until(lambda: there(host), "the fabric's network to take its place")
    run(host, "web", NETWORK)
    assert {place.host for place in agreed(fabric).values()} == {"h3"}
    remove(host)


def test_a_network_that_goes_leaves_nothing_and_one_without_gateway_is_internal(
    fabric: Fabric, host: Host, router: Peer
) -> None:
    run(host, "web", NETWORK)
    agreed(fabric)
    done = fabric.cli("network", "delete", NETWORK)
    assert done.status == 4
    assert "web" in done.err
    remove(host)
    assert agreed(fabric) == {}
    fabric.ok("network", "delete", NETWORK)
    until(lambda: not any(there(one) for one in fabric.hosts.values()), "the Docker networks to go")
    create(fabric, "--subnet", "20.9.0.0/24", "--no-gateway", name="island")
    assert host.inspect("island")["Internal"]
    has = run(host, "web", "island")
    assert default_route(host, "web") == ("", "")
    assert router.pings(has)
    assert set(agreed(fabric, "island")) == {has}
