"""One more address for a host, which hands it out itself (AddressService.Grant). Pure.

What nobody has is given at once. What another host has and does not use is recalled; it is given once that host was
seen to have let it go, so whoever asks waits for the snapshot. See docs/decisions/address-grants.md.

Guards: network and host as read; the address absent or as read; and for a cluster-wide owner, since two hosts that ask
for it at once would each write a key of its own, no address of the network written since the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import nsmallest

from controller.plan.addresses import (
    Choice,
    Cursors,
    Owner,
    check_usable,
    choose,
    elsewhere,
    held_by,
    parse_requested,
)
from controller.plan.placement import check_place, live_network, open_host, readable
from controller.plan.prefixes import pool
from controller.plan.usage import stock_of
from controller.state import codec, keys
from controller.state.pool import PoolIndex, is_promised
from controller.state.records import GIVEN, AddressKind, AddressRecord, HostRecord, NetworkRecord
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import Absent, Guard, NoneNewer, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.ids import IPAddress
from trunkline.model import Prefix

SETTLED_SECONDS = 60
"""Stock that was given for one owner is anybody's again when that did not come for it so long."""


YOUNG_MS = 1000
"""Stock is not recalled so soon after it was given, if there is other."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What an agent asks for. `address` "" for any of IP version `version`; `owner` "" when nobody could tell;
    `shared`: it is cluster-wide; `spare`: the host could do without, so others are not asked to let go."""

    host: str
    network: str
    version: int
    address: str = ""
    owner: str = ""
    shared: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True)
class GrantPlan:
    """`txn` gives `address` to the host, unless there is none: then others have what it could get, `txn` (None if all
    is under way) recalls `recalled` from them, and it is to be planned again when the network's addresses change;
    `refusal` is what to say when time is up. `promised`: the address is promised to the owner."""

    txn: Txn | None
    address: IPAddress | None = None
    promised: bool = False
    recalled: frozenset[IPAddress] = frozenset()
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class _Room:
    """Where an address is looked for."""

    snapshot: Snapshot
    ask: Ask
    host: Stored[HostRecord]
    network: Stored[NetworkRecord]
    prefix: Prefix
    index: PoolIndex
    now_ms: int

    @property
    def name(self) -> str:
        return self.network.value.name

    def stored(self, address: IPAddress) -> Stored[AddressRecord] | None:
        return self.snapshot.addresses.get(self.name, {}).get(address)

    def connected(self, host: str) -> bool:
        return host in self.snapshot.sessions


def grant(
    snapshot: Snapshot,
    ask: Ask,
    cursors: Cursors,
    now_ms: int,
    recalled: frozenset[IPAddress] = frozenset(),
    skip: int = 0,
    mute: frozenset[str] = frozenset(),
    waiters: int = 0,
) -> GrantPlan:
    """Plan an address for a host; `recalled` are those that were recalled for this request before. So many that could
    be recalled are left to others, who want the same at this moment, by `skip`; `mute` hosts were asked in vain, and
    are asked again only if there are no others. While as much is under way as `waiters` wait for, with this one, no
    more is recalled.

    Raises INVALID_ARGUMENT, NETWORK_NOT_FOUND, NETWORK_DELETING, HOST_NOT_FOUND, HOST_DRAINED, HOST_FORGETTING,
    HOST_NOT_SELECTED, UPLINK_*, ADDRESS_*, OWNER_ELSEWHERE, POOL_EXHAUSTED, STORE_CORRUPT.
    """
    readable(snapshot, keys.network(ask.network), keys.host(ask.host))
    network = live_network(snapshot, ask.network)
    host = open_host(snapshot, ask.host)
    check_place(snapshot, host.value, network.value)
    prefix, address = _wanted(ask, network.value)
    room = _Room(snapshot, ask, host, network, prefix, snapshot.pool(ask.network, pool(prefix).net.version), now_ms)
    own = _owned(room, address)
    if own is not None:
        return own
    if address is not None:
        return _certain(room, address)
    try:
        owner = Owner(ask.host if ask.owner else "", ask.owner)
        choice = choose(snapshot, ask.network, prefix, owner, cursors.of(ask.network, ask.version), now_ms)
    except Refusal as error:
        if error.reason is not Reason.POOL_EXHAUSTED or ask.spare:
            raise
        return _pressed(room, error, recalled, skip, mute, waiters)
    return _given(room, choice)


