"""Faults of the wire, each a value that knows the nftables matches that bring it about.

`out` is what a host sends, `in` what it is sent. A fault sits on the host's port, as a
misconfigured switch or hypervisor would: the host itself sees nothing but silence.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from lab.plan import Net, mac, tap

Way = Literal["both", "in", "out"]
UNICAST = "ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00"


@dataclass
class Matches:
    """Frames to drop: entering from a port, leaving by one, crossing from one host to another."""

    enter: list[str] = field(default_factory=list)
    leave: list[str] = field(default_factory=list)
    cross: list[tuple[Net, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    host: int
    name: ClassVar[str] = ""

    def matches(self) -> Matches:
        raise NotImplementedError

    def _drop(self, match: str, way: Way = "both", net: Net = "trunk") -> Matches:
        port, drops = tap(net, self.host), Matches()
        if way != "in":
            drops.enter.append(f"iifname {port} {match}")
        if way != "out":
            drops.leave.append(f"oifname {port} {match}")
        return drops


@dataclass(frozen=True)
class DropVlan(Fault):
    """The VLAN is missing on the host's trunk port."""

    vid: int
    way: Way = "both"
    name: ClassVar[str] = "drop-vlan"

    def matches(self) -> Matches:
        return self._drop(f"vlan id {self.vid}", self.way)


@dataclass(frozen=True)
class AllowVlans(Fault):
    """The trunk port's allowed list; 0 is untagged."""

    vids: tuple[int, ...]
    name: ClassVar[str] = "allow-vlans"

    def matches(self) -> Matches:
        tagged = ", ".join(str(v) for v in self.vids if v)
        drops = self._drop(f"vlan id != {{ {tagged} }}" if tagged else "ether type 8021q")
        if 0 not in self.vids:
            untagged = self._drop("ether type != 8021q")
            drops = Matches(drops.enter + untagged.enter, drops.leave + untagged.leave)
        return drops


@dataclass(frozen=True)
class NoPromisc(Fault):
    """Unicast to another MAC than the NIC's own is not delivered."""

    name: ClassVar[str] = "no-promisc"

    def matches(self) -> Matches:
        return self._drop(f"{UNICAST} ether daddr != {mac('trunk', self.host)}", "in")


@dataclass(frozen=True)
class NoForged(Fault):
    """Frames from another MAC than the NIC's own are not accepted."""

    name: ClassVar[str] = "no-forged"

    def matches(self) -> Matches:
        return self._drop(f"ether saddr != {mac('trunk', self.host)}", "out")


@dataclass(frozen=True)
class PortSecurity(Fault):
    """Only the NIC's own MAC, both ways: a hypervisor's default."""

    name: ClassVar[str] = "port-security"

    def matches(self) -> Matches:
        to_it, from_it = NoPromisc(self.host).matches(), NoForged(self.host).matches()
        return Matches(from_it.enter, to_it.leave)


@dataclass(frozen=True)
class Mtu(Fault):
    """Packets longer than this vanish; nobody is told."""

    size: int
    way: Way = "both"
    name: ClassVar[str] = "mtu"

    def matches(self) -> Matches:
        return self._drop(f"meta length > {self.size}", self.way)  # counts from the L3 header on


@dataclass(frozen=True)
class Loss(Fault):
    percent: int
    net: Net = "trunk"
    way: Way = "both"
    name: ClassVar[str] = "loss"

    def matches(self) -> Matches:
        # nft refuses a comparison that is always true.
        match = f"numgen random mod 100 < {self.percent}" if self.percent < 100 else ""
        return self._drop(match, self.way, self.net)


@dataclass(frozen=True)
class OneWay(Fault):
    """Nothing passes in the named direction; vid narrows it to one VLAN."""

    way: Way
    net: Net = "trunk"
    vid: int = 0
    name: ClassVar[str] = "one-way"

    def matches(self) -> Matches:
        return self._drop(f"vlan id {self.vid}" if self.vid else "", self.way, self.net)


@dataclass(frozen=True)
class Partition(Fault):
    """The management network is cut; the trunk lives."""

    way: Way = "both"
    name: ClassVar[str] = "partition"

    def matches(self) -> Matches:
        return self._drop("", self.way, "mgmt")


@dataclass(frozen=True)
class Split(Fault):
    """Two hosts do not reach each other; all others do."""

    peer: int
    net: Net = "trunk"
    name: ClassVar[str] = "split"

    def matches(self) -> Matches:
        return Matches(cross=[(self.net, self.host, self.peer), (self.net, self.peer, self.host)])


@dataclass(frozen=True)
class DropArp(Fault):
    way: Way = "both"
    name: ClassVar[str] = "drop-arp"

    def matches(self) -> Matches:
        # A tagged frame's ether type is 8021q: each kind needs its own match.
        plain, tagged = self._drop("ether type arp", self.way), self._drop("vlan type arp", self.way)
        return Matches(plain.enter + tagged.enter, plain.leave + tagged.leave)


@dataclass(frozen=True)
class Frames(Fault):
    """Any nftables match, for what has no name of its own."""

    match: str
    way: Way = "both"
    net: Net = "trunk"
    name: ClassVar[str] = "frames"

    def matches(self) -> Matches:
        return self._drop(self.match, self.way, self.net)


KINDS: dict[str, type[Fault]] = {
    kind.name: kind
    for kind in (
        DropVlan, AllowVlans, NoPromisc, NoForged, PortSecurity, Mtu, Loss, OneWay, Partition, Split, DropArp, Frames,
    )
}  # fmt: skip
