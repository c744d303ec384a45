"""The fabric's networks in Docker: made, mended and removed, and nobody else's touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest
from engine.fabric import PROGRAMS, Fabric
from engine.host import Host
from lab.docker import IMAGE
from lab.waiting import until

FOUR = ["--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1"]
SIX = ["--subnet", "fd00:20::/64", "--gateway", "fd00:20::1"]


@pytest.fixture
def net(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[str]:
    """A network that is in Docker of both hosts; gone after the test, containers first."""
    yield make(fabric, pair, "mynet2", *FOUR)
    clean(fabric, pair, "mynet2")


def make(fabric: Fabric, hosts: tuple[Host, ...], name: str, *options: str) -> str:
    fabric.ok("network", "create", name, *options, "--vlan", "0")
    for host in hosts:
        until(partial(listed, host, name), f"{name} in Docker of {host.name}")
    return name


def deleted(fabric: Fabric, name: str) -> bool:
    return fabric.cli("network", "delete", name).status == 0


def clean(fabric: Fabric, hosts: tuple[Host, ...], *names: str) -> None:
    for host in hosts:
        if running := host.docker("ps", "-aq").split():
            host.docker("rm", "-f", *running)
    for name in names:
        # The controller hears of the last container's end a moment later.
        until(partial(deleted, fabric, name), f"{name} to be deleted", 60)


def listed(host: Host, name: str) -> bool:
    return name in host.docker("network", "ls", "--format", "{{.Name}}").split()


def shown(fabric: Fabric, host: str, network: str = "mynet2") -> tuple[str, str]:
    """What the controller knows of a network in a host's Docker: state and message."""
    told = fabric.ok("network", "show", network, "-o", "json").json()
    status = next(one for one in told["hosts"] if one["host"] == host)
    return status["docker"], status["docker_message"]


def events(fabric: Fabric, host: str) -> str:
    return json.dumps(fabric.ok("host", "show", host, "-o", "json").json()["events"])


def test_docker_has_the_network_as_it_is_meant(fabric: Fabric, pair: tuple[Host, Host], net: str) -> None:
    found = pair[0].inspect(net)
    assert (found["Driver"], found["Options"]["parent"], found["Options"]["macvlan_mode"]) == (
        "macvlan",
        "enp7s0",
        "bridge",
    )
    assert found["IPAM"] == {
        "Driver": "trunkline",
        "Options": {"network": net},
        "Config": [{"Subnet": "20.0.0.0/24", "Gateway": "20.0.0.1"}],
    }
    assert found["Labels"] == {"io.trunkline.network": net}
    assert not found["Internal"]
    until(lambda: shown(fabric, "h1") == ("ready", ""), "the controller to hear of it")


def test_a_network_that_was_removed_is_made_again_and_said_so(
    fabric: Fabric, pair: tuple[Host, Host], net: str
) -> None:
    h1 = pair[0]
    before = h1.inspect(net)["Id"]
    h1.docker("network", "rm", net)
    until(lambda: listed(h1, net), "it to be made again")
    assert h1.inspect(net)["Id"] != before
    until(lambda: "was removed by somebody" in events(fabric, "h1"), "the event")


def test_docker_refuses_to_remove_it_while_a_container_is_on_it(pair: tuple[Host, Host], net: str) -> None:
    h1 = pair[0]
    h1.docker("run", "-d", "--name", "c1", "--network", net, IMAGE, "sleep", "3600")
    refused = h1.docker_result("network", "rm", net)
    assert refused.status != 0
    assert "active endpoints" in refused.err
    assert h1.inspect("c1")["State"]["Running"]


def test_a_stopped_container_starts_although_its_network_was_pruned(
    fabric: Fabric, pair: tuple[Host, Host], net: str
) -> None:
    """Docker looks the network up by the id that the container knows: it would never start again."""
    h1 = pair[0]
    run = ["--network", net, "--ip", "20.0.0.99", "--network-alias", "db"]
    h1.docker("run", "-d", "--name", "fixed", *run, IMAGE, "sleep", "3600")
    h1.docker("stop", "-t", "0", "fixed")
    before = h1.inspect(net)["Id"]
    assert net in h1.docker("network", "prune", "-f")
    until(lambda: listed(h1, net) and h1.inspect(net)["Id"] != before, "it to be made again")
    until(lambda: knows(h1, "fixed", net) != before, "the container to be set up with it")
    h1.docker("start", "fixed")
    settings = h1.inspect("fixed")["NetworkSettings"]["Networks"][net]
    assert settings["IPAddress"] == "20.0.0.99"
    assert "db" in settings["Aliases"]


def knows(host: Host, container: str, net: str) -> str:
    return str(host.inspect(container)["NetworkSettings"]["Networks"][net]["NetworkID"])


def test_a_network_of_that_name_that_somebody_made_is_left_as_it_is(fabric: Fabric, pair: tuple[Host, Host]) -> None:
    h1, h2 = pair
    h1.docker("network", "create", "mynet2")
    fabric.ok("network", "create", "mynet2", *FOUR, "--vlan", "0")
    until(lambda: listed(h2, "mynet2"), "it on the other host")
    until(lambda: shown(fabric, "h1")[0] == "foreign", "the finding")
    assert "docker network rm mynet2" in shown(fabric, "h1")[1]
    assert h1.inspect("mynet2")["Driver"] == "bridge"
    h1.docker("network", "rm", "mynet2")
    until(lambda: shown(fabric, "h1")[0] == "ready", "ours to be made")
    clean(fabric, pair, "mynet2")


