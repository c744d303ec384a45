"""Containers whose network Docker does not make: none, another container's, the host's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine.containers import (
    FOREVER,
    NETWORK,
    agreed,
    attachments,
    create,
    in_docker,
    in_fabric,
    interface,
    reached,
    refused,
    remove,
    run,
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
def host(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[Host]:
    yield pair[0]
    for name in attachments(fabric):
        if not fabric.cli("detach", name).status:
            continue
    remove(pair[0])
    until(lambda: not attachments(fabric), "every attachment to be gone")


def start(host: Host, name: str, network: str, *options: str) -> None:
    host.docker("run", "-d", "--init", "--name", name, "--network", network, *options, IMAGE, *FOREVER)


def attached(fabric: Fabric, name: str) -> str:
    """The address that `trunkline attach` gave."""
    done = fabric.ok("attach", name, "--network", NETWORK, "-o", "json").json()
    return str(done["attachment"]["addresses"][0]).partition("/")[0]


def test_one_without_network_is_attached_and_detached(fabric: Fabric, host: Host, peer: Peer) -> None:
    start(host, "quiet", "none")
    has = attached(fabric, "h1/quiet")
    assert interface(host, "quiet", has) == "tl0"
    assert peer.pings(has)
    assert host.inspect("quiet")["NetworkSettings"]["Networks"].keys() == {"none"}
    fabric.ok("detach", "h1/quiet/mynet2")
    assert interface(host, "quiet", has) == ""


def test_an_attached_one_has_its_interface_again_after_a_restart(fabric: Fabric, host: Host, peer: Peer) -> None:
    start(host, "quiet", "none")
    has = attached(fabric, "h1/quiet")
    host.docker("restart", "quiet")
    until(lambda: interface(host, "quiet", has) == "tl0", "the interface to come back")
    reached(peer, has)


def test_docker_and_attach_never_give_the_same_address(fabric: Fabric, host: Host) -> None:
    given = [run(host, "native", NETWORK)]
    for name in ("quiet1", "quiet2", "quiet3"):
        start(host, name, "none")
        given.append(attached(fabric, f"h1/{name}"))
    given.append(run(host, "native2", NETWORK))
    assert len(set(given)) == len(given)


def test_one_in_the_network_of_another_shares_its_address(fabric: Fabric, host: Host, peer: Peer) -> None:
    has = run(host, "web", NETWORK)
    start(host, "side", "container:web")
    assert interface(host, "side", has) == "eth0"
    assert set(agreed(fabric)) == {has}
    remove(host, "side")
    assert peer.pings(has)
    assert set(agreed(fabric)) == {has}


def test_attaching_one_in_the_network_of_another_serves_both(fabric: Fabric, host: Host, peer: Peer) -> None:
    start(host, "pod", "none")
    start(host, "side", "container:pod")
    has = attached(fabric, "h1/side")
    assert interface(host, "pod", has) == interface(host, "side", has) == "tl0"
    assert peer.pings(has)


def test_a_native_one_is_attached_to_its_own_network_a_second_time(fabric: Fabric, host: Host, peer: Peer) -> None:
    has = run(host, "web", NETWORK)
    agreed(fabric)
    done = fabric.ok("attach", "h1/web", "--network", NETWORK, "--name", "second", "-o", "json").json()
    more = str(done["attachment"]["addresses"][0]).partition("/")[0]
    assert {has, more} <= {of for of in (has, more) if interface(host, "web", of)}
    assert peer.pings(has)
    assert peer.pings(more)
    assert set(in_docker(fabric)) == {has}


def test_what_docker_made_is_not_detached_by_trunkline(fabric: Fabric, host: Host) -> None:
    has = run(host, "web", NETWORK)
    agreed(fabric)
    done = fabric.cli("detach", "h1/web/mynet2")
    assert done.status == 4
    assert "docker network disconnect mynet2 web" in done.err
    assert has in in_fabric(fabric)


def test_one_in_the_network_of_the_host_is_refused_by_attach(fabric: Fabric, host: Host) -> None:
    start(host, "bare", "host")
    done = fabric.cli("attach", "h1/bare", "--network", NETWORK)
    assert done.status == 4
    assert "bare" in done.err
    assert "host" in done.err
    assert attachments(fabric) == {}


def test_docker_refuses_to_connect_one_in_the_network_of_the_host(fabric: Fabric, host: Host) -> None:
    start(host, "bare", "host")
    assert "host" in refused(host, "network", "connect", NETWORK, "bare")
    assert agreed(fabric) == {}
