"""Socket activation on a host of the rig: the socket of a plugin outlives the program that serves it.

holder = SocketHolder(host)                     # listens on /run/docker/plugins/trunkline.sock
holder.start(["/path/to/trunkline-agent", ...]) # with the socket as descriptor 3, as systemd would
holder.kill(); holder.start()                   # what was asked meanwhile waits in the backlog
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine import activation
from engine.commands import tail
from engine.host import Host
from lab.errors import LabError


class SocketHolder:
    """The equivalent of a .socket unit and its .service. Listens from its construction to `close`."""

    def __init__(
        self, host: Host, name: str = "trunkline", *, path: Path | None = None, fd_name: str = "docker"
    ) -> None:
        self.host = host
        self.path = path or host.plugins_dir / f"{name}.sock"
        self.log = host.directory / f"{name}.log"
        self._last: tuple[list[str], dict[str, str]] | None = None
        program = ["/usr/bin/python3", "-I", "-S", activation.__file__, str(self.path), fd_name]
        self._unit = host.popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answered()

    def start(self, argv: Sequence[str] = (), env: Mapping[str, str] | None = None) -> int:
        """Start the program (without `argv`: the one of the last time), its output appended to `log`; its pid."""
        if argv:
            self._last = list(argv), self.host.environ() | dict(env or {})
        if self._last is None:
            raise LabError(f"{self.path}: nothing to start was ever named")
        return int(self._order("start", argv=self._last[0], env=self._last[1], log=str(self.log))["pid"])

    def stop(self, timeout: float = 20) -> int:
        """End it by SIGTERM; its exit status, as subprocess counts it. LabError when it does not end in time."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> int:
        """End it by SIGKILL."""
        return self._end(signal.SIGKILL, 20)

    def restart(self, timeout: float = 20) -> int:
        """Stop it and start it again; its new pid."""
        self.stop(timeout)
        return self.start()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP freezes it."""
        self._order("signal", number=int(number))

    def wait(self, timeout: float = 20) -> int:
        """Until it ends by itself; its exit status. LabError when it does not in time."""
        seen = self._order("wait", timeout=timeout)
        if seen["runs"]:
            raise LabError(f"{self.host.name}: process {seen['pid']} does not end in {timeout:g} s: {tail(self.log)}")
        return int(seen["status"])

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return bool(self._order("wait", timeout=0)["runs"])

    @property
    def pid(self) -> int:
        """Its pid, also after its end; 0 before its first start."""
        return int(self._order("wait", timeout=0)["pid"])

    def close(self) -> None:
        """Kill it and remove the socket."""
        if self._unit.stdin is not None and self._unit.stdout is not None:
            self._unit.stdin.close()
            self._unit.wait(20)
            self._unit.stdout.close()

    def _end(self, number: signal.Signals, timeout: float) -> int:
        self.send(number)
        return self.wait(timeout)

    def _order(self, order: str, **details: object) -> dict[str, Any]:
        assert self._unit.stdin is not None
        self._unit.stdin.write(json.dumps({"order": order} | details) + "\n")
        self._unit.stdin.flush()
        return self._answered()

    def _answered(self) -> dict[str, Any]:
        assert self._unit.stdout is not None
        line = self._unit.stdout.readline()
        if not line:
            raise LabError(f"{self.host.name}: what held {self.path} ended")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise LabError(f"{self.host.name}: {self.path}: {said['error']}")
        return said
