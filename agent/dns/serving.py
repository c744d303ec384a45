"""The DNS server of this host: UDP and TCP sockets around the zone and the forwarder."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from typing import Any, Final

from agent.dns import messages
from agent.dns.answering import reply
from agent.dns.forwarding import Forwarder, Upstream
from agent.dns.messages import Question
from agent.dns.zone import Zone
from trunkline import log
from trunkline.errors import Reason, TrunklineError

IDLE: Final = 10.0
"""Seconds a TCP client may be silent (RFC 7766 section 6.2.3 asks for some)."""

CONNECTIONS: Final = 128
"""TCP clients at the same time; more are turned away."""

_log = log.get("names")

Address = tuple[str, int]


class Server:
    """Listens on one address. Nothing that comes in ends it."""

    def __init__(self, zone: Zone, forwarder: Forwarder) -> None:
        self._zone = zone
        self._forwarder = forwarder
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._failed = False

    async def start(self, where: Upstream) -> int:
        """Listen; the port (that of `where`, or a free one for 0). Raises LISTEN_FAILED."""
        family = socket.AF_INET6 if ":" in where.address else socket.AF_INET
        try:
            # TCP first: it asks for the port with SO_REUSEADDR, and a port of 0 is free for UDP most likely.
            self._tcp = await asyncio.start_server(self._connected, where.address, where.port, family=family)
            port: int = self._tcp.sockets[0].getsockname()[1]
            self._udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=(where.address, port), family=family
            )
        except OSError as error:
            await self.close()
            raise TrunklineError(
                Reason.LISTEN_FAILED,
                f"names cannot be answered on {where}: {error.strerror or error}",
                "stop what uses it, or choose another with [dns] listen",
                address=str(where),
            ) from None
        return port

    async def close(self) -> None:
        """Stop listening and forget what is under way. Idempotent."""
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for writer in self._connections:
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._udp = self._tcp = None

    def datagram(self, packet: bytes, client: Address) -> None:
        """A query by UDP. Raises nothing: asyncio would close the socket."""
        answer = self._answered(packet, tcp=False)
        if isinstance(answer, Question):
            self._begin(self._forward(packet, answer, client))
        elif answer is not None:
            self._send(answer, client)

    def _answered(self, packet: bytes, tcp: bool) -> bytes | Question | None:
        """The answer, or a question for others, or None for silence."""
        asked: Question | bytes | None = None
        try:
            asked = messages.question(packet)
            if not isinstance(asked, Question):
                return asked
            self._forwarder.met(asked.name)
            ours = reply(self._zone, asked)
            return asked if ours is None else messages.encode(packet, ours, tcp)
        except Exception as bug:
            self._say(bug)
            return messages.failed(packet, asked, messages.SERVFAIL) if isinstance(asked, Question) else None

    def _say(self, bug: Exception) -> None:
        if not self._failed:  # once: whoever finds a way to it could fill the disk
            self._failed = True
            _log.error("answering failed", exc_info=bug)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, packet: bytes, asked: Question, client: Address) -> None:
        self._send(await self._asked(packet, asked, tcp=False), client)

    async def _asked(self, packet: bytes, asked: Question, tcp: bool) -> bytes:
        try:
            return await self._forwarder.ask(packet, asked, tcp)
        except Exception as bug:
            self._say(bug)
            return messages.failed(packet, asked, messages.SERVFAIL)

    def _send(self, packet: bytes, client: Address) -> None:
        if self._udp is not None and not self._udp.is_closing():
            self._udp.sendto(packet, client)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A TCP client, to its end; questions are answered one after the other."""
        if len(self._connections) >= CONNECTIONS:
            writer.close()
            return
        self._connections.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._turn(reader, writer):
                    pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _turn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(IDLE):
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            packet = await reader.readexactly(length)
        answer = self._answered(packet, tcp=True)
        if isinstance(answer, Question):
            answer = await self._asked(packet, answer, tcp=True)
        if answer is None:
            return False
        async with asyncio.timeout(IDLE):
            writer.write(struct.pack(">H", len(answer)) + answer)
            await writer.drain()
        return True


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server

    def datagram_received(self, data: bytes, address: Address) -> None:
        self._server.datagram(data, address)

    def error_received(self, error: Exception) -> None:
        """A client was gone before its answer came: that is its own affair."""
