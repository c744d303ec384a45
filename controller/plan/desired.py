"""What a host must have, from the snapshot. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from controller.plan.accounts import is_given
from controller.state import keys
from controller.state.pool import is_owned
from controller.state.records import AddressKind, AttachmentRecord, HostRecord, NetworkRecord
from controller.state.snapshot import Snapshot, Stored
from trunkline.errors import Reason, TrunklineError
from trunkline.ids import IPAddress, mac_for_probe, parse_address
from trunkline.model import Desired, Grant, HostAttachment, HostNetwork, Origin, Reservation


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


class Made:
    """Attachments of one host as they were last told, to be told as the same objects while nothing they were made
    from has changed: of thousands mostly a few are new."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[str, tuple[AttachmentRecord, NetworkRecord, HostAttachment]] = {}

    def forget(self) -> None:
        """Keep none."""
        self._made = {}

    def attachments(
        self, here: Mapping[str, Stored[AttachmentRecord]], live: Mapping[str, NetworkRecord]
    ) -> tuple[list[HostAttachment], set[str]]:
        """Those of `here` that are on a live network and stay, in order of name, as their host must have them; and the
        networks they are on, which Docker's are on, too, though nobody is told of those."""
        if len(self._made) > 2 * len(here):
            self.forget()  # most are of attachments that are gone
        made, told = self._made, []
        needed: set[str] = set()
        for name in sorted(here):
            record = here[name].value
            network = live.get(record.network)
            if record.detaching or network is None:
                continue
            needed.add(record.network)
            if record.origin is Origin.DOCKER:
                continue
            known = made.get(name)
            if known is None or known[0] is not record or known[1] is not network:
                known = made[name] = (record, network, _attachment(record, network))
            told.append(known[2])
        return told, needed


def desired(snapshot: Snapshot, host: str, made: Made | None = None) -> Desired:
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
    live = {name: kept.value for name, kept in sorted(snapshot.networks.items(), key=_name) if not kept.value.deleting}
    attachments, needed = (made or Made()).attachments(snapshot.attachments.get(host, {}), live)
    networks = [
        host_network(network, stored.value, snapshot.promises.get(name))
        for name, network in live.items()
        if name in needed or selected(stored.value, network)
    ]
    grants = _grants(snapshot, host, {network.name for network in networks})
    return Desired(snapshot.epoch, snapshot.revision, tuple(networks), tuple(attachments), grants)


def _grants(snapshot: Snapshot, host: str, told: set[str]) -> tuple[Grant, ...]:
    """Addresses that are the host's to hand out, and those that are wanted back: of its own, and what it lists
    though it is somebody else's. What is recalled for nobody but its own owner names that owner: for it, the address
    need not rest."""
    found: dict[tuple[str, IPAddress], Grant] = {}
    for network, address in snapshot.given.get(host, ()):
        stored = snapshot.addresses[network][address]
        record = stored.value
        if network in told and (record.recalled or record.kind is AddressKind.STOCK):
            owner = record.owner if is_owned(record) or not record.recalled else ""
            found[network, address] = Grant(network, str(address), owner, record.recalled, stored.mod_revision)
    status = snapshot.host_status.get(host)
    for network, text in status.value.disputed if status is not None else ():
        address = parse_address(text)
        known = snapshot.addresses.get(network, {}).get(address)
        if network in told and known is not None and not is_given(snapshot, host, known.value):
            found[network, address] = Grant(network, text, recalled=True, revision=known.mod_revision)
    return tuple(found[at] for at in sorted(found, key=lambda at: (at[0], at[1].version, int(at[1]))))


def host_network(
    network: NetworkRecord, host: HostRecord, promises: Mapping[IPAddress, str] | None = None
) -> HostNetwork:
    """A network as one host must have it, with the addresses that are promised to owners."""
    promised = sorted((promises or {}).items(), key=lambda one: (one[0].version, int(one[0])))
    return HostNetwork(
        name=network.name,
        number=network.number,
        uplink=network.uplink,
        vlan=network.vlan,
        mtu=network.mtu,
        mode=network.mode,
        prefixes=network.prefixes,
        probe_mac=mac_for_probe(network.number, host.number),
        docker=network.docker,
        rest_seconds=network.rest_seconds,
        hold_seconds=network.hold_seconds,
        reserved=tuple(Reservation(owner, str(address)) for address, owner in promised),
        imported=network.imported,
    )


def _attachment(record: AttachmentRecord, network: NetworkRecord) -> HostAttachment:
    gateways: tuple[str, ...] = ()
    if record.default_route:
        families = {":" in address for address in record.addresses}
        gateways = tuple(p.gateway for p in network.prefixes if p.gateway and (":" in p.gateway) in families)
    return HostAttachment(
        name=record.name,
        network=record.network,
        target=record.target,
        mac=record.mac,
        addresses=record.addresses,
        ifname=record.ifname,
        gateways=gateways,
        default_route=record.default_route,
        accept_ra=record.accept_ra,
        origin=record.origin,
    )


def _name(item: tuple[str, object]) -> str:
    return item[0]
