"""The machine's end of a guest's command line: out of band, through the runner's socket."""

import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.errors import GuestGone, LabError, NoAnswer

Sink = Callable[[bytes, bytes], None]


@dataclass(frozen=True)
class Result:
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode(errors="replace")

    @property
    def err(self) -> str:
        return self.stderr.decode(errors="replace")


def listen(directory: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    with _short(directory) as path:
        server.bind(path)
    server.listen(128)
    return server


class _short:  # noqa: N801 - used as a verb
    """A unix socket's path holds 107 bytes, a checkout may lie deeper: go through its directory's fd."""

    def __init__(self, directory: Path) -> None:
        self.fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self.fd}/exec.sock"

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


class Command:
    """One command in a guest, from its request to its exit status."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self.token = os.urandom(8).hex()
        self.spool = directory / "share/x"
        self.shown = {"out": 0, "err": 0}

    def _file(self, suffix: str) -> Path:
        return self.spool / f"{self.token}{suffix}"

    def run(
        self,
        argv: Sequence[str],
        timeout: float,
        stdin: bytes | None,
        env: Mapping[str, str],
        sink: Sink | None,
    ) -> Result:
        spec = {"argv": list(argv), "env": dict(env), "stdin": ""}
        try:
            if stdin is not None:
                self._file(".in").write_bytes(stdin)
                spec["stdin"] = f"/lab/x/{self.token}.in"
            self._file("").write_text(json.dumps(spec))
            with socket.socket(socket.AF_UNIX) as s:
                self._connect(s)
                s.sendall(f"run {self.token}\n".encode())
                status = self._await_exit(s, timeout, sink)
            if sink:
                self._show(sink)
            return Result(status, self._read(".out"), self._read(".err"))
        finally:
            for suffix in ("", ".in", ".out", ".err"):
                self._file(suffix).unlink(missing_ok=True)

    def _connect(self, s: socket.socket) -> None:
        try:
            with _short(self.directory) as path:
                s.connect(path)
        except OSError as e:
            raise LabError(f"{self.name} is not running ({e.strerror})") from e

    def _await_exit(self, s: socket.socket, timeout: float, sink: Sink | None) -> int:
        waited, step = 0.0, 0.1 if sink else timeout
        while True:
            s.settimeout(min(step, max(0.001, timeout - waited)))
            try:
                answer = s.recv(256).decode()
            except TimeoutError:
                waited += step
                if waited >= timeout:
                    raise NoAnswer(f"{self.name} did not finish the command in {timeout:g} s") from None
                if sink:
                    self._show(sink)
                continue
            except ConnectionResetError:
                answer = ""
            word, _, rest = answer.strip().partition(" ")
            if word == "exit":
                return int(rest)
            raise GuestGone(f"{self.name} {rest or 'stopped'} while a command ran in it")

    def _show(self, sink: Sink) -> None:
        parts = []
        for stream in ("out", "err"):
            data = self._read("." + stream, self.shown[stream])
            self.shown[stream] += len(data)
            parts.append(data)
        sink(parts[0], parts[1])

    def _read(self, suffix: str, start: int = 0) -> bytes:
        try:
            with self._file(suffix).open("rb") as f:
                f.seek(start)
                return f.read()
        except FileNotFoundError:
            return b""
