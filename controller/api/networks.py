"""NetworkService."""

# ruff: noqa: N802 - method names are those of the proto

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from grpc import aio

from controller.api import messages, parse
from controller.api.imports import ImportApi
from controller.api.reading import stamped
from controller.api.watching import watch
from controller.plan.deletion import delete_network
from controller.plan.networks import NetworkPlan, create_network, update_network
from controller.reconcile.commit import Planned
from controller.reconcile.touched import Touched
from controller.state.snapshot import Snapshot
from trunkline.errors import Reason, Refusal
from trunkline.v1 import network_pb2

Context = aio.ServicerContext[Any, Any]


class NetworkApi(ImportApi):
    """See protos/trunkline/v1/network.proto."""

    async def CreateNetwork(
        self, request: network_pb2.CreateNetworkRequest, context: Context
    ) -> network_pb2.CreateNetworkResponse:
        """Claim VLAN id, prefixes and number in one transaction."""
        wanted = parse.network(request.spec)

        def plan(snapshot: Snapshot) -> Planned[NetworkPlan]:
            planned = create_network(snapshot, wanted, self._replica.clock.now_ms())
            return Planned(planned.txn, planned)

        planned, _ = await self._replica.committer.commit_in_turn(plan)
        return network_pb2.CreateNetworkResponse(
            network=self._found(self._replica.snapshot, wanted.name), existed=planned.existed, warnings=planned.warnings
        )

    def _found(self, snapshot: Snapshot, name: str) -> network_pb2.Network:
        network = messages.network(snapshot, name)
        if network is None:
            known = ", ".join(sorted(snapshot.networks)[:10]) or "none"
            raise Refusal(
                Reason.NETWORK_NOT_FOUND,
                f"network {name!r} does not exist (known: {known})",
                "see `trunkline network list`",
                network=name,
            )
        return network

    async def GetNetwork(
        self, request: network_pb2.GetNetworkRequest, context: Context
    ) -> network_pb2.GetNetworkResponse:
        """One network."""
        snapshot = await stamped(self._replica, context)
        return network_pb2.GetNetworkResponse(network=self._found(snapshot, request.name))

    async def ListNetworks(
        self, request: network_pb2.ListNetworksRequest, context: Context
    ) -> network_pb2.ListNetworksResponse:
        """All networks in order of name."""
        snapshot = await stamped(self._replica, context)
        found = [messages.network(snapshot, name) for name in sorted(snapshot.networks)]
        return network_pb2.ListNetworksResponse(networks=[network for network in found if network is not None])

    async def WatchNetworks(
        self, request: network_pb2.WatchNetworksRequest, context: Context
    ) -> AsyncIterator[network_pb2.WatchNetworksResponse]:
        """Latest states until the caller leaves."""

        def touched(snapshot: Snapshot, what: Touched) -> Iterable[str]:
            return {*snapshot.networks, *what.networks} if what.flapped else what.networks

        def every(snapshot: Snapshot) -> Iterable[str]:
            return snapshot.networks

        async for name, network in watch(self._replica, request.names, every, touched, messages.network):
            if network is None:
                gone = network_pb2.Network(spec=network_pb2.NetworkSpec(name=name))
                yield network_pb2.WatchNetworksResponse(network=gone, gone=True)
            else:
                yield network_pb2.WatchNetworksResponse(network=network)

    async def UpdateNetwork(
        self, request: network_pb2.UpdateNetworkRequest, context: Context
    ) -> network_pb2.UpdateNetworkResponse:
        """All changes or none."""
        wanted = parse.update(request)

        def plan(snapshot: Snapshot) -> Planned[NetworkPlan]:
            planned = update_network(snapshot, wanted)
            return Planned(planned.txn, planned)

        planned, _ = await self._replica.committer.commit_in_turn(plan)
        return network_pb2.UpdateNetworkResponse(
            network=self._found(self._replica.snapshot, request.name), warnings=planned.warnings
        )

    async def DeleteNetwork(
        self, request: network_pb2.DeleteNetworkRequest, context: Context
    ) -> network_pb2.DeleteNetworkResponse:
        """Mark as deleting; the rest follows from what the hosts are observed to have."""

        def plan(snapshot: Snapshot) -> Planned[None]:
            return Planned(delete_network(snapshot, request.name).txn, None)

        await self._replica.committer.commit_in_turn(plan)
        return network_pb2.DeleteNetworkResponse(gone=request.name not in self._replica.snapshot.networks)
