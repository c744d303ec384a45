"""Asks the controller of the session for addresses."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc

from agent.docking import Granted, GrantRequest
from agent.session.live import Live
from trunkline import rpc
from trunkline.agent.v1 import address_pb2, address_pb2_grpc
from trunkline.errors import Reason, TrunklineError

_REMEDY: Final = "check the controllers and the path to them; see `trunkline host show` of this host"


class SessionGranter:
    """Implements `agent.docking.Granter` over the channel of the session that lives."""

    def __init__(self, host: str, live: Live) -> None:
        self._host = host
        self._live = live

    async def grant(self, request: GrantRequest, seconds: float) -> Granted:
        """See `agent.docking.Granter.grant`."""
        channel = self._live.channel
        if channel is None:
            raise TrunklineError(
                Reason.CONTROLLER_UNREACHABLE, f"host {self._host} has no session with a controller", _REMEDY
            )
        stub = address_pb2_grpc.AddressServiceStub(channel)
        message = address_pb2.GrantRequest(
            host=self._host,
            network=request.network,
            version=request.version,
            address=request.address,
            owner=request.owner,
            shared=request.shared,
            spare=request.spare,
        )
        try:
            answer = await stub.Grant(message, timeout=seconds)
        except grpc.RpcError as failure:
            raise rpc.from_rpc_error(failure) from None
        except asyncio.CancelledError:
            # grpc.aio raises this too when the channel was closed under a call.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise self._ended() from None
        except grpc.aio.UsageError:  # it was closed before the call began
            raise self._ended() from None
        return Granted(answer.address, answer.promised, answer.revision)

    def _ended(self) -> TrunklineError:
        return TrunklineError(
            Reason.CONTROLLER_UNREACHABLE, f"the session of host {self._host} ended while it asked", _REMEDY
        )
