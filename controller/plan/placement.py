"""Whether a host can have an attachment on a network: both known, open, matching, with the uplink. Pure."""

from __future__ import annotations

from controller.plan.desired import selected
from controller.plan.requests import AttachmentRequest
from controller.state import codec
from controller.state.records import HostRecord, NetworkRecord
from controller.state.snapshot import Snapshot, Stored
from trunkline.errors import Reason, Refusal
from trunkline.model import HostUplink


def readable(snapshot: Snapshot, *wanted: str) -> None:
    """Raise STORE_CORRUPT for a key that exists and cannot be read."""
    for key in wanted:
        if key in snapshot.broken:
            raise codec.known_corrupt(key, snapshot.broken[key])


def unknown_host(snapshot: Snapshot, name: str) -> Refusal:
    """HOST_NOT_FOUND, naming those that are known."""
    known = ", ".join(sorted(snapshot.hosts)[:10]) or "none"
    return Refusal(
        Reason.HOST_NOT_FOUND,
        f"host {name!r} is not known (known: {known})",
        "start its agent, which registers it; see `trunkline host list`",
        host=name,
    )


def open_host(snapshot: Snapshot, name: str) -> Stored[HostRecord]:
    """A host that takes attachments; raises HOST_NOT_FOUND, HOST_FORGETTING, HOST_DRAINED."""
    stored = snapshot.hosts.get(name)
    if stored is None:
        raise unknown_host(snapshot, name)
    if stored.value.forgetting:
        raise Refusal(Reason.HOST_FORGETTING, f"host {name} is being forgotten", "wait until it is gone", host=name)
    if stored.value.drained:
        raise Refusal(
            Reason.HOST_DRAINED,
            f"host {name} is drained and takes no new attachments",
            f"choose another host, or take it back with `trunkline host drain --undo {name}`",
            host=name,
        )
    return stored


def live_network(snapshot: Snapshot, name: str) -> Stored[NetworkRecord]:
    """A network that is not being deleted; raises NETWORK_NOT_FOUND, NETWORK_DELETING."""
    stored = snapshot.networks.get(name)
    if stored is None:
        known = ", ".join(sorted(snapshot.networks)[:10]) or "none"
        raise Refusal(
            Reason.NETWORK_NOT_FOUND,
            f"network {name!r} does not exist (known: {known})",
            "create it with `trunkline network create`",
            network=name,
        )
    if stored.value.deleting:
        raise Refusal(
            Reason.NETWORK_DELETING, f"network {name} is being deleted", "wait until it is gone", network=name
        )
    return stored


def check_place(snapshot: Snapshot, host: HostRecord, network: NetworkRecord) -> None:
    """Raise HOST_NOT_SELECTED, UPLINK_NOT_ON_HOST or UPLINK_MTU when the host cannot have the network."""
    facts = {"host": host.name, "network": network.name}
    if not selected(host, network):
        raise Refusal(
            Reason.HOST_NOT_SELECTED,
            f"network {network.name} is not for host {host.name}: its selector is {' '.join(network.host_selector)}",
            f"change it with `trunkline network update {network.name} --host …`, or choose another host",
            **facts,
        )
    status = snapshot.host_status.get(host.name)
    if status is None or not status.value.uplinks:
        return
    uplink = _uplink(snapshot, host.name, network.uplink)
    if uplink is None:
        have = ", ".join(sorted(u.label for u in status.value.uplinks))
        raise Refusal(
            Reason.UPLINK_NOT_ON_HOST,
            f"host {host.name} has no uplink {network.uplink!r}, which network {network.name} is on (it has {have})",
            f'map it to a device in the agent\'s config on {host.name}: [uplinks.{network.uplink}] device = "…"',
            **facts,
        )
    if uplink.mtu and network.mtu > uplink.mtu:
        raise Refusal(
            Reason.UPLINK_MTU,
            f"network {network.name} has MTU {network.mtu}, {uplink.device} on host {host.name} only {uplink.mtu}",
            f"raise the MTU of {uplink.device} on {host.name}, or choose another host",
            **facts,
        )


def _uplink(snapshot: Snapshot, host: str, label: str) -> HostUplink | None:
    status = snapshot.host_status.get(host)
    for uplink in status.value.uplinks if status is not None else ():
        if uplink.label == label:
            return uplink
    return None


def warnings_of(snapshot: Snapshot, request: AttachmentRequest, network: NetworkRecord) -> list[str]:
    """What an operator should know; raises IFNAME_TAKEN when the target has another attachment of that name."""
    warnings = []
    if request.host not in snapshot.sessions:
        warnings.append(f"host {request.host} has no live session; the interface is made when it returns")
    uplink = _uplink(snapshot, request.host, network.uplink)
    if uplink is not None and uplink.problem:
        warnings.append(f"uplink {uplink.label} ({uplink.device}) on host {request.host}: {uplink.problem}")
    for name in snapshot.on_target.get((request.host, request.target), ()):
        other = snapshot.attachments[request.host][name].value
        if request.ifname and request.ifname == other.ifname:
            raise Refusal(
                Reason.IFNAME_TAKEN,
                f"attachment {name} of {request.target} on host {request.host} has interface {request.ifname} already",
                "choose another interface name, or leave it out",
                host=request.host,
                attachment=name,
            )
        if other.network == request.network and len(warnings) < 3:
            warnings.append(f"{request.target} is on network {request.network} already, as attachment {name}")
    if request.default_route and not any(prefix.gateway for prefix in network.prefixes):
        warnings.append(f"network {request.network} has no gateway, so no default route is set")
    return warnings
