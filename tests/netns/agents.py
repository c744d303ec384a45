"""The real agent as a process inside a namespace that plays its host, and a controller to talk to."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from netns.places import Place

PYTHON = sys.executable
CHECKOUT = Path(__file__).resolve().parents[2]
DYING = Path(__file__).with_name("dying_agent.py")


@dataclass
class AgentProcess:
    """`trunkline-agent` in `place`, with its config and state below `directory`."""

    place: Place
    directory: Path
    endpoints: list[str]
    uplinks: dict[str, str] = field(default_factory=lambda: {"default": "up0"})
    promiscuous: bool = False
    tick: float = 1.0
    dies_after: str = ""
    _process: asyncio.subprocess.Process | None = None

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def config(self) -> Path:
        return self.directory / "agent.toml"

    @property
    def log(self) -> Path:
        return self.directory / "agent.log"

    def write_config(self) -> None:
        lines = [
            "[agent]",
            'host = "h1"',
            f"controllers = {json.dumps(self.endpoints)}",
            f'state_dir = "{self.state}"',
            f"tick_seconds = {self.tick}",
            f'machine_id_file = "{self.directory}/machine-id"',
            "[docker]",
            'socket = ""',
            "[dns]",
            'listen = ""',
        ]
        for label, device in self.uplinks.items():
            lines += [f"[uplinks.{label}]", f'device = "{device}"', f"promiscuous = {str(self.promiscuous).lower()}"]
        self.config.write_text("\n".join(lines) + "\n")
        (self.directory / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")

    def argv(self, *words: str) -> list[str]:
        program = [str(DYING), self.dies_after] if self.dies_after else ["-m", "agent"]
        return ["ip", "netns", "exec", self.place.name, PYTHON, *program, "--config", str(self.config), *words]

    async def start(self) -> None:
        self.write_config()
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.argv(), cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def ended(self, timeout: float = 15) -> int:
        """Until it ends by itself; its exit status."""
        assert self._process is not None
        status = await asyncio.wait_for(self._process.wait(), timeout)
        self._process = None
        return status

    async def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 10) -> int | None:
        """End it; its exit status, None when it was not running."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.returncode is None:
            process.send_signal(number)
        try:
            return await asyncio.wait_for(process.wait(), timeout)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise AssertionError(f"the agent did not end in {timeout} s:\n{self.log.read_text()}") from None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of its commands to the end."""
        self.write_config()
        return subprocess.run(self.argv(*words), cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
