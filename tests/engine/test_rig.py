"""The rig itself: dockerds side by side on one L2, and nothing left of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine.host import Host
from engine.wire import Wire
from lab.docker import IMAGE


@pytest.fixture(scope="module")
def joined(pair: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    """A macvlan network made by hand on each host, and a container on it: 20.0.0.11 and 20.0.0.12."""
    for number, host in enumerate(pair, 11):
        network = ["--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1", "-o", "parent=enp7s0", "hand"]
        host.docker("network", "create", "-d", "macvlan", *network)
        run = ["-d", "--name", f"c{number}", "--network", "hand", "--ip", f"20.0.0.{number}"]
        host.docker("run", *run, IMAGE, "sleep", "3600")
    yield pair
    for number, host in enumerate(pair, 11):
        host.docker("rm", "-f", f"c{number}")
        host.docker("network", "rm", "hand")


def test_the_version_that_was_asked_for_runs(pair: tuple[Host, Host], docker_version: tuple[int, ...]) -> None:
    for host in pair:
        answered = host.docker("version", "--format", "{{.Server.Version}}").partition("+")[0]
        assert tuple(map(int, answered.split("."))) == docker_version


def test_containers_of_two_dockerds_reach_each_other(joined: tuple[Host, Host]) -> None:
    h1, h2 = joined
    assert "1 packets received" in h1.docker("exec", "c11", "ping", "-c", "1", "-W", "2", "20.0.0.12")
    assert "1 received" in h2.enter("c12", ["ping", "-n", "-c", "1", "-W", "2", "20.0.0.11"])


def test_a_peer_on_the_wire_reaches_containers_and_learns_their_mac(wire: Wire, joined: tuple[Host, Host]) -> None:
    peer = wire.peer("p1", "20.0.0.250/24")
    assert peer.pings("20.0.0.12")
    settings = joined[1].inspect("c12")["NetworkSettings"]["Networks"]["hand"]
    assert peer.mac_of("20.0.0.12") == settings["MacAddress"]
