"""What the agent's session carries: desired state down, hello and observations up."""

from __future__ import annotations

from typing import Final

from trunkline.agent.v1 import session_pb2
from trunkline.ids import PROTOCOL
from trunkline.model import (
    AttachmentObservation,
    Desired,
    EndpointObservation,
    EndpointState,
    Grant,
    HostAttachment,
    HostFacts,
    HostNetwork,
    NetworkObservation,
    Observation,
    Reservation,
)
from trunkline.wire.values import (
    docker_from_pb,
    docker_to_pb,
    event_from_pb,
    event_to_pb,
    mode_from_pb,
    mode_to_pb,
    origin_from_pb,
    origin_to_pb,
    phase_from_pb,
    phase_from_text,
    phase_to_pb,
    phase_to_text,
    prefix_from_pb,
    prefix_to_pb,
    problem_from_pb,
    problem_to_pb,
    target_from_pb,
    target_to_pb,
    uplink_from_pb,
    uplink_to_pb,
)


def network_to_pb(network: HostNetwork) -> session_pb2.HostNetwork:
    """A network as one host must have it, as a message."""
    return session_pb2.HostNetwork(
        name=network.name,
        number=network.number,
        uplink=network.uplink,
        vlan=network.vlan,
        mtu=network.mtu,
        mode=mode_to_pb(network.mode),
        prefixes=[prefix_to_pb(p) for p in network.prefixes],
        probe_mac=network.probe_mac,
        docker=docker_to_pb(network.docker),
        rest_seconds=network.rest_seconds,
        hold_seconds=network.hold_seconds,
        reserved=[session_pb2.Reservation(owner=r.owner, address=r.address) for r in network.reserved],
        imported=network.imported,
    )


def network_from_pb(pb: session_pb2.HostNetwork) -> HostNetwork:
    """A network as one host must have it."""
    return HostNetwork(
        name=pb.name,
        number=pb.number,
        uplink=pb.uplink,
        vlan=pb.vlan,
        mtu=pb.mtu,
        mode=mode_from_pb(pb.mode),
        prefixes=tuple(prefix_from_pb(p) for p in pb.prefixes),
        probe_mac=pb.probe_mac,
        docker=docker_from_pb(pb.docker),
        rest_seconds=pb.rest_seconds,
        hold_seconds=pb.hold_seconds,
        reserved=tuple(Reservation(r.owner, r.address) for r in pb.reserved),
        imported=pb.imported,
    )


def attachment_to_pb(attachment: HostAttachment) -> session_pb2.HostAttachment:
    """An attachment as its host must have it, as a message."""
    return session_pb2.HostAttachment(
        name=attachment.name,
        network=attachment.network,
        target=target_to_pb(attachment.target),
        ifname=attachment.ifname,
        mac=attachment.mac,
        addresses=attachment.addresses,
        gateways=attachment.gateways,
        default_route=attachment.default_route,
        accept_ra=attachment.accept_ra,
        origin=origin_to_pb(attachment.origin),
    )


def attachment_from_pb(pb: session_pb2.HostAttachment) -> HostAttachment:
    """An attachment as its host must have it."""
    return HostAttachment(
        name=pb.name,
        network=pb.network,
        target=target_from_pb(pb.target),
        ifname=pb.ifname,
        mac=pb.mac,
        addresses=tuple(pb.addresses),
        gateways=tuple(pb.gateways),
        default_route=pb.default_route,
        accept_ra=pb.accept_ra,
        origin=origin_from_pb(pb.origin),
    )


def _grant_to_pb(grant: Grant) -> session_pb2.Grant:
    return session_pb2.Grant(
        network=grant.network,
        address=grant.address,
        owner=grant.owner,
        recalled=grant.recalled,
        revision=grant.revision,
    )


def _grant_from_pb(pb: session_pb2.Grant) -> Grant:
    return Grant(pb.network, pb.address, pb.owner, pb.recalled, pb.revision)


