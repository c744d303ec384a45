"""A real DNS server to forward to, small enough to be made to misbehave."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset

from agent.dns.forwarding import Upstream

Said = dns.message.Message | bytes | None
Behaviour = Callable[[dns.message.Message], Said]


def address(text: str) -> Behaviour:
    """Every name has this address."""

    def answer(query: dns.message.Message) -> dns.message.Message:
        made = dns.message.make_response(query, recursion_available=True)
        made.answer = [dns.rrset.from_text(query.question[0].name, 60, "IN", "A", text)]
        return made

    return answer


def below(domain: str, text: str) -> Behaviour:
    """Every name below a domain has this address, and no other name exists."""

    def answer(query: dns.message.Message) -> Said:
        known = query.question[0].name.is_subdomain(dns.name.from_text(domain))
        return (address(text) if known else fails(dns.rcode.NXDOMAIN))(query)

    return answer


def many(count: int) -> Behaviour:
    """More addresses than a plain datagram takes."""

    def answer(query: dns.message.Message) -> dns.message.Message:
        made = dns.message.make_response(query, recursion_available=True)
        texts = [f"192.0.2.{number}" for number in range(count)]
        made.answer = [dns.rrset.from_text(query.question[0].name, 60, "IN", "A", *texts)]
        return made

    return answer


def fails(rcode: dns.rcode.Rcode) -> Behaviour:
    """Nothing but this code."""

    def answer(query: dns.message.Message) -> dns.message.Message:
        made = dns.message.make_response(query)
        made.set_rcode(rcode)
        return made

    return answer


def silent(query: dns.message.Message) -> None:
    """No answer at all."""


@dataclass
class Server:
    """Listens on a port of loopback by UDP and TCP, and keeps what it was asked."""

    behave: Behaviour
    where: Upstream = field(init=False)
    seen: list[bytes] = field(default_factory=list)
    sources: list[tuple[str, int]] = field(default_factory=list)

    def answer(self, packet: bytes, tcp: bool) -> bytes | None:
        self.seen.append(packet)
        made = self.behave(dns.message.from_wire(packet))
        if made is None or isinstance(made, bytes):
            return made
        wire = made.to_wire(max_size=65_535)
        if tcp or len(wire) <= 512:
            return wire
        made.answer = []
        made.flags |= dns.flags.TC
        return made.to_wire()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._server.sources.append(address)
        if (said := self._server.answer(data, tcp=False)) is not None:
            self._transport.sendto(said, address)


@asynccontextmanager
async def serving(behave: Behaviour, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Server]:
    """A server that behaves like this; without `port` on a free one."""
    server = Server(behave)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        said = server.answer(await reader.readexactly(length), tcp=True)
        if said is not None:
            writer.write(struct.pack(">H", len(said)) + said)
        writer.close()

    tcp = await asyncio.start_server(connected, host, port)
    port = tcp.sockets[0].getsockname()[1]
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(server), local_addr=(host, port)
    )
    server.where = Upstream(host, port)
    try:
        yield server
    finally:
        udp.close()
        tcp.close()
