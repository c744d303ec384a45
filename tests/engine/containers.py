"""Containers on networks of the fabric, and three who know of them: Docker, the kernel and the controller.

address = run(host, "web", NETWORK)
agreed(fabric, NETWORK)    # until docker network inspect, the containers and `trunkline address list` say the same
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.fabric import Fabric
from engine.host import Host
from engine.peer import Peer
from lab.docker import IMAGE
from lab.errors import LabError
from lab.waiting import until

NETWORK = "mynet2"
FOREVER = ("sleep", "100000")


class Place(NamedTuple):
    """Who has an address."""

    host: str
    container: str
    mac: str


def create(fabric: Fabric, *options: str, name: str = NETWORK) -> None:
    """Make a network on the uplink itself, and wait until every dockerd that runs has it."""
    fabric.ok("network", "create", name, "--vlan", "0", *options)
    until(lambda: all(there(host, name) for host in fabric.hosts.values()), f"every dockerd to have {name}", 30)


def there(host: Host, name: str = NETWORK) -> bool:
    """Whether the host's Docker has a network of this name."""
    return name in host.docker("network", "ls", "--format", "{{.Name}}").split()


def run(host: Host, name: str, network: str, *options: str, command: Sequence[str] = FOREVER) -> str:
    """Start a container; its address on that network. It ends at once when it is stopped."""
    host.docker("run", "-d", "--init", "--name", name, "--network", network, *options, IMAGE, *command)
    return address(host, name, network)


def refused(host: Host, *words: str) -> str:
    """What `docker` says when it fails."""
    done = host.docker_result(*words)
    assert done.status != 0, f"docker {' '.join(words)} went through: {done.out}"
    return done.err


def remove(host: Host, *names: str) -> None:
    """Remove containers, running or not; () means all."""
    names = names or tuple(host.docker("ps", "-aq").split())
    if names:
        host.docker("rm", "-f", "-v", *names)


def settings(host: Host, name: str, network: str = NETWORK) -> Any:
    """What `docker inspect` says of a container on a network."""
    return host.inspect(name)["NetworkSettings"]["Networks"][network]


def address(host: Host, name: str, network: str = NETWORK) -> str:
    """The container's IPv4 address there; "" while it has none."""
    return str(settings(host, name, network)["IPAddress"])


def state(host: Host, name: str) -> str:
    """Docker's word for what a container does: running, exited, restarting ..."""
    return str(host.inspect(name)["State"]["Status"])


def interface(host: Host, name: str, of: str) -> str:
    """Name of the interface inside a container that has an address; "" when none has."""
    links = json.loads(host.enter(name, ["ip", "-j", "addr"]))
    return next((link["ifname"] for link in links for one in link["addr_info"] if one["local"] == of), "")


def default_route(host: Host, name: str, version: int = 4) -> tuple[str, str]:
    """Gateway and interface of a container's default route; ("", "") when there is none."""
    found = json.loads(host.enter(name, ["ip", f"-{version}", "-j", "route", "show", "default"]) or "[]")
    return (found[0].get("gateway", ""), found[0]["dev"]) if found else ("", "")


def reached(peer: Peer, of: str) -> None:
    """Wait until it answers a peer, which may know an old MAC of it, or an IPv6 address that is still being checked."""
    until(lambda: peer.pings(of, wait=0.5), f"{of} to answer {peer.name}")


# Three who know


def in_docker(fabric: Fabric, network: str = NETWORK, hosts: Sequence[Host] = ()) -> dict[str, Place]:
    """Addresses by `docker network inspect` of every host; LabError when two containers have one.

    A node of a swarm has the network only while it has containers on it.
    """
    found: dict[str, Place] = {}
    for host in hosts or list(fabric.hosts.values()):
        done = host.docker_result("network", "inspect", network)
        if done.status and "No such network" not in done.err and "not found" not in done.err:
            raise LabError(f"{host.name}: docker network inspect {network}: {done.err}")
        for one in (done.json()[0]["Containers"] or {}).values() if done.status == 0 else ():
            place = Place(host.name, one["Name"], one["MacAddress"])
            for key in ("IPv4Address", "IPv6Address"):
                of = one[key].partition("/")[0]
                if of in found:
                    raise LabError(f"{of} was given twice: {found[of]} and {place}")
                if of:
                    found[of] = place
    return found


def in_kernels(fabric: Fabric, known: dict[str, Place]) -> dict[str, Place]:
    """Those of `known` that the container really has, with the MAC it really has."""
    found = {}
    for of, place in known.items():
        host = fabric.hosts[place.host]
        for link in json.loads(host.enter(place.container, ["ip", "-j", "addr"])):
            if any(one["local"] == of for one in link["addr_info"]):
                found[of] = Place(place.host, place.container, link["address"])
    return found


def holdings(fabric: Fabric, kind: str = "", network: str = NETWORK) -> dict[str, Any]:
    """`trunkline address list` by address; of one kind."""
    words = ["address", "list", "--network", network, "-o", "json", *(["--kind", kind] if kind else [])]
    return {one["address"]: one for one in fabric.ok(*words).json()}


def in_fabric(fabric: Fabric, network: str = NETWORK) -> dict[str, Place]:
    """Addresses in use, as the controller was told."""
    used = holdings(fabric, "attachment", network)
    return {of: Place(one["host"], one["target"], one["mac"]) for of, one in used.items()}


def kept(fabric: Fabric, network: str = NETWORK) -> dict[str, tuple[str, str]]:
    """Addresses that hosts keep, with host and owner."""
    return {of: (one["host"], one["owner"]) for of, one in holdings(fabric, "kept", network).items()}


def agreed(fabric: Fabric, network: str = NETWORK, timeout: float = 20) -> dict[str, Place]:
    """Wait until the controller knows exactly what every dockerd says and every container has; that."""
    last: tuple[object, object] = ("not seen", "not asked")

    def same() -> dict[str, Place] | None:
        nonlocal last
        docker, told = in_docker(fabric, network), in_fabric(fabric, network)
        last = docker, told
        return docker if docker == told else None

    def known() -> bool:
        return same() is not None

    try:
        until(known, "Docker and Trunkline to agree", timeout, every=0.1)
    except LabError as error:
        raise LabError(f"{error}\nDocker: {last[0]}\nTrunkline: {last[1]}") from None
    docker = in_docker(fabric, network)
    assert in_kernels(fabric, docker) == docker
    return docker


def attachments(fabric: Fabric, network: str = NETWORK) -> dict[str, str]:
    """`trunkline attachment list`: phase by "host/name"."""
    listed = fabric.ok("attachment", "list", "--network", network, "-o", "json").json()
    return {f"{one['spec']['host']}/{one['spec']['name']}": one["phase"] for one in listed}


def who(fabric: Fabric, query: str) -> list[tuple[str, str, str]]:
    """`trunkline who`: kind, host and owner of each holding."""
    found = fabric.ok("who", query, "-o", "json").json()
    return [(one["kind"], one["host"], one["owner"]) for one in found]


def events(fabric: Fabric, host: str) -> str:
    """What `trunkline host show` says has happened there."""
    return json.dumps(fabric.ok("host", "show", host, "-o", "json").json().get("events", []))
