"""Running programs inside namespaces, and what they answered."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lab.errors import LabError


class Answer(NamedTuple):
    """Exit status and output of a program."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """Its standard output, decoded."""
        return json.loads(self.out)


def answer(
    argv: Sequence[str], *, stdin: str | None = None, timeout: float = 60, env: Mapping[str, str] | None = None
) -> Answer:
    """Run a program to its end. LabError when it takes longer than `timeout` seconds (it is killed then)."""
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        out, err = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise LabError(f"{' '.join(argv)} did not end in {timeout:g} s: {out}{err}") from None
    return Answer(process.returncode, out, err)


def ok(
    argv: Sequence[str], *, stdin: str | None = None, timeout: float = 60, env: Mapping[str, str] | None = None
) -> str:
    """Run a program; its standard output. LabError with what it said when it fails."""
    done = answer(argv, stdin=stdin, timeout=timeout, env=env)
    if done.status:
        raise LabError(f"{' '.join(argv)}: status {done.status}: {done.err}{done.out}")
    return done.out


def in_network(namespace: str, argv: Sequence[str]) -> list[str]:
    """A command line for a named network namespace that keeps this machine's mounts. The pid is the program's own."""
    return ["nsenter", f"--net=/run/netns/{namespace}", "--", *argv]


def tail(log: Path, characters: int = 2000) -> str:
    """The end of a log, for an error message."""
    return log.read_text(errors="replace")[-characters:] if log.exists() else "(no log)"
