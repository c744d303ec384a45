"""What is seen while hosts converge: a live view on a terminal, one line per change elsewhere. On standard error."""

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
                self._line(stand)
        for gone in set(self._since) - {s.host for s in stands}:
            del self._since[gone]

    def _line(self, stand: HostStand) -> None:
        if self._terminal:
            return
        detail = f": {stand.message}" if stand.message else ""
        print(f"{self._title}: {stand.host} {stand.state} ({duration(self.elapsed())}){detail}", file=sys.stderr)

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
