"""Promises of addresses: made, taken back, listed. Pure.

A promise has no holder: a RESERVED record, on no lease, says whose the address is. While the owner uses or keeps the
address its record stays what it is and is marked `promised`; it becomes RESERVED when it is let go.

Guards of a promise: the network as read; the address absent, or as read; and, since two promises to one owner would
each write a key of its own, no address of the network written since the snapshot.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, replace

from controller.plan.addresses import Choice, Cursors, Owner, choose, parse_requested, requested
from controller.plan.placement import live_network, readable
from controller.plan.prefixes import pool
from controller.plan.who import Holding, of_record
from controller.state import codec, keys
from controller.state.pool import is_promised
from controller.state.records import AddressKind, AddressRecord, NetworkRecord
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import Delete, Guard, NoneNewer, Op, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.ids import IPAddress
from trunkline.model import Prefix

_LIVE = (AddressKind.ATTACHMENT, AddressKind.KEPT, AddressKind.STOCK)
"""Kinds that a promise leaves as they are."""

Held = tuple[IPAddress, Stored[AddressRecord]]


@dataclass(frozen=True, slots=True)
class ReservePlan:
    """`txn` is None when all of it was promised already."""

    txn: Txn | None
    promised: tuple[tuple[IPAddress, AddressRecord], ...]
    existed: bool = False


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """`addresses` are those whose promise is taken back; `txn` is None when there is none."""

    txn: Txn | None
    addresses: tuple[IPAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pick:
    address: IPAddress
    record: AddressRecord
    guard: Guard | None = None


def check_owner(owner: str) -> str:
    """The owner if it can be one; raises INVALID_ARGUMENT for an empty, overlong or unprintable one, and for an
    address, which `release` could not tell from the owner."""
    name = "a container's name, project/service/number of compose, or its label io.trunkline.owner"
    if not owner or len(owner) > 255 or not owner.isprintable() or owner != owner.strip():
        raise Refusal(Reason.INVALID_ARGUMENT, f"owner {owner!r} is not valid", f"name {name}")
    if _address(owner) is not None:
        raise Refusal(Reason.INVALID_ARGUMENT, f"owner {owner!r} is an address", f"name {name}")
    return owner


def _address(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        return None


def reserve(snapshot: Snapshot, network: str, owner: str, address: str, cursors: Cursors, now_ms: int) -> ReservePlan:
    """Plan to promise an address to an owner: the one asked for, else in each prefix the one the owner has already, or
    the next free one. Idempotent by network, owner and IP version.

    Raises INVALID_ARGUMENT, NETWORK_NOT_FOUND, NETWORK_DELETING, ADDRESS_OUTSIDE, ADDRESS_RESERVED, ADDRESS_TAKEN,
    ADDRESS_RESTING, ADDRESS_CONFLICT, PROMISE_EXISTS, POOL_EXHAUSTED, STORE_CORRUPT.
    """
    check_owner(owner)
    key = keys.network(network)
    readable(snapshot, key)
    stored = live_network(snapshot, network)
    prefixes = stored.value.prefixes
    if not prefixes:
        raise Refusal(
            Reason.ADDRESS_OUTSIDE,
            f"network {network} has no addresses",
            "choose a network with a prefix",
            network=network,
        )
    wanted: list[tuple[Prefix, IPAddress | None]] = [(prefix, None) for prefix in prefixes]
    if address:
        chosen, prefix = parse_requested(address, prefixes, network)
        wanted = [(prefix, chosen)]
    picks = [_pick(snapshot, network, prefix, one, owner, cursors, now_ms) for prefix, one in wanted]
    promised = tuple((pick.address, pick.record) for pick in picks)
    writes = [pick for pick in picks if pick.guard is not None]
    if not writes:
        return ReservePlan(None, promised, True)
    guards = [pick.guard for pick in writes if pick.guard is not None]
    facts = (Unchanged(key, stored.mod_revision), *guards, NoneNewer(keys.addresses(network), snapshot.revision))
    ops = tuple(Put(keys.address(network, pick.address), codec.encode(pick.record)) for pick in writes)
    return ReservePlan(Txn(facts, ops), promised)


def _of_owner(snapshot: Snapshot, network: str, owner: str, version: int) -> list[Held]:
    held = snapshot.addresses.get(network, {}).items()
    mine = [(a, stored) for a, stored in held if a.version == version and stored.value.owner == owner]
    return sorted(mine, key=lambda one: int(one[0]))


def _pick(
    snapshot: Snapshot,
    network: str,
    prefix: Prefix,
    address: IPAddress | None,
    owner: str,
    cursors: Cursors,
    now_ms: int,
) -> _Pick:
    version = pool(prefix).net.version
    mine = _of_owner(snapshot, network, owner, version)
    for have, stored in mine:
        if is_promised(stored.value):
            if address in (None, have):
                return _Pick(have, stored.value)
            raise _another(network, owner, have, stored.value, address)
    if address is None:
        address = _own(network, owner, mine, prefix)
    if address is None:
        choice = choose(snapshot, network, prefix, Owner("", owner), cursors.of(network, version), now_ms)
        return _new(choice, owner, None, now_ms)
    known = snapshot.addresses.get(network, {}).get(address)
    if known is not None and known.value.owner == owner and known.value.kind in _LIVE:
        guard = Unchanged(keys.address(network, address), known.mod_revision)
        return _Pick(address, replace(known.value, promised=True), guard)
    if known is not None:
        _check_free(network, address, known.value)
    # Whoever is named as the owner of what rests may have it back; on which host it was does not matter to a promise.
    host = known.value.host if known is not None and known.value.owner == owner else ""
    choice = requested(snapshot, network, prefix, address, Owner(host, owner), now_ms)
    return _new(choice, owner, known.value if host and known is not None else None, now_ms)


def _new(choice: Choice, owner: str, rested: AddressRecord | None, now_ms: int) -> _Pick:
    """A promise of an address that nobody has. It keeps the rest that is not over: taken back before its end, the
    address is not for others yet."""
    until = rested.rest_until_ms if rested is not None else 0
    record = AddressRecord(AddressKind.RESERVED, owner, since_ms=now_ms, rest_until_ms=until)
    return _Pick(choice.address, record, choice.guard)


def _own(network: str, owner: str, mine: list[Held], prefix: Prefix) -> IPAddress | None:
    """The address that the owner uses, else the one it used last; None when it has none."""
    live = [(address, stored.value) for address, stored in mine if stored.value.kind in _LIVE]
    if len(live) > 1:
        listed = ", ".join(f"{address} ({record.host})" for address, record in live[:10])
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"{owner} has several addresses of {prefix.cidr} on network {network}: {listed}",
            "say which one with --address",
            network=network,
        )
    if live:
        return live[0][0]
    limits = pool(prefix)
    rests = [(stored.value.rest_until_ms, -int(a), a) for a, stored in mine if stored.value.kind is AddressKind.RESTING]
    return max((rest for rest in rests if limits.is_dynamic(int(rest[2]))), default=(0, 0, None))[2]


def _another(
    network: str, owner: str, have: IPAddress, record: AddressRecord, address: IPAddress | None
) -> TrunklineError:
    where = f", which is in use on host {record.host}" if record.host else ""
    return Refusal(
        Reason.PROMISE_EXISTS,
        f"{owner} is promised {have} on network {network} already{where}; {address} was asked for",
        f"take that promise back first: `trunkline address release {network} {owner}`",
        network=network,
        address=str(have),
        owner=owner,
    )


def _check_free(network: str, address: IPAddress, record: AddressRecord) -> None:
    """Raise ADDRESS_TAKEN for what is promised to, kept for or given to somebody else; what else is in the way is said
    by `requested`."""
    facts = {"network": network, "address": str(address), "owner": record.owner, "host": record.host}
    where, remedy = f"address {address} of network {network}", "choose another address"
    if record.kind is AddressKind.RESERVED:
        what = f"is promised to {record.owner}"
        remedy += f", or take that promise back: `trunkline address release {network} {address}`"
    elif record.kind is AddressKind.KEPT:
        what = f"is kept for {record.owner or 'its last user'} on host {record.host}"
        remedy += ", or wait until it is let go"
    elif record.kind is AddressKind.STOCK:
        what = f"is in the stock of host {record.host}" + (f", for {record.owner}" if record.owner else "")
    elif record.kind is AddressKind.ATTACHMENT:
        what = f"is held by attachment {record.holder} on host {record.host}, for owner {record.owner or 'unknown'}"
        remedy += ", or name that owner"
    else:
        return
    raise Refusal(Reason.ADDRESS_TAKEN, f"{where} {what}", remedy, **facts)


def network_of(snapshot: Snapshot, name: str) -> NetworkRecord:
    """A network, being deleted or not; raises NETWORK_NOT_FOUND, STORE_CORRUPT."""
    readable(snapshot, keys.network(name))
    stored = snapshot.networks.get(name)
    return stored.value if stored is not None else live_network(snapshot, name).value


def release(snapshot: Snapshot, network: str, who: str, now_ms: int, lease: int) -> ReleasePlan:
    """Plan to take back what is promised to an owner, or the promise of one address. An address in use stays with its
    user; one that nobody uses is free, or rests on `lease`, which lives the network's rest at least, until a rest
    that a use of it began is over. Idempotent.

    Raises INVALID_ARGUMENT, NETWORK_NOT_FOUND, ADDRESS_OUTSIDE, STORE_CORRUPT."""
    record = network_of(snapshot, network)
    held = snapshot.addresses.get(network, {})
    if _address(who) is not None:
        address, _ = parse_requested(who, record.prefixes, network)
        readable(snapshot, keys.address(network, address))
        found = [(address, held[address])] if address in held else []
    else:
        check_owner(who)
        found = [one for version in (4, 6) for one in _of_owner(snapshot, network, who, version)]
    found = [one for one in found if is_promised(one[1].value)]
    if not found:
        return ReleasePlan(None)
    guards = tuple(Unchanged(keys.address(network, a), stored.mod_revision) for a, stored in found)
    ops = tuple(_taken_back(keys.address(network, a), stored.value, now_ms, lease) for a, stored in found)
    return ReleasePlan(Txn(guards, ops), tuple(address for address, _ in found))


def _taken_back(key: str, record: AddressRecord, now_ms: int, lease: int) -> Op:
    if record.kind is not AddressKind.RESERVED:
        return Put(key, codec.encode(replace(record, promised=False)))
    if record.rest_until_ms <= now_ms or not lease:
        return Delete(key)
    until = record.rest_until_ms
    resting = replace(record, kind=AddressKind.RESTING, promised=False, hold_until_ms=until)
    return Put(key, codec.encode(resting), lease)


def listed(snapshot: Snapshot, network: str, host: str, owner: str, kind: str, now_ms: int) -> Iterator[Holding]:
    """Every address with a record, in order of network and address; "" does not filter. Raises INVALID_ARGUMENT for a
    kind that is none, NETWORK_NOT_FOUND."""
    if kind and kind not in [one.value for one in AddressKind]:
        known = ", ".join(AddressKind)
        raise Refusal(Reason.INVALID_ARGUMENT, f"{kind!r} is no kind of address", f"use one of {known}")
    names = [network_of(snapshot, network).name] if network else sorted(snapshot.networks)
    for name in names:
        held = snapshot.addresses.get(name, {})
        for address in sorted(held, key=lambda one: (one.version, int(one))):
            stored = held.get(address)  # it may have gone while others had their turn
            if stored is None:
                continue
            record = stored.value
            if host in ("", record.host) and owner in ("", record.owner) and kind in ("", record.kind.value):
                yield of_record(snapshot, name, address, record, now_ms)
