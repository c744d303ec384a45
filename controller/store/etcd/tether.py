"""Runs a program that the kernel kills when its parent dies. Started as a script of its own, standard library only.

    python -I tether.py PARENT_PID PROGRAM [ARGUMENT...]

The tie is made in the child, before the program is executed: code between fork and exec of a process with threads
(gRPC's) is not safe in the parent's image, and execve(2) keeps the setting.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, then become the program."""
    parent, program = int(arguments[0]), arguments[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    # A parent that died before the call sends no signal.
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    os.execv(program[0], program)  # noqa: S606 - becomes the program named by our own code


if __name__ == "__main__":
    main(sys.argv[1:])
