"""An etcd of our own for one machine: a supervised child on loopback, with mutual TLS and its data in a directory.

In the directory: `data/` (etcd's), `pki/` (an authority for this etcd alone), `ports.json`, `etcd.log`, and two lock
files. `supervisor.lock` is held by the controller, so that two never share a directory. `etcd.lock` is inherited by
the child and held while it lives, so that a child that outlived its controller is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import platform
import random
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.store.etcd import tether
from controller.store.etcd.channel import EtcdSettings, Refused, Ring, Unknown
from trunkline import log, pki
from trunkline.backoff import Backoff
from trunkline.errors import Reason, TrunklineError
from trunkline.etcd import rpc_pb2 as pb

QUOTA: Final = 4 << 30
"""Bytes of etcd's database. A fabric of 100,000 endpoints needs some 200 MB between two compactions."""

_LOG_LIMIT: Final = 8 << 20
_START_SECONDS: Final = 30.0
_STABLE_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Ports:
    client: int
    peer: int


class EmbeddedEtcd:
    """Starts etcd, keeps it running, ends it. One per directory.

    `binary` names the etcd to run; without it the one on PATH is taken. Raises CONFIG_INVALID when there is none,
    when the directory cannot be used or another controller uses it; STORE_UNAVAILABLE when etcd does not come up.
    """

    def __init__(self, directory: Path, binary: Path | None = None, quota: int = QUOTA) -> None:
        self._directory = directory.absolute()
        self._binary = find_etcd(binary)
        self._quota = quota
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._spawning: asyncio.Task[None] | None = None
        self._locks = contextlib.ExitStack()
        self._child_lock = -1
        self._ports = _Ports(0, 0)
        self._log = log.get("etcd")

    @property
    def pid(self) -> int:
        """Process id of the child, 0 while none runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    def settings(self, replica: str, prefix: str = "/trunkline/1/") -> EtcdSettings:
        """How to reach it; valid after `start`."""
        ca, cert, key = self._certificates()
        return EtcdSettings((f"127.0.0.1:{self._ports.client}",), replica, prefix, ca, cert, key)

    async def start(self) -> None:
        """Start etcd, end what is left of an earlier one, and return when it answers."""
        try:
            await self._prepare()
            await self._start_child()
            await self._until_answering()
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="etcd-supervisor")

    async def stop(self) -> None:
        """End etcd and release the directory. Idempotent."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        if self._spawning is not None:
            # A child that is just being made must be known before it can be ended.
            await asyncio.gather(self._spawning, return_exceptions=True)
        if self._process is not None:
            await _end(self._process)
            self._process = None
        self._locks.close()

    async def _prepare(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            supervisor = self._open_lock("supervisor.lock")
            self._child_lock = self._open_lock("etcd.lock")
        except OSError as error:
            raise TrunklineError(
                Reason.CONFIG_INVALID,
                f"etcd cannot keep its data in {self._directory}: {error.strerror}",
                "name a directory on this machine that the controller may write to",
            ) from None
        if not _lock(supervisor):
            raise TrunklineError(
                Reason.CONFIG_INVALID,
                f"another controller runs etcd in {self._directory}",
                "stop that controller, or give this one a state directory of its own",
            )
        if not _lock(self._child_lock):
            await self._end_stale_child()
        # Leaf certificates are made anew at each start, so that they never run out.
        self._make_certificates()
        self._ports = self._choose_ports()

    def _open_lock(self, name: str) -> int:
        descriptor = os.open(self._directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._locks.callback(os.close, descriptor)
        return descriptor

    async def _end_stale_child(self) -> None:
        """End an etcd that outlived its controller; it is known by its lock and by its data directory."""
        give_up = time.monotonic() + 2 * _STOP_SECONDS
        number = signal.SIGTERM
        while not _lock(self._child_lock):
            for pid in _processes(f"--data-dir={self._directory / 'data'}"):
                self._log.warning("ending an etcd that outlived its controller", pid=pid)
                _signal(pid, f"--data-dir={self._directory / 'data'}", number)
            if time.monotonic() > give_up:
                raise TrunklineError(
                    Reason.CONFIG_INVALID,
                    f"a process holds {self._directory / 'etcd.lock'} and does not end",
                    "find it with `fuser` on that file and stop it",
                )
            await asyncio.sleep(1.0 if number == signal.SIGTERM else 0.1)
            number = signal.SIGKILL

    def _make_certificates(self) -> None:
        directory = self._directory / "pki"
        if not (directory / "ca.crt").exists() or not (directory / "ca.key").exists():
            shutil.rmtree(directory, ignore_errors=True)
            pki.make_ca(directory)
        pki.issue(directory, "controller:etcd", ["127.0.0.1", "localhost"])

    def _certificates(self) -> tuple[Path, Path, Path]:
        directory = self._directory / "pki"
        return directory / "ca.crt", directory / "controller-etcd.crt", directory / "controller-etcd.key"

    def _choose_ports(self) -> _Ports:
        path = self._directory / "ports.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(path.read_text())
            ports = _Ports(int(kept["client"]), int(kept["peer"]))
            if _is_free(ports.client) and _is_free(ports.peer):
                return ports
        ports = _Ports(*_free_ports())
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps({"client": ports.client, "peer": ports.peer}))
        temporary.replace(path)
        return ports

    def _command(self) -> list[str]:
        ca, cert, key = self._certificates()
        client, peer = f"https://127.0.0.1:{self._ports.client}", f"https://127.0.0.1:{self._ports.peer}"
        return [
            str(self._binary),
            "--name=embedded",
            f"--data-dir={self._directory / 'data'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=embedded={peer}",
            "--client-cert-auth",
            f"--trusted-ca-file={ca}",
            f"--cert-file={cert}",
            f"--key-file={key}",
            "--peer-client-cert-auth",
            f"--peer-trusted-ca-file={ca}",
            f"--peer-cert-file={cert}",
            f"--peer-key-file={key}",
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=1h",
            f"--quota-backend-bytes={self._quota}",
            # With one member an election is only waited for; half of the default makes a restart quick.
            "--election-timeout=500",
            "--logger=zap",
            "--log-level=warn",
        ]

    async def _start_child(self) -> None:
        self._spawning = asyncio.create_task(self._spawn(), name="etcd-spawn")
        await asyncio.shield(self._spawning)

    async def _spawn(self) -> None:
        path = self._directory / "etcd.log"
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))
        # etcd takes settings from ETCD_* variables, so it gets none of our environment.
        environment = {"PATH": os.defpath}
        if platform.machine() == "aarch64":
            # etcd 3.4 starts on ARM only when asked to.
            environment["ETCD_UNSUPPORTED_ARCH"] = "arm64"
        with path.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(tether.__file__), str(os.getpid()), *self._command()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=(self._child_lock,),
                # A terminal's Ctrl-C ends the controller, which then ends etcd in order.
                start_new_session=True,
            )

    async def _until_answering(self) -> None:
        assert self._process is not None, "spawned before"
        ring = Ring(self.settings("embedded"))
        give_up = time.monotonic() + _START_SECONDS
        try:
            while self._process.returncode is None and time.monotonic() < give_up:
                try:
                    await ring.call(lambda e: e.kv.Range, pb.RangeRequest(key=b"/", count_only=True))
                except (Unknown, Refused):
                    await asyncio.sleep(0.05)
                else:
                    self._log.info("etcd runs", pid=self.pid, endpoint=ring.endpoints[0].name)
                    return
        finally:
            await ring.close()
        raise TrunklineError(
            Reason.STORE_UNAVAILABLE,
            f"etcd ({self._binary}) did not come up in {self._directory}: {self._last_words()}",
            f"see {self._directory / 'etcd.log'}",
        )

    async def _supervise(self) -> None:
        backoff = Backoff(0.1, 10.0, random.random)
        while True:
            assert self._process is not None, "spawned before"
            began = time.monotonic()
            status = await self._process.wait()
            if time.monotonic() - began > _STABLE_SECONDS:
                backoff.reset()
            pause = backoff.next()
            self._log.warning("etcd ended and is started again", status=status, in_seconds=round(pause, 2))
            await asyncio.sleep(pause)
            try:
                await self._start_child()
            except OSError as error:
                self._log.error("etcd cannot be started", program=str(self._binary), error=str(error))

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._directory / "etcd.log").read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1][-400:]
        return "it logged nothing"


def find_etcd(named: Path | None) -> Path:
    """The etcd binary: the one named, else the one on PATH; raises CONFIG_INVALID when it cannot be run."""
    found = str(named) if named is not None else shutil.which("etcd")
    if found is not None and os.access(found, os.X_OK) and not Path(found).is_dir():
        return Path(found).absolute()
    raise TrunklineError(
        Reason.CONFIG_INVALID,
        f"{named} is not a program that can be run" if named is not None else "no etcd is on PATH",
        "install the Debian package etcd-server, or name its path as etcd_binary in [store] of the controller's config",
    )


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As etcd does: a connection in TIME_WAIT does not keep a port from being listened on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def _has_argument(pid: int, argument: str) -> bool:
    try:
        return argument.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _processes(argument: str) -> list[int]:
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _has_argument(pid, argument)]


def _signal(pid: int, argument: str, number: signal.Signals) -> None:
    """Signal a process by a descriptor, so that a reused process id cannot hit a stranger."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if _has_argument(pid, argument):
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
