"""Resources of the operator API, built from views of the snapshot. None stands for "does not exist"."""

from __future__ import annotations

from controller.plan.status import (
    AttachmentView,
    NetworkOnHost,
    NetworkPhase,
    UplinkView,
    attachment_view,
    host_view,
    network_view,
)
from controller.plan.usage import PoolUse
from controller.plan.who import Holding
from controller.state.records import AttachmentRecord, AttachmentStatus, NetworkRecord
from controller.state.snapshot import Snapshot
from trunkline.model import Phase
from trunkline.v1 import address_pb2, attachment_pb2, fabric_pb2, host_pb2, network_pb2
from trunkline.wire import (
    docker_to_pb,
    event_to_pb,
    mode_to_pb,
    origin_to_pb,
    phase_to_pb,
    prefix_to_pb,
    problem_to_pb,
    target_to_pb,
    uplink_to_pb,
)

_MAX_INT64 = (1 << 63) - 1

_NETWORK_PHASES = {
    NetworkPhase.PENDING: network_pb2.NETWORK_PHASE_PENDING,
    NetworkPhase.READY: network_pb2.NETWORK_PHASE_READY,
    NetworkPhase.DEGRADED: network_pb2.NETWORK_PHASE_DEGRADED,
    NetworkPhase.DELETING: network_pb2.NETWORK_PHASE_DELETING,
}

_UNSEEN = AttachmentStatus(Phase.PENDING)


def attachment(snapshot: Snapshot, name: tuple[str, str]) -> attachment_pb2.Attachment | None:
    """One attachment, named (host, name), with what was last seen of it."""
    view = attachment_view(snapshot, *name)
    return None if view is None else _attachment(view)


def fresh_attachment(record: AttachmentRecord, connected: bool) -> attachment_pb2.Attachment:
    """An attachment that was just written, so that nobody has seen it."""
    return _attachment(AttachmentView(record, _UNSEEN, connected))


def _attachment(view: AttachmentView) -> attachment_pb2.Attachment:
    record, status = view.record, view.status
    message = attachment_pb2.Attachment(
        addresses=record.addresses,
        mac=record.mac,
        phase=phase_to_pb(status.phase),
        reason=status.reason,
        message=status.message,
        ifname=status.ifname,
        target_id=status.target_id,
        created_ms=record.created_ms,
        observed_ms=status.observed_ms,
        connected=view.connected,
        origin=origin_to_pb(record.origin),
        owner=record.owner,
    )
    # Filled in place: a message that is handed over as an argument is copied.
    spec = message.spec
    spec.host, spec.name, spec.network, spec.owner = record.host, record.name, record.network, record.owner
    spec.target.CopyFrom(target_to_pb(record.target))
    spec.addresses.extend(record.requested)
    spec.mac, spec.ifname, spec.no_ip = record.requested_mac, record.ifname, record.no_ip
    spec.default_route, spec.accept_ra = record.default_route, record.accept_ra
    return message


def network(snapshot: Snapshot, name: str) -> network_pb2.Network | None:
    """One network with what was last seen of it on its hosts."""
    view = network_view(snapshot, name)
    if view is None:
        return None
    return network_pb2.Network(
        spec=_spec(view.record),
        generation=view.record.generation,
        number=view.record.number,
        phase=_NETWORK_PHASES[view.phase],
        hosts=[_on_host(one) for one in view.hosts],
        pools=[_pool(use) for use in view.pools],
        attachments=view.attachments,
        imported=view.record.imported,
    )


def _spec(record: NetworkRecord) -> network_pb2.NetworkSpec:
    return network_pb2.NetworkSpec(
        name=record.name,
        uplink=record.uplink,
        vlan=record.vlan,
        vlan_auto=record.vlan_auto,
        prefixes=[prefix_to_pb(prefix) for prefix in record.prefixes],
        mtu=record.mtu,
        mode=mode_to_pb(record.mode),
        overlap=record.overlap,
        host_selector=record.host_selector,
        rest_seconds=record.rest_seconds,
        hold_seconds=record.hold_seconds,
        docker=docker_to_pb(record.docker),
        host_access=record.host_access,
    )


def _on_host(one: NetworkOnHost) -> network_pb2.HostNetworkStatus:
    return network_pb2.HostNetworkStatus(
        host=one.host,
        phase=one.phase,
        reason=one.reason,
        message=one.message,
        link=one.link,
        owned=one.owned,
        connected=one.connected,
        docker=one.docker,
        docker_message=one.docker_message,
    )


def _pool(use: PoolUse) -> network_pb2.PoolUse:
    return network_pb2.PoolUse(
        cidr=use.cidr,
        size=min(use.size, _MAX_INT64),
        used=use.used,
        resting=use.resting,
        reserved=use.reserved,
        stock=use.stock,
    )


def host(snapshot: Snapshot, name: str) -> host_pb2.Host | None:
    """One host with its last observation."""
    view = host_view(snapshot, name)
    if view is None:
        return None
    record, status = view.record, view.status
    return host_pb2.Host(
        name=name,
        machine_id=record.machine_id,
        connected=view.connected,
        replica=view.replica,
        drained=record.drained,
        labels=record.labels,
        uplinks=[_host_uplink(name, uplink_to_pb(one)) for one in status.uplinks],
        agent_version=status.version,
        kernel=status.kernel,
        docker=status.docker,
        attachments=view.attachments,
        attachments_ready=view.attachments_ready,
        observed_revision=status.observed_revision,
        observed_ms=status.observed_ms,
        registered_ms=record.registered_ms,
        problems=[problem_to_pb(problem) for problem in view.problems],
        number=record.number,
        events=[event_to_pb(event) for event in status.events],
    )


def _host_uplink(name: str, message: fabric_pb2.HostUplink) -> fabric_pb2.HostUplink:
    message.host = name
    return message


def uplink(view: UplinkView) -> fabric_pb2.Uplink:
    """One label with what is behind it on each host."""
    return fabric_pb2.Uplink(
        label=view.label,
        vlans=[fabric_pb2.VlanRange(first=first, last=last) for first, last in view.vlans],
        hosts=[_host_uplink(name, uplink_to_pb(one)) for name, one in view.hosts],
        set=view.set,
        vlans_in_use=view.vlans_in_use,
    )


def holding(one: Holding) -> address_pb2.Holding:
    """One answer of `who`."""
    return address_pb2.Holding(
        network=one.network,
        address=one.address,
        kind=one.kind,
        host=one.host,
        attachment=one.attachment,
        target=one.target,
        target_id=one.target_id,
        mac=one.mac,
        phase=one.phase,
        since_ms=one.since_ms,
        until_ms=one.until_ms,
        observed=one.observed,
        owner=one.owner,
        connected=one.connected,
        observed_ms=one.observed_ms,
        promised=one.promised,
    )
