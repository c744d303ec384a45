"""Addresses and MACs that users choose, and addresses that are promised."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine.containers import (
    FOREVER,
    NETWORK,
    address,
    agreed,
    create,
    holdings,
    interface,
    kept,
    reached,
    refused,
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
from lab.docker import IMAGE
from lab.waiting import until


@pytest.fixture(scope="module", autouse=True)
def network(fabric: Fabric) -> None:
    """Addresses that nobody chose are from 20.0.0.128 on."""
    only = ("--range", "20.0.0.128-20.0.0.254", "--exclude", "20.0.0.250")
    create(fabric, "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1", *only)


@pytest.fixture(scope="module")
def peer(wire: Wire) -> Peer:
    return wire.peer("peer", "20.0.0.250/24")


@pytest.fixture
def hosts(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    yield pair
    for host in pair:
        remove(host)
    assert agreed(fabric) == {}


def try_run(host: Host, name: str, *options: str) -> str:
    """Start a container that is refused; what `docker run` says."""
    return refused(host, "run", "-d", "--init", "--name", name, "--network", NETWORK, *options, IMAGE, *FOREVER)


def test_an_address_by_choice_survives_stop_and_start(fabric: Fabric, hosts: tuple[Host, Host], peer: Peer) -> None:
    assert run(hosts[0], "web", NETWORK, "--ip", "20.0.0.40") == "20.0.0.40"
    hosts[0].docker("stop", "web")
    assert agreed(fabric) == {}
    others = [run(host, f"other{number}", NETWORK) for number, host in enumerate(hosts)]
    assert "20.0.0.40" not in others
    hosts[0].docker("start", "web")
    assert address(hosts[0], "web") == "20.0.0.40"
    reached(peer, "20.0.0.40")
    agreed(fabric)


def test_an_address_in_use_on_another_host_is_refused_by_name(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    run(hosts[1], "holder", NETWORK, "--ip", "20.0.0.41")
    agreed(fabric)
    said = try_run(hosts[0], "late", "--ip", "20.0.0.41")
    assert all(word in said for word in ("trunkline: ", "20.0.0.41", NETWORK, "holder", "h2")), said
    assert state(hosts[0], "late") == "created"


def test_an_address_in_use_on_the_same_host_is_refused_by_name(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    run(hosts[0], "holder", NETWORK, "--ip", "20.0.0.42")
    said = try_run(hosts[0], "late", "--ip", "20.0.0.42")
    assert all(word in said for word in ("trunkline: ", "20.0.0.42", NETWORK, "holder", "h1")), said


def test_an_address_kept_for_a_stopped_container_is_refused_by_name(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    run(hosts[0], "holder", NETWORK, "--ip", "20.0.0.43")
    hosts[0].docker("stop", "holder")
    agreed(fabric)
    for host in hosts:
        said = try_run(host, "late", "--ip", "20.0.0.43")
        assert all(word in said for word in ("trunkline: ", "20.0.0.43", NETWORK, "holder", "h1")), said
    hosts[0].docker("start", "holder")
    assert address(hosts[0], "holder") == "20.0.0.43"


def test_a_removed_container_makes_room_for_the_next_one_on_its_host(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    run(hosts[0], "first", NETWORK, "--ip", "20.0.0.44")
    remove(hosts[0], "first")
    assert run(hosts[0], "next", NETWORK, "--ip", "20.0.0.44") == "20.0.0.44"


def test_the_same_container_made_anew_has_its_address(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    for _ in range(3):
        assert run(hosts[0], "web", NETWORK, "--ip", "20.0.0.45") == "20.0.0.45"
        remove(hosts[0], "web")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("20.0.0.1", ("gateway", NETWORK)), ("20.0.0.250", ("20.0.0.250", NETWORK)), ("20.0.0.255", (NETWORK,))],
)
def test_an_address_that_is_never_handed_out_is_refused(
    fabric: Fabric, hosts: tuple[Host, Host], wanted: str, words: tuple[str, ...]
) -> None:
    said = try_run(hosts[0], "web", "--ip", wanted)
    assert all(word in said for word in ("trunkline: ", wanted, *words)), said


def test_an_address_outside_the_prefix_is_refused(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    said = try_run(hosts[0], "web", "--ip", "20.0.9.9")
    assert "20.0.9.9" in said or "not contain" in said, said


def test_a_fixed_address_is_connected_to_a_running_container(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    run(hosts[0], "web", "bridge")
    hosts[0].docker("network", "connect", "--ip", "20.0.0.46", NETWORK, "web")
    assert interface(hosts[0], "web", "20.0.0.46") == "eth1"
    assert set(agreed(fabric)) == {"20.0.0.46"}


def test_a_mac_by_choice_is_told_and_kept(fabric: Fabric, hosts: tuple[Host, Host], peer: Peer) -> None:
    has = run(hosts[0], "web", NETWORK, "--mac-address", "02:aa:00:00:00:07")
    assert settings(hosts[0], "web")["MacAddress"] == "02:aa:00:00:00:07"
    assert agreed(fabric)[has].mac == "02:aa:00:00:00:07"
    assert ("attachment", "h1", "web") in who(fabric, "02:aa:00:00:00:07")
    hosts[0].docker("restart", "web")
    assert address(hosts[0], "web") == has
    reached(peer, has)
    assert peer.mac_of(has) == "02:aa:00:00:00:07"


def test_a_promised_address_is_given_to_its_owner_on_either_host(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    fabric.ok("address", "reserve", NETWORK, "till", "--address", "20.0.0.60")
    for host in hosts:
        assert run(host, "till", NETWORK) == "20.0.0.60"
        agreed(fabric)
        remove(host, "till")
        agreed(fabric)
    fabric.ok("address", "release", NETWORK, "till")


def test_a_promised_address_is_refused_to_others(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    fabric.ok("address", "reserve", NETWORK, "till", "--address", "20.0.0.61")
    for host in hosts:
        said = try_run(host, "thief", "--ip", "20.0.0.61")
        assert all(word in said for word in ("trunkline: ", "20.0.0.61", NETWORK, "till")), said
        remove(host)
    assert run(hosts[0], "till", NETWORK, "--ip", "20.0.0.61") == "20.0.0.61"
    agreed(fabric)
    assert fabric.ok("address", "release", NETWORK, "till").status == 0


def test_an_owner_live_on_one_host_is_refused_on_another(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    label = ("--label", "io.trunkline.owner=cash")
    has = run(hosts[0], "cash-a", NETWORK, *label)
    agreed(fabric)
    said = try_run(hosts[1], "cash-b", *label)
    assert all(word in said for word in ("trunkline: ", "cash", "h1")), said
    assert set(agreed(fabric)) == {has}


def test_an_owner_takes_its_address_from_host_to_host(fabric: Fabric, hosts: tuple[Host, Host], peer: Peer) -> None:
    label = ("--label", "io.trunkline.owner=cash")
    has = run(hosts[0], "cash-a", NETWORK, *label)
    agreed(fabric)
    for number in range(3):
        here, there = hosts[number % 2], hosts[1 - number % 2]
        remove(here)
        until(lambda: has in kept(fabric), "the address to be kept")
        assert run(there, f"cash-{number}", NETWORK, *label) == has
        assert agreed(fabric)[has].host == there.name
        reached(peer, has)


def test_a_mere_name_is_each_hosts_own(fabric: Fabric, hosts: tuple[Host, Host]) -> None:
    given = {run(host, "web", NETWORK) for host in hosts}
    assert len(given) == 2
    agreed(fabric)
    assert {(one["host"], one["owner"]) for one in holdings(fabric, "attachment").values()} == {
        ("h1", "web"),
        ("h2", "web"),
    }