def desired_to_pb(desired: Desired) -> session_pb2.DesiredState:
    """The whole desired state of a host as a message."""
    return session_pb2.DesiredState(
        epoch=desired.epoch,
        revision=desired.revision,
        networks=[network_to_pb(n) for n in desired.networks],
        attachments=[attachment_to_pb(a) for a in desired.attachments],
        grants=[_grant_to_pb(g) for g in desired.grants],
    )


class DesiredCoder:
    """Writes one host's desired states, again and again: an attachment that is the very object it was the last time
    is not coded anew. Messages that follow each other as bytes are merged, repeated fields one after the other
    (Protocol Buffers, "Encoding", last one wins), so coded attachments are joined as they are."""

    def __init__(self) -> None:
        self._coded: dict[str, tuple[HostAttachment, bytes]] = {}

    def forget(self) -> None:
        """Keep nothing of what was coded."""
        self._coded = {}

    def write(self, desired: Desired, into: session_pb2.DesiredState) -> None:
        """Fill an empty message with what `desired_to_pb` would make."""
        into.epoch, into.revision = desired.epoch, desired.revision
        into.networks.extend(network_to_pb(n) for n in desired.networks)
        into.grants.extend(_grant_to_pb(g) for g in desired.grants)
        coded = self._coded
        if len(coded) > 2 * len(desired.attachments):
            coded.clear()
        parts = []
        for attachment in desired.attachments:
            known = coded.get(attachment.name)
            if known is None or known[0] is not attachment:
                part = session_pb2.DesiredState(attachments=[attachment_to_pb(attachment)]).SerializeToString()
                coded[attachment.name] = known = (attachment, part)
            parts.append(known[1])
        into.MergeFromString(b"".join(parts))


def desired_from_pb(pb: session_pb2.DesiredState) -> Desired:
    """The whole desired state of a host. Refused as a whole when any part is: half of it must not be applied."""
    return Desired(
        epoch=pb.epoch,
        revision=pb.revision,
        networks=tuple(network_from_pb(n) for n in pb.networks),
        attachments=tuple(attachment_from_pb(a) for a in pb.attachments),
        grants=tuple(_grant_from_pb(g) for g in pb.grants),
    )


_STATES: Final = {
    EndpointState.STOCK: session_pb2.ENDPOINT_STATE_STOCK,
    EndpointState.USED: session_pb2.ENDPOINT_STATE_USED,
    EndpointState.KEPT: session_pb2.ENDPOINT_STATE_KEPT,
}
_STATES_BACK: Final = {number: state for state, number in _STATES.items()}


def _endpoint_to_pb(seen: EndpointObservation) -> session_pb2.EndpointObservation:
    return session_pb2.EndpointObservation(
        network=seen.network,
        address=seen.address,
        state=_STATES[seen.state],
        owner=seen.owner,
        shared=seen.shared,
        container_id=seen.container_id,
        container=seen.container,
        mac=seen.mac,
        ifname=seen.ifname,
        present=seen.present,
        released_ms=seen.released_ms,
    )


def _endpoint_from_pb(pb: session_pb2.EndpointObservation) -> EndpointObservation:
    return EndpointObservation(
        network=pb.network,
        address=pb.address,
        # A state that a newer agent knows counts as use: the address is not free in any case.
        state=_STATES_BACK.get(pb.state, EndpointState.USED),
        owner=pb.owner,
        shared=pb.shared,
        container_id=pb.container_id,
        container=pb.container,
        mac=pb.mac,
        ifname=pb.ifname,
        present=pb.present,
        released_ms=pb.released_ms,
    )


def _seen_network_to_pb(seen: NetworkObservation) -> session_pb2.NetworkObservation:
    return session_pb2.NetworkObservation(
        name=seen.name,
        phase=phase_to_text(seen.phase),
        reason=seen.reason,
        message=seen.message,
        link=seen.link,
        owned=seen.owned,
        mtu=seen.mtu,
        docker=seen.docker,
        docker_message=seen.docker_message,
    )


