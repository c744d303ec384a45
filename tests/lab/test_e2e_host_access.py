"""`--host-access` on real kernels with 802.1Q: a host reaches containers, its own too, and after a boot by itself."""

import signal
from collections.abc import Iterator

import pytest
from lab.deployment import Deployment
from lab.fabric import Lab
from lab.guest import Guest
from lab.waiting import until
from lab.world import host_links, namespace

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

BOOT = """#!/bin/sh
mkdir -p /run/lab /var/log/lab
ip netns add box; ip -n box link set lo up
setsid {agent} </dev/null >>/var/log/lab/agent.log 2>&1 &
echo $! $(cut -d' ' -f22 /proc/$!/stat) >/run/lab/agent.pid
"""


@pytest.fixture(scope="module")
def fabric() -> Iterator[Deployment]:
    """Two hosts with a namespace box each, on blue (VLAN 10), which has no host access yet."""
    with Lab().up(2) as lab:
        fabric = Deployment(lab, {"tick_seconds": 5}).up()
        for guest in lab.hosts:
            guest.ok("ip netns add box && ip -n box link set lo up")
            guest.write("/etc/lab/boot", BOOT.format(agent=" ".join(fabric.agent_command())), 0o755)
        fabric.ok("uplink", "set", "default", "--vlans", "10-29")
        fabric.ok("network", "create", "blue", "--subnet", "20.0.0.0/24", "--subnet", "fd00:20::/64",
                  "--no-gateway", "--vlan", "10", "--docker", "none")  # fmt: skip
        for guest in lab.hosts:
            fabric.ok("attach", f"{guest.name}/netns:/run/netns/box", "--network", "blue")
        yield fabric


def addresses(fabric: Deployment, host: str, name: str) -> list[str]:
    """Addresses, without prefix length, of the attachment of that name once it is ready; none before."""
    listing = fabric.ok("attachment", "list", "--host", host, "-o", "json").json()
    found = [a for a in listing if a["spec"]["name"] == name and a["phase"] == "ready"]
    return [str(address).split("/")[0] for one in found for address in one["addresses"]]


def box(fabric: Deployment, host: str) -> list[str]:
    found = fabric.ok("attachment", "list", "--host", host, "-o", "json").json()
    (one,) = [a for a in found if "/run/netns/box" in a["spec"]["target"].values()]
    return [str(address).split("/")[0] for address in one["addresses"]]


def reaches(guest: Guest, address: str) -> bool:
    return guest.run(["ping", "-n", "-c", "1", "-W", "1", address]).status == 0


def test_a_host_reaches_all_containers_once_it_has_access(fabric: Deployment) -> None:
    h1, h2 = fabric.lab.hosts
    own, other = box(fabric, "h1"), box(fabric, "h2")
    assert not reaches(h1, own[0])
    before = h1.ok("ip -4 route; ip -6 route")
    fabric.ok("network", "update", "blue", "--host-access")
    until(lambda: addresses(fabric, "h1", "host/blue"), "h1's own interface to be ready", 30)
    until(lambda: addresses(fabric, "h2", "host/blue"), "h2's own interface to be ready", 30)
    for address in (*own, *other):
        until(lambda address=address: reaches(h1, address), f"h1 to reach {address}", 15)  # type: ignore[misc]
    (shown,) = [link for link in host_links(h1).values() if link["ifname"].startswith("tlh")]
    assert shown["link"] == "enp7s0.10"
    after = h1.ok("ip -4 route; ip -6 route").splitlines()
    assert set(before.splitlines()) <= set(after)
    for address in addresses(fabric, "h1", "host/blue"):
        assert namespace(h1, "box").pings(address)
        assert namespace(h2, "box").pings(address)
        assert reaches(h2, address)


def test_it_comes_back_after_power_was_lost_with_no_controller_in_sight(fabric: Deployment) -> None:
    h1 = fabric.lab.host(1)
    own, mine = box(fabric, "h1"), addresses(fabric, "h1", "host/blue")
    mac = next(link["address"] for link in host_links(h1).values() if link["ifname"].startswith("tlh"))
    fabric.stop_controller(signal.SIGKILL)
    try:
        h1.kill()
        h1.start()
        until(lambda: h1.daemon_running("agent"), "the agent of h1", 60)
        for address in own:
            until(lambda address=address: reaches(h1, address), f"h1 to reach {address}", 90)  # type: ignore[misc]
        assert namespace(h1, "box").pings(mine[0])
        again = next(link for link in host_links(h1).values() if link["ifname"].startswith("tlh"))
        assert again["address"] == mac
    finally:
        fabric.start_controller()
    fabric.wait_connected(["h1", "h2"])
    until(lambda: addresses(fabric, "h1", "host/blue") == mine, "h1's own interface to be ready again", 60)


def test_it_goes_when_access_does(fabric: Deployment) -> None:
    h1 = fabric.lab.host(1)
    own = box(fabric, "h1")
    fabric.ok("network", "update", "blue", "--no-host-access")
    until(lambda: not any(name.startswith("tlh") for name in host_links(h1)), "h1's own interface to go", 30)
    assert "proto 149" not in h1.ok("ip -4 route; ip -6 route")
    assert not reaches(h1, own[0])
    assert "enp7s0.10" in host_links(h1)
