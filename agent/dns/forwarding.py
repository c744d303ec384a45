"""Questions that are not about the fabric go to the servers the host would ask itself."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.dns import messages
from agent.dns.messages import Question
from trunkline import log

PATIENCE: Final = 3.6
"""Seconds for a question in all: Docker's embedded server waits 4 for us, the C library 5."""

TRY: Final = 1.2
"""Seconds for one server over UDP, so that three of them get a turn."""

DISTRUST: Final = 30.0
"""Seconds for which a server that did not answer is asked last."""

MOST: Final = 512
"""Questions under way at the same time; more are answered SERVFAIL at once."""

RECHECK: Final = 60.0
"""Seconds between two looks whether a server asks us what we ask it."""

_FAILURES: Final = frozenset({messages.SERVFAIL, messages.NOTIMP, messages.REFUSED})

_log = log.get("names")


@dataclass(frozen=True, slots=True)
class Upstream:
    """A DNS server by literal address."""

    address: str
    port: int = 53

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class _Exchange(asyncio.DatagramProtocol):
    """One query on a connected socket of its own: the kernel draws its port and drops what others send to it."""

    def __init__(self, number: int, section: bytes) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._number = number
        self._section = section

    def datagram_received(self, data: bytes, address: object) -> None:
        if not self.answer.done() and messages.answers(data, self._number, self._section):
            self.answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.cancel()


class Forwarder:
    """Asks upstream servers, in their order, leaving out those that do not answer and those that ask us."""

    def __init__(self, domain: str, monotonic: Callable[[], float]) -> None:
        self._domain = domain
        self._monotonic = monotonic
        self._upstreams: tuple[Upstream, ...] = ()
        self._silent: dict[Upstream, float] = {}
        self._looping: set[Upstream] = set()
        self._tokens: dict[str, Upstream] = {}
        self._under_way = 0
        self._wake = asyncio.Event()

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The servers that are asked."""
        return tuple(upstream for upstream in self._upstreams if upstream not in self._looping)

    @property
    def looping(self) -> tuple[Upstream, ...]:
        """The servers that are not, because they would ask us."""
        return tuple(sorted(self._looping, key=str))

    def use(self, upstreams: Sequence[Upstream]) -> None:
        """Ask these from now on."""
        if tuple(upstreams) == self._upstreams:
            return
        self._upstreams = tuple(upstreams)
        self._silent = {upstream: until for upstream, until in self._silent.items() if upstream in upstreams}
        self._looping &= set(upstreams)
        _log.info("upstream servers", servers=", ".join(map(str, upstreams)) or "none")
        self._wake.set()

    async def ask(self, packet: bytes, asked: Question, tcp: bool) -> bytes:
        """The answer of the first server that has one, to be passed on as it is; SERVFAIL when none has."""
        if self._under_way >= MOST:
            return messages.failed(packet, asked, messages.SERVFAIL)
        self._under_way += 1
        try:
            answer = await self._ask(packet, asked.section, tcp)
        finally:
            self._under_way -= 1
        if answer is None:
            return messages.failed(packet, asked, messages.SERVFAIL)
        return messages.renumbered(answer, messages.number_of(packet))

    async def _ask(self, packet: bytes, section: bytes, tcp: bool) -> bytes | None:
        deadline = self._monotonic() + PATIENCE
        failure: bytes | None = None
        lost = True
        while lost and failure is None:  # a datagram may be lost; a refusal stays one
            lost = False
            for upstream in self._in_order():
                left = deadline - self._monotonic()
                if left <= 0:
                    return failure
                try:
                    answer = await _one(upstream, packet, section, left if tcp else min(TRY, left), tcp)
                except (OSError, asyncio.IncompleteReadError) as error:
                    lost |= isinstance(error, TimeoutError) and not tcp
                    self._silent[upstream] = self._monotonic() + DISTRUST
                    continue
                self._silent.pop(upstream, None)
                if messages.rcode_of(answer) not in _FAILURES:
                    return answer
                failure = failure or answer
        return failure

    def _in_order(self) -> list[Upstream]:
        now = self._monotonic()
        return sorted(self.upstreams, key=lambda upstream: self._silent.get(upstream, 0.0) > now)

    async def run(self) -> None:
        """Look for loops, at once when the servers change and then every minute, until cancelled."""
        while True:
            self._wake.clear()
            await asyncio.gather(*(self._check(upstream) for upstream in self._upstreams))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RECHECK):
                    await self._wake.wait()

    async def _check(self, upstream: Upstream) -> None:
        """Ask a server for a name of ours that nobody else asks for: if the question comes back, it is a loop."""
        token = f"{secrets.token_hex(12)}.{self._domain}"
        self._tokens[token] = upstream
        packet = messages.query(0, token, messages.TXT)
        asked = messages.question(packet)
        assert isinstance(asked, Question)
        try:
            await _one(upstream, packet, asked.section, PATIENCE, tcp=False)
        except (OSError, asyncio.IncompleteReadError):
            pass  # a later question will tell
        finally:
            if self._tokens.pop(token, None) is not None:
                self._looping.discard(upstream)

    def met(self, name: str) -> None:
        """This name was asked of us."""
        upstream = self._tokens.pop(name, None)
        if upstream is not None and upstream not in self._looping:
            self._looping.add(upstream)
            _log.warning("upstream server asks us", server=str(upstream))


async def _one(upstream: Upstream, packet: bytes, section: bytes, seconds: float, tcp: bool) -> bytes:
    """A server's answer. Raises OSError, TimeoutError included, or IncompleteReadError."""
    number = secrets.randbits(16)
    exchange = _by_tcp if tcp else _by_udp
    async with asyncio.timeout(seconds):
        return await exchange(upstream, messages.renumbered(packet, number), number, section)


async def _by_udp(upstream: Upstream, packet: bytes, number: int, section: bytes) -> bytes:
    transport, exchange = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Exchange(number, section), remote_addr=(upstream.address, upstream.port)
    )
    try:
        transport.sendto(packet)
        return await exchange.answer
    finally:
        transport.close()


async def _by_tcp(upstream: Upstream, packet: bytes, number: int, section: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(upstream.address, upstream.port)
    try:
        writer.write(struct.pack(">H", len(packet)) + packet)
        while True:
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            answer = await reader.readexactly(length)
            if messages.answers(answer, number, section):
                return answer
    finally:
        writer.close()
