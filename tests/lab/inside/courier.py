"""Runs commands in a guest for the machine outside, over a serial line.

It needs no network, so it keeps working when every wire is cut. Output does not
cross the line: commands write to files of the share, which the machine reads. Towards
the guest a line may carry a few hundred unread bytes at most (once UML's tty has
throttled it never listens again), so requests name a file, and each is acknowledged.

machine to guest:  run TOKEN | signal TOKEN NUMBER
guest to machine:  hello BOOT_ID | got WORD TOKEN | exit TOKEN STATUS
"""

import contextlib
import json
import os
import select
import signal
import sys
import tty
from typing import Any

SPECS = "/lab/x/"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}


class Courier:
    def __init__(self, line: int) -> None:
        self.line = line
        self.unread = b""
        self.running: dict[int, str] = {}
        self.wake, waker = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def say(self, *words: object) -> None:
        data = (" ".join(map(str, words)) + "\n").encode()
        while data:
            data = data[os.write(self.line, data) :]

    def spawn(self, token: str, spec: dict[str, Any]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        source = os.open(spec["stdin"] or "/dev/null", os.O_RDONLY)
        out = os.open(f"{SPECS}{token}.out", flags, 0o644)
        err = os.open(f"{SPECS}{token}.err", flags, 0o644)
        try:
            pid = os.posix_spawnp(
                spec["argv"][0],
                spec["argv"],
                ENVIRONMENT | spec["env"],
                setsid=True,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate((source, out, err))],
            )
        except OSError as e:
            os.write(err, f"{spec['argv'][0]}: {e.strerror}\n".encode())
            self.say("exit", token, 127)
        else:
            self.running[pid] = token
        finally:
            for fd in (source, out, err):
                os.close(fd)

    def obey(self, word: str, token: str, *rest: str) -> None:
        self.say("got", word, token)
        if word == "run":
            try:
                with open(SPECS + token) as f:
                    spec = json.load(f)
                self.spawn(token, spec)
            except (FileNotFoundError, ValueError):  # its caller gave up while this guest was frozen
                self.say("exit", token, 126)
        elif word == "signal":
            for pid, owner in self.running.items():
                if owner == token:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, int(rest[0]))

    def reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)
        while self.running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if pid in self.running:
                self.say("exit", self.running.pop(pid), os.waitstatus_to_exitcode(status))

    def serve(self) -> None:
        with open("/proc/sys/kernel/random/boot_id") as f:
            self.say()  # ends whatever half line the boot left
            self.say("hello", f.read().strip())
        while True:
            ready, _, _ = select.select([self.line, self.wake], [], [])
            if self.wake in ready:
                self.reap()
            if self.line in ready:
                *lines, self.unread = (self.unread + os.read(self.line, 4096)).split(b"\n")
                for line in lines:
                    words = line.decode(errors="replace").split()
                    if len(words) >= 2:
                        self.obey(*words)


if __name__ == "__main__":
    port = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    tty.setraw(port)
    Courier(port).serve()
