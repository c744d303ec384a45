"""A plain machine on the wire: sends and hears as a router or a neighbour would."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.commands import Answer, answer, in_network, ok
from lab.waiting import until


@dataclass(frozen=True)
class Peer:
    """A network namespace with `eth0` on the wire."""

    name: str
    namespace: str

    def add(self, address: str) -> None:
        """Give it an address, with its prefix length."""
        # No duplicate address detection: an IPv6 address is usable at once.
        ok(["ip", "-n", self.namespace, "addr", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else [])])

    def run(self, argv: Sequence[str], timeout: float = 60) -> Answer:
        """Run a program in it."""
        return answer(in_network(self.namespace, argv), timeout=timeout)

    def pings(self, address: str, count: int = 1, wait: float = 2) -> bool:
        """Whether `count` echo requests are all answered, each within `wait` seconds."""
        done = self.run(["ping", "-n", "-q", "-i", "0.1", "-c", str(count), "-W", f"{wait:g}", address])
        return f" {count} received" in done.out

    def mac_of(self, address: str) -> str:
        """The MAC address that it has learnt for an address; empty when there is none."""
        listed = json.loads(ok(["ip", "-n", self.namespace, "-j", "neigh", "show", address]) or "[]")
        return str(listed[0].get("lladdr", "")) if listed else ""

    def forget(self) -> None:
        """Empty its neighbour table."""
        ok(["ip", "-n", self.namespace, "neigh", "flush", "all"])

    @contextmanager
    def capture(self, expression: str, log: Path) -> Iterator[Capture]:
        """tcpdump on its `eth0`, listening when the body begins; `log` receives its output."""
        argv = ["tcpdump", "-i", "eth0", "-l", "-n", "-e", "-tt", "--immediate-mode", expression]
        with log.open("wb") as out:
            process = subprocess.Popen(
                in_network(self.namespace, argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        try:
            until(lambda: "listening on" in log.read_text(), "tcpdump to listen")
            yield Capture(log)
        finally:
            process.terminate()
            process.wait(10)


@dataclass(frozen=True)
class Capture:
    """What tcpdump printed so far."""

    log: Path

    def lines(self, pattern: str = "") -> list[str]:
        """A line for each frame; those in which the regular expression is found."""
        printed = self.log.read_text().splitlines()
        return [line for line in printed if re.match(r"\d+\.\d+ ", line) and re.search(pattern, line)]
