"""One virtual L2 on this machine, with hosts and plain peers on it.

    with Wire() as wire:
        h1 = wire.host("h1")
        h1.start_docker()
        peer = wire.peer("p1", "20.0.0.250/24")

The wire is a bridge in a network namespace of its own. A second bridge there is the management network: each host has a
`mgmt0` on it, and what runs in the wire's namespace is reached at MANAGEMENT. Networks here are untagged (VLAN 0): many
kernels lack 8021q. A run is known by a random name that its namespaces, directory and control groups carry.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from engine import sweep
from engine.binaries import Binaries
from engine.commands import Answer, answer, in_network, ok
from engine.host import Host
from engine.peer import Peer
from lab.places import CHECKOUT

MANAGEMENT = "10.254.0.1"
BRIDGE = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"


class Wire:
    """The L2 and all that hangs on it. A context manager: everything of the run is gone after it."""

    def __init__(self, binaries: Binaries | None = None) -> None:
        self.run_name = f"tle{secrets.token_hex(3)}"
        self.directory = Path(tempfile.gettempdir()) / self.run_name
        self.namespace = f"{self.run_name}-wire"
        self.binaries = binaries or Binaries.chosen()
        self.hosts: dict[str, Host] = {}
        self.peers: dict[str, Peer] = {}
        self._collectors: list[Callable[[], None]] = []
        self._warden: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Wire:
        self.directory.mkdir(0o755)
        self._warden = subprocess.Popen(
            [sys.executable, "-m", "engine.sweep", str(self.directory)],
            stdin=subprocess.PIPE,
            cwd=CHECKOUT / "tests",
            start_new_session=True,
        )
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take everything down: processes by pid, namespaces, control groups, files."""
        try:
            sweep.remove(self.directory)
        finally:
            for collect in (*self._collectors, *(host.collect for host in self.hosts.values())):
                collect()
            self._collectors.clear()
            if self._warden is not None and self._warden.stdin is not None:
                self._warden.stdin.close()
                self._warden.wait(30)
                self._warden = None

    def on_close(self, collect: Callable[[], None]) -> None:
        """Have this called when everything is down: it waits for dead children, so that no zombie stays."""
        self._collectors.append(collect)

    # What hangs on it

    def host(self, name: str) -> Host:
        """A new host, its `enp7s0` on the wire and its `mgmt0` on the management network; no dockerd runs yet."""
        number = len(self.hosts) + 2
        namespace = self._place(name)
        self._plug(name, namespace, "enp7s0")
        self._plug(name, namespace, "mgmt0", "br-mgmt")
        ok(["ip", "-n", namespace, "addr", "add", f"10.254.0.{number}/24", "dev", "mgmt0"])
        self.hosts[name] = Host(name, self.run_name, self.directory / name, self.binaries)
        self.hosts[name].boot()
        return self.hosts[name]

    def peer(self, name: str, *addresses: str) -> Peer:
        """A plain machine on the wire: a namespace with these addresses (with prefix length) on its `eth0`."""
        namespace = self._place(name)
        self._plug(name, namespace, "eth0")
        peer = self.peers[name] = Peer(name, namespace)
        for address in addresses:
            peer.add(address)
        return peer

    # The wires

    def cut(self, host: Host, *, management: bool = False) -> None:
        """Pull the host's cable; `management` picks the one of the management network."""
        self._port(host, management, "down")

    def mend(self, host: Host, *, management: bool = False) -> None:
        """Plug it in again."""
        self._port(host, management, "up")

    def run(self, argv: Sequence[str], *, stdin: str | None = None, timeout: float = 60) -> Answer:
        """Run a program in the wire's network namespace, where the bridges `br0` and `br-mgmt` are."""
        return answer(in_network(self.namespace, argv), stdin=stdin, timeout=timeout)

    def popen(self, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start a program there, its output appended to `log`. The pid is the program's own."""
        with log.open("ab") as out:
            return subprocess.Popen(
                in_network(self.namespace, argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _build(self) -> None:
        ok(["ip", "netns", "add", self.namespace])
        # The bridges are the wire, not a machine: they say nothing of their own.
        quiet = ["net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1"]
        # A new namespace passes bridged frames to iptables when br_netfilter is loaded.
        hooks = [f"net.bridge.bridge-nf-call-{kind}=0" for kind in ("iptables", "ip6tables", "arptables")]
        ok(in_network(self.namespace, ["sysctl", "-q", "-w", *quiet]))
        self.run(["sysctl", "-q", "-e", "-w", *hooks])
        links = ["link set lo up"]
        for bridge in ("br0", "br-mgmt"):
            links += [f"link add {bridge} {BRIDGE}", f"link set {bridge} up"]
        links += [f"addr add {MANAGEMENT}/24 dev br-mgmt"]
        ok(["ip", "-n", self.namespace, "-batch", "-"], stdin="\n".join(links) + "\n")

    def _place(self, name: str) -> str:
        namespace = f"{self.run_name}-{name}"
        ok(["ip", "netns", "add", namespace])
        ok(["ip", "-n", namespace, "link", "set", "lo", "up"])
        return namespace

    def _plug(self, name: str, namespace: str, device: str, bridge: str = "br0") -> None:
        port = f"{'m' if bridge == 'br-mgmt' else 'p'}-{name}"
        veth = f"link add {port} type veth peer name {device} netns {namespace}"
        ok(["ip", "-n", self.namespace, *veth.split()])
        ok(["ip", "-n", self.namespace, "link", "set", port, "master", bridge, "up"])
        ok(["ip", "-n", namespace, "link", "set", device, "up"])

    def _port(self, host: Host, management: bool, state: str) -> None:
        ok(["ip", "-n", self.namespace, "link", "set", f"{'m' if management else 'p'}-{host.name}", state])
