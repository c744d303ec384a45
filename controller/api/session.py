"""SessionService: one stream per host."""

# ruff: noqa: N802 - method names are those of the proto

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from grpc import aio

from controller.api.authz import check_host
from controller.fleet import Session
from controller.reconcile.replica import Replica
from controller.reconcile.settling import Settling
from trunkline import log
from trunkline.agent.v1 import session_pb2, session_pb2_grpc
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.ids import PROTOCOL, check_name
from trunkline.model import HostFacts
from trunkline.tls import peer_identity
from trunkline.wire import hello_from_pb, observation_from_pb

HELLO_SECONDS = 10.0
"""How long a stream may stay open without a hello."""

_log = log.get("session")

Requests = AsyncIterator[session_pb2.ConnectRequest]


class SessionApi(session_pb2_grpc.SessionServiceServicer):
    """See protos/trunkline/agent/v1/session.proto."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def Connect(
        self, requests: Requests, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[session_pb2.ConnectResponse]:
        """Greet, then push and listen until either side ends."""
        facts = await _greeted(requests)
        check_host(peer_identity(context), facts.host, "the hello")
        async with self._replica.session(facts) as (session, settling):
            reader = asyncio.create_task(_listen(requests, session, settling))
            try:
                yield session_pb2.ConnectResponse(
                    welcome=session_pb2.Welcome(
                        session=session.number,
                        epoch=self._replica.snapshot.epoch,
                        version=version("trunkline"),
                        replica=self._replica.name,
                    )
                )
                async for message in session.outgoing():
                    yield message
            finally:
                reader.cancel()


async def _greeted(requests: Requests) -> HostFacts:
    """The hello that opens a session, checked."""
    try:
        async with asyncio.timeout(HELLO_SECONDS):
            first = await anext(aiter(requests))
    except (TimeoutError, StopAsyncIteration):
        raise Refusal(Reason.INVALID_ARGUMENT, "the session was opened without a hello", "send Hello first") from None
    if first.WhichOneof("message") != "hello":
        raise Refusal(Reason.INVALID_ARGUMENT, "the first message of a session is not a hello", "send Hello first")
    hello = first.hello
    if hello.protocol != PROTOCOL:
        raise Refusal(
            Reason.PROTOCOL_VERSION,
            f"the agent of host {hello.host} speaks protocol {hello.protocol}, this controller {PROTOCOL}",
            "install the same release on both",
            host=hello.host,
        )
    check_name("host", hello.host)
    if not hello.machine_id:
        raise Refusal(
            Reason.INVALID_ARGUMENT, f"host {hello.host} names no machine-id", "give the machine an /etc/machine-id"
        )
    return hello_from_pb(hello)


async def _listen(requests: Requests, session: Session, settling: Settling) -> None:
    """Take what comes up until the stream ends; a broken message ends the session, never another's."""
    try:
        async for message in requests:
            _take(message, session, settling)
    except TrunklineError as error:
        session.end(error)
    except aio.AioRpcError as error:
        session.end(TrunklineError(Reason.HOST_UNREACHABLE, f"the stream of host {session.host} broke: {error.code()}"))
    except Exception as error:
        # Unread, the stream would stay open, and the host connected and mute.
        _log.error("session failed", host=session.host, exc_info=error)
        session.end(TrunklineError(Reason.INTERNAL, f"the controller failed on a message of host {session.host}"))
    else:
        session.end(TrunklineError(Reason.HOST_UNREACHABLE, f"host {session.host} closed its session"))


def _take(message: session_pb2.ConnectRequest, session: Session, settling: Settling) -> None:
    match message.WhichOneof("message"):
        case "observation":
            session.observed()
            settling.observed(observation_from_pb(message.observation))
        case "target":
            session.answered(message.target)
        case "probe":
            session.reported(message.probe)
        case "survey":
            session.surveyed(message.survey)
        case "replaced":
            session.replaced(message.replaced)
        case "hello":
            raise Refusal(Reason.INVALID_ARGUMENT, f"host {session.host} sent a second hello", "open a new session")
        case _:
            pass  # a kind of message that a newer agent knows; additive inside v1
