"""What the README tells people to write and to type is what the programs take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from agent.config import File as AgentFile
from controller.config import Config as ControllerFile
from trunkline import config
from trunkline.cli.choices import CliConfig
from trunkline.cli.main import cli

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Fenced blocks of one language, without the indentation of the list they stand in."""
    fenced = re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, kind, text in fenced if kind == language]


def commands() -> list[str]:
    """Every `trunkline …` line of the plain blocks, and every one between backticks, without comments."""
    lines = [line.strip().removeprefix("$ ") for block in blocks("") for line in block.splitlines()]
    lines += re.findall(r"`(trunkline [^`]*)`", README)
    return sorted({line.split("  #")[0].strip() for line in lines if line.startswith("trunkline ")})


def test_nothing_is_passed_over() -> None:
    assert "trunkline attach docker1/web3 --network blue" in commands()
    assert len(commands()) > 20


@pytest.mark.parametrize(
    ("kind", "mark"), [(ControllerFile, "[store]"), (AgentFile, "[agent]"), (CliConfig, "operator")]
)
def test_configuration_files_are_taken_as_they_stand(kind: type, mark: str, tmp_path: Path) -> None:
    (block,) = [text for text in blocks("toml") if mark in text]
    path = tmp_path / "file.toml"
    path.write_text(block)
    config.load(path, kind)


def test_certificates_are_named_as_they_are_issued() -> None:
    issued = {word.replace(":", "-") for line in commands() if " pki issue " in line for word in line.split()[4:5]}
    named = set(re.findall(r"(\w+-\w+)\.crt", " ".join(blocks("toml"))))
    assert named <= issued
    assert len(named) == 3


@pytest.mark.parametrize("line", commands())
def test_commands_exist_with_their_options(line: str) -> None:
    command: click.Command = cli
    context = click.Context(cli)
    words = shlex.split(line)[1:]
    while words and isinstance(command, click.Group):
        inner = command.get_command(context, words.pop(0))
        assert inner is not None, line
        command, context = inner, click.Context(inner, parent=context, resilient_parsing=True)
    if words:
        command.make_parser(context).parse_args(words)
