"""`docker run --network blue` on hosts with kernels and trunks of their own, under systemd with the agent's own units:
reached over 802.1Q, back after each kind of boot, and mended when somebody breaks what is under it. Judged by ip(8),
ping and docker."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from lab.deployment import Deployment
from lab.docker import IMAGE, Docker
from lab.fabric import Lab
from lab.faults import DropVlan
from lab.guest import Guest
from lab.waiting import until
from lab.world import container, host_links, namespace

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

LINK = "enp7s0.10"
OURS = "trunkline:vlan:default:10"
SLEEP = ("sleep", "1000000")
# Several kernels share a machine that has other work: what takes seconds on its own may take minutes.
PATIENCE = 240


@pytest.fixture(scope="module")
def fabric() -> Iterator[Deployment]:
    """Three hosts with Docker, network blue (VLAN 10, both families), and on each a container web1 to web3 that Docker
    starts again whatever happens."""
    with Lab().up(3, init="systemd") as lab, ThreadPoolExecutor() as pool:
        fabric = Deployment(lab, {"tick_seconds": 5})
        fabric.make_keys()
        fabric.start_controller()
        list(pool.map(lambda guest: prepare(fabric, guest), lab.hosts))
        fabric.wait_connected([guest.name for guest in lab.hosts], PATIENCE)
        fabric.ok("uplink", "set", "default", "--vlans", "10-29")
        fabric.ok("network", "create", "blue", "--subnet", "20.0.0.0/24", "--subnet", "fd00:20::/64",
                  "--gateway", "20.0.0.1", "--vlan", "10", "--deadline", str(PATIENCE), timeout=PATIENCE)  # fmt: skip
        list(pool.map(run_web, lab.hosts))
        yield fabric
        fabric.stop_controller()


def prepare(fabric: Deployment, guest: Guest) -> None:
    fabric.install_agent(guest)
    fabric.enable_agent(guest)
    guest.ok(["systemctl", "enable", "docker"])
    docker = Docker(guest)
    docker.start(timeout=PATIENCE)
    docker.load_busybox()


def run_web(guest: Guest) -> None:
    name = f"web{guest.number}"
    Docker(guest)(
        "run", "-d", "--restart", "always", "--network", "blue", "--name", name, IMAGE, *SLEEP, timeout=PATIENCE
    )


def on_blue(guest: Guest, name: str = "") -> dict[str, Any]:
    """A container's endpoint on blue, as Docker tells it."""
    (shown,) = json.loads(guest.ok(["docker", "inspect", name or f"web{guest.number}"], PATIENCE))
    return dict(shown["NetworkSettings"]["Networks"]["blue"])


def address(guest: Guest) -> str:
    return str(on_blue(guest)["IPAddress"])


def reaches(guest: Guest, target: str) -> bool:
    """Whether the host's own web container gets an answer."""
    pid = guest.run(["docker", "inspect", "-f", "{{.State.Pid}}", f"web{guest.number}"], PATIENCE).out.strip()
    return guest.run(["nsenter", "-t", pid or "0", "-n", "ping", "-n", "-c", "1", "-W", "2", target]).status == 0


def await_reached(guest: Guest, target: str, why: str) -> None:
    until(lambda: reaches(guest, target), f"{target} to answer {guest.name}: {why}", PATIENCE)


def await_ready(fabric: Deployment, name: str, wanted: str) -> None:
    def ready() -> bool:
        answer = fabric.cli("attachment", "list", "-o", "json")
        listed = answer.json() if answer.status == 0 else []
        return any(
            one["spec"]["target"].get("container") == name
            and one["phase"] == "ready"
            and f"{wanted}/24" in one["addresses"]
            for one in listed
        )

    until(ready, f"{name} to be shown ready with {wanted}", PATIENCE)


def events(fabric: Deployment, host: str) -> str:
    return json.dumps(fabric.ok("host", "show", host, "-o", "json").json()["events"])


