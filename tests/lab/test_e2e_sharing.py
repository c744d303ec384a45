"""What the operator does with links of ours beside us: the host's own connectivity is never cut. Judged by ip(8)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab.deployment import Deployment
from lab.fabric import Lab
from lab.guest import Guest
from lab.waiting import until
from lab.world import host_links

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def fabric() -> Iterator[Deployment]:
    """One host; agents that look by themselves only once an hour, so that what wakes them is what happens."""
    with Lab().up(1) as lab:
        fabric = Deployment(lab, {"tick_seconds": 3600}).up()
        fabric.ok("uplink", "set", "default", "--vlans", "10-39")
        yield fabric


def made(fabric: Deployment, name: str, vid: int, *options: str) -> Guest:
    """A network on the host, with its sub-interface."""
    fabric.ok("network", "create", name, "--subnet", f"20.0.{vid}.0/24", "--no-gateway", "--vlan", str(vid), *options)
    guest = fabric.lab.host(1)
    assert f"enp7s0.{vid}" in host_links(guest)
    return guest


def networks(fabric: Deployment) -> list[str]:
    return [one["spec"]["name"] for one in fabric.ok("network", "list", "-o", "json").json()]


def test_a_subinterface_that_the_host_uses_outlives_its_network(fabric: Deployment) -> None:
    guest = made(fabric, "lent", 10)
    guest.ok("ip addr add 192.0.2.7/24 dev enp7s0.10; ip netns add keep")
    guest.ok("ip link add link enp7s0.10 name mv0 netns keep type macvlan mode bridge")
    before = host_links(guest)["enp7s0.10"]
    answer = fabric.cli("network", "delete", "lent", "--deadline", "20")
    assert answer.status != 0
    for words in ("h1", "SUBINTERFACE_IN_USE", "address 192.0.2.7/24", "enp7s0.10"):
        assert words in answer.out + answer.err, answer
    assert host_links(guest)["enp7s0.10"] == before
    assert "lent" in networks(fabric)
    guest.ok("ip addr del 192.0.2.7/24 dev enp7s0.10")
    fabric.await_cli(["network", "show", "lent", "-o", "json"], "not Trunkline's: macvlan link mv0", 20)
    guest.ok("ip -n keep link delete mv0")
    guest.ok("ip link add wake type dummy; ip link delete wake")
    until(lambda: "lent" not in networks(fabric), "the deletion to be finished", 20)
    assert "enp7s0.10" not in host_links(guest)


def test_a_mark_that_was_taken_away_gives_the_link_to_the_operator(fabric: Deployment) -> None:
    guest = made(fabric, "given", 11)
    guest.ok("ip addr add 192.0.2.8/24 dev enp7s0.11; ip link set dev enp7s0.11 alias ''")
    fabric.ok("network", "delete", "given", "--deadline", "20")
    assert "192.0.2.8/24" in guest.ok("ip addr show dev enp7s0.11")
    guest.ok("ip link delete enp7s0.11")


def test_the_mtu_of_a_subinterface_that_the_host_uses_stays(fabric: Deployment) -> None:
    guest = made(fabric, "tight", 12, "--mtu", "1500")
    guest.ok("ip addr add 192.0.2.9/24 dev enp7s0.12")
    fabric.ok("network", "update", "tight", "--mtu", "1400")
    assert host_links(guest)["enp7s0.12"]["mtu"] == 1500
    guest.ok("ip link set enp7s0.12 mtu 1300")
    fabric.await_cli(["network", "show", "tight", "-o", "json"], "SUBINTERFACE_IN_USE", 20)
    assert host_links(guest)["enp7s0.12"]["mtu"] == 1300
    guest.ok("ip addr del 192.0.2.9/24 dev enp7s0.12")
    until(lambda: host_links(guest)["enp7s0.12"]["mtu"] == 1400, "the MTU to be set again", 20)
    fabric.ok("network", "delete", "tight")


def test_a_service_tag_of_the_same_id_is_another_link(fabric: Deployment) -> None:
    guest = fabric.lab.host(1)
    guest.ok("ip link add link enp7s0 name enp7s0.13 type vlan proto 802.1ad id 13")
    before = host_links(guest)["enp7s0.13"]
    answer = fabric.cli("network", "create", "ad", "--subnet", "20.0.13.0/24", "--no-gateway", "--vlan", "13",
                        "--deadline", "20")  # fmt: skip
    assert "LINK_CLASH" in answer.out + answer.err
    assert "802.1ad" in answer.out + answer.err
    assert host_links(guest)["enp7s0.13"] == before
    guest.ok("ip link set enp7s0.13 name svc13")
    until(lambda: "enp7s0.13" in host_links(guest), "the network's own sub-interface", 20)
    fabric.ok("network", "delete", "ad")
    assert host_links(guest)["svc13"]["ifindex"] == before["ifindex"]


def test_a_router_on_a_vlan_does_not_become_the_hosts(fabric: Deployment) -> None:
    guest = made(fabric, "routed", 14)
    conf = "/proc/sys/net/ipv6/conf/enp7s0.14"
    assert guest.ok(f"cat {conf}/accept_ra {conf}/autoconf").split() == ["0", "0"]
    fabric.ok("network", "delete", "routed")


def test_nothing_is_made_on_a_port_of_a_bridge_until_it_is_free(fabric: Deployment) -> None:
    """A VLAN link there would take the VLAN's frames from the bridge and all behind it."""
    guest = fabric.lab.host(1)
    guest.ok("ip link add br9 type bridge; ip link set br9 up; ip link set enp7s0 master br9")
    before = set(host_links(guest))
    answer = fabric.cli("network", "create", "ported", "--subnet", "20.0.15.0/24", "--no-gateway", "--vlan", "15",
                        "--deadline", "20")  # fmt: skip
    assert "UPLINK_ENSLAVED" in answer.out + answer.err
    assert "br9" in answer.out + answer.err
    assert set(host_links(guest)) == before
    guest.ok("ip link set enp7s0 nomaster; ip link delete br9")
    until(lambda: "enp7s0.15" in host_links(guest), "the network's sub-interface", 20)
    fabric.ok("network", "delete", "ported")
