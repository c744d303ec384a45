"""What a service manager hands to, and hears of, the agent: systemd's protocols for both are two environment variables
each (sd_listen_fds(3), sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

from trunkline import log
from trunkline.errors import Reason, TrunklineError

NAME: Final = "docker"
"""FileDescriptorName of the plugin's socket."""

_FIRST: Final = 3
_BACKLOG: Final = 512


def handed_over(name: str = NAME) -> socket.socket | None:
    """The listening socket that the service manager opened for us under this name, or the only one without one; None
    when there is none. The environment variables are taken away, so that no child takes them for its own."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal():
        return None
    found = None
    for number in range(int(count)):
        descriptor = _FIRST + number
        os.set_inheritable(descriptor, False)
        own = names[number] if number < len(names) else ""
        if found is None and (own == name or int(count) == 1):
            found = socket.socket(fileno=descriptor)
            found.setblocking(False)
    return found


def bind(path: Path) -> socket.socket:
    """A listening unix socket of ours at `path`, for root only; a stale one is replaced. Raises LISTEN_FAILED when it
    cannot be had, or when somebody answers there."""
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.is_socket() and _answers(path):
            raise _failed(path, "another process listens there", "stop it; only one agent can serve a Docker Engine")
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        raise _failed(path, error.strerror or str(error), "mend [docker] plugin_socket, or run as root") from None
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _failed(path: Path, why: str, remedy: str) -> TrunklineError:
    return TrunklineError(Reason.LISTEN_FAILED, f"Docker's plugin socket {path} cannot be had: {why}", remedy)


class Notifier:
    """Tells the service manager how far the agent is; does nothing where there is none."""

    def __init__(self) -> None:
        # Taken away, so that no child speaks for us.
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        mine = os.environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self.watchdog_seconds = int(microseconds) / 1e6 if mine and microseconds.isdecimal() else 0.0
        """Seconds without a sign of life after which the service manager ends us; 0 when it does not watch."""

    def ready(self) -> None:
        """What others wait for is there."""
        self._tell("READY=1\nSTATUS=working")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """A sign of life."""
        self._tell("WATCHDOG=1")

    def _tell(self, what: str) -> None:
        if not self._address:
            return
        # "@" stands for the zero byte that abstract addresses begin with.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(what.encode(), address)
            except OSError as error:
                log.get("agent").warning("service manager cannot be told", what=what, why=error.strerror or str(error))