def test_containers_of_three_hosts_reach_each_other_and_frames_are_tagged(fabric: Deployment) -> None:
    h1, h2, h3 = hosts = fabric.lab.hosts
    addresses = {guest.name: address(guest) for guest in hosts}
    assert len(set(addresses.values())) == 3
    with fabric.lab.capture(1, "vlan 10 and icmp") as wire:
        await_reached(h1, addresses["h2"], "two hosts")
        wire.await_frame("vlan 10, .*echo reply")
    await_reached(h2, addresses["h3"], "two other hosts")
    await_reached(h3, addresses["h1"], "the third pair")
    await_reached(h1, str(on_blue(h2)["GlobalIPv6Address"]), "IPv6")
    for guest in hosts:
        assert host_links(guest)[LINK]["ifalias"] == OURS
        await_ready(fabric, f"web{guest.number}", addresses[guest.name])


def test_an_interface_that_goes_with_the_link_under_it_comes_back(fabric: Deployment) -> None:
    h1, h2 = fabric.lab.hosts[:2]
    inside = container(h1, "web1")
    docker, before, default = on_blue(h1), inside.links(), default_route(h1)
    assert default
    h1.ok(["ip", "link", "delete", LINK])
    await_reached(h2, docker["IPAddress"], "its interface was made again")
    after = inside.links()
    assert [(name, link["address"], addresses(link)) for name, link in after.items()] == [
        (name, link["address"], addresses(link)) for name, link in before.items()
    ]
    assert default_route(h1) == default
    assert on_blue(h1) == docker, "Docker's own view is the same"
    until(lambda: "made again with" in events(fabric, "h1"), "the event", 60)
    assert host_links(h1)[LINK]["ifalias"] == OURS
    h1.ok(["docker", "network", "disconnect", "blue", "web1"], PATIENCE)
    assert inside.links() == {}, "Docker takes it away like its own"
    h1.ok(["docker", "network", "connect", "blue", "web1"], PATIENCE)
    await_reached(h2, address(h1), "connected again")


def default_route(guest: Guest) -> list[str]:
    """Gateway and interface."""
    pid = guest.ok(["docker", "inspect", "-f", "{{.State.Pid}}", f"web{guest.number}"], PATIENCE).strip()
    return guest.ok(["nsenter", "-t", pid, "-n", "ip", "-4", "route", "show", "default"]).split()[:5]


def addresses(link: dict[str, Any]) -> set[str]:
    return {one["local"] for one in link["addr_info"] if one["scope"] == "global"}


def test_containers_start_while_the_trunk_lacks_the_vlan(fabric: Deployment) -> None:
    h1, h2 = fabric.lab.hosts[:2]
    with fabric.lab.faulty(DropVlan(2, 10)):
        h2.ok(["docker", "restart", "-t", "0", "web2"], PATIENCE)
        held = address(h2)
        assert held
        assert not reaches(h1, held)
    fabric.lab.clear()
    await_reached(h1, held, "the trunk carries VLAN 10 again")


def test_a_start_waits_for_an_agent_that_is_exchanged(fabric: Deployment) -> None:
    """The socket is systemd's: what Docker asks meanwhile stays in its backlog."""
    h1, h2 = fabric.lab.hosts[:2]
    held = address(h2)
    h2.ok(["systemctl", "stop", "trunkline-agent.service"], PATIENCE)
    h2.daemon("restart", ["docker", "restart", "-t", "0", "web2"])
    until(lambda: h2.run("ss -xlH src /run/docker/plugins/trunkline.sock | grep -q '^u_str *LISTEN'").status == 0, "it")
    h2.ok(["systemctl", "start", "trunkline-agent.service"], PATIENCE)
    until(lambda: not h2.daemon_running("restart"), "docker restart to end", PATIENCE)
    assert "Error" not in h2.daemon_log("restart")
    assert address(h2) == held
    await_reached(h1, held, "started while the agent was away")


