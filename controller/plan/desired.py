"""What a host must have, from the snapshot. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

from controller.state import keys
from controller.state.records import AttachmentRecord, HostRecord, NetworkRecord
from controller.state.snapshot import Snapshot
from trunkline.errors import Reason, TrunklineError
from trunkline.ids import mac_for_probe
from trunkline.model import Desired, HostAttachment, HostNetwork


def selected(host: HostRecord, network: NetworkRecord) -> bool:
    """Whether the network's selector takes the host: every `label=value` term matches its labels and, if there are
    name patterns (case counts), one of them matches its name. An empty selector takes every host."""
    patterns = matched = False
    for term in network.host_selector:
        label, equals, value = term.partition("=")
        if equals:
            if host.labels.get(label) != value:
                return False
        else:
            patterns = True
            matched = matched or fnmatchcase(host.name, term)
    return matched or not patterns


def unreadable(snapshot: Snapshot, host: str) -> str:
    """A broken key without which the host's desired state cannot be told; "" when there is none.

    Leaving out what cannot be read would make the host remove it."""
    if not snapshot.broken:
        return ""
    prefix = keys.attachments(host)
    status = snapshot.host_status.get(host)
    seen = {*snapshot.networks_seen.get(host, ()), *(status.value.networks if status is not None else ())}
    seen.update(stored.value.network for stored in snapshot.attachments.get(host, {}).values())
    for key in sorted(snapshot.broken):
        if key.startswith(prefix) or key == keys.host(host):
            return key
        if key.startswith(keys.NETWORKS) and key[len(keys.NETWORKS) :] in seen:
            return key
    return ""


def desired(snapshot: Snapshot, host: str) -> Desired:
    """The whole desired state of a host, sorted by name. Networks being deleted and attachments being detached are
    left out; so is everything for a host that is unknown or being forgotten. A network that no longer selects the
    host stays while an attachment on the host needs it.

    Raises STORE_CORRUPT while a record of this host cannot be read: the host then keeps what it was last told."""
    stored = snapshot.hosts.get(host)
    key = unreadable(snapshot, host)
    if key:
        raise TrunklineError(
            Reason.STORE_CORRUPT,
            f"host {host} gets no new desired state, since {key!r} in the store cannot be read",
            "look at it with etcdctl; restore the key from a backup, or delete it",
            host=host,
            key=key,
        )
    if stored is None or stored.value.forgetting:
        return Desired(snapshot.epoch, snapshot.revision)
    attachments = [
        _attachment(record, snapshot.networks[record.network].value)
        for record in (kept.value for _, kept in sorted(snapshot.attachments.get(host, {}).items(), key=_name))
        if not record.detaching and _live(snapshot, record.network)
    ]
    needed = {attachment.network for attachment in attachments}
    networks = [
        host_network(kept.value, stored.value)
        for name, kept in sorted(snapshot.networks.items(), key=_name)
        if not kept.value.deleting and (name in needed or selected(stored.value, kept.value))
    ]
    return Desired(snapshot.epoch, snapshot.revision, tuple(networks), tuple(attachments))


def _live(snapshot: Snapshot, network: str) -> bool:
    stored = snapshot.networks.get(network)
    return stored is not None and not stored.value.deleting


def host_network(network: NetworkRecord, host: HostRecord) -> HostNetwork:
    """A network as one host must have it."""
    return HostNetwork(
        name=network.name,
        number=network.number,
        uplink=network.uplink,
        vlan=network.vlan,
        mtu=network.mtu,
        mode=network.mode,
        prefixes=network.prefixes,
        probe_mac=mac_for_probe(network.number, host.number),
    )


def _attachment(record: AttachmentRecord, network: NetworkRecord) -> HostAttachment:
    families = {":" in address for address in record.addresses}
    gateways = tuple(p.gateway for p in network.prefixes if p.gateway and (":" in p.gateway) in families)
    return HostAttachment(
        name=record.name,
        network=record.network,
        target=record.target,
        mac=record.mac,
        addresses=record.addresses,
        ifname=record.ifname,
        gateways=gateways if record.default_route else (),
        default_route=record.default_route,
        accept_ra=record.accept_ra,
    )


def _name(item: tuple[str, object]) -> str:
    return item[0]
