"""The control plane: raw etcd transactions, an empty gRPC echo, unary attach and bulk attach, side by side.

One etcd (loopback, its data on disk), one controller on it, hosts with live sessions in a process of their own, and
the load in this one. The contenders take turns in rounds, so that a busy moment of the machine hits all of them; a
ratio is the median of the rounds' ratios. Processor time is the kernel's count for the process, whoever else is busy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from clusters.etcd import etcd_binary, free_ports  # noqa: E402
from grpc import aio  # noqa: E402

from trunkline.agent.v1 import session_pb2, session_pb2_grpc  # noqa: E402
from trunkline.etcd import rpc_pb2, rpc_pb2_grpc  # noqa: E402
from trunkline.v1 import attachment_pb2, attachment_pb2_grpc, fabric_pb2, fabric_pb2_grpc, network_pb2, network_pb2_grpc  # noqa: E402

HOSTS = 10
DEADLINE = 10.0
START = 60.0
WARM_UP = 0.3
BULK = 500
BULK_NAME = f"bulk attach, {BULK} in a call (addresses)"
Call = Callable[[int], Awaitable[int]]


@dataclass(frozen=True)
class Result:
    """Medians over the rounds: operations per second, processor time of the two servers per operation in
    microseconds, and milliseconds of one call at the median and at the tail."""

    name: str
    callers: int
    per_second: float
    p50_ms: float
    p99_ms: float
    controller_us: float
    etcd_us: float


@dataclass(frozen=True)
class Sample:
    """One contender in one round. `spent`: seconds of each call; the rest in microseconds per operation."""

    per_second: float
    spent: list[float]
    controller_us: float
    etcd_us: float


Rounds = dict[tuple[str, int], list[Sample]]
"""Samples by contender and number of callers."""


@dataclass(frozen=True)
class Place:
    """Where the two servers listen, and their processes."""

    etcd: str
    controller: str
    etcd_process: subprocess.Popen[bytes]
    controller_process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise when one of them has ended."""
        if self.etcd_process.poll() is not None or self.controller_process.poll() is not None:
            raise RuntimeError(f"a server ended; the controller said: {self.log.read_text()[-2000:]}")


