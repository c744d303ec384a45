"""One session after the other, with whichever controller answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc import aio

from agent.session.answers import Answers
from agent.session.importing import Imports
from agent.session.live import Live
from agent.session.outbox import Outbox
from trunkline import log, rpc
from trunkline.agent.v1 import session_pb2, session_pb2_grpc
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, HostFacts
from trunkline.tls import ClientTls
from trunkline.v1 import network_pb2
from trunkline.wire import desired_from_pb, hello_to_pb

WELCOME_SECONDS: Final = 10.0
STABLE_SECONDS: Final = 5.0
"""A session that lasted so long was a good one: the next is dialled at once. Two agents under one host's name, which
take the session from each other, are not let spin."""

_FIRST_SECONDS: Final = 0.25
_LIMIT_SECONDS: Final = 10.0

_Call = aio.StreamStreamCall[session_pb2.ConnectRequest, session_pb2.ConnectResponse]


@dataclass(frozen=True, slots=True)
class Controllers:
    """Where controllers are, in the order of preference, and how to reach them."""

    endpoints: Sequence[str]
    tls: ClientTls | None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What is said: `outbox`, `answers` and `imports` go up, `facts` is asked at each hello, `want` gets each desired
    state. Without `imports` this host has no Docker networks that could be taken over."""

    outbox: Outbox
    answers: Answers
    facts: Callable[[], Awaitable[HostFacts]]
    want: Callable[[Desired], None]
    imports: Imports | None = None


