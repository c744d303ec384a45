"""What is so on the lab's hosts, told by other means than Trunkline's: ip(8), docker, ping, arping."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lab.guest import Guest
from lab.waiting import until


class Inside:
    """A container, or a named network namespace, of a host: where an interface was put."""

    def __init__(self, guest: Guest, name: str, container: bool) -> None:
        self.guest = guest
        self.name = name
        self.prefix = ["docker", "exec", name] if container else ["ip", "netns", "exec", name]
        self.container = container

    def run(self, *words: str, timeout: float = 60) -> tuple[int, str]:
        result = self.guest.run([*self.prefix, *words], timeout)
        return result.status, result.out + result.err

    def _enter(self) -> list[str]:
        if not self.container:
            return ["ip", "netns", "exec", self.name]
        pid = self.guest.ok(["docker", "inspect", "-f", "{{.State.Pid}}", self.name]).strip()
        return ["nsenter", "-t", pid, "-n"]

    def links(self) -> dict[str, dict[str, Any]]:
        """Links with addresses by name, less loopback, as `ip -json -details addr` tells them."""
        text = self.guest.ok([*self._enter(), "ip", "-json", "-details", "addr", "show"])
        links = {link["ifname"]: link for link in json.loads(text) if link.get("ifname") not in (None, "lo")}
        for link in links.values():
            # The kernel works it out up to a second after the link came up (link_watch): it is no change of ours.
            link.pop("operstate", None)
        return links

    def addresses(self, family: str = "inet") -> set[str]:
        """Addresses with prefix length, less link-local ones."""
        return {
            f"{a['local']}/{a['prefixlen']}"
            for link in self.links().values()
            for a in link["addr_info"]
            if a["family"] == family and a["scope"] == "global"
        }

    def pings(self, address: str, count: int = 1, wait: int = 2) -> bool:
        """Whether an answer came."""
        return self.run("ping", "-c", str(count), "-W", str(wait), address)[0] == 0

    @contextmanager
    def pinging(self, address: str) -> Iterator["Pinger"]:
        """A ping every 100 ms while the block runs; read the counts after it."""
        pinger = Pinger(self, address)
        pinger.start()
        try:
            yield pinger
        finally:
            pinger.stop()


class Pinger:
    def __init__(self, place: Inside, address: str) -> None:
        self.place = place
        self.address = address
        self.sent = 0
        self.received = 0
        self._name = f"ping-{place.name}-{address.replace(':', '-')}"

    def start(self) -> None:
        """Returns after the first answer."""
        guest = self.place.guest
        # The host's own ping in the target's namespace: it outlives `docker exec`, and knows fractions of seconds.
        argv = [*self.place._enter(), "ping", "-i", "0.1", "-O", self.address]
        guest.daemon(self._name, argv)
        until(lambda: "bytes from" in guest.daemon_log(self._name), f"{self.place.name} to reach {self.address}", 20)

    def stop(self) -> None:
        import signal

        guest = self.place.guest
        guest.stop_daemon(self._name, signal.SIGINT)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", guest.daemon_log(self._name))
        assert found, guest.daemon_log(self._name)[-500:]
        self.sent, self.received = int(found[1]), int(found[2])

    @property
    def lost(self) -> int:
        return self.sent - self.received


def container(guest: Guest, name: str) -> Inside:
    return Inside(guest, name, True)


def namespace(guest: Guest, name: str) -> Inside:
    return Inside(guest, name, False)


def host_links(guest: Guest) -> dict[str, dict[str, Any]]:
    """All links of a host by name, as `ip -json -details link` tells them."""
    return {link["ifname"]: link for link in json.loads(guest.ok(["ip", "-json", "-details", "link", "show"]))}