@contextlib.contextmanager
def servers() -> Iterator[Place]:
    """A fresh etcd and a controller on it; both ended, and their data removed, on leaving."""
    client, peer, port = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as name, contextlib.ExitStack() as stack:
        urls = [f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"]
        etcd = [str(etcd_binary()), "--data-dir", f"{name}/etcd-data", "--log-level", "error"]
        etcd += ["--listen-client-urls", urls[0], "--advertise-client-urls", urls[0], "--listen-peer-urls", urls[1]]
        etcd += ["--initial-advertise-peer-urls", urls[1], "--initial-cluster", f"default={urls[1]}"]
        controller = [str(ROOT / ".venv/bin/trunkline-controller"), "--etcd", urls[0], "--data-dir", f"{name}/state"]
        controller += ["--listen", f"127.0.0.1:{port}", "--name", "bench"]
        started = [_started(stack, argv, Path(name, log)) for argv, log in ((etcd, "etcd"), (controller, "controller"))]
        yield Place(f"127.0.0.1:{client}", f"127.0.0.1:{port}", started[0], started[1], Path(name, "controller"))


def _started(stack: contextlib.ExitStack, argv: list[str], log: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv, stdout=stack.enter_context(log.open("wb")), stderr=subprocess.STDOUT)
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _processor(process: subprocess.Popen[bytes]) -> float:
    """Seconds of processor time of all threads of a process so far (proc(5): utime and stime)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(call: Call, callers: int, seconds: float) -> tuple[float, list[float]]:
    """Operations per second and each call's seconds, of `callers` closed loops. A call says how many it did."""
    spent: list[float] = []
    done = 0
    numbers = itertools.count()
    start = time.perf_counter()
    end = start + seconds

    async def loop() -> None:
        nonlocal done
        while (before := time.perf_counter()) < end:
            # Not `done += await …`: that reads `done` before it waits, and loses what the other loops add meanwhile.
            count = await call(next(numbers))
            done += count
            spent.append(time.perf_counter() - before)

    await asyncio.gather(*(loop() for _ in range(callers)))
    return done / (time.perf_counter() - start), spent


class Bench:
    """The contenders, over channels to both servers."""

    def __init__(self, etcd: aio.Channel, controller: aio.Channel) -> None:
        self.kv = rpc_pb2_grpc.KVStub(etcd)
        self.fabric = fabric_pb2_grpc.FabricServiceStub(controller)
        self.networks = network_pb2_grpc.NetworkServiceStub(controller)
        self.attachments = attachment_pb2_grpc.AttachmentServiceStub(controller)
        self.serial = itertools.count()

    async def prepare(self, place: Place) -> None:
        """Networks with room for every run, once the controller serves and all hosts are there."""
        while True:
            place.check()
            try:
                await self.fabric.Ping(fabric_pb2.PingRequest(), timeout=1, wait_for_ready=True)
                break
            except aio.AioRpcError:
                continue
        spec = network_pb2.NetworkSpec(name="bench", vlan=10, prefixes=[network_pb2.Prefix(cidr="10.0.0.0/8")])
        await self.networks.CreateNetwork(network_pb2.CreateNetworkRequest(spec=spec), timeout=DEADLINE)

    async def raw(self, number: int) -> int:
        """One key, created if absent: the least a store of this kind must do for an address."""
        key = f"/raw/{next(self.serial)}".encode()
        compare = rpc_pb2.Compare(
            key=key, target=rpc_pb2.Compare.CREATE, result=rpc_pb2.Compare.EQUAL, create_revision=0
        )
        put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=b"x" * 200))
        await self.kv.Txn(rpc_pb2.TxnRequest(compare=[compare], success=[put]), timeout=DEADLINE)
        return 1

    async def ping(self, number: int) -> int:
        """The empty echo of the same server."""
        await self.fabric.Ping(fabric_pb2.PingRequest(), timeout=DEADLINE)
        return 1

    def _spec(self) -> attachment_pb2.AttachmentSpec:
        serial = next(self.serial)
        target = attachment_pb2.Target(container=f"c{serial}")
        return attachment_pb2.AttachmentSpec(host=f"bench{serial % HOSTS}", network="bench", target=target)

    async def attach(self, number: int) -> int:
        """One container, one call."""
        await self.attachments.Attach(attachment_pb2.AttachRequest(spec=self._spec()), timeout=DEADLINE)
        return 1

    async def bulk(self, number: int) -> int:
        """Many containers, one call."""
        request = attachment_pb2.BatchAttachRequest(specs=[self._spec() for _ in range(BULK)])
        answer = await self.attachments.BatchAttach(request, timeout=60)
        refused = [r.refusal.message for r in answer.results if r.WhichOneof("outcome") == "refusal"]
        if refused:
            raise RuntimeError(f"{len(refused)} refused: {refused[0]}")
        return len(answer.results)


async def agents(endpoint: str) -> None:
    """Hosts with live sessions, which take what they are sent and say nothing."""

    async def requests(host: str) -> AsyncIterator[session_pb2.ConnectRequest]:
        hello = session_pb2.Hello(protocol=1, host=host, machine_id=f"{hash(host) & (1 << 128) - 1:032x}")
        hello.uplinks.add(label="default", device="eth0", present=True, up=True, carrier=True, mtu=1500)
        yield session_pb2.ConnectRequest(hello=hello)
        await asyncio.Event().wait()

    async def session(channel: aio.Channel, host: str) -> None:
        stream = session_pb2_grpc.SessionServiceStub(channel).Connect(requests(host), wait_for_ready=True)
        async for answer in stream:
            if answer.HasField("welcome"):
                print(host, flush=True)

    async with aio.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", -1)]) as channel:
        await asyncio.gather(*(session(channel, f"bench{i}") for i in range(HOSTS)))


