"""Hosts on one wire: namespaces whose macvlan parents meet in a bridge in a namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from netns.places import Place, Places

from agent.ports import Announcement, Namespace, Prober
from agent.probes.prober import ChildProber
from agent.probes.siblings import SiblingFactory
from trunkline.backoff import Backoff
from trunkline.errors import Reason, TrunklineError

PARENT = "p0"
INSIDE = "tl0"

_SEND = "import socket,sys;a=sys.argv[1];socket.socket(10 if ':' in a else 2,2).sendto(b'x',(a,9))"


_CAPTURE = """
import socket, sys
s = socket.socket(17, 3, socket.htons(3)); s.bind((sys.argv[1], 3)); print("ready", flush=True)
while True:
    frame, (_, _, kind, _, _) = s.recvfrom(65536)
    print(kind, frame.hex(), flush=True)
"""

_INJECT = """
import socket, sys
s = socket.socket(17, 3, 0); s.bind((sys.argv[1], 0))
frames = [bytes.fromhex(line) for line in sys.stdin.read().split()]
for _ in range(int(sys.argv[2])):
    for frame in frames:
        try:
            s.send(frame)
        except OSError as error:
            if error.errno != 105:
                raise
"""


@contextlib.asynccontextmanager
async def capture(place: Place, link: str) -> AsyncIterator[asyncio.Queue[tuple[bool, bytes]]]:
    """Frames on a link as (sent by this namespace, frame), by a packet socket of its own, tags not told."""
    command = ("nsenter", f"--net={place.path}", sys.executable, "-c", _CAPTURE, link)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    seen: asyncio.Queue[tuple[bool, bytes]] = asyncio.Queue()

    async def read(stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            kind, frame = line.split()
            seen.put_nowait((kind == b"4", bytes.fromhex(frame.decode())))

    assert await process.stdout.readline() == b"ready\n"
    reading = asyncio.create_task(read(process.stdout))
    try:
        yield seen
    finally:
        process.kill()
        await process.wait()
        await reading


async def inject(place: Place, link: str, frames: Iterable[bytes], times: int = 1) -> None:
    """Send raw frames from a link."""
    command = ("nsenter", f"--net={place.path}", sys.executable, "-c", _INJECT, link, str(times))
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    await process.communicate("\n".join(frame.hex() for frame in frames).encode())
    assert process.returncode == 0


class IpSiblings:
    """`agent.probes.siblings.SiblingFactory` by ip(8), in one host's namespace."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.opened: list[int] = []

    def _links(self) -> list[dict[str, object]]:
        links: list[dict[str, object]] = json.loads(self._place.ip("-j", "link", "show"))
        return links

    async def open(self, parent_index: int, name: str, mac: str, alias: str) -> int:
        links = self._links()
        parent = next((link for link in links if link["ifindex"] == parent_index), None)
        if parent is None:
            raise TrunklineError(Reason.UPLINK_MISSING, f"there is no link {parent_index}")
        for link in links:
            if link["ifname"] == name:
                if link.get("ifalias") != alias:
                    raise TrunklineError(Reason.LINK_CLASH, f"somebody else's link is called {name}")
                self._place.ip("link", "del", name)
        self._place.ip("link", "add", "link", str(parent["ifname"]), "name", name, "address", mac,
                       "type", "macvlan", "mode", "bridge")  # fmt: skip
        self._place.ip("link", "set", name, "alias", alias)
        self._place.run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
        self._place.ip("link", "set", name, "up")
        index = index_of(self._place, name)
        self.opened.append(index)
        return index

    async def close(self, ifindex: int, alias: str) -> None:
        for link in self._links():
            if link["ifindex"] == ifindex and link.get("ifalias") == alias:
                self._place.ip("link", "del", str(link["ifname"]))


def index_of(place: Place, name: str) -> int:
    """Index of a link."""
    (link,) = json.loads(place.ip("-j", "link", "show", "dev", name))
    return int(link["ifindex"])


def link_names(place: Place) -> set[str]:
    """Names of all links."""
    return {link["ifname"] for link in json.loads(place.ip("-j", "link", "show"))}


@dataclass
class _Host:
    place: Place
    siblings: IpSiblings
    prober: ChildProber
    index: int