def test_power_loss_with_no_controller_and_no_etcd(fabric: Deployment) -> None:
    h1, h2 = fabric.lab.hosts[:2]
    held, mac = address(h1), on_blue(h1)["MacAddress"]
    fabric.stop_controller(signal.SIGKILL)
    h1.kill()
    assert not reaches(h2, held)
    h1.start(wait=False)
    await_reached(h2, held, "the host has booted by itself")
    assert (address(h1), on_blue(h1)["MacAddress"]) == (held, mac)
    made_before_docker(h1)
    fabric.start_controller(PATIENCE)
    fabric.wait_connected(["h1", "h2", "h3"], PATIENCE)
    await_ready(fabric, "web1", held)


def made_before_docker(guest: Guest) -> None:
    """The agent was ready, and the sub-interface there, before dockerd was started."""
    assert host_links(guest)[LINK]["ifalias"] == OURS
    asked = {
        "trunkline-agent.service": "ActiveEnterTimestampMonotonic",
        "docker.service": "ExecMainStartTimestampMonotonic",
    }
    ready, started = (
        int(guest.ok(["systemctl", "show", "--value", "-p", what, unit], PATIENCE)) for unit, what in asked.items()
    )
    assert 0 < ready < started


def test_an_orderly_reboot(fabric: Deployment) -> None:
    h1, h2 = fabric.lab.hosts[:2]
    held = address(h1)
    h1.poweroff(PATIENCE)
    h1.start(wait=False)
    await_reached(h2, held, "the host was booted again")
    assert address(h1) == held
    made_before_docker(h1)
    await_ready(fabric, "web1", held)


def test_a_dockerd_that_starts_before_the_agent(fabric: Deployment) -> None:
    """It misses the sub-interface, makes it itself and owns it; nobody answers what it asks for."""
    h1, h3 = fabric.lab.host(1), fabric.lab.host(3)
    held = address(h3)
    h3.ok(["systemctl", "disable", "trunkline-agent.socket", "trunkline-agent.service"], PATIENCE)
    h3.ok(["sync"], PATIENCE)
    h3.kill()
    h3.start(wait=False)
    until(lambda: LINK in host_links(h3), "Docker to make the sub-interface", PATIENCE)
    made = host_links(h3)[LINK]
    assert "ifalias" not in made
    fabric.start_agent(h3)
    await_reached(h1, held, "the agent was started after Docker")
    now = host_links(h3)[LINK]
    assert (now["ifindex"], now["ifalias"]) == (made["ifindex"], OURS)
    fabric.wait_connected(["h3"], PATIENCE)
    await_ready(fabric, "web3", held)


def test_a_subinterface_that_docker_deletes_in_use_is_made_again(fabric: Deployment) -> None:
    """dockerd made it, so dockerd deletes it with its network, with whatever else is on it."""
    h1, h3 = fabric.lab.host(1), fabric.lab.host(3)
    other = address(h1)
    h3.ok("ip netns add box && ip -n box link set lo up")
    fabric.ok("attach", "h3/netns:/run/netns/box", "--network", "blue", timeout=PATIENCE)
    box = namespace(h3, "box")
    until(lambda: box.pings(other), "box to reach web1", PATIENCE)
    before, index = box.addresses(), host_links(h3)[LINK]["ifindex"]
    h3.ok(["docker", "rm", "-f", "web3"], PATIENCE)
    h3.ok(["docker", "network", "rm", "blue"], PATIENCE)
    until(lambda: box.addresses() == before and box.pings(other), "box to be back", PATIENCE)
    assert host_links(h3)[LINK]["ifindex"] != index
    assert host_links(h3)[LINK]["ifalias"] == OURS
    assert f"{LINK} was deleted by somebody while in use" in events(fabric, "h3")
    until(lambda: "blue" in h3.ok(["docker", "network", "ls"]).split(), "Docker's network to be back", PATIENCE)
    run_web(h3)
    await_reached(h1, address(h3), "a container on the network that was made again")
