"""Trunkline on a wire: a real controller with a real etcd in the wire's namespace, a real agent on each host.

    with Wire() as wire:
        fabric = Fabric(wire, [wire.host("h1"), wire.host("h2")]).up()
        fabric.ok("network", "create", "mynet2", "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1", "--vlan", "0")

Programs are started as an operator and systemd start them; nothing of theirs is imported. They speak plain text over
the management network, which a test may cut for one host (`wire.cut(host, management=True)`). Agents get the plugin's
socket by socket activation.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.commands import Answer, answer, in_network, tail
from engine.holder import SocketHolder
from engine.host import Host
from engine.wire import MANAGEMENT, Wire
from lab.errors import LabError
from lab.places import CHECKOUT, Places
from lab.waiting import until

PORT = 7440
PROGRAMS = CHECKOUT / ".venv/bin"
Tables = Mapping[str, Mapping[str, object]]


class Fabric:
    """Controller, agents and the operator's CLI. What it starts ends with the wire."""

    def __init__(self, wire: Wire, hosts: Sequence[Host], agent_tables: Tables | None = None) -> None:
        """`agent_tables` go over the agents' config, such as {"agent": {"tick_seconds": 2.0}}."""
        self.wire = wire
        self.hosts = {host.name: host for host in hosts}
        self.agent_tables = agent_tables or {}
        self.directory = wire.directory / "fabric"
        self.directory.mkdir()
        self.controller_log = self.directory / "controller.log"
        self.agents = {host.name: SocketHolder(host) for host in hosts}
        self._controller: subprocess.Popen[bytes] | None = None
        wire.on_close(self.collect)

    def up(self) -> Fabric:
        """Controller, and an agent on each host, connected. dockerds are the test's to start, before or after."""
        self.start_controller()
        for name in self.hosts:
            self.start_agent(name)
        self.wait_connected()
        return self

    # Controller

    def start_controller(self, timeout: float = 60) -> None:
        """Start it with its embedded etcd and wait until it serves."""
        etcd = Path(os.environ.get("TRUNKLINE_ETCD") or Places.of().work / "bin/etcd")
        config = self.directory / "controller.toml"
        config.write_text(
            f'[controller]\nname = "main"\nlisten = ["{MANAGEMENT}:{PORT}"]\ninsecure = true\n\n'
            f'[store]\netcd = "embedded"\ndata_dir = "{self.directory}/state"\netcd_binary = "{etcd}"\n'
        )
        argv = [str(PROGRAMS / "trunkline-controller"), "--config", str(config)]
        self._controller = self.wire.popen(argv, self.controller_log)
        until(self._serves, "the controller to serve", timeout)

    def _serves(self) -> bool:
        if self._controller is None or self._controller.poll() is not None:
            raise LabError(f"the controller ended: {tail(self.controller_log)}")
        return self.cli("status", "-o", "json").status == 0

    @property
    def controller_pid(self) -> int:
        """Its pid."""
        if self._controller is None:
            raise LabError("the controller was not started")
        return self._controller.pid

    def stop_controller(self, number: signal.Signals = signal.SIGTERM, timeout: float = 20) -> None:
        """End it; what it stored stays for `start_controller`."""
        controller, self._controller = self._controller, None
        if controller is not None:
            if controller.poll() is None:
                controller.send_signal(number)
            controller.wait(timeout)

    def collect(self) -> None:
        """The wire was taken down, and all of this with it: no zombie stays."""
        self.stop_controller(signal.SIGKILL)
        for holder in self.agents.values():
            holder.close()

    # Agents

    def join(self, host: Host) -> None:
        """One more host, with an agent that is connected."""
        self.hosts[host.name] = host
        self.agents[host.name] = SocketHolder(host)
        self.start_agent(host.name)
        self.wait_connected([host.name])

    def start_agent(self, name: str, tables: Tables | None = None) -> None:
        """Write its config, these tables over the fabric's, and start it behind the plugin's socket; does not wait."""
        config = self.hosts[name].etc / "trunkline/agent.toml"
        config.parent.mkdir(exist_ok=True)
        config.write_text(self._agent_config(self.hosts[name], tables or {}))
        self.agents[name].start([str(PROGRAMS / "trunkline-agent"), "--config", "/etc/trunkline/agent.toml"])

    def _agent_config(self, host: Host, tables: Tables) -> str:
        agent = {"host": host.name, "controllers": [f"{MANAGEMENT}:{PORT}"], "insecure": True}
        config: dict[str, dict[str, object]] = {
            "agent": agent | {"state_dir": str(host.directory / "agent")},
            "uplinks.default": {"device": "enp7s0"},
            "docker": {"socket": str(host.engine_socket)},
        }
        for given in (self.agent_tables, tables):
            for table, keys in given.items():
                config[table] = config.get(table, {}) | dict(keys)
        # strings, numbers, booleans and lists read the same in JSON and TOML
        return "".join(
            f"[{table}]\n" + "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in keys.items())
            for table, keys in config.items()
        )

    def wait_connected(self, names: Sequence[str] = (), timeout: float = 60) -> None:
        """Wait until the controller holds the sessions of these hosts (default: all)."""
        wanted = set(names or self.hosts)

        def connected() -> bool:
            for name in wanted:
                if not self.agents[name].running:
                    raise LabError(f"{name}: the agent ended: {tail(self.agents[name].log)}")
            listed = self.cli("host", "list", "-o", "json")
            known = {host["name"] for host in listed.json() if host.get("connected")} if listed.status == 0 else set()
            return wanted <= known

        until(connected, f"{', '.join(sorted(wanted))} to connect", timeout)

    # Operator

    def cli_argv(self, *words: str) -> list[str]:
        """The command line of the CLI, to run in the wire's namespace."""
        return [str(PROGRAMS / "trunkline"), "--controller", f"{MANAGEMENT}:{PORT}", "--insecure", *words]

    def cli(self, *words: str, timeout: float = 120, stdin: str | None = None) -> Answer:
        """Run the CLI as an operator would; output is not a terminal's."""
        return answer(in_network(self.wire.namespace, self.cli_argv(*words)), stdin=stdin, timeout=timeout)

    def ok(self, *words: str, timeout: float = 120) -> Answer:
        """The same; LabError with what it said when it fails."""
        done = self.cli(*words, timeout=timeout)
        if done.status:
            raise LabError(f"trunkline {' '.join(words)}: status {done.status}: {done.err}{done.out}")
        return done

    def await_cli(self, words: Sequence[str], wanted: str, timeout: float = 60) -> Answer:
        """Repeat a command until its output contains `wanted`."""
        last = Answer(-1, "", "")

        def seen() -> bool:
            nonlocal last
            last = self.cli(*words)
            return last.status == 0 and wanted in last.out

        try:
            until(seen, f"`trunkline {' '.join(words)}` to show {wanted!r}", timeout)
        except LabError as error:
            raise LabError(f"{error}; last: {last.status} {last.out}{last.err}") from error
        return last
