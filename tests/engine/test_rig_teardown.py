"""What is left of a run: nothing, also of one that failed or was killed. Shares no code with the sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.binaries import Binaries
from engine.fabric import Fabric
from engine.host import Host
from engine.wire import Wire
from lab.places import CHECKOUT
from lab.waiting import until

RUN = """
import signal
from engine.wire import Wire
with Wire() as wire:
    host = wire.host("h1")
    host.start_docker(live_restore=True)
    host.docker("run", "-d", "--network", "none", host.load_busybox(), "sleep", "3600")
    print(wire.run_name, flush=True)
    signal.pause()
"""


def traces(run: str) -> list[str]:
    """All that this machine knows of a run."""
    found = [f"namespace {path}" for path in Path("/run/netns").glob(f"{run}*")]
    found += [f"control group {path}" for path in Path("/sys/fs/cgroup").glob(f"*/{run}")]
    found += [f"control group {path}" for path in Path("/sys/fs/cgroup").glob(run)]
    found += [f"file {path}" for path in Path("/tmp").glob(f"{run}*")]
    found += [f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if run in line]
    return found + list(_processes(run))


def _processes(run: str) -> Iterator[str]:
    """Processes that have it in their command line, environment, control groups or mounts; not their zombies."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        for aspect in ("cmdline", "environ", "cgroup", "mountinfo"):
            try:
                seen = (entry / aspect).read_bytes()
            except OSError:
                break
            if run.encode() in seen:
                yield f"process {entry.name}: {aspect}"


def children() -> set[str]:
    """Children of this process, zombies included."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def populate(wire: Wire) -> None:
    """One of everything: dockerd with a running container under live-restore, agent and controller, a peer."""
    host = wire.host("h1")
    host.start_docker(live_restore=True)
    run(host)
    wire.peer("p1", "20.0.0.250/24")
    Fabric(wire, [host]).up()


def run(host: Host) -> int:
    host.docker("run", "-d", "--name", "c1", "--network", "none", host.load_busybox(), "sleep", "3600")
    return host.container_pid("c1")


def test_nothing_is_left_of_a_run(binaries: Binaries) -> None:
    before = children()
    with Wire(binaries) as wire:
        populate(wire)
        kinds = {trace.split()[0] for trace in traces(wire.run_name)}
        assert kinds == {"namespace", "control", "file", "mount", "process"}
    assert traces(wire.run_name) == []
    assert children() <= before


def test_nothing_is_left_of_a_run_that_failed_with_its_dockerd_killed(binaries: Binaries) -> None:
    wire = Wire(binaries)
    with pytest.raises(ZeroDivisionError):
        fail(wire)
    assert traces(wire.run_name) == []


def fail(wire: Wire) -> None:
    with wire:
        host = wire.host("h1")
        host.start_docker(live_restore=True)
        run(host)
        host.kill_docker()
        os.kill(host.anchor_pid, signal.SIGKILL)
        raise ZeroDivisionError


def test_nothing_is_left_of_a_run_that_was_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN], cwd=CHECKOUT / "tests", stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert traces(name)
        process.kill()
    until(lambda: not traces(name), f"everything of {name} to be gone", 30)


def test_two_runs_do_not_meet(binaries: Binaries) -> None:
    with Wire(binaries) as one, Wire(binaries) as other:
        for wire in (one, other):
            wire.host("h1")
            wire.peer("p1", "20.0.0.250/24")
        assert one.run_name != other.run_name
        other.close()
        assert traces(other.run_name) == []
        assert one.hosts["h1"].run(["hostname"]) == "h1\n"
        assert one.peers["p1"].pings("20.0.0.250")
