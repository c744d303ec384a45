"""The service manager's side: sockets handed over, signs of life, and the units themselves."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent import activation, units
from agent.activation import Notifier
from trunkline.errors import Reason, TrunklineError

TAKING = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from agent import activation
taken = activation.handed_over()
print(taken.getsockname() if taken else None, "LISTEN_FDS" in os.environ, taken and os.get_inheritable(taken.fileno()))
"""


@pytest.mark.parametrize(
    ("names", "count", "found"), [("docker", 1, True), ("other:docker", 2, True), ("", 1, True), ("a:b", 2, False)]
)
def test_a_socket_that_is_handed_over_is_taken(tmp_path: Path, names: str, count: int, found: bool) -> None:
    paths = [tmp_path / name for name in (names.split(":") if names else ["one"])]
    listeners = []
    for path in paths:
        listeners.append(socket.socket(socket.AF_UNIX))
        listeners[-1].bind(str(path))
        listeners[-1].listen()
    env = os.environ | {"LISTEN_FDS": str(count), "LISTEN_FDNAMES": names}
    moves = "; ".join(
        f"exec {3 + number}<&{one.fileno()}" for number, one in enumerate(listeners) if one.fileno() != 3 + number
    )
    shell = f'{moves}; exec "$0" -c "$1"' if moves else 'exec "$0" -c "$1"'
    keep = [one.fileno() for one in listeners]
    done = subprocess.run(
        ["bash", "-c", shell, sys.executable, TAKING],
        env=env,
        pass_fds=keep,
        capture_output=True,
        text=True,
        check=True,
    )
    for one in listeners:
        one.close()
    expected = f"{tmp_path / 'docker' if 'docker' in names else paths[0]} False False" if found else "None False None"
    assert done.stdout.strip() == expected


def test_a_socket_meant_for_another_process_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert activation.handed_over() is None
    assert "LISTEN_FDS" not in os.environ


def test_a_stale_socket_is_replaced_and_one_that_answers_is_not(tmp_path: Path) -> None:
    path = tmp_path / "plugins" / "trunkline.sock"
    first = activation.bind(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(TrunklineError) as caught:
        activation.bind(path)
    assert caught.value.reason is Reason.LISTEN_FAILED
    first.close()
    activation.bind(path).close()


def test_a_socket_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrunklineError) as caught:
        activation.bind(tmp_path / "file" / "trunkline.sock")
    assert caught.value.reason is Reason.LISTEN_FAILED


def test_the_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        notifier = Notifier()
        assert "NOTIFY_SOCKET" not in os.environ
        assert notifier.watchdog_seconds == 30
        notifier.ready()
        assert b"READY=1" in manager.recv(256)
        notifier.alive()
        assert manager.recv(256) == b"WATCHDOG=1"
        notifier.stopping()
        assert manager.recv(256) == b"STOPPING=1"


def test_without_a_service_manager_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notifier = Notifier()
    notifier.ready()
    assert notifier.watchdog_seconds == 0


def test_the_units_start_the_agent_before_docker(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("trunkline-agent")
    config = tmp_path / "agent.toml"
    done = subprocess.run([program, "--config", config, "units", tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(tmp_path / name) for name in units.NAMES]
    listening, service = ((tmp_path / name).read_text() for name in units.NAMES)
    assert f"ExecStart={program} --config {config}\n" in service
    assert "Before=docker.service\n" in service
    assert "Before=docker.service\n" in listening
    assert "ListenStream=/run/docker/plugins/trunkline.sock\n" in listening
    assert "@" not in listening + service
    if verify := shutil.which("systemd-analyze"):
        judged = subprocess.run(
            [verify, "verify", *(tmp_path / name for name in units.NAMES)], capture_output=True, text=True
        )
        assert (judged.returncode, judged.stderr) == (0, "")


def test_units_go_to_a_directory_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(TrunklineError) as caught:
        units.write(tmp_path / "missing", tmp_path / "agent.toml", "/run/x.sock")
    assert "/etc/systemd/system" in caught.value.remedy
