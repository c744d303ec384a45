"""Running a check: matrices that fill as results come, then the whole, worst first."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trunkline.cli import matrix, present
from trunkline.cli.choices import Choices
from trunkline.cli.connect import Fabric
from trunkline.cli.matrix import Asked, NetworkCheck
from trunkline.cli.plain import plain
from trunkline.cli.screen import Screen, console, grid
from trunkline.errors import Reason, TrunklineError
from trunkline.v1 import check_pb2

_BAD_CELLS: Final = {"B!", "U!", "--", "!!"}
_CELL: Final = 5
"""Columns of the longest cell: "0.42?"."""

_NAMED: Final = 3
"""Addresses of which the same is to be said are named up to so many in one row; -o wide gives each its own."""

_LISTED: Final = 20
"""Addresses that are fine are listed up to so many; -o wide lists all."""


class Checks:
    """A check as it goes; renders itself."""

    def __init__(self, wide: bool) -> None:
        self.networks: dict[str, NetworkCheck] = {}
        self.summary: check_pb2.CheckSummary | None = None
        self._wide = wide

    def take(self, event: check_pb2.RunCheckResponse) -> None:
        """One message of the stream."""
        match event.WhichOneof("event"):
            case "plan":
                self.networks[event.plan.network] = NetworkCheck(event.plan)
            case "result" if event.result.network in self.networks:
                self.networks[event.result.network].take(event.result)
            case "summary":
                self.summary = event.summary
                for network in self.networks.values():
                    network.over = True

    def worst_first(self) -> list[NetworkCheck]:
        """Networks in order of how much is bad, then as planned."""
        return sorted(self.networks.values(), key=lambda n: -n.bad())

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        for network in self.worst_first():
            yield from _network(network, self._wide, options.max_width)
        yield from _legend(list(self.networks.values()))
        if self.summary is not None:
            yield from _summary(self.summary)


def _network(network: NetworkCheck, wide: bool, width: int) -> list[RenderableType]:
    plan = network.plan
    vlan = f"VLAN {plan.vlan}" if plan.vlan else "untagged"
    title = Text.assemble((plan.network, "bold"), f"  {vlan}, {len(plan.hosts)} hosts")
    parts: list[RenderableType] = [title]
    if len(plan.hosts) > 1:
        parts += _matrix(network, width)
    else:
        parts.append(Text("  fewer than two hosts take part: nothing to prove between hosts"))
    parts += [Text(f"  not probed: {skipped}", style="yellow") for skipped in plan.skipped]
    if network.over:
        parts += [Text(hint, style="bold red") for hint in network.hints()]
    addresses = _addresses(network.addresses(), wide)
    if addresses is not None:
        parts += [Text(), addresses]
    return [*parts, Text()]


def _legend(networks: list[NetworkCheck]) -> Iterator[RenderableType]:
    """How to read the matrices, once for all of them; nothing where there is none."""
    shown = [network for network in networks if len(network.plan.hosts) > 1]
    if shown:
        symbols = {cell for network in shown for row in network.rows() for cell in row[1:]}
        yield from (Text(line, style="dim") for line in matrix.legend(symbols))
        yield Text()


def _matrix(network: NetworkCheck, width: int) -> list[Table]:
    """The matrix, in blocks of columns that fit into `width`; there hosts are numbered when their names do not fit."""
    hosts = list(network.plan.hosts)
    label = max(map(len, hosts)) + 2
    if label + sum(max(len(h), _CELL) + 2 for h in hosts) <= width:
        return [_block(network.rows(), ["", *hosts], range(len(hosts)))]
    digits = len(str(len(hosts)))
    rows = [[f"{n:>{digits}} {row[0]}", *row[1:]] for n, row in enumerate(network.rows(), 1)]
    fitting = max(1, (width - label - digits - 1) // (_CELL + 2))
    titles = ["", *(str(n) for n in range(1, len(hosts) + 1))]
    starts = range(0, len(hosts), fitting)
    return [_block(rows, titles, range(at, min(at + fitting, len(hosts)))) for at in starts]


def _block(rows: list[list[str]], titles: list[str], columns: range) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for column in columns:
        table.add_column(titles[column + 1], justify="right", min_width=4)
    for name, *cells in rows:
        shown = [cells[column] for column in columns]
        table.add_row(Text(name, style="bold"), *(Text(cell, style=_style(cell)) for cell in shown))
    return table


def _style(cell: str) -> str:
    if cell in _BAD_CELLS:
        return "bold red"
    if cell in (matrix.SELF, matrix.WAITING):
        return "dim"
    return "yellow" if cell.endswith("?") else "green"


def _addresses(asked: list[Asked], wide: bool) -> Table | None:
    if not asked:
        return None
    notable = [a for a in asked if a.outcome != "ok" or a.gateway]
    fine = [a for a in asked if a.outcome == "ok" and not a.gateway]
    shown = fine if wide else fine[:_LISTED]
    rows = _each(notable) if wide else _together(notable)
    rows += _each(shown)
    if len(shown) < len(fine):
        rows.append([f"and {len(fine) - len(shown)} more", "", "ok", "-o wide lists them"])
    return grid([("ADDRESS", False), ("AT", False), ("OUTCOME", False), ("DETAIL", False)], rows)


def _each(asked: Sequence[Asked]) -> list[list[str]]:
    return [[a.address, _place(a), a.outcome, _detail(a)] for a in asked]


def _together(asked: Sequence[Asked]) -> list[list[str]]:
    """One row for all of which the same is to be said."""
    alike: dict[tuple[str, str], list[Asked]] = {}
    for one in asked:
        alike.setdefault((one.outcome, _detail(one)), []).append(one)
    return [
        [_some([a.address for a in those]), _some(list(dict.fromkeys(map(_place, those)))), outcome, detail]
        for (outcome, detail), those in alike.items()
    ]


def _some(words: list[str]) -> str:
    shown = ", ".join(words[:_NAMED])
    return shown if len(words) <= _NAMED else f"{shown} and {len(words) - _NAMED} more"


def _place(asked: Asked) -> str:
    return "gateway" if asked.gateway else asked.holder


def _detail(asked: Asked) -> str:
    if not asked.bad:
        said = next((r.message for r in asked.results if r.message and asked.outcome != "ok"), "")
        return f"{matrix.milliseconds(asked.rtt_us)} ms" if asked.rtt_us else said
    first = asked.bad[0]
    hosts = ", ".join(r.from_host for r in asked.bad)
    answered = f"{first.mac} answers; " if first.outcome == matrix.CONFLICT and first.mac else ""
    return f"{answered}asked from {hosts}" + (f": {first.message}" if first.message else "")


def _summary(summary: check_pb2.CheckSummary) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for finding in summary.findings:
        hosts = f" on {', '.join(finding.hosts)}" if finding.hosts else ""
        parts.append(Text(f"{finding.reason}: {finding.network}{hosts}: {finding.message}", style="red"))
    style = "bold red" if summary.bad else "bold green"
    parts.append(Text(f"{summary.ok} ok, {summary.bad} bad, {summary.unknown} unknown", style=style))
    return parts


def run(choices: Choices, networks: Sequence[str], hosts: Sequence[str], timeout: float) -> int:
    """Check, show, and say by the exit code whether anything is bad."""
    checks = Checks(choices.output == "wide")
    request = check_pb2.RunCheckRequest(networks=networks, hosts=hosts, timeout_ms=round(timeout * 1000))
    with Fabric(choices) as fabric:
        _follow(choices, fabric, request, checks)
    if checks.summary is None:
        raise TrunklineError(Reason.PROBE_FAILED, "the check ended without a summary", "run it again")
    screen = Screen(choices)
    if choices.structured:
        screen.data(_data(checks), [n.plan.network for n in checks.worst_first() if n.bad()])
    elif not checks.networks:
        present.note("no networks to check")
    else:
        screen.print(Group(checks))
    return present.CHECK_BAD if checks.summary.bad else present.OK


def _follow(choices: Choices, fabric: Fabric, request: check_pb2.RunCheckRequest, checks: Checks) -> None:
    events = fabric.follow(fabric.checks.RunCheck, request)
    screen = console(sys.stdout, choices.no_color)
    if choices.structured or not screen.is_terminal:
        for event in events:
            checks.take(event)
        return
    # Transient: what is live vanishes, and the whole is printed once; a matrix longer than the screen would else
    # leave its cut-off picture behind.
    with Live(checks, console=screen, refresh_per_second=8, transient=True):
        for event in events:
            checks.take(event)


def _data(checks: Checks) -> dict[str, Any]:
    networks = []
    for network in checks.worst_first():
        networks.append(plain(network.plan) | {"results": [plain(r) for r in network.results()]})
    return {"networks": networks, "summary": plain(checks.summary) if checks.summary else None}
