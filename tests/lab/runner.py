"""One per running guest, in the switch's namespace: starts its kernel, carries its commands.

Clients connect to a socket and say `run TOKEN`; they get `exit STATUS`, or `gone WHY`
when the guest died or rebooted. A client that hangs up has its command killed.
"""

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.process import Process

IN_FLIGHT = 16  # unacknowledged lines towards the guest: its tty must never fill up


def lock_down(writable: list[str]) -> None:
    """A guest could reach this machine's files by a hostfs mount of its own: make them read-only.

    `ip netns exec` gave this process a mount namespace of its own, so nobody else notices.
    """
    for path in writable:
        subprocess.run(["mount", "--bind", path, path], check=True)
    with open("/proc/self/mountinfo") as f:
        points = [line.split()[4].encode().decode("unicode_escape") for line in f]
    for point in dict.fromkeys(points):
        if point in writable or point.startswith(("/proc", "/sys", "/dev")):
            continue
        subprocess.run(["mount", "-o", "remount,bind,ro", point], check=point == "/", capture_output=True)


class Runner:
    def __init__(self, config: dict[str, Any], server: socket.socket) -> None:
        self.config = config
        self.directory = Path(config["directory"])
        self.server = server
        self.line, self.far_end = socket.socketpair()
        self.select = selectors.DefaultSelector()
        self.clients: dict[str, socket.socket] = {}  # by token
        self.tokens: dict[socket.socket, str] = {}
        self.queue: list[str] = []
        self.in_flight: set[str] = set()
        self.greeted = False
        self.unread = b""

    def start_kernel(self) -> "subprocess.Popen[bytes]":
        console = os.open(self.directory / "console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        fds = {"console": console, "line": self.far_end.fileno()}
        argv = [word.format(**fds) for word in self.config["argv"]]
        # Kernel and processes of a guest hand over by ptrace, several times slower across CPUs.
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[(self.config["number"] - 1) % len(cpus)]})
        kernel = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            cwd="/",
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(self.directory)},
            pass_fds=tuple(fds.values()),
            start_new_session=True,  # its side threads are killed by their process group
        )
        Process.of(kernel.pid).record(self.directory / "kernel.pid")
        os.close(console)
        self.far_end.close()
        return kernel

    def serve(self, kernel: "subprocess.Popen[bytes]") -> None:
        ended = os.pidfd_open(kernel.pid)
        for source in (self.line, self.server, ended):
            self.select.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in self.select.select():
                if key.fileobj == ended:
                    kernel.wait()
                    return
                if key.fileobj is self.line:
                    self.hear()
                elif key.fileobj is self.server:
                    client, _ = self.server.accept()
                    self.select.register(client, selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket):
                    self.listen(key.fileobj)
            self.send()

    def hear(self) -> None:
        """Lines from the guest. What is no message of the courier is ignored."""
        try:
            data = self.line.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:  # the kernel closed it: its end is reported through the pidfd
            self.select.unregister(self.line)
            return
        *lines, self.unread = (self.unread + data).split(b"\n")
        for line in lines:
            match line.decode(errors="replace").split():
                case ["hello", boot]:
                    self.greet(boot)
                case ["got", word, token]:
                    self.in_flight.discard(f"{word} {token}")
                case ["exit", token, status]:
                    self.answer(token, f"exit {status}")

    def greet(self, boot: str) -> None:
        # What ran before the boot is lost; what is still queued has not begun.
        waiting = {word.split()[1] for word in self.queue}
        for token in set(self.clients) - waiting:
            self.answer(token, "gone rebooted")
        self.in_flight.clear()
        self.greeted = True
        draft = self.directory / "boot_id~"
        draft.write_text(boot + "\n")
        draft.rename(self.directory / "boot_id")

    def listen(self, client: socket.socket) -> None:
        try:
            words = client.recv(256).decode().split()
        except OSError:
            words = []
        if len(words) == 2 and words[0] == "run":
            self.clients[words[1]] = client
            self.tokens[client] = words[1]
            self.queue.append(f"run {words[1]}")
            return
        token = self.tokens.get(client)
        self.forget(client)
        if token:
            request = f"run {token}"
            if request in self.queue:
                self.queue.remove(request)
            else:
                self.queue.append(f"signal {token} 9")

    def forget(self, client: socket.socket) -> None:
        self.clients.pop(self.tokens.pop(client, ""), None)
        self.select.unregister(client)
        client.close()

    def answer(self, token: str, text: str) -> None:
        client = self.clients.get(token)
        if client:
            with contextlib.suppress(OSError):
                client.sendall(text.encode() + b"\n")
            self.forget(client)

    def send(self) -> None:
        while self.greeted and self.queue and len(self.in_flight) < IN_FLIGHT:
            request = self.queue.pop(0)
            word, token, *_ = request.split()
            self.in_flight.add(f"{word} {token}")
            with contextlib.suppress(OSError):
                self.line.sendall(request.encode() + b"\n")


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    Process.of(os.getpid()).record(Path(config["directory"]) / "runner.pid")
    lock_down(config["writable"])
    runner = Runner(config, socket.socket(fileno=int(sys.argv[2])))
    runner.serve(runner.start_kernel())


if __name__ == "__main__":
    main()
