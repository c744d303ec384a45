"""Macvlan endpoints per second: `KernelLinks.add_macvlans` beside `ip -batch`, in one run (root).

"plain" is what a script would do: create into the namespace, one IPv4 address, up. "same work" adds what our adapter
does besides: temporary name and rename, alias, MAC, and a read-back. Each measurement gets fresh namespaces; the
contenders take turns, so that a busy moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent.kernel.links import KernelLinks
from agent.kernel.namespaces import describe
from agent.plan.state import MacvlanSpec
from trunkline.errors import TrunklineError


@dataclass(frozen=True)
class Place:
    """A throwaway host with an uplink, and the namespaces to fill."""

    host: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """Medians in microseconds per endpoint, and our ratio to each."""

    endpoints: int
    namespaces: int
    plain_us: float
    same_work_us: float
    ours_us: float
    to_plain: float
    to_same_work: float


def ip(*words: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *words], check=True)


def batch(namespace: str, lines: Sequence[str]) -> None:
    """Run `ip -batch` in a namespace."""
    with tempfile.NamedTemporaryFile("w", suffix=".batch") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        ip("-n", namespace, "-batch", file.name)


@contextlib.contextmanager
def place(spread: int) -> Iterator[Place]:
    """Fresh namespaces, removed at the end."""
    stem = f"tlb{os.getpid()}"
    names = [f"{stem}h", *(f"{stem}t{number}" for number in range(spread))]
    made: list[str] = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        batch(names[0], ["link add up0 type veth peer name up1", "link set up0 up", "link set up1 up"])
        yield Place(names[0], tuple(names[1:]))
    finally:
        for name in reversed(made):
            ip("netns", "del", name)
        settle()


def settle() -> None:
    """Wait until the kernel has taken the namespaces down: it does so behind our back, holding the lock we measure."""
    # Namespaces end one after another on a queue of one worker (cleanup_net): when the end of a later one shows, by
    # its half of a veth pair, the earlier ones are gone.
    kept, last = f"tlb{os.getpid()}k", f"tlb{os.getpid()}z"
    for name in (kept, last):
        ip("netns", "add", name)
    try:
        ip("-n", kept, "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", last)
        ip("netns", "del", last)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            shown = subprocess.run(["ip", "-n", kept, "link", "show", "here"], check=False, capture_output=True)
            if shown.returncode:
                return
            time.sleep(0.02)
    finally:
        ip("netns", "del", kept)


def address(number: int) -> str:
    """The address of endpoint `number`."""
    return f"10.{number >> 8}.{number & 255}.1/24"


def mac(number: int) -> str:
    """The MAC of endpoint `number`."""
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


def plain(where: Place, total: int) -> None:
    """Create, address, up with ip -batch."""
    spread = len(where.targets)
    make = [
        f"link add link up0 name e{n} netns {where.targets[n % spread]} type macvlan mode bridge" for n in range(total)
    ]
    batch(where.host, make)
    for position, target in enumerate(where.targets):
        mine = range(position, total, spread)
        batch(target, [line for n in mine for line in (f"addr add {address(n)} dev e{n}", f"link set e{n} up")])


def same_work(where: Place, total: int) -> None:
    """What our adapter does, with ip -batch."""
    spread = len(where.targets)
    make = [
        f"link add link up0 name t{n} address {mac(n)} netns {where.targets[n % spread]} type macvlan mode bridge"
        for n in range(total)
    ]
    batch(where.host, make)
    for position, target in enumerate(where.targets):
        lines = []
        for n in range(position, total, spread):
            lines += [f"link set t{n} name e{n} alias bench:{n}"]
            lines += [f"addr add {address(n)} dev e{n}", f"link set e{n} up"]
        batch(target, lines)
        subprocess.run(["ip", "-n", target, "-json", "addr"], check=True, stdout=subprocess.DEVNULL)


async def ours(links: KernelLinks, where: Place, total: int) -> None:
    """The adapter."""
    (uplink,) = [link for link in await links.host_links() if link.name == "up0"]
    targets = [describe(f"/run/netns/{name}") for name in where.targets]
    work = [
        (
            targets[n % len(targets)],
            MacvlanSpec(uplink.index, f"tl~{n}", f"e{n}", f"bench:{n}", mac(n), "bridge", 0, (address(n),)),
        )
        for n in range(total)
    ]
    for result in await links.add_macvlans(work):
        if isinstance(result, TrunklineError):
            raise result


def run_ours(where: Place, total: int) -> float:
    """Seconds that the adapter took, its start left out: an agent starts once."""

    async def measure() -> float:
        links = KernelLinks(f"/run/netns/{where.host}")
        try:
            began = time.perf_counter()
            await ours(links, where, total)
            return time.perf_counter() - began
        finally:
            await links.close()

    return asyncio.run(measure())


def run_batch(work: Callable[[Place, int], None], where: Place, total: int) -> float:
    """Seconds that ip took."""
    began = time.perf_counter()
    work(where, total)
    return time.perf_counter() - began


def compare(total: int, spread: int, rounds: int) -> Row:
    """One row of the table."""
    took: dict[str, list[float]] = {"plain": [], "same": [], "ours": []}
    for _ in range(rounds):
        with place(spread) as where:
            took["plain"].append(run_batch(plain, where, total))
        with place(spread) as where:
            took["same"].append(run_batch(same_work, where, total))
        with place(spread) as where:
            took["ours"].append(run_ours(where, total))
    each = {name: statistics.median(seconds) / total * 1e6 for name, seconds in took.items()}
    return Row(
        total,
        spread,
        round(each["plain"], 1),
        round(each["same"], 1),
        round(each["ours"], 1),
        round(each["ours"] / each["plain"], 2),
        round(each["ours"] / each["same"], 2),
    )


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=5, help="measurements per contender (default 5)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 1000], help="endpoints (default 200 1000)")
    parser.add_argument("--spread", type=int, nargs="+", default=[1, 50], help="namespaces (default 1 50)")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench/macvlan.py makes namespaces: it needs root", file=sys.stderr)
        return 1
    rows = [compare(total, spread, options.rounds) for total in options.sizes for spread in options.spread]
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    print("endpoints  namespaces  ip -batch  same work      ours  ours/ip -batch  ours/same work   (us per endpoint)")
    for row in rows:
        print(
            f"{row.endpoints:9}  {row.namespaces:10}  {row.plain_us:9.1f}  {row.same_work_us:9.1f}"
            f"  {row.ours_us:8.1f}  {row.to_plain:14.2f}  {row.to_same_work:14.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
