"""One command of the program, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from contract.controller.rig import Rig

from controller.state.entry import Entry
from controller.store.memory import MemoryStore
from trunkline.cli.main import run
from trunkline.errors import Reason


@dataclass(frozen=True)
class Told:
    """What one command ended with."""

    code: int
    out: str
    err: str

    def part(self, name: str) -> str:
        """The line of the error that begins with `name`, with the lines that belong to it; "" when there is none."""
        lines = iter(self.err.splitlines())
        found = next((line for line in lines if line.strip().startswith(f"{name}: ")), "")
        while found and (line := next(lines, "")).startswith("    "):
            found += f" {line.strip()}"
        return found.strip().removeprefix(f"{name}: ")


Cli = Callable[..., Awaitable[Told]]


async def command(rig: Rig, capfd: pytest.CaptureFixture[str], *words: str, controller: str = "") -> Told:
    """Run one command against the rig's controller, which serves from this process meanwhile."""
    capfd.readouterr()
    code = await asyncio.to_thread(run, ["--controller", controller or rig.endpoint, *words])
    told = capfd.readouterr()
    return Told(code, told.out, told.err)


def refused(told: Told, reason: Reason, code: int, *mentions: str) -> None:
    """The command must have ended with `reason` and exit status `code`, have printed nothing but an error that names
    everything in `mentions`, and have said what to do next."""
    assert told.part("reason") == reason.name, told
    assert told.code == code, told
    for word in mentions:
        assert word in told.part("error") + told.part("next"), told
    assert told.part("error"), told
    assert told.part("next"), told
    assert told.out == "", told


async def contents(store: MemoryStore) -> tuple[Entry, ...]:
    """All that is in the store but what hosts report by themselves, with the revision of each key's last change."""
    return tuple(entry for entry in (await store.read("")).entries if not entry.key.startswith("status/"))
