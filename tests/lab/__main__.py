"""The lab by hand: python -m lab up 3, then exec, fault, capture, down."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lab.docker import Docker
from lab.errors import LabError
from lab.fabric import Lab
from lab.places import CHECKOUT
from lab.plan import guest_name
from lab.wire import parse

Action = Callable[[Lab, argparse.Namespace], int | None]


def up(lab: Lab, a: argparse.Namespace) -> None:
    began = time.monotonic()
    mounts = [CHECKOUT, *(Path(m).resolve() for m in a.mount)]
    lab.up(
        a.hosts,
        init=a.init,
        switch=a.switch,
        memory=a.memory,
        disk=a.disk,
        cgroup=a.cgroup,
        mounts=mounts,
        attached=False,
    )
    print(f"{a.hosts} hosts up in {time.monotonic() - began:.1f} s")


def show(out: bytes, err: bytes) -> None:
    for stream, data in ((sys.stdout.buffer, out), (sys.stderr.buffer, err)):
        stream.write(data)
        stream.flush()


def execute(lab: Lab, a: argparse.Namespace) -> int:
    argv = a.command[0] if len(a.command) == 1 else a.command
    stdin = None if sys.stdin is None or sys.stdin.isatty() or not a.stdin else sys.stdin.buffer.read()
    return lab.host(a.host).run(argv, a.timeout, stdin=stdin, sink=show).status % 256


def ssh(lab: Lab, a: argparse.Namespace) -> None:
    words = ["ssh", "-F", str(lab.places.run / "ssh_config"), guest_name(a.host), *a.command]
    os.execvp("ip", lab.switch.argv(words))


def in_switch(lab: Lab, a: argparse.Namespace) -> None:
    os.execvp("ip", lab.switch.argv(a.command))


def fault(lab: Lab, a: argparse.Namespace) -> None:
    match a.words:
        case ["list"]:
            print(*lab.faults, sep="\n")
        case ["clear"]:
            lab.clear()
        case ["clear", host]:
            lab.clear(int(host))
        case words:
            lab.fault(parse(words))


def vlans(lab: Lab, a: argparse.Namespace) -> None:
    lab.port_vlans(a.host, [v for v in a.tagged.split(",") if v], a.native)


def capture(lab: Lab, a: argparse.Namespace) -> None:
    with lab.capture(a.host, a.match, path=Path(a.write).resolve() if a.write else None) as taken:
        signal.sigtimedwait([signal.SIGTERM, signal.SIGINT], a.seconds)
        taken.stop()
        print(taken.path if a.write else "\n".join(taken.text()))


def power(verb: str) -> Action:
    return lambda lab, a: getattr(lab.host(a.host), verb)()


def console(lab: Lab, a: argparse.Namespace) -> None:
    print((lab.host(a.host).directory / "console.log").read_text(errors="replace"), end="")


def docker(lab: Lab, a: argparse.Namespace) -> None:
    daemon = Docker(lab.host(a.host))
    daemon.start()
    print(daemon.load_busybox())


class Verbs:
    """The commands, each with its help and its arguments."""

    def __init__(self) -> None:
        self.parser = argparse.ArgumentParser(prog="lab", description=__doc__)
        self.parser.add_argument("--name", help="which of the checkout's labs; default: $TRUNKLINE_LAB, or tl")
        self._verbs = self.parser.add_subparsers(required=True, metavar="COMMAND")
        self.life()
        self.inside()
        self.wires()

    def add(self, name: str, action: Action, help_text: str, *host: str) -> argparse.ArgumentParser:
        made = self._verbs.add_parser(name, help=help_text)
        made.set_defaults(action=action)
        for word in host:
            made.add_argument(word, type=int)
        return made

    def life(self) -> None:
        p = self.add("up", up, "boot hosts", "hosts")
        p.add_argument("--init", choices=["min", "systemd"], default="min")
        p.add_argument("--switch", choices=["learn", "hub", "vlan"], default="learn")
        p.add_argument("--memory", default="512M")
        p.add_argument("--disk", default="4G", help="empty: in memory")
        p.add_argument("--cgroup", choices=["v1", "v2"], default="v2")
        p.add_argument("--mount", action="append", default=[], help="a directory the guests see read-only")
        self.add("status", lambda lab, a: print(lab.status()), "what is up, and what is broken")
        for name in ("start", "kill", "freeze", "thaw", "reboot", "power-cycle", "poweroff"):
            self.add(name, power(name.replace("-", "_")), f"{name} a guest", "host")
        self.add("down", lambda lab, a: lab.down(), "take everything away")

    def inside(self) -> None:
        p = self.add("exec", execute, "run in a guest, out of band", "host")
        p.add_argument("--timeout", type=float, default=600)
        p.add_argument("--stdin", action="store_true", help="pass this command's standard input on")
        p.add_argument("command", nargs=argparse.REMAINDER)
        p = self.add("ssh", ssh, "the same over the management network", "host")
        p.add_argument("command", nargs=argparse.REMAINDER)
        p = self.add("sw", in_switch, "run in the switch's namespace")
        p.add_argument("command", nargs=argparse.REMAINDER)
        self.add("docker", docker, "start dockerd in a guest and load the busybox image", "host")
        self.add("console", console, "a guest's console so far", "host")

    def wires(self) -> None:
        p = self.add("link", lambda lab, a: lab.link(a.host, a.state, a.net), "a wire up or down", "host")
        p.add_argument("state", choices=["up", "down"])
        p.add_argument("net", choices=["trunk", "mgmt"], nargs="?", default="trunk")
        p = self.add("vlans", vlans, "what a port carries (switch vlan)", "host")
        p.add_argument("tagged", help="10,20-29 or empty")
        p.add_argument("native", type=int, nargs="?")
        p = self.add("fault", fault, "list | clear [HOST] | KIND HOST ...")
        p.add_argument("words", nargs="+")
        p = self.add("capture", capture, "frames on the wire, decoded")
        p.add_argument("seconds", type=float)
        p.add_argument("--host", type=int)
        p.add_argument("--match", default="", help="a tcpdump expression")
        p.add_argument("--write", help="keep the pcap here")


def main() -> int:
    a = Verbs().parser.parse_args()
    try:
        return a.action(Lab(a.name), a) or 0
    except LabError as e:
        print(f"lab: {e}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
