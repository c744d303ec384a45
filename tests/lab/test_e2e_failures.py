"""Everything that can die does, with containers running: traffic goes on, nothing is given away, all converges."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.deployment import Deployment
from lab.docker import IMAGE, Docker
from lab.fabric import Lab
from lab.faults import Partition
from lab.guest import Guest
from lab.waiting import until
from lab.world import container, host_links, namespace

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

BOOT = """#!/bin/sh
mkdir -p /run/lab /var/log/lab
ip netns add box; ip -n box link set lo up
{docker}
setsid {agent} </dev/null >>/var/log/lab/agent.log 2>&1 &
echo $! $(cut -d' ' -f22 /proc/$!/stat) >/run/lab/agent.pid
"""


def boot_script(fabric: Deployment, docker: bool) -> str:
    """What a host does at each boot by itself, as systemd would."""
    start = "setsid /usr/sbin/dockerd </dev/null >>/var/log/lab/dockerd.log 2>&1 &" if docker else ""
    return BOOT.format(docker=start, agent=" ".join(fabric.agent_command()))


@pytest.fixture(scope="module")
def fabric() -> Iterator[Deployment]:
    """Two hosts, Docker on the first: web (restart always) on h1, a namespace box on each, all on blue."""
    with Lab().up(2) as lab:
        for guest in lab.hosts:
            guest.ok("ip netns add box && ip -n box link set lo up")
        fabric = Deployment(lab, {"tick_seconds": 5}).up()
        for guest in lab.hosts:
            guest.write("/etc/lab/boot", boot_script(fabric, docker=guest.number == 1), 0o755)
        docker = Docker(lab.host(1))
        docker.start()
        docker.load_busybox()
        docker("run", "-d", "--restart", "always", "--network", "none", "--name", "web", IMAGE, "sleep", "1000000")
        fabric.ok("uplink", "set", "default", "--vlans", "10-29")
        fabric.ok("network", "create", "blue", "--subnet", "20.0.0.0/24", "--no-gateway", "--vlan", "10")
        for place in ("h1/web", "h1/netns:/run/netns/box", "h2/netns:/run/netns/box"):
            fabric.ok("attach", place, "--network", "blue")
        yield fabric


def address(fabric: Deployment, host: str, target: str) -> str:
    listing = fabric.ok("attachment", "list", "--host", host, "-o", "json").json()
    found = [a for a in listing if target in a["spec"]["target"].values()]
    assert len(found) == 1, listing
    return str(found[0]["addresses"][0]).split("/")[0]


def all_ready(fabric: Deployment) -> bool:
    answer = fabric.cli("attachment", "list", "-o", "json")
    return answer.status == 0 and all(a["phase"] == "ready" for a in answer.json())


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`, by name."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(") ", 1)
            except OSError:
                continue
            if int(fields[1].split()[1]) == pid and "(etcd" in fields[0]:
                found.append(int(entry.name))
    return found


def test_an_agent_killed_and_started_again_disturbs_no_traffic(fabric: Deployment) -> None:
    guest = fabric.lab.host(1)
    with container(guest, "web").pinging(address(fabric, "h2", "/run/netns/box")) as pinger:
        fabric.stop_agent(guest, signal.SIGKILL)
        fabric.await_cli(["host", "show", "h1", "-o", "json"], '"connected": false')
        fabric.start_agent(guest)
        fabric.wait_connected(["h1"])
        until(lambda: all_ready(fabric), "all attachments to be ready again", 30)
    assert pinger.lost == 0, (pinger.sent, pinger.received)


def test_a_killed_controller_disturbs_no_traffic_and_forgets_nothing(fabric: Deployment) -> None:
    before = fabric.ok("attachment", "list", "-o", "json").json()
    with container(fabric.lab.host(1), "web").pinging(address(fabric, "h2", "/run/netns/box")) as pinger:
        fabric.stop_controller(signal.SIGKILL)
        fabric.start_controller()
        fabric.wait_connected(["h1", "h2"])
        until(lambda: all_ready(fabric), "all attachments to be ready again", 30)
    after = fabric.ok("attachment", "list", "-o", "json").json()
    assert [(a["addresses"], a["mac"]) for a in after] == [(a["addresses"], a["mac"]) for a in before]
    assert pinger.lost == 0, (pinger.sent, pinger.received)


def test_a_killed_etcd_comes_back_with_everything(fabric: Deployment) -> None:
    before = fabric.ok("attachment", "list", "-o", "name").out
    etcd = children(fabric.controller_pid)
    assert len(etcd) == 1
    os.kill(etcd[0], signal.SIGKILL)
    fabric.ok("network", "create", "later", "--subnet", "21.0.0.0/24", "--no-gateway", "--vlan", "11")
    assert children(fabric.controller_pid) != etcd
    assert fabric.ok("attachment", "list", "-o", "name").out == before
    fabric.ok("network", "delete", "later")


def test_a_host_out_of_reach_keeps_what_it_has_and_converges_on_return(fabric: Deployment) -> None:
    guest = fabric.lab.host(2)
    held = address(fabric, "h2", "/run/netns/box")
    with container(fabric.lab.host(1), "web").pinging(held) as pinger:
        fabric.lab.fault(Partition(2))
        fabric.await_cli(["host", "show", "h2", "-o", "json"], '"connected": false', 90)
        fabric.ok("detach", "h2/netns:/run/netns/box", "--network", "blue", "--no-wait")
        holdings = fabric.ok("who", held, "-o", "json").json()
        assert [h["kind"] for h in holdings] == ["attachment"], "an address of a host out of reach was let go"
        refused = fabric.cli("attach", "h1/netns:/run/netns/box", "--network", "blue", "--name", "thief", "--ip", held)
        assert "ADDRESS_TAKEN" in refused.err or "ATTACHMENT_EXISTS" in refused.err, refused
        assert namespace(guest, "box").addresses() == {f"{held}/24"}
    assert pinger.lost == 0, (pinger.sent, pinger.received)
    fabric.lab.clear()
    fabric.wait_connected(["h2"], 90)
    until(lambda: not namespace(guest, "box").links(), "h2 to remove what was detached meanwhile", 60)
    fabric.await_cli(["who", held, "-o", "json"], '"resting"')
    fabric.ok("attach", "h2/netns:/run/netns/box", "--network", "blue")
    assert address(fabric, "h2", "/run/netns/box") == held, "the last owner gets its address back"


def wait_booted(guest: Guest) -> None:
    until(lambda: guest.daemon_running("agent"), f"the agent of {guest.name}", 60)


def test_a_host_that_loses_power_comes_back_from_its_spool_with_no_controller(fabric: Deployment) -> None:
    h1, h2 = fabric.lab.hosts
    held = {"web": address(fabric, "h1", "web"), "box": address(fabric, "h1", "/run/netns/box")}
    mac = next(iter(container(h1, "web").links().values()))["address"]
    fabric.stop_controller(signal.SIGKILL)
    h1.kill()
    assert not namespace(h2, "box").pings(held["web"])
    h1.start()
    wait_booted(h1)
    until(lambda: namespace(h2, "box").pings(held["box"], wait=1), "box of h1 to answer again", 90)
    until(lambda: namespace(h2, "box").pings(held["web"], wait=1), "web of h1 to answer again", 120)
    assert next(iter(container(h1, "web").links().values()))["address"] == mac
    assert host_links(h1)["enp7s0.10"]["linkinfo"]["info_data"]["id"] == 10
    fabric.start_controller()
    fabric.wait_connected(["h1", "h2"])
    until(lambda: all_ready(fabric), "all attachments to be ready again", 60)
    assert address(fabric, "h1", "web") == held["web"]


def test_an_address_taken_by_a_stranger_stays_down_after_a_boot(fabric: Deployment) -> None:
    h1, h2 = fabric.lab.hosts
    held, web = address(fabric, "h1", "/run/netns/box"), address(fabric, "h1", "web")
    fabric.stop_controller(signal.SIGKILL)
    h1.kill()
    stranger = (
        "ip netns add stranger; ip link add link enp7s0.10 name st0 type macvlan mode bridge;"
        f"ip link set st0 netns stranger; ip -n stranger addr add {held}/24 dev st0; ip -n stranger link set st0 up"
    )
    h2.ok(stranger)
    h1.start()
    wait_booted(h1)
    until(lambda: namespace(h2, "stranger").pings(web, wait=1), "web of h1 to answer", 120)
    assert f"{held}/24" not in namespace(h1, "box").addresses()
    fabric.start_controller()
    fabric.wait_connected(["h1", "h2"])
    shown = fabric.await_cli(["attachment", "list", "--host", "h1", "-o", "json"], "ADDRESS_CONFLICT")
    assert held in shown.out
    h2.ok("ip netns delete stranger")
    until(lambda: all_ready(fabric), "the address to go up once the stranger is gone", 90)
    assert f"{held}/24" in namespace(h1, "box").addresses()


def test_an_orderly_reboot_brings_everything_back(fabric: Deployment) -> None:
    h1, h2 = fabric.lab.hosts
    held = address(fabric, "h1", "/run/netns/box")
    h1.reboot()
    wait_booted(h1)
    until(lambda: namespace(h2, "box").pings(held, wait=1), "box of h1 to answer again", 90)
    until(lambda: all_ready(fabric), "all attachments to be ready again", 90)


def test_another_machine_under_a_known_name_is_refused(fabric: Deployment) -> None:
    guest = fabric.lab.host(2)
    fabric.stop_agent(guest)
    known = guest.read("/etc/machine-id")
    guest.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    fabric.start_agent(guest)
    until(lambda: "HOST_MACHINE_MISMATCH" in guest.daemon_log("agent"), "the refusal in the agent's log", 30)
    fabric.stop_agent(guest)
    guest.write("/etc/machine-id", known)
    fabric.start_agent(guest)
    fabric.wait_connected(["h2"])
