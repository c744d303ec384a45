"""What a lab is made of, decided before anything is started; kept as JSON beside it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Init = Literal["min", "systemd"]
SwitchKind = Literal["learn", "hub", "vlan"]
Net = Literal["trunk", "mgmt"]

CONTROLLER = "10.200.0.254"
SWITCH_GUEST = 0


def address(number: int) -> str:
    """The guest's address on the management network."""
    return f"10.200.0.{number}"


def mac(net: Net, number: int) -> str:
    return f"02:00:{'0a:c8' if net == 'mgmt' else '00:00'}:00:{number:02x}"


def tap(net: Net, number: int) -> str:
    """The guest's end of the wire, as the machine sees it."""
    return f"{net[0]}{number}"


def guest_name(number: int) -> str:
    return f"h{number}" if number else "switch"


@dataclass(frozen=True)
class GuestPlan:
    number: int
    init: Init = "min"
    memory: str = "512M"
    disk: str = "4G"  # empty: what it writes is in memory and lost with it
    cgroup: Literal["v1", "v2"] = "v2"
    mounts: tuple[str, ...] = ()
    nics: tuple[tuple[str, str], ...] = ()  # (tap, MAC)

    @property
    def name(self) -> str:
        return guest_name(self.number)


@dataclass(frozen=True)
class LabPlan:
    switch: SwitchKind
    guests: tuple[GuestPlan, ...] = field(default_factory=tuple)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "LabPlan":
        raw = json.loads(path.read_text())
        guests = []
        for g in raw["guests"]:
            nics = tuple((str(t), str(m)) for t, m in g.pop("nics"))
            guests.append(GuestPlan(**{**g, "mounts": tuple(g["mounts"]), "nics": nics}))
        return cls(raw["switch"], tuple(guests))


def lab_plan(
    hosts: int,
    *,
    init: Init,
    switch: SwitchKind,
    memory: str,
    disk: str,
    cgroup: Literal["v1", "v2"],
    mounts: tuple[str, ...],
) -> LabPlan:
    guests = [
        GuestPlan(
            i,
            init,
            memory,
            disk,
            cgroup,
            mounts,
            ((tap("mgmt", i), mac("mgmt", i)), (tap("trunk", i), mac("trunk", i))),
        )
        for i in range(1, hosts + 1)
    ]
    if switch == "vlan":
        ports = tuple((f"s{i}", f"02:00:00:00:ff:{i:02x}") for i in range(1, hosts + 1))
        guests.append(GuestPlan(SWITCH_GUEST, "min", "128M", "", "v1", (), ports))
    return LabPlan(switch, tuple(guests))