def test_dockers_own_refusal_is_passed_on_in_its_words(
    fabric: Fabric, pair: tuple[Host, Host], docker_version: tuple[int, ...]
) -> None:
    """Before version 27 Docker makes one macvlan network on a parent only."""
    h1, h2 = pair
    h1.docker("network", "create", "-d", "macvlan", "-o", "parent=enp7s0", "theirs")
    make(fabric, (h2,), "mynet2", *FOUR)
    if docker_version < (27,):
        until(lambda: "already using parent interface enp7s0" in shown(fabric, "h1")[1], "Docker's words")
        assert shown(fabric, "h1")[0] == "failed"
    h1.docker("network", "rm", "theirs")
    until(lambda: shown(fabric, "h1")[0] == "ready", "it to be made", 40)
    clean(fabric, pair, "mynet2")


def test_deleting_the_network_waits_for_its_containers(fabric: Fabric, pair: tuple[Host, Host], net: str) -> None:
    h1 = pair[0]
    h1.docker("run", "-d", "--name", "c1", "--network", net, IMAGE, "sleep", "3600")
    refused = fabric.cli("network", "delete", net)
    assert refused.status != 0
    assert "c1" in refused.err
    assert listed(h1, net)


def test_one_that_differs_is_made_anew_when_nobody_is_on_it(fabric: Fabric, pair: tuple[Host, Host]) -> None:
    """As an earlier agent, or another configuration, may have left it."""
    h1, h2 = pair
    fabric.agents["h1"].stop()
    label = "io.trunkline.network=mynet2"
    h1.docker("network", "create", "-d", "macvlan", "--label", label, "-o", "parent=enp7s0", "mynet2")
    h1.docker("run", "-d", "--name", "c1", "--network", "mynet2", IMAGE, "sleep", "3600")
    theirs = h1.inspect("mynet2")["Id"]
    fabric.agents["h1"].start()
    make(fabric, (h2,), "mynet2", *FOUR)
    until(lambda: shown(fabric, "h1")[0] == "failed", "the difference to be told")
    assert "c1" in shown(fabric, "h1")[1]
    assert "IPAM driver is default" in shown(fabric, "h1")[1]
    h1.docker("rm", "-f", "c1")
    until(lambda: shown(fabric, "h1")[0] == "ready", "it to be made anew")
    assert h1.inspect("mynet2")["Id"] != theirs
    assert h1.inspect("mynet2")["IPAM"]["Driver"] == "trunkline"
    clean(fabric, pair, "mynet2")


def test_without_a_gateway_containers_get_no_default_route(fabric: Fabric, pair: tuple[Host, Host]) -> None:
    make(fabric, pair, "closed", "--subnet", "20.0.9.0/24", "--no-gateway")
    h1, h2 = pair
    h1.docker("run", "-d", "--name", "c1", "--network", "closed", IMAGE, "sleep", "3600")
    h2.docker("run", "-d", "--name", "c2", "--network", "closed", IMAGE, "sleep", "3600")
    assert "default" not in h1.docker("exec", "c1", "ip", "route")
    there = h2.inspect("c2")["NetworkSettings"]["Networks"]["closed"]["IPAddress"]
    assert "1 packets received" in h1.docker("exec", "c1", "ping", "-c", "1", "-W", "2", there)
    clean(fabric, pair, "closed")


def test_dual_stack(fabric: Fabric, pair: tuple[Host, Host]) -> None:
    make(fabric, pair, "both", *FOUR, *SIX)
    h1, h2 = pair
    for host, name in ((h1, "c1"), (h2, "c2")):
        host.docker("run", "-d", "--name", name, "--network", "both", IMAGE, "sleep", "3600")
    there = h2.inspect("c2")["NetworkSettings"]["Networks"]["both"]
    assert there["GlobalIPv6Address"].startswith("fd00:20::")
    assert "1 packets received" in h1.docker("exec", "c1", "ping", "-c", "1", "-W", "2", there["IPAddress"])
    h1.enter("c1", ["ping", "-n", "-c", "1", "-W", "2", there["GlobalIPv6Address"]])
    clean(fabric, pair, "both")


def test_swarm_networks_get_a_config_only_one(fabric: Fabric, pair: tuple[Host, Host]) -> None:
    fabric.ok("network", "create", "sw", *FOUR, "--vlan", "0", "--docker", "swarm")
    h1 = pair[0]
    until(lambda: listed(h1, "sw-config"), "the config-only network")
    found = h1.inspect("sw-config")
    assert found["ConfigOnly"]
    assert not listed(h1, "sw")
    until(lambda: shown(fabric, "h1", "sw") == ("ready", ""), "the controller to hear of it")
    clean(fabric, pair, "sw")
    until(lambda: not listed(h1, "sw-config"), "it to go")


def test_cleanup_takes_it_out_of_docker_once_no_container_is_on_it(
    fabric: Fabric, pair: tuple[Host, Host], net: str
) -> None:
    h1, agent = pair[0], fabric.agents["h1"]
    command = [str(PROGRAMS / "trunkline-agent"), "--config", "/etc/trunkline/agent.toml", "cleanup"]
    h1.docker("create", "--name", "c1", "--network", net, IMAGE, "sleep", "3600")
    agent.stop()
    told = h1.result(command)
    assert "containers are set up with it: c1" in told.err
    assert listed(h1, net)
    h1.docker("rm", "c1")
    assert f"removed Docker network {net}" in h1.run(command)
    assert not listed(h1, net)
    agent.start()
    until(lambda: listed(h1, net), "it to be made again")
    h1.docker("run", "-d", "--name", "c1", "--network", net, IMAGE, "sleep", "3600")
