"""Names across hosts, as containers see them through dockerd's embedded server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from engine.containers import NETWORK, address, create, remove, run
from engine.fabric import Fabric
from engine.host import Host
from engine.wire import MANAGEMENT, Wire
from lab.places import CHECKOUT
from lab.waiting import until

DOMAIN = f"{NETWORK}.trunkline.internal"
OUTSIDE = "www.example.org"


def pings(host: Host, container: str, name: str) -> str:
    """The address that a container reaches under a name; "" when it does not."""
    done = host.docker_result("exec", container, "ping", "-c", "1", "-W", "2", name)
    return done.out.partition("(")[2].partition(")")[0] if done.status == 0 else ""


def reaches(host: Host, container: str, name: str, wanted: str) -> None:
    """Wait until a container reaches `wanted` under a name."""
    until(lambda: pings(host, container, name) == wanted, f"{container} to reach {name} at {wanted}", 15)


def outside(host: Host) -> str:
    """What a program of the host itself finds for a name that is not the fabric's."""
    said = host.result(["getent", "ahostsv4", OUTSIDE])
    return said.out.split()[0] if said.status == 0 else ""


def until_led(host: Host) -> None:
    """Wait until the host's resolver leads to the agent."""
    until(lambda: "127.0.0.153" in host.run(["cat", "/etc/resolv.conf"]), "the resolver to be led", 10)


@pytest.fixture(scope="module")
def upstream(wire: Wire) -> Iterator[None]:
    """A DNS server of the site, on the management network."""
    argv = ["ip", "netns", "exec", wire.namespace, sys.executable, "-m", "netns.naming_host"]
    process = subprocess.Popen(
        [*argv, "upstream", MANAGEMENT, "192.0.2.7"],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'tests'}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == "ready\n"
        yield
        process.kill()
        process.wait(10)


@pytest.fixture(scope="module")
def named(wire: Wire, pair: tuple[Host, Host], upstream: None) -> Fabric:
    """A fabric whose hosts had a server before our agents came."""
    for host in pair:
        (host.etc / "resolv.conf").write_text(f"nameserver {MANAGEMENT}\n")
    fabric = Fabric(wire, pair).up()
    for host in pair:
        until_led(host)
    create(fabric, "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1")
    return fabric