async def measure(place: Place, rounds: int, seconds: float) -> Rounds:
    """Every contender at every number of callers, in turns."""
    argv = [sys.executable, __file__, "--agents", place.controller]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        for _ in range(HOSTS):
            if not await asyncio.wait_for(process.stdout.readline(), START):
                place.check()
                raise RuntimeError("the hosts' process ended")
        async with aio.insecure_channel(place.etcd) as etcd, aio.insecure_channel(place.controller) as controller:
            bench = Bench(etcd, controller)
            await bench.prepare(place)
            return await _rounds(bench, place, rounds, seconds)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _rounds(bench: Bench, place: Place, rounds: int, seconds: float) -> Rounds:
    contenders: list[tuple[str, Call, int]] = [
        ("etcd transaction, one key", bench.raw, 1),
        ("gRPC echo", bench.ping, 1),
        ("attach", bench.attach, 1),
        ("etcd transaction, one key", bench.raw, 64),
        ("gRPC echo", bench.ping, 64),
        ("attach", bench.attach, 64),
        (BULK_NAME, bench.bulk, 1),
        (BULK_NAME, bench.bulk, 4),
    ]
    for _, call, callers in contenders:
        await load(call, callers, WARM_UP)
    taken: Rounds = {(name, callers): [] for name, _, callers in contenders}
    for _ in range(rounds):
        for name, call, callers in contenders:
            taken[name, callers].append(await _sample(place, call, callers, seconds))
    return taken


async def _sample(place: Place, call: Call, callers: int, seconds: float) -> Sample:
    servers = (place.controller_process, place.etcd_process)
    before = [_processor(server) for server in servers]
    began = time.perf_counter()
    rate, spent = await load(call, callers, seconds)
    done = rate * (time.perf_counter() - began)
    controller, etcd = ((_processor(s) - b) / done * 1e6 for s, b in zip(servers, before, strict=True))
    return Sample(rate, spent, controller, etcd)


def result(name: str, callers: int, samples: list[Sample]) -> Result:
    """The rounds of one contender as one line."""
    spent = sorted(itertools.chain.from_iterable(sample.spent for sample in samples))
    return Result(
        name,
        callers,
        statistics.median(sample.per_second for sample in samples),
        spent[len(spent) // 2] * 1000,
        spent[int(len(spent) * 0.99)] * 1000,
        statistics.median(sample.controller_us for sample in samples),
        statistics.median(sample.etcd_us for sample in samples),
    )


def ratios(rounds: Rounds) -> dict[str, float]:
    """What is promised as ratios, and how it stands."""

    def ratio(one: tuple[str, int], other: tuple[str, int]) -> float:
        pairs = zip(rounds[one], rounds[other], strict=True)
        return statistics.median(a.per_second / b.per_second for a, b in pairs)

    def median_ms(name: str) -> float:
        return result(name, 1, rounds[name, 1]).p50_ms

    floor = median_ms("gRPC echo") + median_ms("etcd transaction, one key")
    return {
        "attach / echo, 64 callers (wanted: 0.7)": ratio(("attach", 64), ("gRPC echo", 64)),
        "attach / echo, 1 caller": ratio(("attach", 1), ("gRPC echo", 1)),
        "the same at best: echo / (echo and one durable transaction in series)": median_ms("gRPC echo") / floor,
        "bulk addresses / etcd transactions, 64 callers (wanted: 4)": ratio(
            (BULK_NAME, 1), ("etcd transaction, one key", 64)
        ),
        "bulk addresses / etcd transactions, 1 caller": ratio((BULK_NAME, 1), ("etcd transaction, one key", 1)),
    }


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--agents", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.agents:
        asyncio.run(agents(options.agents))
        return
    with servers() as place:
        rounds = asyncio.run(measure(place, options.rounds, options.seconds))
    results = [result(name, callers, samples) for (name, callers), samples in rounds.items()]
    if options.json:
        print(json.dumps({"results": [vars(r) for r in results], "ratios": ratios(rounds)}, indent=1))
        return
    print("| what | callers | per second | median ms | p99 ms | controller us | etcd us |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for r in results:
        print(
            f"| {r.name} | {r.callers} | {r.per_second:,.0f} | {r.p50_ms:.2f} | {r.p99_ms:.2f}"
            f" | {r.controller_us:.0f} | {r.etcd_us:.0f} |"
        )
    print("\nThe last two columns are processor time per operation.\n\n| ratio | |\n|---|--:|")
    for name, value in ratios(rounds).items():
        print(f"| {name} | {value:.2f} |")


if __name__ == "__main__":
    main()
