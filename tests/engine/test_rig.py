"""The rig itself: dockerds side by side on one L2, and nothing left of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.fabric import Fabric
from engine.host import Host
from engine.wire import Wire
from lab.docker import IMAGE
from lab.errors import LabError
from lab.waiting import until


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


def test_names_resolve_within_a_host(joined: tuple[Host, Host]) -> None:
    said = joined[0].docker("exec", "c11", "nslookup", "-type=a", "c11.", "127.0.0.11")
    assert "20.0.0.11" in said


def test_a_peer_on_the_wire_reaches_containers_and_learns_their_mac(wire: Wire, joined: tuple[Host, Host]) -> None:
    peer = wire.peer("p1", "20.0.0.250/24")
    assert peer.pings("20.0.0.12")
    settings = joined[1].inspect("c12")["NetworkSettings"]["Networks"]["hand"]
    assert peer.mac_of("20.0.0.12") == settings["MacAddress"]


def test_what_a_host_has_for_itself(pair: tuple[Host, Host]) -> None:
    h1, h2 = pair
    (h1.etc / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    assert h1.run(["cat", "/etc/resolv.conf"]) == "nameserver 192.0.2.53\n"
    assert "192.0.2.53" not in h2.run(["cat", "/etc/resolv.conf"]) + Path("/etc/resolv.conf").read_text()
    h1.outside("/run/only-here").touch()
    assert "only-here" in h1.run(["ls", "/run"])
    assert "only-here" not in h2.run(["ls", "/run"]).split() + os.listdir("/run")
    assert [host.run(["hostname"]).strip() for host in pair] == ["h1", "h2"]
    assert sorted(h1.run(["ls", "/sys/class/net"]).split()) == ["docker0", "enp7s0", "lo", "mgmt0"]
    assert h1.run(["cat", "/etc/machine-id"]) != h2.run(["cat", "/etc/machine-id"])


def test_a_cable_pulled_and_plugged_in_again(wire: Wire, joined: tuple[Host, Host]) -> None:
    peer = wire.peer("p2", "20.0.0.251/24")
    wire.cut(joined[0])
    assert not peer.pings("20.0.0.11", wait=0.5)
    assert peer.pings("20.0.0.12")
    wire.mend(joined[0])
    until(lambda: peer.pings("20.0.0.11", wait=0.5), "the cable to carry again")


def test_a_capture_shows_frames_of_the_wire(wire: Wire, joined: tuple[Host, Host], tmp_path: Path) -> None:
    peer = wire.peer("p3", "20.0.0.252/24")
    with peer.capture("arp", tmp_path / "arp.log") as seen:
        assert not seen.lines()
        joined[0].docker("exec", "c11", "arping", "-c", "1", "-A", "-I", "eth0", "20.0.0.11")
        until(lambda: seen.lines(r"20\.0\.0\.11"), "the announcement to be seen")


def test_compose_starts_services_on_a_network_made_by_hand(joined: tuple[Host, Host], tmp_path: Path) -> None:
    host = joined[0]
    service = {"image": IMAGE, "command": "sleep 3600", "networks": {"hand": {"ipv4_address": "20.0.0.30"}}}
    project = {"name": "shop", "services": {"web": service}, "networks": {"hand": {"external": True}}}
    (tmp_path / "compose.json").write_text(json.dumps(project))
    host.compose("-f", str(tmp_path / "compose.json"), "up", "-d")
    try:
        assert "1 received" in joined[1].enter("c12", ["ping", "-n", "-c", "1", "-W", "2", "20.0.0.30"])
        labels = host.inspect("shop-web-1")["Config"]["Labels"]
        assert labels["com.docker.compose.service"] == "web"
    finally:
        host.compose("-f", str(tmp_path / "compose.json"), "down", "-t", "0")


def test_a_container_outlives_a_killed_dockerd_under_live_restore(wire: Wire) -> None:
    host = wire.host("live")
    host.start_docker(live_restore=True)
    host.docker("run", "-d", "--name", "kept", "--network", "none", host.load_busybox(), "sleep", "3600")
    pid = host.container_pid("kept")
    host.kill_docker()
    assert host.docker_result("ps").status != 0
    assert "lo:" in host.enter(str(pid), ["ip", "addr"])
    host.start_docker()
    assert host.container_pid("kept") == pid
    host.stop_docker()
    assert Path(f"/proc/{pid}").exists()


def test_a_container_ends_with_dockerd_otherwise(wire: Wire) -> None:
    host = wire.host("mortal")
    host.start_docker()
    host.docker("run", "-d", "--name", "mortal", "--network", "none", host.load_busybox(), "sleep", "3600")
    pid = host.container_pid("mortal")
    host.stop_docker()
    assert not Path(f"/proc/{pid}").exists()


def test_a_failing_dockerd_is_reported_with_its_log(wire: Wire) -> None:
    with pytest.raises(LabError, match="no-such-key"):
        wire.host("broken").start_docker({"no-such-key": True})


def test_the_fabric_attaches_containers_of_both_hosts(wire: Wire, pair: tuple[Host, Host], fabric: Fabric) -> None:
    fabric.ok("network", "create", "mynet2", "--subnet", "20.0.2.0/24", "--gateway", "20.0.2.1", "--vlan", "0")
    for host in pair:
        host.docker("run", "-d", "--name", "web", "--network", "none", IMAGE, "sleep", "3600")
        fabric.ok("attach", f"{host.name}/web", "--network", "mynet2")
    listed = fabric.ok("attachment", "list", "--network", "mynet2", "-o", "json").json()
    found = {address.partition("/")[0] for one in listed for address in one["addresses"]}
    peer = wire.peer("p4", "20.0.2.1/24")
    assert len(found) == 2
    assert all(peer.pings(address) for address in found)
    fabric.agents["h1"].kill()
    fabric.await_cli(["host", "list"], "away")
    fabric.agents["h1"].start()
    fabric.wait_connected(["h1"])