def _wanted(ask: Ask, network: NetworkRecord) -> tuple[Prefix, IPAddress | None]:
    """The prefix to give from, and the address if a certain one is wanted."""
    if len(ask.owner) > 255:
        raise Refusal(Reason.INVALID_ARGUMENT, f"owner {ask.owner!r} is not valid", "use up to 255 characters")
    if ask.address:
        address, prefix = parse_requested(ask.address, network.prefixes, network.name)
        check_usable(network.name, pool(prefix), address)
        return prefix, address
    for prefix in network.prefixes:
        if pool(prefix).net.version == ask.version:
            return prefix, None
    have = " and ".join(prefix.cidr for prefix in network.prefixes) or "no prefix"
    raise Refusal(
        Reason.ADDRESS_OUTSIDE,
        f"network {network.name} has no IPv{ask.version} prefix, it has {have}",
        "choose another network",
        network=network.name,
    )


def _owned(room: _Room, address: IPAddress | None) -> GrantPlan | None:
    """What an owner has that is meant wherever it is: a promised address, or that of a cluster-wide owner. None when
    it has none, or another is asked for and its own is not in use."""
    mine = room.index.owned.get(room.ask.owner, {}) if room.ask.owner else {}
    known = sorted(mine.items(), key=lambda one: (not is_promised(one[1]), int(one[0])))
    for have, record in known:
        if not (is_promised(record) or room.ask.shared):
            continue
        if address not in (None, have) and not (room.ask.shared and record.kind is AddressKind.ATTACHMENT):
            continue
        if record.kind is AddressKind.ATTACHMENT:
            return _wait(room, have, elsewhere(room.name, have, record))
        if not record.host or record.host == room.ask.host or record.kind is AddressKind.RESTING:
            return _given(room, _as_read(room, have, is_promised(record)))
        return _wait(room, have, elsewhere(room.name, have, record))
    return None


def _certain(room: _Room, address: IPAddress) -> GrantPlan:
    """A certain address. What the host has on its own account and does not know of is given to it anew."""
    snapshot, name, ask = room.snapshot, room.name, room.ask
    key = keys.address(name, address)
    readable(snapshot, key)
    stored = room.stored(address)
    if stored is None:
        return _given(room, Choice(address, Absent(key)))
    record = stored.value
    refusal = held_by(name, address, record, room.now_ms)
    if record.kind in GIVEN and not (record.promised and record.owner != ask.owner):
        if record.host == ask.host:
            return _given(room, _as_read(room, address, record.promised))
        free_at = 0 if record.kind is AddressKind.STOCK else max(record.rest_until_ms, record.hold_until_ms)
        if free_at <= room.now_ms:
            return _wait(room, address, refusal)
    if record.kind is AddressKind.RESTING:
        mine = bool(ask.owner) and (record.host, record.owner) == (ask.host, ask.owner)
        if mine or max(record.rest_until_ms, record.hold_until_ms) <= room.now_ms:
            return _given(room, _as_read(room, address, False))
    raise refusal


def _as_read(room: _Room, address: IPAddress, promised: bool) -> Choice:
    key = keys.address(room.name, address)
    return Choice(address, Unchanged(key, room.snapshot.mod_revision(key)), promised=promised)


def _given(room: _Room, choice: Choice) -> GrantPlan:
    """Write the address as the host's stock. It is for one owner only if that is why it was chosen."""
    ask = room.ask
    shared = ask.shared and bool(ask.owner)
    record = AddressRecord(
        kind=AddressKind.STOCK,
        owner=ask.owner if choice.promised or shared or ask.address else "",
        host=ask.host,
        since_ms=room.now_ms,
        promised=choice.promised,
        shared=shared,
    )
    guards: list[Guard] = [
        Unchanged(keys.network(room.name), room.network.mod_revision),
        Unchanged(keys.host(ask.host), room.host.mod_revision),
        choice.guard,
    ]
    if shared:
        guards.append(NoneNewer(keys.addresses(room.name), room.snapshot.revision))
    path = codec.Path(keys.ADDRESSES, (room.name, choice.address))
    put = Put(choice.guard.key, codec.encode(record), known=(path, record))
    return GrantPlan(Txn(tuple(guards), (put,)), choice.address, choice.promised)


def _wait(room: _Room, address: IPAddress, refusal: Refusal) -> GrantPlan:
    """Wait for the host that has an address to let it go, having asked it to if nobody uses it there. Raises the
    refusal when that host is not connected: nothing will change by waiting."""
    stored = room.stored(address)
    if stored is None or not room.connected(stored.value.host):
        host = stored.value.host if stored is not None else ""
        raise Refusal(
            refusal.reason,
            f"{refusal.message}; host {host} is not connected",
            f"bring host {host} back, or run `trunkline host forget {host}` if it is gone for good",
            **refusal.facts,
        )
    txn = None
    if stored.value.kind in GIVEN and not stored.value.recalled:
        txn = Txn((recall_guard(room.name, address, stored),), (recall_op(room.name, address, stored),))
    return GrantPlan(txn, recalled=frozenset({address}), refusal=refusal)


