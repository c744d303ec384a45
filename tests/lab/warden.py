"""Outlives a lab's owner by a moment: takes the lab down when the owner ends, also by kill -9."""

import os
import sys

from lab.fabric import Lab
from lab.process import Process


def main() -> None:
    name, pid, started = sys.argv[1:]
    lab = Lab(name)
    record = lab.places.run / "warden.pid"
    Process.of(os.getpid()).record(record)
    owner = Process(int(pid), started)
    while not owner.await_end(3600):
        pass
    # The name may have been taken over: only the lab of this owner is ours to end.
    if Process.recorded(record) == Process.of(os.getpid()):
        lab.down()


if __name__ == "__main__":
    main()
