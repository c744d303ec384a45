"""`docker run` on Docker's bridge, on builtin macvlan with Docker's own addresses, and on a fabric network (root).

One real dockerd with a real agent and controller beside it. The contenders take turns, run by run, so that a busy
moment of the machine hits all of them; what is timed is the CLI's `docker run -d`, from start to end, as a user waits
for it. The removal is not timed. The interval of a ratio of medians is a percentile bootstrap.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from engine.binaries import Binaries  # noqa: E402
from engine.fabric import Fabric  # noqa: E402
from engine.host import Host  # noqa: E402
from engine.wire import Wire  # noqa: E402
from lab.docker import IMAGE  # noqa: E402

BRIDGE, MACVLAN, FABRIC = "bridge", "builtin macvlan", "fabric network"
NETWORKS = {BRIDGE: "bridge", MACVLAN: "plain", FABRIC: "mynet2"}
RESAMPLES = 2000


@dataclass(frozen=True)
class Row:
    """Median milliseconds of a contender, and its ratio to builtin macvlan with a 95 % interval."""

    network: str
    runs: int
    median_ms: float
    ratio: float
    low: float
    high: float


def prepare(wire: Wire) -> Host:
    """A host with all three networks."""
    host = wire.host("h1")
    host.start_docker()
    host.load_busybox()
    # Before Docker 27 a parent carries one macvlan network, so the contender gets a veth of its own, like the uplink.
    host.run(["ip", "link", "add", "plain0", "type", "veth", "peer", "name", "plain1"])
    for name in ("plain0", "plain1"):
        host.run(["ip", "link", "set", name, "up"])
    options = ["--subnet", "30.0.0.0/16", "--gateway", "30.0.0.1", "-o", "parent=plain0"]
    host.docker("network", "create", "-d", "macvlan", *options, "plain")
    fabric = Fabric(wire, [host]).up()
    fabric.ok("network", "create", "mynet2", "--subnet", "20.0.0.0/16", "--gateway", "20.0.0.1", "--vlan", "0")
    deadline = time.monotonic() + 60
    while host.docker_result("network", "inspect", "mynet2").status:
        if time.monotonic() > deadline:
            raise SystemExit("the fabric network did not come up in Docker")
        time.sleep(0.1)
    return host


def run(host: Host, network: str, number: int) -> float:
    """Seconds of one `docker run -d`; the container is removed."""
    name = f"bench{number}-{network}"
    words = ["run", "-d", "--name", name, "--network", network, IMAGE, "sleep", "1000000"]
    began = time.perf_counter()
    host.docker(*words)
    took = time.perf_counter() - began
    host.docker("rm", "-f", name)
    return took


def interval(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the ratio of medians; turns are resampled together, since they shared the machine's mood."""
    draw = random.Random(1)
    turns = range(len(ours))
    ratios = []
    for _ in range(RESAMPLES):
        chosen = draw.choices(turns, k=len(ours))
        ratios.append(statistics.median(ours[n] for n in chosen) / statistics.median(theirs[n] for n in chosen))
    ratios.sort()
    return ratios[int(RESAMPLES * 0.025)], ratios[int(RESAMPLES * 0.975) - 1]


def measure(host: Host, runs: int) -> list[Row]:
    """All contenders, in turns whose order changes."""
    took: dict[str, list[float]] = {name: [] for name in NETWORKS}
    order = list(NETWORKS)
    for network in order:
        run(host, NETWORKS[network], 0)
    for number in range(1, runs + 1):
        random.Random(number).shuffle(order)
        for name in order:
            took[name].append(run(host, NETWORKS[name], number))
    return [_row(name, took[name], took[MACVLAN]) for name in NETWORKS]


def _row(name: str, took: Sequence[float], macvlan: Sequence[float]) -> Row:
    low, high = interval(took, macvlan)
    median = statistics.median(took)
    ratio = median / statistics.median(macvlan)
    return Row(name, len(took), round(median * 1000, 1), round(ratio, 3), round(low, 3), round(high, 3))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--runs", type=int, default=100, help="runs of each contender (default 100)")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench/docker.py makes namespaces and runs dockerd: it needs root", file=sys.stderr)
        return 1
    binaries = Binaries.chosen()
    with Wire(binaries) as wire:
        rows = measure(prepare(wire), options.runs)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    version = ".".join(map(str, binaries.version()))
    print(f"Docker {version}; `docker run -d`, {options.runs} runs each, in turns\n")
    print(f"{'network':16}  median ms  to builtin macvlan (95 % interval)")
    for row in rows:
        print(f"{row.network:16}  {row.median_ms:9.1f}  {row.ratio:.3f} ({row.low:.3f} to {row.high:.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
