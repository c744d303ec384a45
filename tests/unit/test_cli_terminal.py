"""The program on a real terminal (a pty): live progress, questions, Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes.services import Double

from trunkline.cli import present
from trunkline.v1 import check_pb2, network_pb2

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PROGRAM = "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);from trunkline.cli.main import main; main()"


class Terminal:
    """One command on a pty of 80 columns; `text` is what it has written so far, without escapes."""

    def __init__(self, double: Double, home: Path, *args: str, no_color: bool = False) -> None:
        self._end, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
        env = {**os.environ, "TRUNKLINE_CONTROLLER": double.endpoint, "TERM": "xterm-256color"}
        env |= {"XDG_CONFIG_HOME": str(home)} | ({"NO_COLOR": "1"} if no_color else {})
        # A session of its own, which takes the pty as its terminal, so that ^C becomes SIGINT as on a real one.
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *args],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=env,
            start_new_session=True,
        )
        os.close(inner)
        self.raw = ""
        self._grown = threading.Condition()
        self._closed = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._end, 65536)
            except OSError:  # EIO: the last process on the other side has left
                data = b""
            with self._grown:
                self.raw += data.decode(errors="replace")
                self._closed = not data
                self._grown.notify_all()
            if not data:
                return

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self.raw)

    def until(self, condition: Callable[[str], bool]) -> None:
        with self._grown:
            assert self._grown.wait_for(lambda: condition(self.text) or self._closed, 15), self.text
        assert condition(self.text), self.text

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def end(self) -> int:
        code = self.process.wait(15)
        self._reader.join(15)
        os.close(self._end)
        return code


@pytest.fixture
def double() -> Iterator[Double]:
    with Double() as served:
        yield served


def test_progress_is_live_and_its_end_stays(double: Double, tmp_path: Path) -> None:
    go = threading.Event()

    def ready(network: network_pb2.Network) -> None:
        assert go.wait(15)
        network.hosts[0].phase = "READY"

    double.host("docker1")
    double.host("docker3", connected=False)
    double.course = [ready]
    terminal = Terminal(double, tmp_path, "network", "create", "n", "--no-ip", "--vlan", "10")
    terminal.until(lambda text: "docker1  pending" in text and "docker3  out of reach" in text)
    go.set()
    assert terminal.end() == 0
    last = terminal.text.splitlines()
    assert any(line.startswith("✓  docker1  ready") for line in last)
    assert "network n created: VLAN 10 on uplink default, no IP; ready on 1 host" in terminal.text
    assert "docker3 is out of reach" in terminal.text
    assert "\x1b[?25h" in terminal.raw, "the cursor is shown again"


def test_ctrl_c_ends_the_wait_quietly(double: Double, tmp_path: Path) -> None:
    double.host("docker1")
    terminal = Terminal(double, tmp_path, "network", "create", "n", "--no-ip", "--vlan", "10")
    terminal.until(lambda text: "docker1  pending" in text)
    terminal.type("\x03")
    assert terminal.end() == present.INTERRUPTED
    assert "Traceback" not in terminal.text
    assert "error" not in terminal.text


@pytest.mark.parametrize(("answer", "code", "calls"), [("y\n", 0, 1), ("n\n", present.INTERRUPTED, 0)])
def test_forget_asks_on_a_terminal(double: Double, tmp_path: Path, answer: str, code: int, calls: int) -> None:
    double.host("docker3", connected=False)
    terminal = Terminal(double, tmp_path, "host", "forget", "docker3")
    terminal.until(lambda text: "[y/N]" in text)
    terminal.type(answer)
    assert terminal.end() == code
    assert len(double.called("ForgetHost")) == calls


def test_no_color_means_none(double: Double, tmp_path: Path) -> None:
    double.host("docker1")
    coloured = Terminal(double, tmp_path, "host", "list")
    assert coloured.end() == 0
    assert "\x1b[3" in coloured.raw
    plain = Terminal(double, tmp_path, "host", "list", no_color=True)
    assert plain.end() == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain.raw)
    assert "docker1" in plain.text


def test_check_fills_in_as_results_come(double: Double, tmp_path: Path) -> None:
    plan = check_pb2.CheckPlan(network="n", hosts=["docker1", "docker2"], vlan=10)
    double.events = [
        check_pb2.RunCheckResponse(plan=plan),
        check_pb2.RunCheckResponse(summary=check_pb2.CheckSummary(unknown=4)),
    ]
    terminal = Terminal(double, tmp_path, "check")
    assert terminal.end() == 0
    assert "0 ok, 0 bad, 4 unknown" in terminal.text
    assert "? not probed" in terminal.text
