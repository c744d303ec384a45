"""Clusters of real etcd members for tests: free ports, data in memory, killed, frozen and thawed by process id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from grpc import aio

from controller.store.etcd import EtcdSettings
from trunkline import pki
from trunkline.etcd import rpc_pb2 as pb
from trunkline.etcd import rpc_pb2_grpc as stubs

CHECKOUT = Path(__file__).resolve().parents[2]


def etcd_binary() -> Path:
    """The etcd to test with: TRUNKLINE_ETCD, else the checkout's own, else the one on PATH."""
    named = os.environ.get("TRUNKLINE_ETCD")
    candidates = [named, str(CHECKOUT / ".work/bin/etcd"), shutil.which("etcd")]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise FileNotFoundError("no etcd: run tools/setup, or name one in TRUNKLINE_ETCD")


def scratch(prefix: str) -> Path:
    """A new directory, in memory where the machine has room there: fsync of several members is slow on a disk."""
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix=prefix, dir=shm if os.access(shm, os.W_OK) else None))


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now, below the range that the kernel picks outgoing ports from."""
    sockets = []
    ports: list[int] = []
    candidate = 10_000 + os.getpid() * 37 % 20_000
    while len(ports) < count:
        candidate = 10_000 + (candidate - 10_000 + 1) % 22_000
        probe = socket.socket()
        try:
            probe.bind(("127.0.0.1", candidate))
        except OSError:
            probe.close()
            continue
        sockets.append(probe)
        ports.append(candidate)
    for probe in sockets:
        probe.close()
    return ports


@dataclass
class _Node:
    name: str
    client: int
    peer: int
    process: asyncio.subprocess.Process | None = None
    frozen: bool = False
    extra: list[str] = field(default_factory=list)


def _state(task: Path) -> str:
    """State of a thread as proc(5) names it; "T" for one that ended meanwhile."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "T"


class EtcdCluster:
    """`async with EtcdCluster(members=3, tls=True) as cluster:` gives a cluster that has a leader."""

    def __init__(self, members: int = 1, tls: bool = False, extra: tuple[str, ...] = ()) -> None:
        self.directory = scratch("trunkline-etcd-")
        self.tls = tls
        ports = free_ports(members * 2)
        self._nodes = [_Node(f"m{i}", ports[2 * i], ports[2 * i + 1]) for i in range(members)]
        self._extra = extra
        self.ca = self.cert = self.key = None
        if tls:
            self.ca, _ = pki.make_ca(self.directory / "pki")
            self.cert, self.key = pki.issue(self.directory / "pki", "controller:test", ["127.0.0.1"])

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Client endpoints, by member."""
        return tuple(f"127.0.0.1:{node.client}" for node in self._nodes)

    def settings(self, replica: str = "c1", **more: object) -> EtcdSettings:
        """Settings for an adapter on this cluster."""
        chosen: dict[str, object] = {
            "endpoints": self.endpoints,
            "replica": replica,
            "ca": self.ca,
            "cert": self.cert,
            "key": self.key,
        }
        return EtcdSettings(**(chosen | more))  # type: ignore[arg-type]

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(self._spawn(i) for i in range(len(self._nodes))))
            await self.leader()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def kill(self, member: int) -> None:
        """kill -9."""
        process = self._running(member)
        process.kill()
        await process.wait()
        self._nodes[member].process = None

    def freeze(self, member: int) -> None:
        """SIGSTOP: connections stay open, nothing answers. Returns once every thread has stopped."""
        process = self._running(member)
        process.send_signal(signal.SIGSTOP)
        while any(_state(task) not in "tT" for task in Path(f"/proc/{process.pid}/task").iterdir()):
            time.sleep(0.001)

    def thaw(self, member: int) -> None:
        """SIGCONT."""
        self._running(member).send_signal(signal.SIGCONT)

    async def restart(self, member: int) -> None:
        """Start a killed member again and wait until it answers."""
        await self._spawn(member)
        async with asyncio.timeout(20):
            while await self._status(member) is None:
                await asyncio.sleep(0.05)

    async def leader(self) -> int:
        """Index of the member that leads and is seen to lead by all members that run."""
        async with asyncio.timeout(20):
            while True:
                found = await asyncio.gather(*(self._status(i) for i in range(len(self._nodes))))
                answers = {i: status for i, status in enumerate(found) if status is not None}
                leaders = {status.leader for status in answers.values()}
                mine = [i for i, status in answers.items() if status.header.member_id in leaders]
                if len(leaders) == 1 and mine and len(answers) == sum(n.process is not None for n in self._nodes):
                    return mine[0]
                await asyncio.sleep(0.05)

    def channel(self, member: int = 0) -> aio.Channel:
        """A plain channel to one member, for what a test does behind the adapter's back."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        if not self.tls:
            return aio.insecure_channel(self.endpoints[member], options)
        assert self.ca is not None
        assert self.cert is not None
        assert self.key is not None
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes(), self.key.read_bytes(), self.cert.read_bytes())
        return aio.secure_channel(self.endpoints[member], credentials, options)

    def pid(self, member: int = 0) -> int:
        """Process id of a member."""
        return self._running(member).pid

    def _running(self, member: int) -> asyncio.subprocess.Process:
        process = self._nodes[member].process
        assert process is not None, f"member {member} does not run"
        return process

    async def _status(self, member: int) -> pb.StatusResponse | None:
        if self._nodes[member].process is None:
            return None
        async with self.channel(member) as channel:
            try:
                return await stubs.MaintenanceStub(channel).Status(pb.StatusRequest(), timeout=1.0)
            except aio.AioRpcError:
                return None

    async def _spawn(self, member: int) -> None:
        node = self._nodes[member]
        with (self.directory / f"{node.name}.log").open("ab") as log:
            node.process = await asyncio.create_subprocess_exec(
                *self._command(node), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": ""}
            )

    def _command(self, node: _Node) -> list[str]:
        scheme = "https" if self.tls else "http"
        client, peer = f"{scheme}://127.0.0.1:{node.client}", f"http://127.0.0.1:{node.peer}"
        cluster = ",".join(f"{n.name}=http://127.0.0.1:{n.peer}" for n in self._nodes)
        command = [
            str(etcd_binary()),
            f"--name={node.name}",
            f"--data-dir={self.directory / node.name}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={cluster}",
            "--initial-cluster-state=new",
            "--logger=zap",
            "--log-level=warn",
            *self._extra,
        ]
        if self.tls:
            command += [
                f"--trusted-ca-file={self.ca}",
                f"--cert-file={self.cert}",
                f"--key-file={self.key}",
                "--client-cert-auth",
            ]
        return command

    async def _end(self) -> None:
        for node in self._nodes:
            if node.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    node.process.kill()
                await node.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
