"""The probe child: packet sockets, crafted frames, and nothing else. It ends when its parent does."""

from __future__ import annotations

import asyncio
import ctypes
import random
import signal
import socket
import time
from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from agent.ports import ProbeResult
from agent.probes import messages
from agent.probes.announce import Announcer
from agent.probes.conflict import judge
from agent.probes.exchange import TICK, Exchange
from agent.probes.messages import Verdict
from agent.probes.packet import PacketSocket
from trunkline.errors import TrunklineError

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Be killed when the parent ends (prctl(2)): the end of the socket pair would not wake a child that hangs."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class _Run:
    """One part in a check, on one packet socket."""

    def __init__(self, request: messages.Run, child: _Child) -> None:
        self._call = request.call
        self._child = child
        self._exchange = Exchange(request.plan, time.monotonic(), random.random)
        self._link = PacketSocket(request.index)
        self._news: list[ProbeResult] = []
        self._heard = asyncio.Event()
        self._failure = ""
        self._told = False

    async def run(self) -> str:
        """Probe and listen until the plan's time is over; why it failed, or nothing."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._link, self._hear)
        try:
            while not self._failure and time.monotonic() < self._exchange.ends:
                await self._step()
            if not self._failure and not self._link.running():
                self._failure = "the link is down or has no carrier"
            if not self._failure:
                self._news += self._exchange.finish(self._link.drops())
            self._report()
        except OSError as error:
            self._failure = error.strerror or str(error)
        finally:
            loop.remove_reader(self._link)
            self._link.close()
        return self._failure

    async def _step(self) -> None:
        now = time.monotonic()
        wake = now + TICK
        # Before the carrier is there frames are accepted and lost; the first round waits for it.
        if self._link.running():
            self._send(now)
            wake = self._exchange.wake()
        self._news += self._exchange.settled(now)
        self._report()
        self._heard.clear()
        try:
            await asyncio.wait_for(self._heard.wait(), max(0.0, wake - time.monotonic()))
        except TimeoutError:
            pass

    def _send(self, now: float) -> None:
        for shot in self._exchange.due(now):
            # The clocks are read before the frame leaves: a neighbour in the same kernel answers within the call.
            monotonic, wall = time.monotonic_ns(), time.time_ns()
            if self._link.send(shot.frame):
                self._exchange.sent(shot, monotonic, wall)

    def _hear(self) -> None:
        try:
            for arrival in self._link.receive():
                answer, news = self._exchange.receive(arrival.frame, arrival.monotonic_ns, arrival.wall_ns)
                if answer is not None:
                    self._link.send(answer)
                self._news += news
        except OSError as error:
            self._failure = error.strerror or str(error)
        self._heard.set()

    def _report(self) -> None:
        complete = self._exchange.complete and not self._failure
        if self._news or (complete and not self._told):
            self._child.tell(messages.Learnt(self._call, self._news, complete))
            self._news = []
            self._told = complete


class _Child:
    """Takes requests until the parent closes its end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._announcer = Announcer()

    def tell(self, report: messages.Report) -> None:
        """Send a report to the agent."""
        self._writer.write(messages.pack(report))

    async def serve(self) -> None:
        """Serve until the end of the socket pair."""
        self.tell(messages.Ready())
        while True:
            try:
                request = await messages.read_request(self._reader)
            except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
                return
            match request:
                case messages.Run():
                    self._start(request.call, self._run(request))
                case messages.Conflicts():
                    self._start(request.call, self._conflicts(request))
                case messages.Announce():
                    self._start(request.call, self._announce(request))
                case messages.Stop():
                    if (task := self._calls.get(request.call)) is not None:
                        task.cancel()

    def _start(self, call: int, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._calls[call] = task
        task.add_done_callback(lambda _: self._calls.pop(call, None))

    async def _run(self, request: messages.Run) -> None:
        error = "stopped"
        try:
            error = await _Run(request, self).run()
        except (OSError, TrunklineError) as failure:
            error = str(failure)
        finally:
            self.tell(messages.Finished(request.call, error))

    async def _conflicts(self, request: messages.Conflicts) -> None:
        self.tell(messages.Judged(request.call, await judge(request.probes)))

    async def _announce(self, request: messages.Announce) -> None:
        verdicts: list[Verdict] = await self._announcer.announce(request.announcements)
        self.tell(messages.Judged(request.call, verdicts))


async def serve(descriptor: int) -> None:
    """Serve the agent at the other end of the socket `descriptor` until it closes."""
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    try:
        await _Child(reader, writer).serve()
    finally:
        writer.close()
