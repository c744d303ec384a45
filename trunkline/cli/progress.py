"""What is seen while hosts converge: a live view on a terminal, elsewhere a line per change once it takes long. On
standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from trunkline.cli.choices import Choices
from trunkline.cli.screen import console, state
from trunkline.cli.standing import HostStand, Stand, Stands
from trunkline.cli.words import duration

PATIENCE: Final = 2.0
"""Seconds without a word where nobody looks at a terminal; what is done by then needs no account of its course."""

_SIGNS: Final = {Stand.DONE: "✓", Stand.FAILED: "✗", Stand.AWAY: "!"}


class Progress:
    """Told where the hosts stand, shows it. A context manager; `title` names what is waited for."""

    def __init__(self, choices: Choices, title: str) -> None:
        self._console = console(sys.stderr, choices.no_color)
        self._title = title
        self._start = time.monotonic()
        self._since: dict[str, tuple[HostStand, float]] = {}
        self._spinner = Spinner("dots")
        self._live = Live(self, console=self._console, refresh_per_second=8, transient=True)
        self._terminal = self._console.is_terminal
        self._told: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> Self:
        if self._terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if self._terminal:
            self._live.stop()
            # The live view is transient, so that nothing of it is left half drawn; its last state stays as lines.
            if self._since and kind is None:
                self._console.print(self._table(final=True))

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._start

    def show(self, stands: Stands) -> None:
        """The hosts as they now stand."""
        now = time.monotonic()
        for stand in stands:
            before = self._since.get(stand.host)
            if before is None or (before[0].state, before[0].message) != (stand.state, stand.message):
                self._since[stand.host] = (stand, now)
        for gone in set(self._since) - {s.host for s in stands}:
            del self._since[gone]
        self.tick()

    def tick(self) -> None:
        """Time has passed: what has waited too long to be kept quiet is told."""
        if self._terminal or self.elapsed() < PATIENCE:
            return
        for stand, _ in self._since.values():
            word = (stand.state, stand.message)
            # Who was done before anything was told has nothing to tell.
            if self._told.get(stand.host) == word or (stand.stand is Stand.DONE and stand.host not in self._told):
                continue
            self._told[stand.host] = word
            self._line(stand)

    def _line(self, stand: HostStand) -> None:
        detail = f": {stand.message}" if stand.message else ""
        line = f"{self._title}: {stand.host} {stand.state}{detail} ({duration(self.elapsed())})"
        print(line, file=sys.stderr, flush=True)

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        yield self._table(final=False)

    def _table(self, final: bool) -> Table:
        now = time.monotonic()
        table = Table.grid(padding=(0, 2, 0, 0))
        for stand, since in list(self._since.values()):
            sign: Text | Spinner = Text(_SIGNS[stand.stand]) if stand.stand in _SIGNS else self._spinner
            if final and isinstance(sign, Spinner):
                sign = Text("…")
            seconds = since - self._start if stand.stand is Stand.DONE else now - self._start
            table.add_row(sign, Text(stand.host, style="bold"), state(stand.state), duration(seconds), stand.message)
        if not table.row_count:
            table.add_row(self._spinner, Text(self._title), "", duration(now - self._start), "")
        return table
