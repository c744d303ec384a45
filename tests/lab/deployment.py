"""Trunkline in the lab: the controller in the switch's namespace, an agent on each host, the CLI beside them.

Programs are started as an operator starts them; nothing of theirs is imported.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.fabric import Lab
from lab.guest import Guest
from lab.places import CHECKOUT
from lab.plan import CONTROLLER
from lab.waiting import until

PORT = 7440
PROGRAMS = CHECKOUT / ".venv/bin"


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Deployment:
    def __init__(self, lab: Lab, agent_options: Mapping[str, object] | None = None) -> None:
        self.lab = lab
        self.directory = lab.places.run / "trunkline"
        self.pki = self.directory / "pki"
        self.log = self.directory / "controller.log"
        self.agent_options = dict(agent_options or {})
        self._controller: subprocess.Popen[bytes] | None = None

    # Keys

    def make_keys(self) -> None:
        """A CA, and a certificate for the controller, the operator and each host."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._program("trunkline", "pki", "init", str(self.pki))
        names = {"controller:main": [CONTROLLER, "controller", "localhost", "127.0.0.1"], "operator:lab": []}
        names |= {f"host:{guest.name}": [guest.name, guest.address] for guest in self.lab.hosts}
        for identity, hosts in names.items():
            options = [word for name in hosts for word in ("--name", name)]
            self._program("trunkline", "pki", "issue", str(self.pki), identity, *options)

    def files(self, identity: str) -> dict[str, Path]:
        stem = identity.replace(":", "-")
        return {"ca": self.pki / "ca.crt", "cert": self.pki / f"{stem}.crt", "key": self.pki / f"{stem}.key"}

    # Controller

    def start_controller(self, timeout: float = 60) -> None:
        """Start it with an embedded etcd and wait until it serves."""
        tls = self.files("controller:main")
        config = self.directory / "controller.toml"
        config.write_text(
            f'[controller]\nname = "main"\nlisten = ["{CONTROLLER}:{PORT}"]\n\n'
            f'[store]\netcd = "embedded"\ndata_dir = "{self.directory}/state"\n'
            f'etcd_binary = "{self._etcd()}"\n\n'
            f'[tls]\nca = "{tls["ca"]}"\ncert = "{tls["cert"]}"\nkey = "{tls["key"]}"\n'
        )
        with self.log.open("ab") as log:
            self._controller = self.lab.popen_in_switch(
                [str(PROGRAMS / "trunkline-controller"), "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._serves, "the controller to serve", timeout)

    def _serves(self) -> bool:
        if self._controller and self._controller.poll() is not None:
            raise LabError(f"the controller ended: {self.log.read_text()[-2000:]}")
        return self.cli("status", "-o", "json").status == 0

    @staticmethod
    def _etcd() -> Path:
        work = Path(os.environ.get("TRUNKLINE_WORK", CHECKOUT / ".work"))
        return work.resolve() / "bin/etcd"

    @property
    def controller_pid(self) -> int:
        if not self._controller:
            raise LabError("the controller was not started")
        return self._controller.pid

    def stop_controller(self, number: signal.Signals = signal.SIGTERM, timeout: float = 20) -> None:
        if self._controller:
            if self._controller.poll() is None:
                self._controller.send_signal(number)
            self._controller.wait(timeout)
            self._controller = None

    # Agents

    def install_agent(self, guest: Guest, uplinks: Mapping[str, str] | None = None) -> None:
        """Its config and certificate, on the guest's own disk."""
        here = self.files(f"host:{guest.name}")
        for kind, path in here.items():
            guest.write(f"/etc/trunkline/{kind}.pem", path.read_bytes(), 0o600)
        lines = ["[agent]", f'host = "{guest.name}"', f'controllers = ["{CONTROLLER}:{PORT}"]']
        lines += [f"{key} = {json.dumps(value)}" for key, value in self.agent_options.items()]
        for label, device in (uplinks or {"default": "enp7s0"}).items():
            lines += ["", f"[uplinks.{label}]", f'device = "{device}"']
        lines += ["", "[tls]", *(f'{kind} = "/etc/trunkline/{kind}.pem"' for kind in here)]
        guest.write("/etc/trunkline/agent.toml", "\n".join(lines) + "\n")

    def agent_command(self) -> list[str]:
        return [str(PROGRAMS / "trunkline-agent"), "--config", "/etc/trunkline/agent.toml"]

    def enable_agent(self, guest: Guest) -> None:
        """As services of systemd, by the units that the agent itself writes: started now, and at each boot."""
        guest.ok([*self.agent_command(), "units", "/etc/systemd/system"])
        units = "trunkline-agent.socket trunkline-agent.service"
        guest.ok(f"systemctl daemon-reload && systemctl enable {units} && systemctl start {units}", 120)

    def start_agent(self, guest: Guest) -> None:
        guest.daemon("agent", self.agent_command())

    def stop_agent(self, guest: Guest, number: signal.Signals = signal.SIGTERM) -> None:
        guest.stop_daemon("agent", number)

    def wait_connected(self, names: Sequence[str], timeout: float = 60) -> None:
        def connected() -> bool:
            answer = self.cli("host", "list", "-o", "json")
            known = {h["name"] for h in answer.json() if h.get("connected")} if answer.status == 0 else set()
            return set(names) <= known

        until(connected, f"{', '.join(names)} to connect", timeout)

    # Everything

    def up(self) -> "Deployment":
        """Keys, controller, and an agent on each host, connected."""
        self.make_keys()
        self.start_controller()
        for guest in self.lab.hosts:
            self.install_agent(guest)
            self.start_agent(guest)
        self.wait_connected([guest.name for guest in self.lab.hosts])
        return self

    # Operator

    def cli_argv(self, *words: str) -> list[str]:
        tls = self.files("operator:lab")
        options = [word for kind, path in tls.items() for word in (f"--tls-{kind}", str(path))]
        return [str(PROGRAMS / "trunkline"), "--controller", f"{CONTROLLER}:{PORT}", *options, *words]

    def write_operator_config(self) -> Path:
        """The operator's config file, as the README has it; the directory to name as XDG_CONFIG_HOME."""
        tls = "".join(f'{kind} = "{path}"\n' for kind, path in self.files("operator:lab").items())
        home = self.directory / "operator"
        (home / "trunkline").mkdir(parents=True, exist_ok=True)
        (home / "trunkline/config.toml").write_text(f'controllers = ["{CONTROLLER}:{PORT}"]\n\n[tls]\n{tls}')
        return home

    def cli(self, *words: str, timeout: float = 120, stdin: str | None = None) -> Answer:
        """Run the CLI as an operator would; output is not a terminal's."""
        process = self.lab.popen_in_switch(
            self.cli_argv(*words),
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise LabError(f"trunkline {' '.join(words)} did not end in {timeout:g} s: {out}{err}") from None
        return Answer(process.returncode, out, err)

    def ok(self, *words: str, timeout: float = 120) -> Answer:
        answer = self.cli(*words, timeout=timeout)
        if answer.status:
            raise LabError(f"trunkline {' '.join(words)}: status {answer.status}: {answer.err}{answer.out}")
        return answer

    def await_cli(self, words: Sequence[str], wanted: str, timeout: float = 60) -> Answer:
        """Repeat a command until its output contains `wanted`."""
        last = Answer(-1, "", "")

        def seen() -> bool:
            nonlocal last
            last = self.cli(*words)
            return last.status == 0 and wanted in last.out

        try:
            until(seen, f"`trunkline {' '.join(words)}` to show {wanted!r}", timeout)
        except LabError as e:
            raise LabError(f"{e}; last: {last.status} {last.out}{last.err}") from e
        return last

    @staticmethod
    def _program(name: str, *words: str) -> None:
        done = subprocess.run([str(PROGRAMS / name), *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"{name} {' '.join(words)}: {done.stderr or done.stdout}")


def stopwatch() -> "Stopwatch":
    return Stopwatch()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __str__(self) -> str:
        return f"{time.monotonic() - self._start:.1f} s"
