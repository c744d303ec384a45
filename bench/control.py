"""The control plane: raw etcd transactions, an empty gRPC echo, unary attach and bulk attach, side by side.

One etcd (loopback, its data on disk), one controller on it, hosts with live sessions in a process of their own, and
the load in this one. The contenders take turns in rounds, so that a busy moment of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
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
from trunkline.v1 import attachment_pb2, attachment_pb2_grpc, fabric_pb2, fabric_pb2_grpc, network_pb2, network_pb2_grpc  # noqa: E402  # noqa: E402

HOSTS = 10
DEADLINE = 10.0
BULK = 500
Call = Callable[[int], Awaitable[int]]


@dataclass(frozen=True)
class Result:
    """Medians over the rounds: operations per second, and milliseconds of one at the median and at the tail."""

    name: str
    callers: int
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Place:
    """Where the two servers listen."""

    etcd: str
    controller: str


@contextlib.contextmanager
def servers() -> Iterator[Place]:
    """A fresh etcd and a controller on it; both ended, and their data removed, on leaving."""
    client, peer, port = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="trunkline-bench-") as name, contextlib.ExitStack() as stack:
        urls = [f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"]
        etcd = [str(etcd_binary()), "--data-dir", f"{name}/etcd", "--log-level", "error"]
        etcd += ["--listen-client-urls", urls[0], "--advertise-client-urls", urls[0], "--listen-peer-urls", urls[1]]
        etcd += ["--initial-advertise-peer-urls", urls[1], "--initial-cluster", f"default={urls[1]}"]
        controller = [str(ROOT / ".venv/bin/trunkline-controller"), "--etcd", urls[0], "--data-dir", f"{name}/state"]
        controller += ["--listen", f"127.0.0.1:{port}", "--name", "bench"]
        for argv, log in ((etcd, "etcd.log"), (controller, "controller.log")):
            process = subprocess.Popen(
                argv, stdout=stack.enter_context(open(f"{name}/{log}", "wb")), stderr=subprocess.STDOUT
            )
            stack.callback(_end, process)
        yield Place(f"127.0.0.1:{client}", f"127.0.0.1:{port}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)


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

    async def prepare(self) -> None:
        """Networks with room for every run, once the controller serves and all hosts are there."""
        while True:
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


async def measure(place: Place, rounds: int, seconds: float) -> list[Result]:
    """Every contender at every number of callers, in turns."""
    argv = [sys.executable, __file__, "--agents", place.controller]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout
        for _ in range(HOSTS):
            await asyncio.wait_for(process.stdout.readline(), 60)
        async with aio.insecure_channel(place.etcd) as etcd, aio.insecure_channel(place.controller) as controller:
            bench = Bench(etcd, controller)
            await bench.prepare()
            return await _rounds(bench, rounds, seconds)
    finally:
        process.terminate()
        await process.wait()


async def _rounds(bench: Bench, rounds: int, seconds: float) -> list[Result]:
    contenders: list[tuple[str, Call, int]] = [
        ("etcd transaction, one key", bench.raw, 1),
        ("gRPC echo", bench.ping, 1),
        ("attach", bench.attach, 1),
        ("etcd transaction, one key", bench.raw, 64),
        ("gRPC echo", bench.ping, 64),
        ("attach", bench.attach, 64),
        (f"bulk attach, {BULK} in a call (addresses)", bench.bulk, 1),
    ]
    samples: list[list[tuple[float, list[float]]]] = [[] for _ in contenders]
    for _ in range(rounds):
        for (_, call, callers), sample in zip(contenders, samples, strict=True):
            sample.append(await load(call, callers, seconds))
    return [_result(name, callers, sample) for (name, _, callers), sample in zip(contenders, samples, strict=True)]


def _result(name: str, callers: int, sample: list[tuple[float, list[float]]]) -> Result:
    spent = sorted(itertools.chain.from_iterable(times for _, times in sample))
    rate = statistics.median(rate for rate, _ in sample)
    return Result(name, callers, rate, spent[len(spent) // 2] * 1000, spent[int(len(spent) * 0.99)] * 1000)


def ratios(results: list[Result]) -> dict[str, float]:
    """What is promised as ratios, and how it stands."""
    rate = {(r.name, r.callers): r.per_second for r in results}
    bulk = next(r.per_second for r in results if r.name.startswith("bulk"))
    return {
        "attach / echo, 1 caller": rate["attach", 1] / rate["gRPC echo", 1],
        "attach / echo, 64 callers (wanted: 0.7)": rate["attach", 64] / rate["gRPC echo", 64],
        "bulk addresses / etcd transactions, 1 caller": bulk / rate["etcd transaction, one key", 1],
        "bulk addresses / etcd transactions, 64 callers (wanted: 4)": bulk / rate["etcd transaction, one key", 64],
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
        results = asyncio.run(measure(place, options.rounds, options.seconds))
    if options.json:
        print(json.dumps({"results": [vars(r) for r in results], "ratios": ratios(results)}, indent=1))
        return
    print("| what | callers | per second | median ms | p99 ms |\n|---|---|---|---|---|")
    for r in results:
        print(f"| {r.name} | {r.callers} | {r.per_second:,.0f} | {r.p50_ms:.2f} | {r.p99_ms:.2f} |")
    print("\n| ratio | |\n|---|---|")
    for name, value in ratios(results).items():
        print(f"| {name} | {value:.2f} |")


if __name__ == "__main__":
    main()