def recall_guard(network: str, address: IPAddress, stored: Stored[AddressRecord]) -> Guard:
    """The address as read."""
    return Unchanged(keys.address(network, address), stored.mod_revision)


def recall_op(network: str, address: IPAddress, stored: Stored[AddressRecord]) -> Put:
    """Ask the host to let an address go that it has and does not use."""
    record = replace(stored.value, recalled=True)
    path = codec.Path(keys.ADDRESSES, (network, address))
    return Put(keys.address(network, address), codec.encode(record), known=(path, record))


def _pressed(
    room: _Room, full: Refusal, recalled: frozenset[IPAddress], skip: int, mute: frozenset[str], waiters: int
) -> GrantPlan:
    """Nothing is free: wait for what was recalled for this request, else recall one more, else for what was recalled
    for others. Raises POOL_EXHAUSTED when nobody in reach has anything to let go."""
    out_of_reach = _out_of_reach(room)
    waiting = frozenset(a for a, record in _spare(room, recalled) if record.recalled)
    some = list(_spare(room))
    fresh = [(a, record) for a, record in some if not record.recalled]
    fresh = [one for one in fresh if not _is_young(room, one[1])] or fresh
    others = [one for one in fresh if one[1].host not in mute and not _is_young(room, one[1])]
    hosts = {_record(room, a).host for a in waiting}
    coming = {a: record.host for a, record in some if record.recalled and record.host not in mute}
    if len(coming) >= waiters > 0:
        refusal = _full(full, out_of_reach, sorted({*hosts, *coming.values()}))
        return GrantPlan(None, recalled=waiting or frozenset(coming), refusal=refusal)
    if waiting and (hosts - mute or not others):
        return GrantPlan(None, recalled=waiting, refusal=_full(full, out_of_reach, sorted(hosts)))
    if fresh := others or fresh:
        address, record = nsmallest(min(skip, len(fresh) // 4) + 1, fresh, key=_reluctance)[-1]
        stored = room.stored(address)
        assert stored is not None
        refusal = _full(full, out_of_reach, sorted({*hosts, record.host}))
        txn = Txn((recall_guard(room.name, address, stored),), (recall_op(room.name, address, stored),))
        return GrantPlan(txn, recalled=recalled | {address}, refusal=refusal)
    if some:
        refusal = _full(full, out_of_reach, sorted({record.host for _, record in some}))
        return GrantPlan(None, recalled=recalled, refusal=refusal)
    raise _full(full, out_of_reach, [])


def _record(room: _Room, address: IPAddress) -> AddressRecord:
    stored = room.stored(address)
    assert stored is not None
    return stored.value


def _reluctance(one: tuple[IPAddress, AddressRecord]) -> tuple[bool, bool, int, int]:
    """What is taken back first: stock that is for nobody, other stock, then what is kept, the oldest first."""
    address, record = one
    return record.kind is not AddressKind.STOCK, bool(record.owner), record.since_ms, int(address)


def _spare(room: _Room, among: frozenset[IPAddress] | None = None) -> Iterator[tuple[IPAddress, AddressRecord]]:
    """Addresses of the pool that other hosts in reach could let go."""
    limits = pool(room.prefix)
    for host, given in room.index.given.items():
        if host == room.ask.host or not room.connected(host):
            continue
        for address, record in given.items():
            if (among is None or address in among) and limits.is_dynamic(int(address)) and _could_go(room, record):
                yield address, record


def _could_go(room: _Room, record: AddressRecord) -> bool:
    if record.promised:
        return False
    if record.kind is AddressKind.STOCK:
        return not record.owner or record.since_ms + SETTLED_SECONDS * 1000 <= room.now_ms
    return record.rest_until_ms <= room.now_ms


def _is_young(room: _Room, record: AddressRecord) -> bool:
    """Whether it may be on its way to one who waits for it."""
    return record.kind is AddressKind.STOCK and room.now_ms - record.since_ms < YOUNG_MS


def _out_of_reach(room: _Room) -> list[str]:
    stock = stock_of(room.index)
    return sorted(host for host in stock if not room.connected(host))


def _full(full: Refusal, out_of_reach: list[str], asked: list[str]) -> Refusal:
    """POOL_EXHAUSTED with those who have some and did not let go."""
    message = full.message
    if asked:
        message += f"; {_hosts(asked)} did not let go in time"
    if out_of_reach:
        message += f"; {_hosts(out_of_reach)} with stock cannot be reached"
    return Refusal(Reason.POOL_EXHAUSTED, message, full.remedy, **full.facts)


def _hosts(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"host{'s' if len(names) > 1 else ''} {', '.join(names[:3])}{more}"