def _seen_network_from_pb(pb: session_pb2.NetworkObservation) -> NetworkObservation:
    return NetworkObservation(
        name=pb.name,
        phase=phase_from_text(pb.phase),
        reason=pb.reason,
        message=pb.message,
        link=pb.link,
        owned=pb.owned,
        mtu=pb.mtu,
        docker=pb.docker,
        docker_message=pb.docker_message,
    )


def _seen_attachment_to_pb(seen: AttachmentObservation) -> session_pb2.AttachmentObservation:
    return session_pb2.AttachmentObservation(
        name=seen.name,
        phase=phase_to_pb(seen.phase),
        reason=seen.reason,
        message=seen.message,
        ifname=seen.ifname,
        mac=seen.mac,
        addresses=seen.addresses,
        target_id=seen.target_id,
        present=seen.present,
    )


def _seen_attachment_from_pb(pb: session_pb2.AttachmentObservation) -> AttachmentObservation:
    return AttachmentObservation(
        name=pb.name,
        phase=phase_from_pb(pb.phase),
        reason=pb.reason,
        message=pb.message,
        ifname=pb.ifname,
        mac=pb.mac,
        addresses=tuple(pb.addresses),
        target_id=pb.target_id,
        present=pb.present,
    )


def observation_to_pb(seen: Observation) -> session_pb2.Observation:
    """What an agent saw, as a message."""
    return session_pb2.Observation(
        session=seen.session,
        epoch=seen.epoch,
        revision=seen.revision,
        networks=[_seen_network_to_pb(n) for n in seen.networks],
        attachments=[_seen_attachment_to_pb(a) for a in seen.attachments],
        uplinks=[uplink_to_pb(u) for u in seen.uplinks],
        complete=seen.complete,
        docker=seen.docker,
        problems=[problem_to_pb(p) for p in seen.problems],
        endpoints=[_endpoint_to_pb(e) for e in seen.endpoints],
        endpoints_complete=seen.endpoints_complete,
        events=[event_to_pb(e) for e in seen.events],
    )


def observation_from_pb(pb: session_pb2.Observation) -> Observation:
    """What an agent saw."""
    return Observation(
        session=pb.session,
        epoch=pb.epoch,
        revision=pb.revision,
        networks=tuple(_seen_network_from_pb(n) for n in pb.networks),
        attachments=tuple(_seen_attachment_from_pb(a) for a in pb.attachments),
        uplinks=tuple(uplink_from_pb(u) for u in pb.uplinks),
        complete=pb.complete,
        docker=pb.docker,
        problems=tuple(problem_from_pb(p) for p in pb.problems),
        endpoints=tuple(_endpoint_from_pb(e) for e in pb.endpoints),
        endpoints_complete=pb.endpoints_complete,
        events=tuple(event_from_pb(e) for e in pb.events),
    )


def hello_to_pb(facts: HostFacts) -> session_pb2.Hello:
    """The first message of a session, with the protocol this side speaks."""
    return session_pb2.Hello(
        protocol=PROTOCOL,
        host=facts.host,
        machine_id=facts.machine_id,
        version=facts.version,
        kernel=facts.kernel,
        docker=facts.docker,
        labels=facts.labels,
        uplinks=[uplink_to_pb(u) for u in facts.uplinks],
        epoch=facts.epoch,
        revision=facts.revision,
    )


def hello_from_pb(pb: session_pb2.Hello) -> HostFacts:
    """What a host says of itself. The protocol number is the caller's to judge: `pb.protocol`."""
    return HostFacts(
        host=pb.host,
        machine_id=pb.machine_id,
        version=pb.version,
        kernel=pb.kernel,
        docker=pb.docker,
        labels=dict(pb.labels),
        uplinks=tuple(uplink_from_pb(u) for u in pb.uplinks),
        epoch=pb.epoch,
        revision=pb.revision,
    )
