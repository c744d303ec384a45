"""How long a peer misses a container that restarts, or whose owner moves; measured, not limited.

`pytest -s` prints the seconds.
"""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from engine.commands import in_network
from engine.containers import NETWORK, address, agreed, create, interface, remove, run
from engine.fabric import Fabric
from engine.host import Host
from engine.peer import Peer
from engine.wire import Wire
from lab.waiting import until

EVERY = 0.1
Report = Callable[[str, list[float]], None]


@pytest.fixture(scope="module")
def peer(wire: Wire) -> Peer:
    return wire.peer("peer", "20.0.0.250/24")


@pytest.fixture(scope="module", autouse=True)
def network(fabric: Fabric) -> None:
    create(fabric, "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1", "--exclude", "20.0.0.250")


@pytest.fixture
def hosts(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    yield pair
    for host in pair:
        remove(host)
    assert agreed(fabric) == {}


@pytest.fixture
def report(docker_version: tuple[int, ...], record_property: Callable[[str, object], None]) -> Report:
    """Keep and print what was measured."""

    def told(what: str, seconds: list[float]) -> None:
        record_property(what, seconds)
        version = ".".join(map(str, docker_version))
        print(f"\nDocker {version}: {what}: {', '.join(f'{each:.1f}' for each in sorted(seconds))} s")

    return told


class Replies:
    """The times at which echo requests, sent every 0.1 s, were answered."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def times(self) -> list[float]:
        return [float(at) for at in re.findall(r"^\[(\d+\.\d+)\] \d+ bytes", self._log.read_text(), re.MULTILINE)]

    def outage(self, since: float) -> float:
        """The longest silence after a time, beyond the interval of the requests."""
        times = [since, *(at for at in self.times() if at > since)]
        return max(after - before for before, after in itertools.pairwise(times)) - EVERY


@contextmanager
def pinging(peer: Peer, of: str, log: Path) -> Iterator[Replies]:
    """Ask every 0.1 s while the body runs, which begins once it was answered."""
    argv = ["ping", "-n", "-D", "-i", f"{EVERY:g}", of]
    with log.open("wb") as out:
        process = subprocess.Popen(in_network(peer.namespace, argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    replies = Replies(log)
    try:
        until(lambda: len(replies.times()) > 3, f"{of} to answer")
        yield replies
    finally:
        process.terminate()
        process.wait(10)


def answered_again(replies: Replies, ended: Callable[[], object]) -> float:
    """Do it, wait until answers come steadily again; the outage in seconds."""
    before = replies.times()[-1]
    ended()
    seen = len(replies.times())
    until(lambda: len(replies.times()) > seen + 5, "answers after the outage", 60)
    return replies.outage(before)


def test_the_outage_of_a_restart_ends(
    fabric: Fabric, hosts: tuple[Host, Host], peer: Peer, tmp_path: Path, report: Report
) -> None:
    has = run(hosts[0], "web", NETWORK)
    agreed(fabric)
    with pinging(peer, has, tmp_path / "ping.log") as replies:
        seconds = [answered_again(replies, lambda: hosts[0].docker("restart", "web")) for _ in range(5)]
    assert address(hosts[0], "web") == has
    report("docker restart, seen by a peer", seconds)


def test_the_outage_of_an_owner_that_moves_ends(
    fabric: Fabric, hosts: tuple[Host, Host], peer: Peer, tmp_path: Path, report: Report
) -> None:
    label = ("--label", "io.trunkline.owner=cash")
    has = run(hosts[0], "cash", NETWORK, *label)
    agreed(fabric)

    def move(here: Host, there: Host) -> None:
        remove(here, "cash")
        assert run(there, "cash", NETWORK, *label) == has

    seconds = []
    with pinging(peer, has, tmp_path / "ping.log") as replies:
        for number in range(4):
            here, there = hosts[number % 2], hosts[1 - number % 2]
            seconds.append(answered_again(replies, lambda a=here, b=there: move(a, b)))  # type: ignore[misc]
            agreed(fabric)
    report("docker rm -f on one host, docker run of the same owner on another", seconds)


def test_a_new_mac_for_an_old_address_is_announced(
    fabric: Fabric, hosts: tuple[Host, Host], peer: Peer, tmp_path: Path
) -> None:
    """The container that is made anew has another MAC: the peer is told, it does not ask."""
    has = run(hosts[0], "web", NETWORK, "--mac-address", "02:aa:00:00:00:01")
    assert peer.pings(has)
    assert peer.mac_of(has) == "02:aa:00:00:00:01"
    agreed(fabric)
    remove(hosts[0])
    with peer.capture(f"arp and src host {has}", tmp_path / "arp.log") as seen:
        assert run(hosts[0], "web", NETWORK, "--mac-address", "02:aa:00:00:00:02") == has
        until(lambda: len(seen.lines(r"02:aa:00:00:00:02 > ff:ff:ff:ff:ff:ff")) >= 2, "two announcements")
    assert peer.mac_of(has) == "02:aa:00:00:00:02"
    assert interface(hosts[0], "web", has) == "eth0"
