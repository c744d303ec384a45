"""AddressService."""

# ruff: noqa: N802 - method names are those of the proto

from __future__ import annotations

import asyncio
from typing import Any

from grpc import aio

from controller.api import messages
from controller.api.reading import BREATH, stamped
from controller.plan.placement import unknown_host
from controller.plan.reservations import ReleasePlan, ReservePlan, listed, network_of, release, reserve
from controller.plan.who import of_record, who
from controller.reconcile.commit import Planned
from controller.reconcile.replica import Replica
from controller.state.snapshot import Snapshot
from controller.state.txn import Txn
from trunkline.v1 import address_pb2, address_pb2_grpc

Context = aio.ServicerContext[Any, Any]


class AddressApi(address_pb2_grpc.AddressServiceServicer):
    """See protos/trunkline/v1/address.proto."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._cursors = replica.cursors

    async def Who(self, request: address_pb2.WhoRequest, context: Context) -> address_pb2.WhoResponse:
        """All that is known of an address, a MAC or a container."""
        snapshot = await stamped(self._replica, context)
        found = who(snapshot, request.query, self._replica.clock.now_ms())
        return address_pb2.WhoResponse(holdings=[messages.holding(one) for one in found])

    async def Reserve(self, request: address_pb2.ReserveRequest, context: Context) -> address_pb2.ReserveResponse:
        """One promise per prefix, or the one address; in one transaction."""
        name, now_ms = request.network, self._replica.clock.now_ms()
        tried: Txn | None = None

        def plan(snapshot: Snapshot) -> Planned[ReservePlan]:
            nonlocal tried
            if tried is not None:
                self._cursors.lost(snapshot, tried, 0, False)
            planned = reserve(snapshot, name, request.owner, request.address, self._cursors, now_ms)
            tried = planned.txn
            return Planned(planned.txn, planned)

        planned, _ = await self._replica.committer.commit_in_turn(plan)
        snapshot = self._replica.snapshot
        found = [of_record(snapshot, name, address, record, now_ms) for address, record in planned.promised]
        return address_pb2.ReserveResponse(holdings=[messages.holding(one) for one in found], existed=planned.existed)

    async def Release(self, request: address_pb2.ReleaseRequest, context: Context) -> address_pb2.ReleaseResponse:
        """Take promises back; what a use of an address began as its rest goes on."""
        name = request.network
        network = network_of(await self._replica.committer.fresh(), name)
        lease = await self._replica.leases.lease(name, network.rest_seconds) if network.rest_seconds else 0

        def plan(snapshot: Snapshot) -> Planned[ReleasePlan]:
            planned = release(snapshot, name, request.owner, self._replica.clock.now_ms(), lease)
            return Planned(planned.txn, planned)

        planned, _ = await self._replica.committer.commit_in_turn(plan)
        return address_pb2.ReleaseResponse(addresses=[str(address) for address in planned.addresses])

    async def ListAddresses(
        self, request: address_pb2.ListAddressesRequest, context: Context
    ) -> address_pb2.ListAddressesResponse:
        """Addresses in order of network and address."""
        snapshot = await stamped(self._replica, context)
        now_ms = self._replica.clock.now_ms()
        found = []
        for turn, one in enumerate(
            listed(snapshot, request.network, request.host, request.owner, request.kind, now_ms)
        ):
            if turn % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            found.append(messages.holding(one))
        if not found and request.host and request.host not in snapshot.hosts:
            raise unknown_host(snapshot, request.host)
        return address_pb2.ListAddressesResponse(holdings=found)
