"""Addresses that a host was given: what their records become by what the host says of them. Pure.

See docs/decisions/address-grants.md. The host decides alone who on it uses such an address; the record follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from controller.plan.prefixes import pool
from controller.state import keys
from controller.state.pool import is_promised
from controller.state.records import GIVEN, AddressKind, AddressRecord, NetworkRecord
from controller.state.snapshot import Snapshot, Stored
from trunkline.errors import Reason
from trunkline.ids import IPAddress
from trunkline.model import EndpointObservation, EndpointState, Origin, Problem

At = tuple[str, IPAddress]
"""An address of a network."""

Leases = Mapping[str, tuple[int, int]]
"""By network: a lease, and the seconds it lives at least."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of an address that its host does not list: `record` in its place on `lease`, none when it is free.
    `wanting`: it has to rest, on a lease that lives so many seconds at least, which was not given."""

    record: AddressRecord | None
    lease: int = 0
    wanting: int = 0


def is_given(snapshot: Snapshot, host: str, record: AddressRecord) -> bool:
    """Whether the address is on the host's account: stock, kept, or used by a container that Docker gave it to."""
    if record.host != host:
        return False
    if record.kind in GIVEN:
        return True
    if record.kind is not AddressKind.ATTACHMENT:
        return False
    holder = snapshot.attachment(host, record.holder)
    return holder is None or holder.value.origin is Origin.DOCKER


def objection(
    snapshot: Snapshot, host: str, network: NetworkRecord, address: IPAddress, seen: EndpointObservation
) -> Problem | None:
    """Why an address that a host lists is not its own; None when it is, or can become so: nobody else has it."""
    stored = snapshot.addresses.get(network.name, {}).get(address)
    what = f"address {address} of network {network.name}"
    who = f"{seen.state.value} by {seen.container} on host {host}" if seen.container else f"with host {host}"
    if stored is None or stored.value.kind in (AddressKind.RESTING, AddressKind.RESERVED):
        return _unusable(host, network, address, what)
    record = stored.value
    if is_given(snapshot, host, record):
        return None
    if record.kind is AddressKind.CONFLICT:
        message = f"{what} is {who}, and somebody else answers for it on the wire ({record.holder or 'unknown'})"
        return _problem(Reason.ADDRESS_CONFLICT, network, address, f"{message}; find the other user")
    if record.kind is AddressKind.ATTACHMENT:
        other = f"used by attachment {record.holder} on host {record.host}"
    else:
        other = f"{'kept' if record.kind is AddressKind.KEPT else 'in the stock'} on host {record.host}"
    way = f"stop {seen.container} on host {host}, or free it there" if seen.container else f"host {host} is to drop it"
    return _problem(Reason.ADDRESS_DUPLICATE, network, address, f"{what} is {who}, and {other}; {way}")


def _problem(reason: Reason, network: NetworkRecord, address: IPAddress, message: str) -> Problem:
    return Problem("address", f"{network.name}/{address}", reason.name, message)


def _unusable(host: str, network: NetworkRecord, address: IPAddress, what: str) -> Problem | None:
    limits = next((pool(p) for p in network.prefixes if address in pool(p).net), None)
    if limits is None or not limits.is_host(int(address)):
        reason, why = Reason.ADDRESS_OUTSIDE, "which is no host address of it"
    elif int(address) == limits.gateway:
        reason, why = Reason.ADDRESS_RESERVED, "which is its gateway"
    else:
        return None
    return _problem(reason, network, address, f"host {host} has {what}, {why}; give its container another")


def held(
    seen: EndpointObservation,
    stored: Stored[AddressRecord] | None,
    network: NetworkRecord,
    host: str,
    holder: str,
    now_ms: int,
) -> AddressRecord:
    """The record of an address that its host lists; `holder` is the attachment that uses it. A promise stays one."""
    old = stored.value if stored is not None else AddressRecord(AddressKind.STOCK, "")
    mine = old.host == host and old.kind in (*GIVEN, AddressKind.ATTACHMENT)
    promised = is_promised(old) and (mine or old.owner == seen.owner)
    record = AddressRecord(
        kind=_KINDS[seen.state],
        owner=old.owner if promised else seen.owner,
        host=host,
        holder=holder,
        since_ms=old.since_ms if mine and old.kind is _KINDS[seen.state] else now_ms,
        recalled=mine and old.recalled and seen.state is not EndpointState.USED,
        promised=promised,
        shared=seen.shared,
    )
    if seen.state is EndpointState.STOCK:
        # Whom stock is meant for was decided when it was given.
        return old if mine and old.kind is AddressKind.STOCK else record
    if seen.state is EndpointState.KEPT:
        since = seen.released_ms if 0 < seen.released_ms <= now_ms else record.since_ms
        rest, hold = since + network.rest_seconds * 1000, since + network.hold_seconds * 1000
        return replace(record, since_ms=since, rest_until_ms=rest, hold_until_ms=max(rest, hold))
    return record


_KINDS = {
    EndpointState.STOCK: AddressKind.STOCK,
    EndpointState.USED: AddressKind.ATTACHMENT,
    EndpointState.KEPT: AddressKind.KEPT,
}


def let_go(stored: Stored[AddressRecord], network: Stored[NetworkRecord] | None, now_ms: int, leases: Leases) -> Fate:
    """What becomes of an address that its host, having been told of the record as it is, does not list. The host takes
    it no more, even from a desired state under way to it: that gives nothing which the host was told of before."""
    record = stored.value
    if network is None:
        return Fate(None)
    spec = network.value
    until = _rest_until(record, spec, now_ms)
    if record.promised and not spec.deleting:
        rest = until if until > now_ms else 0
        return Fate(AddressRecord(AddressKind.RESERVED, record.owner, since_ms=now_ms, rest_until_ms=rest))
    if until <= now_ms:
        return Fate(None)
    lease, seconds = leases.get(spec.name, (0, 0))
    if seconds < spec.rest_seconds:
        return Fate(None, wanting=spec.rest_seconds)
    return Fate(resting(record, until, now_ms), lease)


def _rest_until(record: AddressRecord, network: NetworkRecord, now_ms: int) -> int:
    """When the rest of an address ends that is let go now, never later than a whole rest from now."""
    whole = now_ms + network.rest_seconds * 1000
    if record.kind is AddressKind.KEPT:
        return min(record.rest_until_ms or record.since_ms + network.rest_seconds * 1000, whole)
    return whole if record.kind is AddressKind.ATTACHMENT else 0


def resting(record: AddressRecord, until_ms: int, now_ms: int) -> AddressRecord:
    """The record of an address that a host let go before its rest was over; it is held for nobody after that."""
    return AddressRecord(
        kind=AddressKind.RESTING,
        owner=record.owner,
        host=record.host,
        since_ms=now_ms,
        rest_until_ms=until_ms,
        hold_until_ms=until_ms,
        shared=record.shared,
    )


def forgotten(record: AddressRecord, network: NetworkRecord | None, now_ms: int, lease: int) -> Fate:
    """What becomes of an address that a forgotten host had and nobody used; `lease` lives the network's rest at
    least, or is 0: then nothing rests."""
    if network is None:
        return Fate(None)
    until = _rest_until(record, network, now_ms)
    if record.promised and not network.deleting:
        rest = until if until > now_ms else 0
        return Fate(AddressRecord(AddressKind.RESERVED, record.owner, since_ms=now_ms, rest_until_ms=rest))
    return Fate(resting(record, until, now_ms), lease) if until > now_ms and lease else Fate(None)


def key(at: At) -> str:
    """The key of an address."""
    return keys.address(*at)
