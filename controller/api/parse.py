"""Messages of operators as the values planners take. Malformed ones raise Refusal, nothing else."""

from __future__ import annotations

from controller.plan.requests import AttachmentRequest, NetworkRequest, NetworkUpdate, PrefixChange
from trunkline.errors import Reason, Refusal
from trunkline.v1 import attachment_pb2, network_pb2
from trunkline.wire import docker_from_pb, mode_from_pb, prefix_from_pb, target_from_pb


def network(spec: network_pb2.NetworkSpec) -> NetworkRequest:
    """What a network is asked to be."""
    return NetworkRequest(
        name=spec.name,
        uplink=spec.uplink or "default",
        vlan=None if spec.vlan_auto else spec.vlan,
        prefixes=tuple(prefix_from_pb(prefix) for prefix in spec.prefixes),
        mtu=spec.mtu,
        mode=mode_from_pb(spec.mode),
        overlap=spec.overlap,
        host_selector=tuple(spec.host_selector),
        rest_seconds=spec.rest_seconds if spec.HasField("rest_seconds") else None,
        hold_seconds=spec.hold_seconds if spec.HasField("hold_seconds") else None,
        docker=docker_from_pb(spec.docker),
        host_access=spec.host_access,
    )


def update(request: network_pb2.UpdateNetworkRequest) -> NetworkUpdate:
    """What of a network is to be changed."""
    return NetworkUpdate(
        name=request.name,
        prefixes=tuple(_change(prefix) for prefix in request.prefixes),
        host_selector=tuple(request.host_selector) if request.set_host_selector else None,
        rest_seconds=request.rest_seconds if request.HasField("rest_seconds") else None,
        hold_seconds=request.hold_seconds if request.HasField("hold_seconds") else None,
        mtu=request.mtu if request.HasField("mtu") else None,
        host_access=request.host_access if request.HasField("host_access") else None,
    )


def _change(prefix: network_pb2.PrefixUpdate) -> PrefixChange:
    return PrefixChange(
        cidr=prefix.cidr,
        ranges=tuple(prefix.ranges) if prefix.set_ranges else None,
        excludes=tuple(prefix.excludes) if prefix.set_excludes else None,
        gateway=prefix.gateway if prefix.set_gateway else None,
    )


def attachment(spec: attachment_pb2.AttachmentSpec) -> AttachmentRequest:
    """What is to be attached."""
    for field, value in (("host", spec.host), ("network", spec.network)):
        if not value:
            raise Refusal(Reason.INVALID_ARGUMENT, f"the attachment names no {field}", f"name a {field}")
    return AttachmentRequest(
        host=spec.host,
        network=spec.network,
        target=target_from_pb(spec.target),
        name=spec.name,
        addresses=tuple(spec.addresses),
        mac=spec.mac,
        no_ip=spec.no_ip,
        ifname=spec.ifname,
        default_route=spec.default_route,
        accept_ra=spec.accept_ra,
        owner=spec.owner,
    )
