"""Commands that messages tell people to run exist, with the options they name."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from agent.__main__ import _parser as agent_parser
from controller.__main__ import command as controller_command
from trunkline.cli.main import cli

CHECKOUT = Path(__file__).resolve().parents[2]
VALUE = "VALUE"
"""Stands for what a message fills in when it is made."""

COMMAND = re.compile(r"`(trunkline(?:-agent|-controller)?(?: [^`]*)?)`")


def texts(source: str) -> Iterator[tuple[int, str]]:
    """All string literals, with `VALUE` for what is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(_piece(value) for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def _piece(value: ast.expr) -> str:
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else VALUE


def commands() -> Iterator[tuple[str, str]]:
    """(place, command) of every command between backticks in the three packages. Halves of f-strings, in which the
    second backtick is missing or a part was cut out, are met again whole."""
    for package in ("agent", "controller", "trunkline"):
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            if not path.stem.endswith(("_pb2", "_pb2_grpc")):
                for line, text in texts(path.read_text()):
                    for found in COMMAND.finditer(text):
                        yield f"{path.relative_to(CHECKOUT)}:{line}", found[1].rstrip(" …")


def words_of(command: str) -> list[str]:
    return [word for word in shlex.split(command) if word != "…"]


def fault_of_click(command: click.Command, words: list[str]) -> str:
    """What of the words the command does not know; "" when it knows all."""
    waiting = list(words)
    context = click.Context(command)
    while waiting:
        word = waiting.pop(0)
        if word.startswith("-"):
            options = [
                option for option in command.get_params(context) if word in (*option.opts, *option.secondary_opts)
            ]
            if not options:
                return f"{command.name} has no option {word}"
            if waiting and not getattr(options[0], "is_flag", False):
                waiting.pop(0)
        elif isinstance(command, click.Group) and word != VALUE:
            inner = command.get_command(context, word)
            if inner is None:
                return f"{command.name} has no command {word}"
            command = inner
            context = click.Context(command, parent=context)
    return ""


def fault_of_argparse(parser: argparse.ArgumentParser, words: list[str]) -> str:
    waiting, taken = list(words), 0
    while waiting:
        word = waiting.pop(0)
        choices = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
        if word.startswith("-"):
            action = parser._option_string_actions.get(word)
            if action is None:
                return f"{parser.prog} has no option {word}"
            if waiting and action.nargs != 0:
                waiting.pop(0)
        elif choices is not None and word in choices:
            parser, taken = choices[word], 0
        elif choices is None and taken < sum(not action.option_strings for action in parser._actions):
            taken += 1
        else:
            return f"{parser.prog} has no command {word}"
    return ""


def fault(command: str) -> str:
    program, *words = words_of(command)
    if program == "trunkline-agent":
        return fault_of_argparse(agent_parser(), words)
    return fault_of_click(controller_command if program == "trunkline-controller" else cli, words)


def test_every_command_that_a_text_names_exists() -> None:
    found = list(commands())
    assert len(found) > 30
    assert {place: why for place, command in found if (why := fault(command))} == {}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("trunkline nonsense", "no command nonsense"),
        ("trunkline network nonsense", "no command nonsense"),
        ("trunkline network update VALUE --nonsense 3", "no option --nonsense"),
        ("trunkline-agent nonsense", "no command nonsense"),
        ("trunkline-agent --config FILE accept-epoch --nonsense", "no option --nonsense"),
        ("trunkline-controller --nonsense", "no option --nonsense"),
        ("trunkline host drain --undo VALUE", ""),
        ("trunkline-agent --config FILE cleanup --attachments", ""),
    ],
)
def test_what_does_not_exist_is_found(command: str, words: str) -> None:
    assert words in fault(command)
    assert bool(fault(command)) == bool(words)
