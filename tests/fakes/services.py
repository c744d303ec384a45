"""A double of the controller's services, over real gRPC on the loopback, for tests of the CLI.

It keeps what it is given and plays the course that a test writes: each step is what a watch says next. It decides
nothing (no addresses, no laws): the CLI against the real controller is the end-to-end tests' matter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NoReturn, Self

import grpc

from trunkline import rpc
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.tls import ServerTls
from trunkline.v1 import (
    address_pb2,
    address_pb2_grpc,
    attachment_pb2,
    attachment_pb2_grpc,
    check_pb2,
    check_pb2_grpc,
    fabric_pb2,
    fabric_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    network_pb2,
    network_pb2_grpc,
)

Step = Callable[[Any], None]
"""What a watch does to the object before it sends it again; raise Gone to remove it."""


class Gone(Exception):
    """The object is removed."""


class Double:
    """State of the double, its calls and its course. A context manager that serves while it is open."""

    def __init__(self, tls: ServerTls | None = None) -> None:
        self.endpoint = ""
        self._tls = tls
        self.calls: list[tuple[str, Any]] = []
        self.refusals: dict[str, TrunklineError] = {}
        self.networks: dict[str, network_pb2.Network] = {}
        self.attachments: dict[str, attachment_pb2.Attachment] = {}
        self.hosts: dict[str, host_pb2.Host] = {}
        self.uplinks: dict[str, fabric_pb2.Uplink] = {}
        self.holdings: list[address_pb2.Holding] = []
        self.status = fabric_pb2.GetStatusResponse(version="0.1.0", replica="c1", epoch="e1", revision=7)
        self.events: list[check_pb2.RunCheckResponse] = []
        self.course: list[Step] = []
        self.silent_watch = False
        self.warnings: list[str] = []
        self.cut_watch_once = False
        self.stale_seconds = 0
        self.mute = False
        self.level = True
        self._server: grpc.Server | None = None

    def __enter__(self) -> Self:
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        # A double leaves out what nobody asks it for; grpc's base class answers that with UNIMPLEMENTED.
        fabric_pb2_grpc.add_FabricServiceServicer_to_server(_Fabric(self), self._server)
        network_pb2_grpc.add_NetworkServiceServicer_to_server(_Networks(self), self._server)  # type: ignore[abstract]
        attachment_pb2_grpc.add_AttachmentServiceServicer_to_server(_Attachments(self), self._server)  # type: ignore[abstract]
        address_pb2_grpc.add_AddressServiceServicer_to_server(_Addresses(self), self._server)  # type: ignore[abstract]
        host_pb2_grpc.add_HostServiceServicer_to_server(_Hosts(self), self._server)  # type: ignore[abstract]
        check_pb2_grpc.add_CheckServiceServicer_to_server(_Checks(self), self._server)
        if self._tls is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", self._tls.credentials())
        self.endpoint = f"127.0.0.1:{port}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.stop(None).wait()

    def host(self, name: str, connected: bool = True) -> host_pb2.Host:
        """Register a host."""
        self.hosts[name] = host_pb2.Host(name=name, machine_id=name * 2, connected=connected, agent_version="0.1.0")
        return self.hosts[name]

    def called(self, method: str) -> list[Any]:
        """Requests of one method, in order."""
        return [request for name, request in self.calls if name == method]

    def take(self, method: str, request: Any, context: grpc.ServicerContext) -> None:
        """Note a call; refuse it if the test says so. A unary call must carry a deadline, as on a real controller."""
        self.calls.append((method, request))
        if context.time_remaining() is None:
            _abort(context, TrunklineError(Reason.INVALID_ARGUMENT, f"{method} without a deadline"))
        if self.stale_seconds and method != "Ping":
            context.set_trailing_metadata((("trunkline-stale-seconds", str(self.stale_seconds)),))
        if self.mute and method != "Ping":
            left = threading.Event()
            if context.add_callback(left.set):
                left.wait()
        if method in self.refusals:
            _abort(context, self.refusals[method])

    def watch(self, context: grpc.ServicerContext, get: Callable[[], Any], drop: Step) -> Iterator[Any]:
        """The object as it is, then after each step of the course; None when it is gone; then silence."""
        if self.cut_watch_once:
            self.cut_watch_once = False
            context.abort(grpc.StatusCode.UNAVAILABLE, "replica stops")
        left = threading.Event()
        context.add_callback(left.set)
        found = get()
        if found is not None and not self.silent_watch:
            yield found
        while self.course:
            try:
                self.course.pop(0)(found)
            except Gone:
                drop(found)
                yield None
                break
            if not self.silent_watch:
                yield found
        left.wait()


def _abort(context: grpc.ServicerContext, error: TrunklineError) -> NoReturn:
    context.abort_with_status(rpc.to_status(error))
    raise AssertionError


def _missing(context: grpc.ServicerContext, reason: Reason, name: str) -> NoReturn:
    _abort(context, Refusal(reason, f"no object {name}", "list them"))


class _Fabric(fabric_pb2_grpc.FabricServiceServicer):
    def __init__(self, double: Double) -> None:
        self.double = double

    def Ping(self, request: Any, context: Any) -> fabric_pb2.PingResponse:
        self.double.take("Ping", request, context)
        return fabric_pb2.PingResponse(version="0.1.0", protocol=1, replica="c1", level=self.double.level)

    def SetUplink(self, request: Any, context: Any) -> fabric_pb2.SetUplinkResponse:
        self.double.take("SetUplink", request, context)
        uplink = fabric_pb2.Uplink(label=request.label, vlans=request.vlans, set=True)
        self.double.uplinks[request.label] = uplink
        return fabric_pb2.SetUplinkResponse(uplink=uplink, warnings=self.double.warnings)

    def ListUplinks(self, request: Any, context: Any) -> fabric_pb2.ListUplinksResponse:
        self.double.take("ListUplinks", request, context)
        return fabric_pb2.ListUplinksResponse(uplinks=self.double.uplinks.values())

    def GetStatus(self, request: Any, context: Any) -> fabric_pb2.GetStatusResponse:
        self.double.take("GetStatus", request, context)
        return self.double.status


class _Networks(network_pb2_grpc.NetworkServiceServicer):
    def __init__(self, double: Double) -> None:
        self.double = double

    def CreateNetwork(self, request: Any, context: Any) -> network_pb2.CreateNetworkResponse:
        self.double.take("CreateNetwork", request, context)
        existed = request.spec.name in self.double.networks
        network = network_pb2.Network(spec=request.spec, generation=1, phase=network_pb2.NETWORK_PHASE_PENDING)
        if network.spec.vlan_auto:
            network.spec.vlan = 100
        for host in self.double.hosts.values():
            network.hosts.add(host=host.name, phase="PENDING", connected=host.connected)
        self.double.networks.setdefault(request.spec.name, network)
        return network_pb2.CreateNetworkResponse(network=network, existed=existed, warnings=self.double.warnings)

    def _network(self, name: str, context: Any) -> network_pb2.Network:
        if name not in self.double.networks:
            _missing(context, Reason.NETWORK_NOT_FOUND, name)
        return self.double.networks[name]

    def GetNetwork(self, request: Any, context: Any) -> network_pb2.GetNetworkResponse:
        self.double.take("GetNetwork", request, context)
        return network_pb2.GetNetworkResponse(network=self._network(request.name, context))

    def ListNetworks(self, request: Any, context: Any) -> network_pb2.ListNetworksResponse:
        self.double.take("ListNetworks", request, context)
        return network_pb2.ListNetworksResponse(networks=self.double.networks.values())

    def UpdateNetwork(self, request: Any, context: Any) -> network_pb2.UpdateNetworkResponse:
        self.double.take("UpdateNetwork", request, context)
        return network_pb2.UpdateNetworkResponse(
            network=self._network(request.name, context), warnings=self.double.warnings
        )

    def DeleteNetwork(self, request: Any, context: Any) -> network_pb2.DeleteNetworkResponse:
        self.double.take("DeleteNetwork", request, context)
        self._network(request.name, context).phase = network_pb2.NETWORK_PHASE_DELETING
        return network_pb2.DeleteNetworkResponse(gone=False)

    def WatchNetworks(self, request: Any, context: Any) -> Iterator[network_pb2.WatchNetworksResponse]:
        self.double.take("WatchNetworks", request, context)
        name = request.names[0]

        def drop(_: Any) -> None:
            self.double.networks.pop(name, None)

        for item in self.double.watch(context, lambda: self.double.networks.get(name), drop):
            if item is None:
                gone = network_pb2.Network(spec=network_pb2.NetworkSpec(name=name))
                yield network_pb2.WatchNetworksResponse(network=gone, gone=True)
            else:
                yield network_pb2.WatchNetworksResponse(network=item)


class _Attachments(attachment_pb2_grpc.AttachmentServiceServicer):
    def __init__(self, double: Double) -> None:
        self.double = double

    def Attach(self, request: Any, context: Any) -> attachment_pb2.AttachResponse:
        self.double.take("Attach", request, context)
        spec = attachment_pb2.AttachmentSpec()
        spec.CopyFrom(request.spec)
        spec.name = spec.name or f"{spec.target.container}/{spec.network}"
        key = f"{spec.host}/{spec.name}"
        existed = key in self.double.attachments
        host = self.double.hosts.get(spec.host)
        if host is None:
            _missing(context, Reason.HOST_NOT_FOUND, spec.host)
        self.double.attachments.setdefault(
            key,
            attachment_pb2.Attachment(
                spec=spec,
                addresses=["20.0.0.2/24"],
                mac="02:01:14:00:00:02",
                phase=attachment_pb2.ATTACHMENT_PHASE_PENDING,
                connected=host.connected,
            ),
        )
        return attachment_pb2.AttachResponse(
            attachment=self.double.attachments[key], existed=existed, warnings=self.double.warnings
        )

    def Detach(self, request: Any, context: Any) -> attachment_pb2.DetachResponse:
        self.double.take("Detach", request, context)
        found = self.double.attachments.get(f"{request.host}/{request.name}")
        if found is not None:
            found.phase = attachment_pb2.ATTACHMENT_PHASE_DETACHING
        return attachment_pb2.DetachResponse(gone=found is None)

    def GetAttachment(self, request: Any, context: Any) -> attachment_pb2.GetAttachmentResponse:
        self.double.take("GetAttachment", request, context)
        key = f"{request.host}/{request.name}"
        if key not in self.double.attachments:
            _missing(context, Reason.ATTACHMENT_NOT_FOUND, key)
        return attachment_pb2.GetAttachmentResponse(attachment=self.double.attachments[key])

    def ListAttachments(self, request: Any, context: Any) -> attachment_pb2.ListAttachmentsResponse:
        self.double.take("ListAttachments", request, context)
        found = [
            a
            for a in self.double.attachments.values()
            if request.host in ("", a.spec.host) and request.network in ("", a.spec.network)
        ]
        return attachment_pb2.ListAttachmentsResponse(attachments=found)

    def WatchAttachments(self, request: Any, context: Any) -> Iterator[attachment_pb2.WatchAttachmentsResponse]:
        self.double.take("WatchAttachments", request, context)
        key = f"{request.host}/{request.name}"

        def drop(_: Any) -> None:
            self.double.attachments.pop(key, None)

        for item in self.double.watch(context, lambda: self.double.attachments.get(key), drop):
            if item is None:
                spec = attachment_pb2.AttachmentSpec(host=request.host, name=request.name)
                gone = attachment_pb2.Attachment(spec=spec)
                yield attachment_pb2.WatchAttachmentsResponse(attachment=gone, gone=True)
            else:
                yield attachment_pb2.WatchAttachmentsResponse(attachment=item)


class _Addresses(address_pb2_grpc.AddressServiceServicer):
    def __init__(self, double: Double) -> None:
        self.double = double

    def Who(self, request: Any, context: Any) -> address_pb2.WhoResponse:
        self.double.take("Who", request, context)
        return address_pb2.WhoResponse(holdings=self.double.holdings)

    def ListAddresses(self, request: Any, context: Any) -> address_pb2.ListAddressesResponse:
        self.double.take("ListAddresses", request, context)
        return address_pb2.ListAddressesResponse(holdings=self.double.holdings)


class _Hosts(host_pb2_grpc.HostServiceServicer):
    def __init__(self, double: Double) -> None:
        self.double = double

    def _host(self, name: str, context: Any) -> host_pb2.Host:
        if name not in self.double.hosts:
            _missing(context, Reason.HOST_NOT_FOUND, name)
        return self.double.hosts[name]

    def GetHost(self, request: Any, context: Any) -> host_pb2.GetHostResponse:
        self.double.take("GetHost", request, context)
        return host_pb2.GetHostResponse(host=self._host(request.name, context))

    def ListHosts(self, request: Any, context: Any) -> host_pb2.ListHostsResponse:
        self.double.take("ListHosts", request, context)
        return host_pb2.ListHostsResponse(hosts=self.double.hosts.values())

    def DrainHost(self, request: Any, context: Any) -> host_pb2.DrainHostResponse:
        self.double.take("DrainHost", request, context)
        self._host(request.name, context).drained = not request.undo
        return host_pb2.DrainHostResponse(host=self.double.hosts[request.name])

    def ForgetHost(self, request: Any, context: Any) -> host_pb2.ForgetHostResponse:
        self.double.take("ForgetHost", request, context)
        self._host(request.name, context)
        return host_pb2.ForgetHostResponse(attachments=[f"{request.name}/web1/n"], addresses=1)


class _Checks(check_pb2_grpc.CheckServiceServicer):
    def __init__(self, double: Double) -> None:
        self.double = double

    def RunCheck(self, request: Any, context: Any) -> Iterator[check_pb2.RunCheckResponse]:
        self.double.take("RunCheck", request, context)
        yield from self.double.events
