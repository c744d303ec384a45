"""Docker networks as people make them by hand, and a peer that counts how long a container is off."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.commands import in_network
from engine.host import Host
from engine.peer import Peer
from lab.docker import IMAGE
from lab.waiting import until

SUBNET = ("--subnet", "20.0.0.0/24")
GATEWAY = ("--gateway", "20.0.0.1")


def make(host: Host, name: str, *options: str) -> str:
    """A macvlan network on the uplink; its id."""
    words = ["-d", "macvlan", *SUBNET, *(options or GATEWAY), "-o", "parent=enp7s0", name]
    return host.docker("network", "create", *words).strip()


def start(host: Host, container: str, network: str, *options: str) -> str:
    """A container on it; its address."""
    host.docker("run", "-d", "--name", container, "--network", network, *options, IMAGE, "sleep", "100000")
    return address(host, container, network)


def settings(host: Host, container: str, network: str) -> dict[str, Any]:
    """Docker's account of a container on a network; {} when it is not on it."""
    found: dict[str, Any] = host.inspect(container)["NetworkSettings"]["Networks"].get(network) or {}
    return found


def address(host: Host, container: str, network: str) -> str:
    """A container's address on a network; "" when it has none."""
    return str(settings(host, container, network).get("IPAddress", ""))


def network_of(host: Host, name: str) -> dict[str, Any]:
    """`docker network inspect`."""
    import json

    found: dict[str, Any] = json.loads(host.docker("network", "inspect", name))[0]
    return found


def is_ours(host: Host, name: str) -> bool:
    """Whether the Docker network of this name is one that the agent made."""
    answer = host.docker_result("network", "inspect", name, "--format", "{{.IPAM.Driver}}")
    return answer.status == 0 and answer.out.strip() == "trunkline"


@dataclass
class Pings:
    """Times at which echo replies came, by the monotonic clock of ping's own time stamps."""

    log: Path
    replies: list[float] = field(default_factory=list)

    def read(self) -> list[float]:
        """All so far."""
        lines = self.log.read_text().splitlines()
        self.replies = [
            float(line[1 : line.index("]")]) for line in lines if line.startswith("[") and "bytes from" in line
        ]
        return self.replies

    def longest(self) -> float:
        """Seconds of the longest silence between two replies."""
        replies = self.read()
        return max((later - earlier for earlier, later in itertools.pairwise(replies)), default=0.0)

    def hears(self, since: float) -> bool:
        """Whether a reply came after this time of day."""
        return any(at > since for at in self.read())


@contextmanager
def pinging(peer: Peer, address: str, log: Path) -> Iterator[Pings]:
    """Ping ten times a second while the body runs, from the first reply to one after its end."""
    argv = ["ping", "-n", "-D", "-i", "0.1", address]
    with log.open("wb") as out:
        process = subprocess.Popen(in_network(peer.namespace, argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    pings = Pings(log)
    try:
        until(lambda: bool(pings.read()), f"{address} to answer {peer.name}")
        yield pings
        ended = time.time()
        until(lambda: pings.hears(ended), f"{address} to answer {peer.name} again")
    finally:
        process.terminate()
        process.wait(10)
