"""Taking a run down: its processes by pid, then its namespaces, control groups and files.

A run is named by its directory. What belongs to it is asked of the kernel: whoever is in one of its network or mount
namespaces or control groups. So nothing has to be remembered, and a process that a killed dockerd left is found too.
`python -m engine.sweep DIRECTORY` is the run's warden: it waits for the end of its standard input, which the run holds
open, and takes down what is left. A run killed with SIGKILL leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine.commands import ok
from lab.process import Process, ancestry, every_process, kill_all
from lab.waiting import until

NAMESPACES = Path("/run/netns")
CGROUPS = Path("/sys/fs/cgroup")
Identity = tuple[int, int]


def remove(directory: Path) -> None:
    """Take the run with this directory down. Harmless when there is none (any more)."""
    run = directory.name
    spared = ancestry()
    with _held(directory) as ours:
        while doomed := [found for found in _members(run, ours) if found.pid not in spared]:
            kill_all(doomed)
    for path in namespaces(run):
        ok(["ip", "netns", "del", path.name])
    for path in control_groups(run):
        until(partial(_emptied, path), f"{path} to be empty")
    if directory.exists():
        shutil.rmtree(directory)


def members(directory: Path) -> list[Process]:
    """The run's living processes."""
    with _held(directory) as ours:
        return _members(directory.name, ours)


def namespaces(run: str) -> list[Path]:
    """The run's named network namespaces."""
    return sorted(NAMESPACES.glob(f"{run}-*"))


def control_groups(run: str) -> list[Path]:
    """The run's control groups, one for each hierarchy that has it: version 2 at the top, version 1 below."""
    return [path for path in (CGROUPS / run, *CGROUPS.glob(f"*/{run}")) if path.is_dir()]


def _members(run: str, ours: set[Identity]) -> list[Process]:
    listed = set(_listed(run))
    return [found for found in every_process() if found.state and (found.pid in listed or _inside(found.pid) & ours)]


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[set[Identity]]:
    """The run's namespaces, held open: the kernel gives the number of one that ended to the next that is made."""
    paths = namespaces(directory.name)
    anchors = [Process.recorded(record) for record in directory.glob("*/anchor.pid")]
    paths += [Path(f"/proc/{anchor.pid}/ns/mnt") for anchor in anchors if anchor]
    with contextlib.ExitStack() as stack:
        ours = set()
        for path in paths:
            with contextlib.suppress(OSError):
                seen = os.fstat(stack.enter_context(path.open("rb")).fileno())
                ours.add((seen.st_dev, seen.st_ino))
        yield ours


def _inside(pid: int) -> set[Identity]:
    found = set()
    for kind in ("net", "mnt"):
        with contextlib.suppress(OSError):
            seen = os.stat(f"/proc/{pid}/ns/{kind}")
            found.add((seen.st_dev, seen.st_ino))
    return found


def _listed(run: str) -> Iterator[int]:
    for group in control_groups(run):
        for path in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                yield from map(int, path.read_text().split())


def _emptied(group: Path) -> bool:
    """Remove a control group with those inside it; False while the kernel still counts a dead process in one."""
    for parent, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(parent)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def main() -> None:
    """The warden."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    remove(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