class RealStage:
    """Hosts by name, each with a `ChildProber` whose child lives in the host's namespace."""

    def __init__(
        self, places: Places, names: Iterable[str], siblings: Callable[[str], SiblingFactory] | None = None
    ) -> None:
        self._places = places
        self._siblings = siblings
        self.wire = places.new()
        self.wire.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        self.wire.ip("link", "set", "br0", "up")
        self._containers: dict[tuple[str, str], Place] = {}
        self.hosts = {name: self._host(name) for name in names}

    def _host(self, name: str) -> _Host:
        place = self._places.new()
        place.ip("link", "add", PARENT, "type", "veth", "peer", "name", name, "netns", self.wire.name)
        place.ip("link", "set", "lo", "up")
        place.ip("link", "set", PARENT, "up")
        self.wire.ip("link", "set", name, "master", "br0", "up")
        siblings = IpSiblings(place)
        command = ("nsenter", f"--net={place.path}", sys.executable, "-P", "-m", "agent.probes")
        factory = self._siblings(place.path) if self._siblings else siblings
        prober = ChildProber(factory, command, Backoff(0.01, 0.05), grace=2.0)
        return _Host(place, siblings, prober, index_of(place, PARENT))

    async def ready(self) -> None:
        """Until all children are up."""
        await asyncio.gather(*(host.prober.wait_ready() for host in self.hosts.values()))

    async def close(self) -> None:
        """End the probers."""
        await asyncio.gather(*(host.prober.close() for host in self.hosts.values()))

    def prober(self, host: str) -> Prober:
        return self.hosts[host].prober

    def parent(self, host: str) -> int:
        return self.hosts[host].index

    def container(self, host: str, mac: str, addresses: Iterable[str]) -> Place:
        """A namespace with a macvlan on the host's parent."""
        place = self._places.new()
        parent = self.hosts[host].place
        name = f"c{place.name[-10:]}"
        parent.ip("link", "add", "link", PARENT, "name", name, "address", mac, "type", "macvlan", "mode", "bridge")
        parent.ip("link", "set", name, "netns", place.name)
        place.ip("link", "set", name, "name", INSIDE)
        for address in addresses:
            length = ("/64", "nodad") if ":" in address else ("/16",)
            place.ip("addr", "add", address + length[0], "dev", INSIDE, *length[1:])
        place.ip("link", "set", INSIDE, "up")
        return place

    async def hold(self, host: str, address: str, mac: str) -> None:
        self._containers[host, address] = self.container(host, mac, [address])

    async def drop(self, host: str, address: str) -> None:
        if (place := self._containers.pop((host, address), None)) is not None:
            # The link first: a namespace is dismantled later, and its MAC would answer until then.
            place.ip("link", "del", INSIDE)
            self._places.remove(place)

    async def cut(self, host: str) -> None:
        self.wire.ip("link", "set", host, "down")

    async def mend(self, host: str) -> None:
        self.wire.ip("link", "set", host, "up")
        async with asyncio.timeout(5):
            while "LOWER_UP" not in self.hosts[host].place.ip("link", "show", "dev", PARENT):
                await asyncio.sleep(0.01)

    def place_of(self, host: str, address: str) -> Place:
        """Namespace of the container that holds the address."""
        return self._containers[host, address]

    def announcement(self, host: str, address: str, mac: str) -> Announcement:
        place = self.place_of(host, address)
        return Announcement(Namespace(place.path, place.identity), INSIDE, mac, (address,))

    async def learn(self, host: str, address: str) -> str:
        if (host, "client") not in self._containers:
            client = self.container(host, "02:07:14:07:00:fa", ["20.7.0.250", "fd00:7::250"])
            self._containers[host, "client"] = client
        subprocess.run(
            ["nsenter", f"--net={self.place_of(host, 'client').path}", sys.executable, "-c", _SEND, address], check=True
        )
        async with asyncio.timeout(5):
            while not (mac := await self.knows(host, address)):
                await asyncio.sleep(0.01)
        return mac

    async def knows(self, host: str, address: str) -> str:
        known = json.loads(self.place_of(host, "client").ip("-j", "neigh", "show", "to", address) or "[]")
        return str(known[0].get("lladdr", "")) if known else ""
