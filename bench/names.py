"""Time to resolve a remote name: our DNS on loopback, beside a server that does nothing but send its question back.

The server is the agent's, in a process of its own, with a directory of many containers; the client sends one question
after the other over UDP, and then keeps a number of them under way. The echo shows what sockets and the client cost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent.dns.forwarding import Forwarder, Upstream
from agent.dns.messages import A, query
from agent.dns.serving import Server
from agent.dns.zone import Name, Zone

DOMAIN = "trunkline.internal"
HOSTS = 100


@dataclass(frozen=True)
class Row:
    """One contender: microseconds of a question alone, and questions a second with many under way."""

    server: str
    names: int
    p50_us: float
    p99_us: float
    per_second: float


def name(number: int) -> str:
    """The name of a container on another host."""
    return f"c{number}.mynet2.{DOMAIN}"


async def serve(names: int) -> None:
    """Be the server; prints its port."""
    zone = Zone(DOMAIN)
    zone.known = True
    zone.apply(
        Name(f"h{n % HOSTS}", f"c{n}", "mynet2", f"c{n}", (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}",))
        for n in range(names)
    )
    server = Server(zone, Forwarder(DOMAIN, time.monotonic))
    print(await server.start(Upstream("127.0.0.1", 0)), flush=True)
    await asyncio.Event().wait()


class Echo(asyncio.DatagramProtocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._transport.sendto(data, address)  # type: ignore[attr-defined]


async def echo() -> None:
    """Be a server that answers nothing; prints its port."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    print(transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


@contextlib.contextmanager
def server(*words: str) -> Iterator[int]:
    """One of the servers as a process; its port."""
    argv = [sys.executable, __file__, *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def alone(client: socket.socket, packets: list[bytes]) -> list[float]:
    """Seconds of each question, one after the other."""
    took = []
    for packet in packets:
        began = time.perf_counter()
        client.send(packet)
        client.recv(4096)
        took.append(time.perf_counter() - began)
    return took


def crowd(client: socket.socket, packets: list[bytes], under_way: int) -> float:
    """Questions a second with so many under way."""
    began = time.perf_counter()
    for packet in packets[:under_way]:
        client.send(packet)
    for packet in packets[under_way:]:
        client.recv(4096)
        client.send(packet)
    for _ in packets[:under_way]:
        client.recv(4096)
    return len(packets) / (time.perf_counter() - began)


def check(client: socket.socket) -> None:
    """The answers are the right ones, or nothing was measured."""
    client.send(query(7, name(300), A))
    assert socket.inet_aton("10.0.1.44") in client.recv(4096)
    client.send(query(8, f"nobody.mynet2.{DOMAIN}", A))
    assert client.recv(4096)[3] & 15 == 3


def measure(names: int, questions: int, rounds: int) -> list[Row]:
    """Contenders take turns, so that a busy moment of the machine hits both."""
    draw = random.Random(names)
    packets = [query(draw.randrange(1 << 16), name(draw.randrange(names)), A) for _ in range(questions)]
    took: dict[str, list[float]] = {"trunkline": [], "echo": []}
    rates: dict[str, list[float]] = {"trunkline": [], "echo": []}
    with server("--serve", str(names)) as ours, server("--echo") as plain, contextlib.ExitStack() as stack:
        clients = {}
        for which, port in (("trunkline", ours), ("echo", plain)):
            client = clients[which] = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.settimeout(10)
            client.connect(("127.0.0.1", port))
        check(clients["trunkline"])
        for _ in range(rounds):
            for which, client in clients.items():
                took[which] += alone(client, packets)
                rates[which].append(crowd(client, packets, 32))
    return [
        Row(
            which,
            names,
            round(statistics.median(took[which]) * 1e6, 1),
            round(statistics.quantiles(took[which], n=100)[98] * 1e6, 1),
            round(statistics.median(rates[which])),
        )
        for which in took
    ]


def main() -> None:
    """Print one line for each directory size and server."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=int, nargs="+", default=[1_000, 100_000], help="containers in the fabric")
    parser.add_argument("--questions", type=int, default=2_000, help="of each kind in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--serve", type=int, metavar="NAMES", help=argparse.SUPPRESS)
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve or options.echo:
        asyncio.run(serve(options.serve) if options.serve else echo())
        return
    rows = [row for names in options.names for row in measure(names, options.questions, options.rounds)]
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print(f"{'server':<10} {'containers':>10} {'p50 us':>8} {'p99 us':>8} {'questions/s':>12}")
    for row in rows:
        print(f"{row.server:<10} {row.names:>10} {row.p50_us:>8} {row.p99_us:>8} {row.per_second:>12.0f}")


if __name__ == "__main__":
    main()