@pytest.fixture
def hosts(named: Fabric, pair: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    yield pair
    for host in pair:
        remove(host)


def test_a_container_reaches_another_hosts_by_name(hosts: tuple[Host, Host]) -> None:
    h1, h2 = hosts
    run(h1, "web", NETWORK)
    db = run(h2, "db", NETWORK)
    reaches(h1, "web", f"db.{DOMAIN}", db)
    assert pings(h1, "web", f"db.h2.{DOMAIN}") == db
    assert "db." in h1.docker("exec", "web", "nslookup", db), "and back"
    found = h1.run(["getent", "ahostsv4", f"db.{DOMAIN}"])
    assert db in found, "the host itself, too"
    remove(h2, "db")
    until(lambda: not h1.result(["getent", "ahostsv4", f"db.{DOMAIN}"]).out, "the name to go with the container", 15)


def test_short_names_by_a_containers_search_domain(hosts: tuple[Host, Host], docker_version: tuple[int, ...]) -> None:
    if docker_version < (28,):
        pytest.skip("there --dns-search makes Docker ask the host's loopback servers inside the container")
    h1, h2 = hosts
    run(h1, "web", NETWORK, "--dns-search", DOMAIN)
    db = run(h2, "db", NETWORK)
    reaches(h1, "web", "db", db)


def test_short_names_by_the_hosts_search_domain(hosts: tuple[Host, Host]) -> None:
    h1, h2 = hosts
    resolv = h1.etc / "resolv.conf"
    before = resolv.read_text()
    resolv.write_text(f"{before}search {DOMAIN}\n")
    try:
        run(h1, "web", NETWORK)
        db = run(h2, "db", NETWORK)
        reaches(h1, "web", "db", db)
    finally:
        resolv.write_text(before)


def test_services_of_compose_and_equal_names(hosts: tuple[Host, Host]) -> None:
    h1, h2 = hosts
    found = set()
    for number, host in enumerate(hosts, 1):
        labels = {"project": "shop", "service": "api", "container-number": str(number)}
        options = [f"--label=com.docker.compose.{key}={value}" for key, value in labels.items()]
        found.add(run(host, "shop-api", NETWORK, *options))

    def all_of(name: str) -> set[str]:
        return set(h1.result(["getent", "ahostsv4", f"{name}.{DOMAIN}"]).out.split()) & found

    until(lambda: all_of("api") == found and all_of("shop-api") == found, "both under one name", 15)
    assert all_of("shop-api.h2") == {address(h2, "shop-api")}


def test_docker_keeps_answering_its_own_names(hosts: tuple[Host, Host]) -> None:
    h1, h2 = hosts
    h1.docker("network", "create", "inner")
    run(h1, "front", "inner")
    back = run(h1, "back", "inner")
    db = run(h2, "db", NETWORK)
    h1.docker("network", "connect", NETWORK, "front")
    assert pings(h1, "front", "back") == back
    reaches(h1, "front", f"db.{DOMAIN}", db)
    remove(h1)
    h1.docker("network", "rm", "inner")


def test_everything_else_is_asked_outside(hosts: tuple[Host, Host]) -> None:
    h1, _ = hosts
    run(h1, "web", NETWORK)
    assert outside(h1) == "192.0.2.7"
    assert "192.0.2.7" in h1.docker("exec", "web", "nslookup", "-type=a", f"{OUTSIDE}.")


def test_names_stay_while_the_controller_is_away_and_after_a_restart(named: Fabric, hosts: tuple[Host, Host]) -> None:
    h1, h2 = hosts
    run(h1, "web", NETWORK)
    db = run(h2, "db", NETWORK)
    reaches(h1, "web", f"db.{DOMAIN}", db)
    copy = h1.directory / "agent/names.json"
    until(lambda: copy.exists() and db in copy.read_text(), "the copy to be on disk", 15)
    named.stop_controller()
    try:
        assert pings(h1, "web", f"db.{DOMAIN}") == db
        named.agents["h1"].restart()
        reaches(h1, "web", f"db.{DOMAIN}", db)
    finally:
        named.start_controller()
        named.wait_connected()


def test_a_host_resolves_whatever_becomes_of_the_agent(named: Fabric, hosts: tuple[Host, Host]) -> None:
    h1, h2 = hosts
    named.agents["h1"].kill()
    began = time.monotonic()
    assert outside(h1) == "192.0.2.7"
    assert time.monotonic() - began < 1
    run(h1, "web", "bridge")
    named.start_agent("h1")
    named.wait_connected()
    named.agents["h2"].send(signal.SIGTERM)
    named.agents["h2"].wait()
    assert h2.run(["cat", "/etc/resolv.conf"]) == f"nameserver {MANAGEMENT}\n"
    assert outside(h2) == "192.0.2.7"
    named.start_agent("h2")
    named.wait_connected()
    until_led(h2)


def test_cleanup_puts_the_resolver_back(named: Fabric, hosts: tuple[Host, Host]) -> None:
    h1, _ = hosts
    named.agents["h1"].kill()
    assert "127.0.0.153" in h1.run(["cat", "/etc/resolv.conf"])
    program = str(CHECKOUT / ".venv/bin/trunkline-agent")
    assert "resolver" in h1.run([program, "--config", "/etc/trunkline/agent.toml", "cleanup"])
    assert h1.run(["cat", "/etc/resolv.conf"]) == f"nameserver {MANAGEMENT}\n"
    named.start_agent("h1")
    named.wait_connected()
