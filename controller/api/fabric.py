"""FabricService."""

# ruff: noqa: N802 - method names are those of the proto

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from grpc import aio

from controller.api import messages
from controller.api.overview import overview
from controller.api.reading import stamped
from controller.plan.status import uplink_views
from controller.plan.uplinks import UplinkPlan, set_uplink
from controller.reconcile.commit import Planned
from controller.reconcile.replica import Replica
from controller.state.snapshot import Snapshot
from trunkline.errors import Reason, Refusal
from trunkline.ids import PROTOCOL
from trunkline.v1 import fabric_pb2, fabric_pb2_grpc

Context = aio.ServicerContext[Any, Any]


class FabricApi(fabric_pb2_grpc.FabricServiceServicer):
    """See protos/trunkline/v1/fabric.proto."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._version = version("trunkline")

    async def Ping(self, request: fabric_pb2.PingRequest, context: Context) -> fabric_pb2.PingResponse:
        """Version and protocol, at once."""
        if request.protocol not in (0, PROTOCOL):
            raise Refusal(
                Reason.PROTOCOL_VERSION,
                f"controller {self._replica.name} speaks protocol {PROTOCOL}, the client {request.protocol}",
                "install the same release of Trunkline on both",
            )
        return fabric_pb2.PingResponse(
            version=self._version, protocol=PROTOCOL, replica=self._replica.name, level=self._replica.level
        )

    async def SetUplink(self, request: fabric_pb2.SetUplinkRequest, context: Context) -> fabric_pb2.SetUplinkResponse:
        """Replace what the switches carry on a label."""
        ranges = tuple((one.first, one.last) for one in request.vlans)

        def plan(snapshot: Snapshot) -> Planned[UplinkPlan]:
            planned = set_uplink(snapshot, request.label, ranges)
            return Planned(planned.txn, planned)

        planned, _ = await self._replica.committer.commit_in_turn(plan)
        views = {view.label: view for view in uplink_views(self._replica.snapshot)}
        return fabric_pb2.SetUplinkResponse(uplink=messages.uplink(views[request.label]), warnings=planned.warnings)

    async def ListUplinks(
        self, request: fabric_pb2.ListUplinksRequest, context: Context
    ) -> fabric_pb2.ListUplinksResponse:
        """All labels that were set or reported."""
        snapshot = await stamped(self._replica, context)
        return fabric_pb2.ListUplinksResponse(uplinks=[messages.uplink(view) for view in uplink_views(snapshot)])

    async def GetStatus(self, request: fabric_pb2.GetStatusRequest, context: Context) -> fabric_pb2.GetStatusResponse:
        """The whole at a glance; answers with the store away, too, and then says so."""
        members = await self._replica.store.members()
        return overview(self._replica, members, self._version)
