"""A controller reduced to its side of the session: it speaks real gRPC, sends what it is told, keeps what it hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

from grpc import aio

from trunkline import rpc
from trunkline.agent.v1 import session_pb2, session_pb2_grpc
from trunkline.errors import TrunklineError
from trunkline.model import AttachmentObservation, Desired, HostFacts, NetworkObservation, Observation, Phase
from trunkline.wire import desired_to_pb, hello_from_pb, observation_from_pb

T = TypeVar("T")
Down = session_pb2.ConnectResponse


class FakeController(session_pb2_grpc.SessionServiceServicer):
    """Listens on a unix socket, which reaches into every network namespace. `refuse` is raised at each hello."""

    def __init__(self, socket: Path) -> None:
        self.endpoint = f"unix:{socket}"
        self.hellos: list[HostFacts] = []
        self.observations: list[Observation] = []
        self.targets: list[session_pb2.TargetReport] = []
        self.probes: list[session_pb2.ProbeReport] = []
        self.refuse: TrunklineError | None = None
        self._desired: Desired | None = None
        self._queues: set[asyncio.Queue[Down | None]] = set()
        self._heard = asyncio.Condition()
        self._server: aio.Server | None = None

    async def start(self) -> None:
        """Listen; may be started again after `stop`."""
        self._server = aio.server(interceptors=[rpc.ErrorInterceptor()], options=rpc.server_options())
        session_pb2_grpc.add_SessionServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.endpoint)
        await self._server.start()

    async def stop(self) -> None:
        """Cut all sessions and listen no more."""
        if self._server is not None:
            for queue in self._queues:
                queue.put_nowait(None)
            await self._server.stop(0.2)
            self._server = None

    @property
    def sessions(self) -> int:
        """Sessions open now."""
        return len(self._queues)

    def want(self, desired: Desired) -> None:
        """Send `desired` to each session, open now or later."""
        self._desired = desired
        self.send(Down(desired=desired_to_pb(desired)))

    def send(self, message: Down) -> None:
        """Send a message to each open session."""
        for queue in self._queues:
            queue.put_nowait(message)

    async def Connect(
        self, requests: AsyncIterator[session_pb2.ConnectRequest], context: object
    ) -> AsyncIterator[Down]:
        hello = await anext(aiter(requests))
        await self._hear(self.hellos, hello_from_pb(hello.hello))
        if self.refuse is not None:
            raise self.refuse
        queue: asyncio.Queue[Down | None] = asyncio.Queue()
        self._queues.add(queue)
        listening = asyncio.create_task(self._listen(requests))
        try:
            yield Down(welcome=session_pb2.Welcome(session=len(self.hellos), epoch="e", version="0", replica="fake"))
            if self._desired is not None:
                yield Down(desired=desired_to_pb(self._desired))
            while (message := await queue.get()) is not None:
                yield message
        finally:
            self._queues.discard(queue)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, requests: AsyncIterator[session_pb2.ConnectRequest]) -> None:
        async for request in requests:
            match request.WhichOneof("message"):
                case "observation":
                    await self._hear(self.observations, observation_from_pb(request.observation))
                case "target":
                    await self._hear(self.targets, request.target)
                case "probe":
                    await self._hear(self.probes, request.probe)

    async def _hear(self, heard: list[T], value: T) -> None:
        async with self._heard:
            heard.append(value)
            self._heard.notify_all()

    async def until(self, what: Callable[[], bool], timeout: float = 15) -> None:
        """Until `what` holds; it is asked again whenever something was heard."""
        async with asyncio.timeout(timeout), self._heard:
            await self._heard.wait_for(what)

    async def observed(
        self, what: Callable[[Observation], bool], timeout: float = 15, *, after: int = 0
    ) -> Observation:
        """The first observation past number `after` of which `what` holds."""
        found: list[Observation] = []

        def seek() -> bool:
            found[:] = [seen for seen in self.observations[after:] if what(seen)][:1]
            return bool(found)

        try:
            await self.until(seek, timeout)
        except TimeoutError:
            last = self.observations[-1] if self.observations else None
            raise AssertionError(f"not observed within {timeout} s; last: {last}") from None
        return found[0]


def attachment(seen: Observation, name: str) -> AttachmentObservation | None:
    """What was seen of an attachment."""
    return next((one for one in seen.attachments if one.name == name), None)


def network(seen: Observation, name: str) -> NetworkObservation | None:
    """What was seen of a network."""
    return next((one for one in seen.networks if one.name == name), None)


def in_phase(name: str, phase: Phase, revision: int = 0) -> Callable[[Observation], bool]:
    """The attachment is in `phase`, in an observation of `revision` or later."""

    def holds(seen: Observation) -> bool:
        one = attachment(seen, name)
        return one is not None and one.phase is phase and seen.revision >= revision

    return holds


def gone(name: str, revision: int = 0) -> Callable[[Observation], bool]:
    """A complete observation of `revision` or later is without the attachment."""
    return lambda seen: seen.complete and seen.revision >= revision and attachment(seen, name) is None
