"""`trunkline-agent` that is killed right after one phase of making an interface: dying_agent.py PHASE ARGUMENT…"""

from __future__ import annotations

import functools
import os
import signal
import sys
from typing import Any

from agent.__main__ import main
from agent.kernel.macvlans import Batch

PHASES = ("_create", "_find", "_name", "_quieten", "_address", "_raise", "_route", "_read_back")


def die_after(phase: str) -> None:
    """Make `phase` the last thing this process does."""
    original = getattr(Batch, phase)

    @functools.wraps(original)
    def last(self: Batch) -> Any:
        original(self)
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

    setattr(Batch, phase, last)


if __name__ == "__main__":
    die_after(sys.argv[1])
    main(sys.argv[2:])
