"""Create and change networks. Pure. Deleting them is in `deletion`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.plan import netspec
from controller.plan.claims import check_overlap, check_uplink_mtu, choose_vlan, free_number, uplink_guard
from controller.plan.desired import selected
from controller.plan.placement import live_network, readable
from controller.plan.prefixes import canonical, covers, pool, range_spans
from controller.plan.requests import NetworkRequest, NetworkUpdate, PrefixChange
from controller.state import codec, keys
from controller.state.records import AddressKind, Claim, NetworkRecord
from controller.state.snapshot import Snapshot
from controller.state.txn import Absent, Guard, NoneNewer, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.ids import parse_prefix
from trunkline.model import Origin, Prefix


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """`txn` is None when the network is there already as asked."""

    txn: Txn | None
    record: NetworkRecord
    existed: bool = False
    warnings: tuple[str, ...] = ()


def create_network(snapshot: Snapshot, request: NetworkRequest, now_ms: int) -> NetworkPlan:
    """Plan a network: VLAN id, number and prefixes claimed in one transaction. Idempotent by name.

    Raises INVALID_*, MODE_REFUSED, NETWORK_EXISTS, NETWORK_DELETING, UPLINK_NOT_SET, UPLINK_MTU, VLAN_TAKEN,
    VLAN_EXHAUSTED, NUMBERS_EXHAUSTED, PREFIX_OVERLAP, STORE_CORRUPT.

    Guards: network, VLAN claim and number absent; the uplink's range as read; and, since two new networks that
    overlap would each write keys of its own, no network created or changed since the snapshot (law 2). A network
    deleted since can only make room.
    """
    asked = netspec.checked(request)
    key = keys.network(asked.name)
    readable(snapshot, key, keys.uplink(asked.uplink))
    existing = snapshot.networks.get(asked.name)
    if existing is not None:
        return _existing(existing.value, asked)
    check_overlap(snapshot, asked)
    check_uplink_mtu(snapshot, asked)
    vid, warnings = choose_vlan(snapshot, asked)
    number = free_number(snapshot)
    record = replace(asked, vlan=vid, number=number, created_ms=now_ms)
    claim = codec.encode(Claim(record.name))
    vlan_key, number_key = keys.vlan(record.uplink, vid), keys.number(number)
    guards: list[Guard] = [Absent(key), Absent(vlan_key), Absent(number_key), uplink_guard(snapshot, record.uplink)]
    guards.append(NoneNewer(keys.NETWORKS, snapshot.revision))
    ops = (Put(key, codec.encode(record)), Put(vlan_key, claim), Put(number_key, claim))
    return NetworkPlan(Txn(tuple(guards), ops), record, False, (*warnings, *_unselected(snapshot, record)))


def _existing(have: NetworkRecord, asked: NetworkRecord) -> NetworkPlan:
    if have.deleting:
        raise Refusal(
            Reason.NETWORK_DELETING,
            f"network {have.name} is being deleted",
            "wait until it is gone, then create it again",
            network=have.name,
        )
    differs = netspec.differences(have, asked)
    if differs:
        raise Refusal(
            Reason.NETWORK_EXISTS,
            f"network {have.name} exists with another spec: {'; '.join(differs)}",
            f"choose another name, or change it with `trunkline network update {have.name}`",
            network=have.name,
        )
    return NetworkPlan(None, have, True)


def _unselected(snapshot: Snapshot, record: NetworkRecord) -> tuple[str, ...]:
    if any(selected(stored.value, record) for stored in snapshot.hosts.values()):
        return ()
    which = f"matches {' '.join(record.host_selector)}" if record.host_selector else "has registered"
    return (f"no host {which} yet, so the network is nowhere for now",)


def update_network(snapshot: Snapshot, change: NetworkUpdate) -> NetworkPlan:
    """Plan a change: excludes, ranges (added or grown), selector, rest, hold and host access at any time; MTU and
    gateways while no attachment exists. All or nothing.

    Raises INVALID_*, NETWORK_NOT_FOUND, NETWORK_DELETING, NETWORK_IN_USE, IMMUTABLE, UPLINK_MTU, STORE_CORRUPT.

    Guards: the network as read, which also fails every attach planned before; and, when it matters what is in use,
    no address of the network and no MAC claimed since (an attachment has an address key or a MAC claim).
    """
    readable(snapshot, keys.network(change.name))
    stored = live_network(snapshot, change.name)
    old = stored.value
    prefixes = _changed_prefixes(old, change)
    new = replace(
        old,
        prefixes=prefixes,
        host_selector=old.host_selector
        if change.host_selector is None
        else netspec.check_selector(change.host_selector),
        rest_seconds=netspec.check_seconds("a rest", change.rest_seconds, old.rest_seconds),
        hold_seconds=netspec.check_seconds("a hold", change.hold_seconds, old.hold_seconds),
        mtu=old.mtu if change.mtu is None else netspec.check_mtu(change.mtu, prefixes),
        host_access=old.host_access
        if change.host_access is None
        else netspec.check_host_access(change.host_access, old.name, prefixes),
    )
    if new == old:
        return NetworkPlan(None, old, True)
    relies_on_use = _check_in_use(snapshot, old, new)
    if new.mtu != old.mtu or new.host_selector != old.host_selector:
        check_uplink_mtu(snapshot, new)
    new = replace(new, generation=old.generation + 1)
    guards: list[Guard] = [Unchanged(keys.network(old.name), stored.mod_revision)]
    if relies_on_use:
        guards += in_use_guards(snapshot, old.name)
    txn = Txn(tuple(guards), (Put(keys.network(old.name), codec.encode(new)),))
    return NetworkPlan(txn, new, True, (*_left_behind(snapshot, old, new), *_unselected(snapshot, new)))


def in_use_guards(snapshot: Snapshot, network: str) -> tuple[Guard, ...]:
    """No attachment was added to the network since the snapshot: each has an address, or claims a MAC."""
    return (
        NoneNewer(keys.addresses(network), snapshot.revision),
        NoneNewer(keys.MACS, snapshot.revision),
    )


def _changed_prefixes(old: NetworkRecord, change: NetworkUpdate) -> tuple[Prefix, ...]:
    changes: dict[str, PrefixChange] = {}
    for wanted in change.prefixes:
        cidr = str(parse_prefix(wanted.cidr.strip()))
        if cidr in changes or cidr not in {prefix.cidr for prefix in old.prefixes}:
            have = ", ".join(prefix.cidr for prefix in old.prefixes) or "none"
            why = "is changed twice" if cidr in changes else f"is not one of network {old.name} (it has {have})"
            raise Refusal(Reason.IMMUTABLE, f"prefix {cidr} {why}", "make a new network for another prefix")
        changes[cidr] = wanted
    return tuple(_changed(prefix, changes.get(prefix.cidr), old.name) for prefix in old.prefixes)


def _changed(old: Prefix, change: PrefixChange | None, network: str) -> Prefix:
    if change is None:
        return old
    new = canonical(
        Prefix(
            old.cidr,
            old.gateway if change.gateway is None else change.gateway,
            old.ranges if change.ranges is None else change.ranges,
            old.excludes if change.excludes is None else change.excludes,
        )
    )
    if not covers(range_spans(new), range_spans(old)):
        raise Refusal(
            Reason.IMMUTABLE,
            f"the new ranges of {old.cidr} leave out some of {' '.join(old.ranges) or 'the whole prefix'}",
            f"ranges of network {network} can be added and grown; use excludes to take addresses out",
            network=network,
        )
    return new


def _check_in_use(snapshot: Snapshot, old: NetworkRecord, new: NetworkRecord) -> bool:
    """Refuse what use forbids; whether the answer relied on what is in use."""
    gateways = [prefix.gateway for prefix in old.prefixes] != [prefix.gateway for prefix in new.prefixes]
    if gateways or old.mtu != new.mtu:
        what = "gateway" if gateways else "MTU"
        users = sorted(f"{host}/{name}" for host, name in snapshot.on_network.get(old.name, ()))
        if users:
            raise Refusal(
                Reason.NETWORK_IN_USE,
                f"the {what} of network {old.name} cannot change while it is used by {', '.join(users[:10])}"
                + (f" and {len(users) - 10} more" if len(users) > 10 else ""),
                _way_out(snapshot, old),
                network=old.name,
            )
    excludes = [prefix.excludes for prefix in old.prefixes] != [prefix.excludes for prefix in new.prefixes]
    if excludes:
        _check_excludes(snapshot, new)
    return gateways or excludes or old.mtu != new.mtu


def _way_out(snapshot: Snapshot, network: NetworkRecord) -> str:
    users = (snapshot.attachments[host][name].value.origin for host, name in snapshot.on_network[network.name])
    if all(origin is Origin.HOST for origin in users):
        return f"take the hosts' own interfaces away first: `trunkline network update {network.name} --no-host-access`"
    return "detach them first, or make a new network"


def _check_excludes(snapshot: Snapshot, new: NetworkRecord) -> None:
    limits = {pool(prefix).net.version: pool(prefix) for prefix in new.prefixes}
    for address, stored in snapshot.addresses.get(new.name, {}).items():
        known = limits.get(address.version)
        if stored.value.kind is AddressKind.ATTACHMENT and known is not None and known.is_excluded(int(address)):
            raise Refusal(
                Reason.NETWORK_IN_USE,
                f"address {address} of network {new.name} cannot be excluded, attachment {stored.value.holder} "
                f"on host {stored.value.host} has it",
                "detach it first, or leave it out of the excludes",
                network=new.name,
                address=str(address),
            )


def _left_behind(snapshot: Snapshot, old: NetworkRecord, new: NetworkRecord) -> tuple[str, ...]:
    if old.host_selector == new.host_selector:
        return ()
    users = snapshot.on_network.get(new.name, ())
    # What a host has of its own goes by itself, once the selector leaves the host out.
    hosts = {host for host, name in users if snapshot.attachments[host][name].value.origin is not Origin.HOST}
    left = sorted(h for h in hosts if h in snapshot.hosts and not selected(snapshot.hosts[h].value, new))
    if not left:
        return ()
    return (f"attachments stay on {', '.join(left[:10])}, which the new selector leaves out; detach them to end it",)
