"""The lab: several hosts with kernels of their own on one switch.

A test says `with Lab().up(3, switch="vlan") as lab:`, then `lab.host(1).ok("ip -br link")`
or `lab.fault(DropVlan(2, 10))`.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from lab.capture import Capture
from lab.errors import LabError
from lab.faults import Fault
from lab.guest import Guest
from lab.places import CHECKOUT, Places
from lab.plan import SWITCH_GUEST, Init, LabPlan, Net, SwitchKind, lab_plan, tap
from lab.prepare import lab_files
from lab.process import Process, ancestry, group_members, kill_all
from lab.switch import Switch, command
from lab.wire import Wire

DETACHED = "detached"


class Lab:
    def __init__(self, name: str | None = None) -> None:
        """Refers to the lab of that name, up or not; by default the checkout's own."""
        if os.geteuid() != 0:
            raise LabError("the lab makes namespaces and taps: it needs root")
        self.places = Places.of(name)
        self.name = self.places.name
        self.switch = Switch(self.places.namespace)
        self._guests: dict[int, Guest] = {}
        self._plan: LabPlan | None = None

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    # Up and down

    def up(
        self,
        hosts: int = 2,
        *,
        init: Init = "min",
        switch: SwitchKind = "learn",
        memory: str = "512M",
        disk: str = "4G",
        cgroup: Literal["v1", "v2"] = "v2",
        mounts: Sequence[Path] = (CHECKOUT,),
        attached: bool = True,
    ) -> "Lab":
        """Boot it and wait for it. Attached: it is taken down when this process ends, however it ends."""
        with self._alone():
            if self._in_use():
                raise LabError(f"the lab {self.name} is up already; take it down first")
            self._remove()
            self.places.run.mkdir(parents=True)
            shown = tuple(dict.fromkeys(str(p) for p in mounts))
            self._plan = lab_plan(
                hosts, init=init, switch=switch, memory=memory, disk=disk, cgroup=cgroup, mounts=shown
            )
            try:
                self._boot(self._plan, attached)
            except BaseException:
                self._remove()
                raise
        return self

    def _boot(self, plan: LabPlan, attached: bool) -> None:
        owner = Process.of(os.getpid())
        if attached:
            owner.record(self.places.run / "owner")
            self._watch(owner)
        else:
            (self.places.run / "owner").write_text(DETACHED)
        plan.save(self.places.run / "plan.json")
        lab_files(self.places, plan)
        self.switch.build(plan)
        for guest in self.guests:
            guest.start(wait=False)
        for guest in self.guests:
            guest.wait()

    def _watch(self, owner: Process) -> None:
        subprocess.Popen(
            [sys.executable, "-m", "lab.warden", self.name, str(owner.pid), owner.started],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a ctrl-C in the terminal is meant for its owner
            cwd="/",
        )

    @property
    def is_up(self) -> bool:
        """Whether somebody runs it, here or in another process."""
        return self._in_use()

    def _in_use(self) -> bool:
        path = self.places.run / "owner"
        if not path.exists():
            return False
        if path.read_text() == DETACHED:
            return any(g.running for g in self.guests)
        return Process.recorded(path) is not None

    def down(self) -> None:
        """Leaves nothing: no process, namespace, link or file. Safe to call at any time."""
        with self._alone():
            self._remove()

    def _remove(self) -> None:
        warden = Process.recorded(self.places.run / "warden.pid")
        if warden and warden.pid not in ancestry():
            kill_all([warden])
        # By pid first: somebody may have removed the namespace's name, and they would go unseen.
        for record in self.places.run.glob("*/*.pid"):
            process = Process.recorded(record)
            if process:
                kill_all([process, *group_members(process.pid)])
        self.switch.remove()
        for guest in self._guests.values():
            guest.reap()
        self._guests.clear()
        self._plan = None
        shutil.rmtree(self.places.run, ignore_errors=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self.places.run.with_suffix(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    # Its parts

    @property
    def plan(self) -> LabPlan:
        if self._plan is None:
            path = self.places.run / "plan.json"
            if not path.exists():
                raise LabError(f"the lab {self.name} is not up")
            self._plan = LabPlan.load(path)
        return self._plan

    @property
    def guests(self) -> list[Guest]:
        """All guests, the switch's own included."""
        for plan in self.plan.guests:
            if plan.number not in self._guests:
                self._guests[plan.number] = Guest(self.places, self.switch, plan)
        return list(self._guests.values())

    @property
    def hosts(self) -> list[Guest]:
        return [g for g in self.guests if g.number != SWITCH_GUEST]

    def host(self, number: int) -> Guest:
        for guest in self.guests:
            if guest.number == number:
                return guest
        raise LabError(f"the lab {self.name} has no guest {number}")

    # The machine's side: controller, store and tools live in the switch's namespace

    def popen_in_switch(self, argv: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
        """A process at 10.200.0.254, with Popen's options; it is killed with the lab at the latest."""
        return self.switch.popen(argv, **options)

    def run_in_switch(self, argv: Sequence[str], stdin: str | None = None, check: bool = True) -> str:
        return self.switch.run(argv, stdin, check)

    # The wire

    @property
    def wire(self) -> Wire:
        return Wire(self.switch, self.plan.switch, self.places.run / "faults.json", self._in_switch_guest())

    def _in_switch_guest(self) -> Callable[[str], object]:
        return lambda script: self.host(SWITCH_GUEST).ok(script)

    @property
    def faults(self) -> list[Fault]:
        return self.wire.faults

    def fault(self, *faults: Fault) -> None:
        """In addition to those that hold already."""
        for fault in faults:
            self.host(fault.host)
        self.wire.apply([*self.faults, *faults])

    def clear(self, host: int | None = None) -> None:
        """Mend the wires (of one host), and let neighbours forget what they learnt from silence."""
        self.wire.apply([f for f in self.faults if host is not None and f.host != host])
        for guest in self.hosts:
            kernel = guest.kernel
            if kernel and kernel.state != "T":
                guest.forget_neighbours()

    @contextlib.contextmanager
    def faulty(self, *faults: Fault) -> Iterator[None]:
        self.fault(*faults)
        try:
            yield
        finally:
            self.wire.apply([f for f in self.faults if f not in faults])

    def port_vlans(self, host: int, tagged: Sequence[int | str], native: int | None = None) -> None:
        """The host's port as a real switch has it (switch="vlan"); without native, untagged is dropped."""
        if self.plan.switch != "vlan":
            raise LabError('ports have VLANs only in a lab with switch="vlan"; AllowVlans works in any')
        lines = [f"vlan del dev p{host} vid 1-4094", *(f"vlan add dev p{host} vid {v}" for v in tagged)]
        if native is not None:
            lines.append(f"vlan add dev p{host} vid {native} pvid untagged")
        self.host(SWITCH_GUEST).ok(["bridge", "-batch", "-"], stdin="\n".join(lines) + "\n")

    def link(self, host: int, state: Literal["up", "down"], net: Net = "trunk") -> None:
        """The wire behind the NIC; the guest keeps its carrier, as behind a broken media converter."""
        # The port, never the tap: a guest that sends into a tap that is down stays mute (and its
        # CPU busy) until its NIC is reset.
        number = {"down": "0", "up": "3"}[state]  # disabled, forwarding
        command(["bridge", "-n", self.switch.name, "link", "set", "dev", tap(net, host), "state", number])

    def carrier(self, host: int, state: Literal["up", "down"], net: Net = "trunk") -> None:
        """The NIC itself, as the host sees it."""
        self.host(host).ok(["ip", "link", "set", "enp7s0" if net == "trunk" else "mgmt0", state])

    def capture(
        self, host: int | None = None, match: str = "", net: Net = "trunk", path: Path | None = None
    ) -> Capture:
        """Frames on a host's wire; by default on the whole trunk (host 1's wire with a switch guest)."""
        bridge = "br-mgmt" if net == "mgmt" else "br-trunk" if self.plan.switch != "vlan" else "p1"
        return Capture(self.switch, tap(net, host) if host else bridge, match, path)

    def status(self) -> str:
        lines = [f"lab {self.name}, switch {self.plan.switch}, {self.places.run}"]
        for guest in self.guests:
            kernel = guest.kernel
            state = {"": "off", "T": "frozen"}.get(kernel.state if kernel else "", "running")
            lines.append(f"{guest.name:7} {guest.address:12} {state:8} init {guest.plan.init}")
        return "\n".join(lines + [f"fault   {fault}" for fault in self.faults])
