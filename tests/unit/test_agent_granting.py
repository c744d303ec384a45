"""Grants over the session's channel, from a server that speaks real gRPC over a unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from agent.docking import Granted, GrantRequest
from agent.session.granting import SessionGranter
from agent.session.live import Live
from trunkline import rpc
from trunkline.agent.v1 import address_pb2, address_pb2_grpc
from trunkline.errors import Reason, Refusal, TrunklineError

ANY = GrantRequest("blue", 4, owner="web", shared=True, spare=True)


class Addresses(address_pb2_grpc.AddressServiceServicer):
    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.hanging = asyncio.Event()

    async def Grant(self, request: Any, context: Any) -> Any:
        self.asked.append((request, context.time_remaining()))
        if request.network == "full":
            raise Refusal(Reason.POOL_EXHAUSTED, "none is left", "remove a container")
        if request.network == "slow":
            self.hanging.set()
            await asyncio.sleep(60)
        return address_pb2.GrantResponse(address="10.9.0.2", promised=True, revision=7)


@pytest.fixture
def service() -> Addresses:
    return Addresses()


@pytest.fixture
async def endpoint(service: Addresses, tmp_path: Path) -> AsyncIterator[str]:
    server = aio.server(interceptors=[rpc.ErrorInterceptor()])
    address_pb2_grpc.add_AddressServiceServicer_to_server(service, server)
    server.add_insecure_port(f"unix:{tmp_path}/c.sock")
    await server.start()
    yield f"unix:{tmp_path}/c.sock"
    await server.stop(0)


async def refused(granter: SessionGranter, request: GrantRequest, seconds: float = 2.0) -> Reason:
    with pytest.raises(TrunklineError) as error:
        await granter.grant(request, seconds)
    return error.value.reason


async def test_without_a_session_nobody_is_waited_for() -> None:
    assert await refused(SessionGranter("h1", Live()), ANY) is Reason.CONTROLLER_UNREACHABLE


async def test_answers_refusals_and_deadlines(service: Addresses, endpoint: str) -> None:
    live = Live()
    granter = SessionGranter("h1", live)
    async with rpc.channel(endpoint, None) as channel:
        with live.over(channel):
            assert await granter.grant(ANY, 1.5) == Granted("10.9.0.2", True, 7)
            asked, left = service.asked[0]
            expected = address_pb2.GrantRequest(
                host="h1", network="blue", version=4, owner="web", shared=True, spare=True
            )
            assert asked == expected
            assert 1 < left < 1.6  # gRPC rounds up
            assert await refused(granter, GrantRequest("full", 4)) is Reason.POOL_EXHAUSTED
            assert await refused(granter, GrantRequest("slow", 4), 0.1) is Reason.DEADLINE
    assert await refused(granter, ANY) is Reason.CONTROLLER_UNREACHABLE


async def test_a_session_that_ends_under_a_grant(service: Addresses, endpoint: str) -> None:
    live = Live()
    granter = SessionGranter("h1", live)
    channel = rpc.channel(endpoint, None)
    with live.over(channel):
        waiting = asyncio.create_task(refused(granter, GrantRequest("slow", 4)))
        await service.hanging.wait()
        await channel.close()
        assert await waiting is Reason.CONTROLLER_UNREACHABLE
        assert await refused(granter, ANY) is Reason.CONTROLLER_UNREACHABLE
