"""The network namespace that holds the wires, the guests' kernels and the controller."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from lab.errors import LabError
from lab.plan import CONTROLLER, SWITCH_GUEST, LabPlan
from lab.process import Process, ancestry, inside_namespace, kill_all

# A table per bridge and no waiting: a port forwards from the first frame on.
BRIDGE = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0"


def command(argv: Sequence[str], stdin: str | None = None, check: bool = True) -> str:
    """Run a tool of this machine; its stdout."""
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False)
    if check and done.returncode:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Switch:
    def __init__(self, name: str) -> None:
        self.name = name
        self.path = Path("/run/netns") / name

    def argv(self, argv: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, argv: Sequence[str], stdin: str | None = None, check: bool = True) -> str:
        return command(self.argv(argv), stdin, check)

    def popen(self, argv: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
        """ip netns exec execs, so the pid is the program's own."""
        if not self.path.exists():
            raise LabError(f"the namespace {self.name} is not there; is the lab up?")
        quiet: dict[str, int | IO[Any]] = {"stdin": subprocess.DEVNULL}
        return subprocess.Popen(self.argv(argv), **(quiet | options))

    def build(self, plan: LabPlan) -> None:
        command(["ip", "netns", "add", self.name])
        quiet = ["net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1"]
        # A new namespace passes bridged frames to iptables when br_netfilter is loaded.
        hooks = [f"net.bridge.bridge-nf-call-{kind}=0" for kind in ("iptables", "ip6tables", "arptables")]
        self.run(["sysctl", "-q", "-w", *quiet])
        self.run(["sysctl", "-q", "-e", "-w", *hooks], check=False)
        command(["ip", "-n", self.name, "-batch", "-"], "\n".join(self._links(plan)) + "\n")

    def _links(self, plan: LabPlan) -> list[str]:
        # Without a table of its own the bridge is a hub: every frame reaches every port.
        ageing = " ageing_time 0" if plan.switch == "hub" else ""
        lines = [
            "link set lo up",
            f"link add br-mgmt {BRIDGE}",
            f"link add br-trunk {BRIDGE}{ageing}",
            f"addr add {CONTROLLER}/24 dev br-mgmt",
            "link set br-mgmt up",
            "link set br-trunk up",
        ]
        hosts = [g.number for g in plan.guests if g.number != SWITCH_GUEST]
        for i in hosts:
            lines += self._port(f"m{i}", "br-mgmt")
            if plan.switch != "vlan":
                lines += self._port(f"t{i}", "br-trunk")
                continue
            # A wire between the guest's tap and the switch guest's: a bridge that never learns.
            lines += [f"link add p{i} {BRIDGE} ageing_time 0", f"link set p{i} up"]
            lines += self._port(f"t{i}", f"p{i}") + self._port(f"s{i}", f"p{i}")
        return lines

    @staticmethod
    def _port(tap: str, bridge: str) -> list[str]:
        return [f"tuntap add dev {tap} mode tap", f"link set {tap} master {bridge} up"]

    def remove(self) -> None:
        """Everything in the namespace is the lab's: its kernels, the controller, captures."""
        ours = ancestry()
        while doomed := self._others(ours):
            kill_all(doomed)
        if self.path.exists():
            command(["ip", "netns", "del", self.name])

    def _others(self, ours: set[int]) -> list[Process]:
        return [p for p in inside_namespace(self.path) if p.pid not in ours and p.state]
