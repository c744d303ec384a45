"""What really is on the wire, by tcpdump."""

import os
import re
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from lab.errors import LabError
from lab.switch import Switch, command
from lab.waiting import until


class Capture:
    """Runs from construction to stop(); use it in a with statement."""

    def __init__(self, switch: Switch, device: str, match: str, path: Path | None) -> None:
        self._scratch = None if path else tempfile.TemporaryDirectory(prefix="lab-capture-")
        self.path = path or Path(self._scratch.name if self._scratch else "") / "wire.pcap"
        # Each frame is delivered and written at once; as root, or it could not write where we want.
        argv = ["tcpdump", "--immediate-mode", "-U", "-n", "-Z", "root", "-i", device, "-w", str(self.path)]
        self._tcpdump = switch.popen([*argv, *([match] if match else [])], stderr=subprocess.PIPE)
        self._await_start()

    def _await_start(self, timeout: float = 10) -> None:
        assert self._tcpdump.stderr
        heard, deadline = b"", time.monotonic() + timeout
        while b"listening on" not in heard:
            ready, _, _ = select.select([self._tcpdump.stderr], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._tcpdump.stderr.fileno(), 4096) if ready else b""
            heard += data
            if not data:
                self.stop()
                raise LabError(f"tcpdump does not start: {heard.decode(errors='replace').strip()}")

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._scratch:
            self._scratch.cleanup()

    def stop(self) -> None:
        if self._tcpdump.poll() is None:
            self._tcpdump.send_signal(signal.SIGTERM)
        self._tcpdump.wait(10)
        if self._tcpdump.stderr:
            self._tcpdump.stderr.close()

    def text(self, match: str = "") -> list[str]:
        """The frames so far, decoded with MACs and tags, one string each."""
        argv = ["tcpdump", "-e", "-nn", "-t", "-r", str(self.path), *([match] if match else [])]
        # While it is written the last record may be cut short: tcpdump complains, we do not.
        lines: list[str] = []
        for line in command(argv, check=False).splitlines():
            if line[:1].isspace() and lines:
                lines[-1] += " " + line.strip()
            else:
                lines.append(line)
        return lines

    def await_frame(self, pattern: str, timeout: float = 5) -> str:
        """The first decoded frame that the regular expression is found in."""

        def found() -> str:
            return next((line for line in self.text() if re.search(pattern, line)), "")

        return until(found, f"a frame like {pattern!r} on the wire", timeout)
