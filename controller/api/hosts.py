"""HostService."""

# ruff: noqa: N802 - method names are those of the proto

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from grpc import aio

from controller.api import messages
from controller.api.reading import stamped
from controller.api.watching import watch
from controller.plan.hosts import drain
from controller.plan.placement import unknown_host
from controller.reconcile.commit import Planned
from controller.reconcile.replica import Replica
from controller.reconcile.touched import Touched
from controller.state.snapshot import Snapshot
from trunkline.v1 import host_pb2, host_pb2_grpc

Context = aio.ServicerContext[Any, Any]


class HostApi(host_pb2_grpc.HostServiceServicer):
    """See protos/trunkline/v1/host.proto."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def _found(self, snapshot: Snapshot, name: str) -> host_pb2.Host:
        host = messages.host(snapshot, name)
        if host is None:
            raise unknown_host(snapshot, name)
        return host

    async def GetHost(self, request: host_pb2.GetHostRequest, context: Context) -> host_pb2.GetHostResponse:
        """One host."""
        snapshot = await stamped(self._replica, context)
        return host_pb2.GetHostResponse(host=self._found(snapshot, request.name))

    async def ListHosts(self, request: host_pb2.ListHostsRequest, context: Context) -> host_pb2.ListHostsResponse:
        """All hosts in order of name."""
        snapshot = await stamped(self._replica, context)
        found = [messages.host(snapshot, name) for name in sorted(snapshot.hosts)]
        return host_pb2.ListHostsResponse(hosts=[host for host in found if host is not None])

    async def WatchHosts(
        self, request: host_pb2.WatchHostsRequest, context: Context
    ) -> AsyncIterator[host_pb2.WatchHostsResponse]:
        """Latest states until the caller leaves."""

        def touched(_: Snapshot, what: Touched) -> Iterable[str]:
            return what.hosts

        def every(snapshot: Snapshot) -> Iterable[str]:
            return snapshot.hosts

        async for name, host in watch(self._replica, request.names, every, touched, messages.host):
            if host is None:
                yield host_pb2.WatchHostsResponse(host=host_pb2.Host(name=name), gone=True)
            else:
                yield host_pb2.WatchHostsResponse(host=host)

    async def DrainHost(self, request: host_pb2.DrainHostRequest, context: Context) -> host_pb2.DrainHostResponse:
        """Set or clear the drain mark."""

        def plan(snapshot: Snapshot) -> Planned[None]:
            return Planned(drain(snapshot, request.name, request.undo).txn, None)

        await self._replica.committer.commit_in_turn(plan)
        return host_pb2.DrainHostResponse(host=self._found(self._replica.snapshot, request.name))

    async def ForgetHost(self, request: host_pb2.ForgetHostRequest, context: Context) -> host_pb2.ForgetHostResponse:
        """Let a host go with all it held. Its steps can be taken up again by any replica, so an answer that is lost
        on the way costs nothing."""
        await self._replica.committer.fresh()
        let_go = await self._replica.releaser.forget(request.name)
        return host_pb2.ForgetHostResponse(attachments=sorted(let_go.attachments), addresses=len(let_go.addresses))
