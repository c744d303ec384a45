"""Processes known by pid and start time, so that a recycled pid is never taken for ours."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name: state first."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()


@dataclass(frozen=True)
class Process:
    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "Process":
        return cls(pid, _stat(pid)[19])

    @classmethod
    def recorded(cls, path: Path) -> "Process | None":
        """The process that the file names, if it still lives."""
        try:
            pid, started = path.read_text().split()
        except (OSError, ValueError):
            return None
        found = cls(int(pid), started)
        return found if found.state else None

    def record(self, path: Path) -> None:
        draft = path.with_name(path.name + "~")
        draft.write_text(f"{self.pid} {self.started}\n")
        draft.rename(path)

    @property
    def state(self) -> str:
        """The kernel's letter for its state; empty when it is gone or only a zombie is left."""
        try:
            fields = _stat(self.pid)
        except (OSError, IndexError):
            return ""
        return fields[0] if fields[19] == self.started and fields[0] not in "ZX" else ""

    def signal(self, number: signal.Signals) -> None:
        if self.state:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def await_end(self, timeout: float) -> bool:
        """Whether it ended in time. A pidfd needs no parenthood and cannot miss the end."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.state:
                return True
            return bool(select.select([fd], [], [], timeout)[0])
        finally:
            os.close(fd)


def group_members(pgid: int) -> list[Process]:
    return [p for p in every_process() if _group_of(p) == pgid]


def _group_of(process: Process) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(_stat(process.pid)[2])
    return -1


def every_process() -> list[Process]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                found.append(Process.of(int(entry)))
    return found


def inside_namespace(path: Path) -> list[Process]:
    """All processes whose network namespace is the one bound at path."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    found = []
    for process in every_process():
        with contextlib.suppress(OSError):
            mine = os.stat(f"/proc/{process.pid}/ns/net")
            if (mine.st_dev, mine.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.append(process)
    return found


def ancestry() -> set[int]:
    """This process and all that it descends from."""
    pids, pid = {os.getpid()}, os.getppid()
    while pid > 1:
        pids.add(pid)
        pid = int(_stat(pid)[1])
    return pids


def kill_all(processes: Iterable[Process], timeout: float = 10) -> None:
    doomed = list(processes)
    for process in doomed:
        process.signal(signal.SIGKILL)
    deadline = time.monotonic() + timeout
    for process in doomed:
        if not process.await_end(max(0.0, deadline - time.monotonic())):
            raise LabError(f"process {process.pid} does not die (state {process.state})")
