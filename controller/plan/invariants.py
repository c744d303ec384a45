"""The laws of docs/architecture.md over a whole snapshot: what no sequence of commits may break. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import combinations

from controller.plan.addresses import holding_key
from controller.plan.macs import read_as
from controller.plan.prefixes import pool
from controller.plan.uplinks import carries
from controller.state.pool import is_promised
from controller.state.records import GIVEN, AddressKind, AddressRecord, AttachmentRecord, NetworkRecord
from controller.state.snapshot import Snapshot
from trunkline.ids import DOCKER_NUMBER, IPAddress
from trunkline.model import Origin


def violations(snapshot: Snapshot) -> list[str]:
    """Every breach of a law, one sentence each; [] when all hold. An unreadable value is none, `broken` lists it, and
    what points at it is not judged."""
    checks = [_networks, _overlaps, _addresses, _promises, _unique_macs]
    if not snapshot.broken:
        checks += [_claims, _attachments, _hosts, _statuses]
    return [sentence for check in checks for sentence in check(snapshot)]


def _networks(snapshot: Snapshot) -> Iterator[str]:
    numbers: dict[int, str] = {}
    vlans: dict[tuple[str, int], str] = {}
    for name, stored in sorted(snapshot.networks.items(), key=lambda item: item[0]):
        record = stored.value
        if record.number == DOCKER_NUMBER:
            yield f"network {name} has Docker's number"
        other = numbers.setdefault(record.number, name)
        if other != name:
            yield f"networks {other} and {name} share number {record.number}"
        other = vlans.setdefault((record.uplink, record.vlan), name)
        if other != name:
            yield f"networks {other} and {name} share VLAN {record.vlan} on uplink {record.uplink}"
        if record.vlan_auto and record.vlan in (0, 1):
            yield f"network {name} was given VLAN {record.vlan} automatically"


def _overlaps(snapshot: Snapshot) -> Iterator[str]:
    nets = [(pool(p).net, stored.value) for stored in snapshot.networks.values() for p in stored.value.prefixes]
    for (one, first), (two, second) in combinations(nets, 2):
        if one.version != two.version or (first.overlap and second.overlap):
            continue
        if one.overlaps(two):
            yield f"prefix {one} of network {first.name} overlaps {two} of {second.name}"


def _claims(snapshot: Snapshot) -> Iterator[str]:
    for (label, vid), claim in snapshot.vlans.items():
        network = snapshot.networks.get(claim.value.holder)
        if network is None or (network.value.uplink, network.value.vlan) != (label, vid):
            yield f"VLAN {vid} on uplink {label} is claimed for {claim.value.holder}, which does not have it"
    for number, claim in snapshot.numbers.items():
        network = snapshot.networks.get(claim.value.holder)
        if network is None or network.value.number != number:
            yield f"number {number} is claimed for {claim.value.holder}, which does not have it"
    for name, stored in snapshot.networks.items():
        record = stored.value
        claim_of_vlan = snapshot.vlans.get((record.uplink, record.vlan))
        if claim_of_vlan is None or claim_of_vlan.value.holder != name:
            yield f"network {name} has no claim of VLAN {record.vlan} on uplink {record.uplink}"
        claim_of_number = snapshot.numbers.get(record.number)
        if claim_of_number is None or claim_of_number.value.holder != name:
            yield f"network {name} has no claim of number {record.number}"
        uplink = snapshot.uplinks.get(record.uplink)
        ranges = uplink.value.vlans if uplink is not None and record.vlan_auto else ()
        if ranges and not carries(ranges, record.vlan):
            yield f"VLAN {record.vlan} of network {name} lies outside what uplink {record.uplink} carries"


def _addresses(snapshot: Snapshot) -> Iterator[str]:
    for name, held in snapshot.addresses.items():
        network = snapshot.networks.get(name)
        for address, stored in held.items():
            where = f"address {address} of network {name}"
            if network is None:
                if not snapshot.broken:
                    yield f"{where} is left of a network that is gone"
                continue
            if stored.value.kind is AddressKind.ATTACHMENT:
                yield from _held(snapshot, network.value, address, stored.value, where)
            if stored.value.kind in GIVEN:
                yield from _given(snapshot, network.value, address, stored.value, where)
                if stored.lease:
                    yield f"{where} was given to a host on a lease, so it would be freed on silence"
            yield from _flags(stored.value, where)
            if stored.value.kind is AddressKind.RESERVED and stored.lease:
                yield f"{where} is reserved on a lease"
            if stored.value.kind is AddressKind.ATTACHMENT and stored.lease:
                yield f"{where} is held on a lease, so it would be freed on silence"
            if stored.value.kind is AddressKind.RESTING and not stored.lease:
                yield f"{where} rests without a lease, so it would rest for ever"


def _held(
    snapshot: Snapshot, network: NetworkRecord, address: IPAddress, record: AddressRecord, where: str
) -> Iterator[str]:
    holder = snapshot.attachment(record.host, record.holder)
    points_back = holder is not None and holder.value.network == network.name and _has(holder.value, address)
    if not points_back and not snapshot.broken:
        yield f"{where} is held for {record.host}/{record.holder}, which does not have it"
    docker = holder is not None and holder.value.origin is Origin.DOCKER
    yield from _placed(network, address, where)
    limits = next((pool(p) for p in network.prefixes if address in pool(p).net), None)
    # What a host was given it may use later, whatever became of the network meanwhile.
    if limits is not None and limits.is_excluded(int(address)) and not docker:
        yield f"{where} is excluded"
    if network.deleting and (holder is None or holder.value.origin is Origin.TRUNKLINE):
        yield f"{where} is held while the network is being deleted"


def _given(
    snapshot: Snapshot, network: NetworkRecord, address: IPAddress, record: AddressRecord, where: str
) -> Iterator[str]:
    if not record.host or (record.host not in snapshot.hosts and not snapshot.broken):
        yield f"{where} was given to host {record.host!r}, which is not known"
    if record.holder:
        yield f"{where} was given to host {record.host}, and yet has a holder, {record.holder}"
    yield from _placed(network, address, where)


def _placed(network: NetworkRecord, address: IPAddress, where: str) -> Iterator[str]:
    limits = next((pool(p) for p in network.prefixes if address in pool(p).net), None)
    if limits is None:
        yield f"{where} lies outside its prefixes"
    elif not limits.is_host(int(address)):
        yield f"{where} is no host address"
    elif int(address) == limits.gateway:
        yield f"{where} is the gateway"


def _flags(record: AddressRecord, where: str) -> Iterator[str]:
    if is_promised(record) and not record.owner:
        yield f"{where} is promised to nobody"
    if record.promised and record.kind not in (*GIVEN, AddressKind.ATTACHMENT):
        yield f"{where} is {record.kind} and marked as promised"
    if record.recalled and record.kind not in GIVEN:
        yield f"{where} is recalled, though nobody was given it"
    if record.kind is AddressKind.RESERVED and record.host:
        yield f"{where} is reserved, and yet on host {record.host}"


def _promises(snapshot: Snapshot) -> Iterator[str]:
    for name, promised in snapshot.promises.items():
        seen: dict[tuple[str, int], IPAddress] = {}
        for address, owner in promised.items():
            other = seen.setdefault((owner, address.version), address)
            if other != address:
                yield f"network {name} promises both {other} and {address} to {owner}"


def _has(record: AttachmentRecord, address: IPAddress) -> bool:
    return str(address) in {text.partition("/")[0] for text in record.addresses}


def _each(snapshot: Snapshot) -> Iterator[AttachmentRecord]:
    for named in snapshot.attachments.values():
        for stored in named.values():
            yield stored.value


def _attachments(snapshot: Snapshot) -> Iterator[str]:
    for record in _each(snapshot):
        where = f"attachment {record.name} on host {record.host}"
        if record.host not in snapshot.hosts:
            yield f"{where} is on a host that is not known"
        network = snapshot.networks.get(record.network)
        if network is None:
            yield f"{where} is on network {record.network}, which does not exist"
            continue
        docker = record.origin is Origin.DOCKER
        if docker and (record.detaching or not record.addresses):
            yield f"{where} is Docker's, and {'being detached by us' if record.detaching else 'has no address'}"
        # Docker's go when their hosts say so, the hosts' own when they were seen gone.
        if network.value.deleting and record.origin is Origin.TRUNKLINE:
            yield f"{where} is on network {record.network}, which is being deleted"
        if record.no_ip and record.addresses:
            yield f"{where} has addresses though none were wanted"
        for text in record.addresses:
            address = ipaddress.ip_address(text.partition("/")[0])
            stored = snapshot.addresses.get(record.network, {}).get(address)
            if stored is None or (stored.value.host, stored.value.holder) != (record.host, record.name):
                yield f"{where} has {address}, whose key does not point back at it"
            elif stored.value.kind is not AddressKind.ATTACHMENT:
                yield f"{where} has {address}, which is {stored.value.kind}"
            if not any(address in pool(p).net for p in network.value.prefixes):
                yield f"{where} has {address}, outside network {record.network}"


def _unique_macs(snapshot: Snapshot) -> Iterator[str]:
    holders: dict[str, str] = {}
    for record in _each(snapshot):
        if record.origin is Origin.DOCKER:
            continue  # Docker draws these, so that two alike are a finding
        me = holding_key(record.host, record.name)
        other = holders.setdefault(record.mac, me)
        if other != me:
            yield f"attachments {other} and {me} share MAC {record.mac}"
        claim = snapshot.macs.get(record.mac)
        if record.mac_claimed and not snapshot.broken and (claim is None or claim.value.holder != me):
            yield f"attachment {me} has no claim of its MAC {record.mac}"
        if not record.mac_claimed:
            yield from _built(snapshot, record, me)
    for mac, stored in snapshot.macs.items():
        if holders.get(mac) != stored.value.holder and not snapshot.broken:
            yield f"MAC {mac} is claimed for {stored.value.holder}, which does not have it"


def _built(snapshot: Snapshot, record: AttachmentRecord, me: str) -> Iterator[str]:
    network = snapshot.networks.get(record.network)
    reading = read_as(record.mac)
    if network is None:
        return
    if reading is None or reading[0] != network.value.number or not _has(record, reading[1]):
        yield f"attachment {me} has MAC {record.mac}, neither claimed nor built from its address"


def _hosts(snapshot: Snapshot) -> Iterator[str]:
    for name, stored in snapshot.hosts.items():
        claim = snapshot.host_numbers.get(stored.value.number)
        if claim is None or claim.value.holder != name:
            yield f"host {name} has no claim of number {stored.value.number}"
    for number, claim in snapshot.host_numbers.items():
        host = snapshot.hosts.get(claim.value.holder)
        if host is None or host.value.number != number:
            yield f"host number {number} is claimed for {claim.value.holder}, which does not have it"
    for name, session in snapshot.sessions.items():
        if name not in snapshot.hosts:
            yield f"a session of host {name} is live, which is not known"
        elif snapshot.hosts[name].value.forgetting:
            yield f"a session of host {name} is live while it is forgotten, so it may use what is let go"
        if not session.lease:
            yield f"the session of host {name} is on no lease, so it would live for ever"


def _statuses(snapshot: Snapshot) -> Iterator[str]:
    for host, name in snapshot.attachment_status:
        if snapshot.attachment(host, name) is None:
            yield f"a status is left of attachment {name} on host {host}"
    for host, name in snapshot.network_status:
        if host not in snapshot.hosts:
            yield f"a status of network {name} is left of host {host}"
        if name not in snapshot.networks:
            yield f"a status on host {host} is left of network {name}"
    for name in snapshot.host_status:
        if name not in snapshot.hosts:
            yield f"a status is left of host {name}"
