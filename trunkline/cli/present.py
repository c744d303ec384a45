"""How errors reach a person, and which exit code a script sees. The only place that decides either."""

from __future__ import annotations

import sys
from typing import Final, TextIO

from trunkline.errors import Reason, Status, TrunklineError

OK: Final = 0
UNEXPECTED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CONFLICT: Final = 4
EXHAUSTED: Final = 5
UNAVAILABLE: Final = 6
DEADLINE: Final = 7
PERMISSION: Final = 8
CHECK_BAD: Final = 9
INTERRUPTED: Final = 130

EXIT_CODES: Final = {
    OK: "done",
    UNEXPECTED: "unexpected: a bug, or data that cannot be read",
    USAGE: "usage, or an argument that is not valid",
    NOT_FOUND: "what was named does not exist",
    CONFLICT: "exists already, is in use, or a precondition does not hold",
    EXHAUSTED: "no address, VLAN id or space is left",
    UNAVAILABLE: "controller, store or host out of reach",
    DEADLINE: "it did not happen within --deadline",
    PERMISSION: "the caller may not do this",
    CHECK_BAD: "a check found something bad",
    INTERRUPTED: "interrupted by Ctrl-C",
}

_BY_STATUS: Final = {
    Status.INVALID_ARGUMENT: USAGE,
    Status.DEADLINE_EXCEEDED: DEADLINE,
    Status.NOT_FOUND: NOT_FOUND,
    Status.ALREADY_EXISTS: CONFLICT,
    Status.PERMISSION_DENIED: PERMISSION,
    Status.RESOURCE_EXHAUSTED: EXHAUSTED,
    Status.FAILED_PRECONDITION: CONFLICT,
    Status.ABORTED: CONFLICT,
    Status.INTERNAL: UNEXPECTED,
    Status.UNAVAILABLE: UNAVAILABLE,
    Status.DATA_LOSS: UNEXPECTED,
    Status.UNAUTHENTICATED: PERMISSION,
}


def exit_code(reason: Reason) -> int:
    """Exit code for an error of this reason."""
    return _BY_STATUS[reason.status]


def lines(error: TrunklineError) -> list[str]:
    """What was seen, what to do next, and the reason code for scripts; further lines of a text are indented."""
    told = [f"error: {error.message}"]
    if error.remedy:
        told.append(f"  next: {error.remedy}")
    code = error.facts.get("reason") or error.reason.name
    told.append(f"  reason: {code}")
    return [line.replace("\n", "\n    ") for line in told]


def fail(error: TrunklineError, stream: TextIO | None = None) -> int:
    """Print `error` to standard error; return the exit code."""
    print("\n".join(lines(error)), file=stream or sys.stderr)
    return exit_code(error.reason)


def warn(text: str) -> None:
    """One thing to know that is no error."""
    print(f"warning: {text}", file=sys.stderr)


def note(text: str) -> None:
    """One line for people, on standard error, so that standard output keeps to the results."""
    print(text, file=sys.stderr)
