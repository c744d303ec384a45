"""AddressService."""

# ruff: noqa: N802 - method names are those of the proto

from __future__ import annotations

from typing import Any

from grpc import aio

from controller.api import messages
from controller.api.reading import stamped
from controller.plan.who import who
from controller.reconcile.replica import Replica
from trunkline.v1 import address_pb2, address_pb2_grpc


class AddressApi(address_pb2_grpc.AddressServiceServicer):
    """See protos/trunkline/v1/address.proto."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def Who(
        self, request: address_pb2.WhoRequest, context: aio.ServicerContext[Any, Any]
    ) -> address_pb2.WhoResponse:
        """All that is known of an address, a MAC or a container."""
        snapshot = await stamped(self._replica, context)
        found = who(snapshot, request.query, self._replica.clock.now_ms())
        return address_pb2.WhoResponse(holdings=[messages.holding(one) for one in found])
