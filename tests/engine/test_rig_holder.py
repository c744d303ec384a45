"""The holder of the rig does for a program what a systemd .socket unit does."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.holder import SocketHolder
from engine.host import Host
from engine.wire import Wire
from lab.errors import LabError

# Answers each connection with what it was started with; ends at SIGTERM with status 7.
SERVER = """
import json, os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
names = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
known = {name: os.environ[name] for name in names} | {"pid": os.getpid(), "open": os.listdir("/proc/self/fd")}
listener = socket.socket(fileno=3)
while True:
    with listener.accept()[0] as one:
        one.sendall(json.dumps(known).encode())
"""
ARGV = [sys.executable, "-I", "-c", SERVER]


@pytest.fixture(scope="module")
def host(wire: Wire) -> Host:
    """A host without dockerd."""
    return wire.host("h1")


@pytest.fixture
def holder(host: Host) -> Iterator[SocketHolder]:
    """A socket that is held, and nobody behind it yet."""
    made = SocketHolder(host)
    yield made
    made.close()


def dial(holder: SocketHolder) -> socket.socket:
    """Connect from this side; the kernel accepts for whoever will serve."""
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(10)
    one.connect(str(holder.host.outside(holder.path)))
    return one


def answered(one: socket.socket) -> dict[str, object]:
    with one, one.makefile("rb") as said:
        found: dict[str, object] = json.loads(said.read())
        return found


def test_the_program_gets_the_socket_as_systemd_hands_it_over(holder: SocketHolder) -> None:
    pid = holder.start(ARGV)
    said = answered(dial(holder))
    # "4" is the listing's own descriptor
    assert said.pop("open") == ["0", "1", "2", "3", "4"]
    assert said == {"LISTEN_FDS": "1", "LISTEN_PID": str(pid), "LISTEN_FDNAMES": "docker", "pid": pid}
    assert holder.path == Path("/run/docker/plugins/trunkline.sock")
    assert holder.host.outside(holder.path).stat().st_mode & 0o777 == 0o600


def test_the_socket_outlives_its_program_and_keeps_what_was_asked(holder: SocketHolder) -> None:
    first = holder.start(ARGV)
    assert answered(dial(holder))["pid"] == first
    assert holder.kill() == -signal.SIGKILL
    waiting = dial(holder)
    second = holder.start()
    assert answered(waiting)["pid"] == second != first


def test_a_connection_before_the_first_start_is_served_after_it(holder: SocketHolder) -> None:
    waiting = dial(holder)
    pid = holder.start(ARGV)
    assert answered(waiting)["pid"] == pid


def test_how_the_program_ended_is_known(holder: SocketHolder) -> None:
    holder.start(ARGV)
    assert answered(dial(holder))
    assert holder.running
    assert holder.stop() == 7
    assert not holder.running
    holder.start(["/bin/sh", "-c", "echo said; exit 3"])
    assert holder.wait() == 3
    assert "said\n" in holder.log.read_text()
    holder.start(["/no/such/program"])
    assert holder.wait() == 127
    assert "/no/such/program: " in holder.log.read_text()


def test_one_program_at_a_time(holder: SocketHolder) -> None:
    pid = holder.start(ARGV)
    with pytest.raises(LabError, match=f"process {pid} runs already"):
        holder.start()
    assert holder.restart() != pid


def test_a_closed_holder_leaves_neither_program_nor_socket(host: Host) -> None:
    holder = SocketHolder(host, "other")
    pid = holder.start(ARGV)
    holder.close()
    assert not Path(f"/proc/{pid}").exists()
    assert not host.outside(holder.path).exists()
