"""Results on standard output: tables for people, data for programs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TextIO, TypeVar

from google.protobuf.message import Message
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from trunkline.cli.choices import Choices
from trunkline.cli.plain import plain

M = TypeVar("M")

_STYLES: Final = {
    "ready": "green",
    "ok": "green",
    "connected": "green",
    "up": "green",
    "pending": "yellow",
    "waiting": "yellow",
    "detaching": "yellow",
    "deleting": "yellow",
    "drained": "yellow",
    "degraded": "red",
    "failed": "red",
    "conflict": "red",
    "silent": "red",
    "foreign": "red",
    "down": "red",
    "missing": "red",
    "away": "red",
}

_PIPE_WIDTH: Final = 100_000
"""Width for a pipe: nothing is ever cut or folded there."""


@dataclass(frozen=True)  # no slots: typing stores __orig_class__ on what a subscripted class makes
class Column(Generic[M]):
    """One column of a table: title, how to fill it, and whether only -o wide shows it."""

    title: str
    cell: Callable[[M], str]
    wide: bool = False
    right: bool = False


def console(stream: TextIO, no_color: bool) -> Console:
    """A console that neither interprets nor decorates what it prints."""
    width = None if stream.isatty() else _PIPE_WIDTH
    off = no_color or bool(os.environ.get("NO_COLOR"))
    return Console(file=stream, no_color=off, highlight=False, markup=False, emoji=False, width=width)


def state(text: str) -> Text:
    """A word in the colour of what it means; the word alone says it as well."""
    return Text(text, style=_STYLES.get(text.split(" ")[0].rstrip(",").lower(), ""))


def grid(titles: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> Table:
    """A table without lines: (title, right-aligned) per column. Long cells are folded, never cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title, right in titles:
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(state(cell) for cell in row))
    return table


class Screen:
    """Standard output of one command."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self.out = console(sys.stdout, choices.no_color)

    @property
    def wide(self) -> bool:
        """-o wide was asked for."""
        return self._choices.output == "wide"

    def print(self, what: RenderableType = "") -> None:
        """Print a text or table; into a pipe without trailing spaces."""
        if self.out.is_terminal:
            self.out.print(what)
            return
        buffer = io.StringIO()
        Console(file=buffer, width=_PIPE_WIDTH, highlight=False, markup=False, emoji=False, color_system=None).print(
            what
        )
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines()))

    def many(
        self,
        items: Sequence[M],
        columns: Sequence[Column[M]],
        name: Callable[[M], str],
        empty: str,
    ) -> None:
        """Print a list of messages as asked for; `empty` is said to people when there is none."""
        if self._choices.structured:
            self.data([plain(i) for i in items if isinstance(i, Message)], [name(i) for i in items])
        elif not items:
            print(empty, file=sys.stderr)
        else:
            shown = [c for c in columns if self.wide or not c.wide]
            self.print(grid([(c.title, c.right) for c in shown], [[c.cell(i) for c in shown] for i in items]))

    def one(self, item: Message, name: str, details: Callable[[], Sequence[tuple[str, str]]]) -> bool:
        """Print one message as asked for; True when it was printed for people, who may be told more."""
        if self._choices.structured:
            self.data(plain(item), [name])
            return False
        self.pairs(details())
        return True

    def pairs(self, details: Sequence[tuple[str, str]]) -> None:
        """Print titles and values one below the other, leaving out what is empty."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for title, value in details:
            if value:
                table.add_row(title, state(value))
        self.print(table)

    def data(self, value: Any, names: Sequence[str]) -> None:
        """Print plain data as JSON or YAML, or the names one by line."""
        match self._choices.output:
            case "json":
                import json

                json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
                sys.stdout.write("\n")
            case "yaml":
                import yaml

                yaml.safe_dump(value, sys.stdout, sort_keys=False, allow_unicode=True)
            case "name":
                sys.stdout.write("".join(f"{name}\n" for name in names))
