"""A systemd .socket unit in small: holds a listening unix socket for ever, and starts and ends one program with it.

Run as a program of its own, standard library only: `python3 -I -S activation.py SOCKET FDNAME`. Each line of standard
input is an order as JSON, each line of standard output its answer. The program gets the socket as descriptor 3 by the
protocol of sd_listen_fds(3): LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES. At the end of standard input the program is killed
and the socket removed.
"""

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

FIRST = 3  # SD_LISTEN_FDS_START


class Unit:
    def __init__(self, path: str, fd_name: str) -> None:
        self.path, self.fd_name = path, fd_name
        self.pid = 0
        self.status: int | None = None
        self.socket = socket.socket(socket.AF_UNIX)
        if os.path.lexists(path):
            os.unlink(path)
        os.umask(0o177)
        self.socket.bind(path)
        os.umask(0o022)
        self.socket.listen(4096)

    def start(self, argv: list[str], env: dict[str, str], log: str) -> dict[str, Any]:
        if self._runs():
            return {"error": f"process {self.pid} runs already"}
        self.status = None
        self.pid = os.fork()
        if self.pid == 0:
            self._become(argv, env, log)
        return {"pid": self.pid}

    def _become(self, argv: list[str], env: dict[str, str], log: str) -> None:
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            inherited = os.dup(self.socket.fileno())  # out of the way: the socket may itself be descriptor 3
            for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (output, 1), (output, 2), (inherited, FIRST)):
                os.dup2(source, target)
            os.closerange(FIRST + 1, 1024)
            passed = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": self.fd_name}
            os.execvpe(argv[0], argv, env | passed)
        except OSError as error:
            os.write(2, f"{argv[0]}: {error}\n".encode())
        finally:
            os._exit(127)

    def signal(self, number: int) -> dict[str, Any]:
        if self._runs():
            os.kill(self.pid, number)
        return {"pid": self.pid}

    def wait(self, timeout: float) -> dict[str, Any]:
        """Until it ended; the status as Popen.returncode has it, null when it still runs."""
        if self._runs():
            fd = os.pidfd_open(self.pid)
            select.select([fd], [], [], timeout)
            os.close(fd)
        return {"pid": self.pid, "runs": self._runs(), "status": self.status}

    def _runs(self) -> bool:
        if self.pid and self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return bool(self.pid) and self.status is None

    def close(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait(10)
        if os.path.lexists(self.path):
            os.unlink(self.path)


def main() -> None:
    unit = Unit(*sys.argv[1:])
    orders: dict[str, Callable[..., dict[str, Any]]] = {"start": unit.start, "signal": unit.signal, "wait": unit.wait}
    print(json.dumps({"pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(orders[order.pop("order")](**order)), flush=True)
    unit.close()


if __name__ == "__main__":
    main()
