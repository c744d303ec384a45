"""What a check has learnt, as a host × host matrix and lists. Pure: knows messages, prints nothing."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Final

from trunkline.v1 import check_pb2
from trunkline.v1.check_pb2 import CheckPlan, CheckResult

OK: Final = check_pb2.PROBE_OUTCOME_OK
SILENT: Final = check_pb2.PROBE_OUTCOME_SILENT
CONFLICT: Final = check_pb2.PROBE_OUTCOME_CONFLICT
UNKNOWN: Final = check_pb2.PROBE_OUTCOME_UNKNOWN
BROADCAST: Final = check_pb2.PROBE_KIND_BROADCAST
UNICAST: Final = check_pb2.PROBE_KIND_UNICAST
GATEWAY: Final = check_pb2.PROBE_KIND_GATEWAY

SELF: Final = "·"
WAITING: Final = "…"
HALF: Final = "x?"

LEGEND: Final = {
    SELF: "the host itself",
    "B!": "only broadcast gets through",
    "U!": "only unicast gets through",
    "--": "nothing gets through",
    "!!": "answered by a foreign MAC",
    "?": "not probed",
    HALF: "as x, the other kind of frame not judged",
    WAITING: "not answered yet",
}
"""What the symbols mean; any other cell is a round-trip time."""

READING: Final = "rows send, columns receive; a number is the unicast round trip in ms, incl. the peer's agent"

_BAD: Final = (SILENT, CONFLICT)


@dataclass(frozen=True, slots=True)
class Asked:
    """An address that was asked for, from all hosts: the worst of what came of it, and from whom."""

    address: str
    holder: str
    gateway: bool
    results: tuple[CheckResult, ...]

    @property
    def bad(self) -> tuple[CheckResult, ...]:
        """Results that are silent or a conflict, conflicts first."""
        return tuple(sorted((r for r in self.results if r.outcome in _BAD), key=lambda r: r.outcome != CONFLICT))

    @property
    def outcome(self) -> str:
        """ok, silent, conflict or unknown; a part is bad when some hosts hear it and others do not."""
        kinds = {r.outcome for r in self.results}
        if CONFLICT in kinds:
            return "conflict"
        if SILENT in kinds:
            return "silent from some" if OK in kinds else "silent"
        return "ok" if OK in kinds else "unknown"

    @property
    def rtt_us(self) -> int:
        """Shortest round-trip time of an answer; 0 without one."""
        return min((r.rtt_us for r in self.results if r.outcome == OK and r.rtt_us), default=0)


@dataclass(slots=True)
class NetworkCheck:
    """All that is known of one network in a check."""

    plan: CheckPlan
    pairs: dict[tuple[str, str, int], CheckResult] = field(default_factory=dict)
    asked: dict[tuple[str, bool], dict[str, CheckResult]] = field(default_factory=dict)
    over: bool = False

    def take(self, result: CheckResult) -> None:
        """One more result; a later one of the same pair or address replaces the earlier."""
        if result.kind in (BROADCAST, UNICAST):
            self.pairs[result.from_host, result.to_host, result.kind] = result
        else:
            self.asked.setdefault((result.address, result.kind == GATEWAY), {})[result.from_host] = result

    def results(self) -> list[CheckResult]:
        """Every result, pairs first."""
        return [*self.pairs.values(), *(r for by_host in self.asked.values() for r in by_host.values())]

    def bad(self) -> int:
        """How many results are silent or a conflict."""
        return sum(r.outcome in _BAD for r in self.results())

    def cell(self, source: str, destination: str) -> str:
        """What the matrix shows for frames from one host to another."""
        if source == destination:
            return SELF
        broadcast = self.pairs.get((source, destination, BROADCAST))
        unicast = self.pairs.get((source, destination, UNICAST))
        if not self.over and (broadcast is None or unicast is None):
            return WAITING
        return _cell(_outcome(broadcast), _outcome(unicast), unicast.rtt_us if unicast else 0)

    def cut_off(self) -> list[str]:
        """Hosts of three or more that exchange nothing with any other, while others hear each other."""
        hosts = list(self.plan.hosts)
        silent = [h for h in hosts if self._alone(h, hosts)]
        return silent if len(hosts) - len(silent) >= 2 else []

    def _alone(self, host: str, hosts: list[str]) -> bool:
        cells = {cell for other in hosts if other != host for cell in (self.cell(host, other), self.cell(other, host))}
        return cells == {"--"}

    def hints(self) -> list[str]:
        """What the picture as a whole says, and where to look."""
        vlan = f"VLAN {self.plan.vlan}" if self.plan.vlan else "untagged frames"
        return [
            f"{host} hears nobody and is heard by nobody: look at its cable and its switch port (up? {vlan} allowed?)"
            for host in self.cut_off()
        ]

    def rows(self) -> list[list[str]]:
        """The matrix: a row for each sender, first its name."""
        hosts = list(self.plan.hosts)
        return [[source, *(self.cell(source, destination) for destination in hosts)] for source in hosts]

    def addresses(self) -> list[Asked]:
        """Addresses and gateways, worst first."""
        listed = []
        for (address, gateway), by_host in self.asked.items():
            results = tuple(by_host[h] for h in sorted(by_host))
            holder = next((r.to_host for r in results if r.to_host), "")
            listed.append(Asked(address, holder, gateway, results))
        order = {"conflict": 0, "silent": 1, "silent from some": 2, "unknown": 3, "ok": 4}
        return sorted(listed, key=lambda a: (order[a.outcome], not a.gateway, _by_number(a.address)))


def _by_number(address: str) -> tuple[int, int]:
    """Sorts addresses as people count them; what is none comes last."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return 9, 0
    return known.version, int(known)


def _outcome(result: CheckResult | None) -> int:
    if result is None or result.outcome not in (OK, SILENT, CONFLICT):
        return UNKNOWN
    return result.outcome


def _cell(broadcast: int, unicast: int, rtt_us: int) -> str:
    if CONFLICT in (broadcast, unicast):
        return "!!"
    match broadcast, unicast:
        case check_pb2.PROBE_OUTCOME_OK, check_pb2.PROBE_OUTCOME_OK:
            return milliseconds(rtt_us)
        case check_pb2.PROBE_OUTCOME_UNKNOWN, check_pb2.PROBE_OUTCOME_OK:
            return f"{milliseconds(rtt_us)}?"
        case check_pb2.PROBE_OUTCOME_OK, check_pb2.PROBE_OUTCOME_SILENT:
            return "B!"
        case check_pb2.PROBE_OUTCOME_SILENT, check_pb2.PROBE_OUTCOME_OK:
            return "U!"
        case check_pb2.PROBE_OUTCOME_OK, _:
            return "B?"
        case check_pb2.PROBE_OUTCOME_UNKNOWN, check_pb2.PROBE_OUTCOME_UNKNOWN:
            return "?"
    return "--"


def milliseconds(rtt_us: int) -> str:
    """A round-trip time in milliseconds, three digits at most."""
    ms = rtt_us / 1000
    return f"{ms:.2f}" if ms < 10 else f"{ms:.0f}"


def legend(symbols: set[str]) -> list[str]:
    """How to read a matrix with these cells, line by line; a lone dot explains itself."""
    known = {symbol for symbol in symbols if symbol in LEGEND} - {SELF}
    # "0.42?" and "B?": one half of the cell is known.
    if any(cell.endswith("?") and cell != "?" for cell in symbols):
        known.add(HALF)
    told = [f"{symbol} {meaning}" for symbol, meaning in LEGEND.items() if symbol in known]
    return [READING, "; ".join(told)] if told else [READING]