class Session:
    """Keeps a session with a controller for as long as it runs."""

    def __init__(
        self,
        controllers: Controllers,
        dialogue: Dialogue,
        clock: Clock,
        draw: Callable[[], float],
        live: Live | None = None,
    ) -> None:
        self._controllers = controllers
        self._facts = dialogue.facts
        self._want = dialogue.want
        self._answers = dialogue.answers
        self._imports = dialogue.imports
        self._outbox = dialogue.outbox
        self._clock = clock
        self._backoff = Backoff(_FIRST_SECONDS, _LIMIT_SECONDS, draw)
        self.live = live or Live()
        self._said: set[tuple[str, Reason]] = set()
        self._log = log.get("session")

    async def run(self) -> None:
        """Dial, serve, and dial again, until cancelled."""
        while True:
            for endpoint in self._controllers.endpoints:
                await self._try(endpoint)
            await self._clock.sleep(self._backoff.next())

    async def _try(self, endpoint: str) -> None:
        """One session with one controller, to its end."""
        began = self._clock.monotonic()
        try:
            async with rpc.channel(endpoint, self._controllers.tls) as channel:
                await self._serve(endpoint, channel)
            error = TrunklineError(Reason.CONTROLLER_UNREACHABLE, f"{endpoint} ended the session")
        except TrunklineError as known:
            error = known
        except grpc.RpcError as failure:
            error = rpc.from_rpc_error(failure)
        except asyncio.CancelledError:
            # grpc.aio raises this too when the *server* ended the stream with status CANCELLED.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            error = TrunklineError(Reason.CONTROLLER_UNREACHABLE, f"{endpoint} cancelled the session")
        except Exception as bug:
            self._log.error("session failed", controller=endpoint, exc_info=bug)
            error = TrunklineError(Reason.INTERNAL, "the session failed")
        if self._clock.monotonic() - began > STABLE_SECONDS:
            self._backoff.reset()
        self._say(endpoint, error)

    def _say(self, endpoint: str, error: TrunklineError) -> None:
        """Once for each controller and reason until a session opens, not for each try."""
        if (endpoint, error.reason) not in self._said:
            self._said.add((endpoint, error.reason))
            self._log.warning("no session", controller=endpoint, reason=error.reason.name, why=error.text)

    async def _serve(self, endpoint: str, channel: aio.Channel) -> None:
        stub = session_pb2_grpc.SessionServiceStub(channel)
        call: _Call = stub.Connect()
        welcome = await self._greet(endpoint, call)
        self._log.info("session", controller=endpoint, replica=welcome.replica, number=welcome.session)
        self._said.clear()
        self._outbox.begin()
        tasks = {asyncio.create_task(self._send(call, welcome.session))}
        try:
            with self.live.over(channel):
                await self._receive(call, tasks)
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await _raise_status(call)

    async def _greet(self, endpoint: str, call: _Call) -> session_pb2.Welcome:
        """Say hello; what the controller answers. Raises why it does not."""
        first: Any = None
        try:
            async with asyncio.timeout(WELCOME_SECONDS):
                hello = hello_to_pb(await self._facts())
                # InvalidStateError: the call ended before the hello was written; its status says why.
                with contextlib.suppress(asyncio.InvalidStateError):
                    await call.write(session_pb2.ConnectRequest(hello=hello))
                    first = await call.read()
        except TimeoutError:
            call.cancel()
            raise TrunklineError(
                Reason.CONTROLLER_UNREACHABLE, f"{endpoint} does not answer", "check the controller and the path to it"
            ) from None
        if isinstance(first, session_pb2.ConnectResponse) and first.HasField("welcome"):
            return first.welcome
        await _raise_status(call)
        raise TrunklineError(
            Reason.PROTOCOL_VERSION,
            f"{endpoint} did not welcome this host",
            "use an agent and a controller of one release",
        )

    async def _send(self, call: _Call, session: int) -> None:
        while True:
            try:
                await call.write(await self._outbox.take(session))
            except (grpc.RpcError, asyncio.InvalidStateError):  # the reader learns why the stream ended
                return
            except Exception as bug:
                # A session that only listens would look well and tell nothing.
                self._log.error("sending failed", exc_info=bug)
                call.cancel()
                return

    async def _receive(self, call: _Call, tasks: set[asyncio.Task[None]]) -> None:
        while True:
            message: Any = await call.read()
            if message is aio.EOF:
                return
            match message.WhichOneof("message"):
                case "desired":
                    self._want(desired_from_pb(message.desired))
                case "inspect":
                    _begin(self._inspect(message.inspect), tasks)
                case "probe":
                    _begin(self._probe(self._answers.probe(message.probe)), tasks)
                case "survey":
                    _begin(self._survey(message.survey), tasks)
                case "replace":
                    _begin(self._replace(message.replace), tasks)
                case other:
                    self._log.debug("message ignored", kind=other)

    async def _inspect(self, question: session_pb2.InspectTarget) -> None:
        report = await self._answers.target(question)
        self._outbox.answer(session_pb2.ConnectRequest(target=report))

    async def _survey(self, question: session_pb2.SurveyDocker) -> None:
        report = session_pb2.DockerSurvey(id=question.id)
        if self._imports is not None:
            report = await self._imports.survey(question)
        self._outbox.answer(session_pb2.ConnectRequest(survey=report))

    async def _replace(self, question: session_pb2.ReplaceDocker) -> None:
        if self._imports is None:
            done = network_pb2.ReplaceNetworkResponse(message="nothing to exchange: there is no Docker", done=True)
            report = session_pb2.ReplaceReport(id=question.id, step=done)
            self._outbox.answer(session_pb2.ConnectRequest(replaced=report))
            return
        async for report in self._imports.replace(question):
            self._outbox.answer(session_pb2.ConnectRequest(replaced=report))

    async def _probe(self, reports: AsyncIterator[session_pb2.ProbeReport]) -> None:
        async for report in reports:
            self._outbox.answer(session_pb2.ConnectRequest(probe=report))


def _begin(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _raise_status(call: _Call) -> None:
    """Raise what a stream that is over ended with, if it ended badly."""
    code = await call.code()
    if code not in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
        details = await call.details()
        raise rpc.from_rpc_error(
            aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), details)
        )
