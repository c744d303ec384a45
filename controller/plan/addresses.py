"""Which address somebody gets: next-fit, with rest and hold (laws 4 and 5 of docs/architecture.md). Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice

from controller.plan.prefixes import Pool, pool
from controller.plan.usage import PoolUse, clock, exhausted, use_of
from controller.state import codec, keys
from controller.state.pool import PoolIndex, is_promised
from controller.state.records import AddressKind, AddressRecord, NetworkRecord
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import Absent, Delete, Guard, Op, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.ids import IPAddress, parse_address
from trunkline.model import Prefix

_JUMP = 1024
"""Farthest a cursor jumps after a lost race: far from the other replica, near enough to read well."""

_HELD_JUMP = 16
"""The same for addresses that are given up in order of their rest."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom an address rests and is held for: a name on a host."""

    host: str
    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """An address, the guard that makes it unique, and what an operator should know ("" mostly). `promised`: it is
    the owner's wherever it is, and stays so."""

    address: IPAddress
    guard: Absent | Unchanged
    note: str = ""
    promised: bool = False


@dataclass(slots=True)
class Cursor:
    """A replica's hint where to go on in one prefix; never stored, never guarded. `last` 0 means not known yet.

    `made` is the revision that made the network: another one of its name begins at its first address. `left` are
    addresses that were chosen and not written; they come first, so that no hole stays."""

    last: int = 0
    skip: int = 0
    given: tuple[int, int] = (0, 0)
    made: int = 0
    left: list[int] = field(default_factory=list)

    def begin(self, made: int) -> None:
        """The network is the one made at this revision."""
        if made != self.made:
            if self.made:
                self.last, self.skip, self.given, self.left = 0, 0, (0, 0), []
            self.made = made

    def jump(self, draw: int) -> None:
        """After a lost race: go on a random step ahead, `draw` being any non-negative random number."""
        self.skip = draw % _JUMP


class Cursors:
    """The cursors of a replica, by network and IP version."""

    def __init__(self) -> None:
        self._cursors: dict[tuple[str, int], Cursor] = {}

    def of(self, network: str, version: int) -> Cursor:
        """The cursor of one prefix, made at first use."""
        cursor = self._cursors.get((network, version))
        if cursor is None:
            cursor = self._cursors[network, version] = Cursor()
        return cursor

    def jump(self, network: str, draw: int) -> None:
        """Jump in every prefix of a network."""
        self.of(network, 4).jump(draw)
        self.of(network, 6).jump(draw)

    def lost(self, snapshot: Snapshot, txn: Txn, draw: int, before: bool) -> bool:
        """A plan lost its race, as this snapshot shows: what it chose and nobody has got comes next again. Whether
        somebody has; if that was so `before`, too, another replica goes on from the same place, and this one jumps."""
        taken = False
        for guard in txn.guards:
            if not isinstance(guard, Absent) or not guard.key.startswith(keys.ADDRESSES):
                continue
            network, address = codec.parse_key(guard.key).parts
            if not snapshot.exists(guard.key):
                heappush(self.of(network, address.version).left, int(address))
                continue
            taken = True
            if before:
                self.jump(network, draw)
        return taken


def choose(snapshot: Snapshot, network: str, prefix: Prefix, owner: Owner, cursor: Cursor, now_ms: int) -> Choice:
    """The next address for an owner: what it is promised, else its own resting or held one, else the next free one
    after the cursor, else the one whose rest ended longest ago. Moves the cursor. Raises POOL_EXHAUSTED, and
    OWNER_ELSEWHERE when what it is promised is in use or kept on another host."""
    limits, index = pool(prefix), snapshot.pool(network, 6 if ":" in prefix.cidr else 4)
    own = _promised(snapshot, network, index, owner) or _own(snapshot, network, limits, index, owner)
    if own is not None:
        return own
    skip = cursor.skip
    value = _next_fit(snapshot, network, limits, index, cursor)
    if value is not None:
        address = limits.address(value)
        return Choice(address, Absent(keys.address(network, address)))
    held = _oldest(snapshot, network, limits, index, cursor, skip, now_ms)
    if held is not None:
        return held
    raise exhausted(network, prefix, limits, index)


def _promised(snapshot: Snapshot, network: str, index: PoolIndex, owner: Owner) -> Choice | None:
    for address, record in index.owned.get(owner.name, {}).items():
        if record.kind is AddressKind.RESERVED:
            return Choice(address, _unchanged(snapshot, network, address), promised=True)
        if record.promised and (record.kind is not AddressKind.ATTACHMENT or record.host != owner.host):
            raise elsewhere(network, address, record)
    return None


def elsewhere(network: str, address: IPAddress, record: AddressRecord) -> Refusal:
    """OWNER_ELSEWHERE for an owner whose address somebody has."""
    whose = "promised to it" if is_promised(record) else "cluster-wide"
    what = f"{record.owner} has address {address} of network {network} ({whose}) on host {record.host}"
    what += f", used by {record.holder}" if record.kind is AddressKind.ATTACHMENT else ", where it is kept for it"
    remedy = f"stop it on host {record.host} first"
    if is_promised(record):
        remedy += f", or take the promise back: `trunkline address release {network} {record.owner}`"
    facts = {"network": network, "address": str(address), "owner": record.owner, "host": record.host}
    return Refusal(Reason.OWNER_ELSEWHERE, what, remedy, **facts)


def next_free(snapshot: Snapshot, network: str, prefix: Prefix, cursor: Cursor) -> Choice | None:
    """The next address of a prefix that has no record; None when there is none. Moves the cursor."""
    limits = pool(prefix)
    value = _next_fit(snapshot, network, limits, snapshot.pool(network, limits.net.version), cursor)
    if value is None:
        return None
    address = limits.address(value)
    return Choice(address, Absent(keys.address(network, address)))


def _own(snapshot: Snapshot, network: str, limits: Pool, index: PoolIndex, owner: Owner) -> Choice | None:
    mine = index.resting.get((owner.host, owner.name))
    usable = [a for a in mine or () if limits.is_dynamic(int(a))]
    if not mine or not usable:
        return None
    address = max(usable, key=lambda a: (mine[a].rest_until_ms, -int(a)))
    return Choice(address, _unchanged(snapshot, network, address))


def _unchanged(snapshot: Snapshot, network: str, address: IPAddress) -> Unchanged:
    key = keys.address(network, address)
    return Unchanged(key, snapshot.mod_revision(key))


def _start(snapshot: Snapshot, network: str, limits: Pool, cursor: Cursor) -> int:
    """Where to look first. A replica that just started goes on after the youngest address in use."""
    first, last = limits.spans[0][0], limits.spans[-1][1]
    if cursor.last == 0:
        version = limits.net.version
        held = snapshot.addresses.get(network, {}).items()
        youngest = max(((s.value.since_ms, int(a)) for a, s in held if a.version == version), default=(0, first - 1))
        cursor.last = youngest[1]
    start = cursor.last + 1 + cursor.skip % limits.size
    cursor.skip = 0
    return start if first <= start <= last else first + max(0, start - last - 1) % (last - first + 1)


def _next_fit(snapshot: Snapshot, network: str, limits: Pool, index: PoolIndex, cursor: Cursor) -> int | None:
    known = snapshot.networks.get(network)
    cursor.begin(known.create_revision if known is not None else 0)
    while cursor.left:
        value = heappop(cursor.left)
        if value not in index.taken and limits.is_dynamic(value):
            return value
    start = _start(snapshot, network, limits, cursor)
    spans = limits.spans
    here = bisect_left(spans, start, key=lambda span: span[1])
    for low, high in (*spans[here:], *spans[: here + 1]):
        value = index.taken.next_absent(max(low, start))
        if value <= high:
            cursor.last = value
            return value
        if high == spans[-1][1]:
            start = 0
    return None


def _oldest(
    snapshot: Snapshot, network: str, limits: Pool, index: PoolIndex, cursor: Cursor, skip: int, now_ms: int
) -> Choice | None:
    """The held address whose rest ended first. It goes on behind the one given up before, so that requests planned
    on one snapshot do not all take the same, and some further after a lost race."""

    usable = (entry for entry in index.rested(now_ms, cursor.given) if limits.is_dynamic(entry[1]))
    some = list(islice(usable, skip % _HELD_JUMP + 1))
    if not some:
        return None
    cursor.given = some[-1]
    address = limits.address(some[-1][1])
    record = snapshot.addresses[network][address].value
    note = "" if record.hold_until_ms <= now_ms else f"{address} was held for {record.owner} on host {record.host}"
    return Choice(address, _unchanged(snapshot, network, address), note)


def pool_use(snapshot: Snapshot, network: str) -> tuple[PoolUse, ...]:
    """Use of each prefix of a network, in order of the spec; () when the network is unknown."""
    stored = snapshot.networks.get(network)
    if stored is None:
        return ()
    return tuple(
        use_of(prefix, pool(prefix), snapshot.pool(network, 6 if ":" in prefix.cidr else 4))
        for prefix in stored.value.prefixes
    )


def parse_requested(text: str, prefixes: tuple[Prefix, ...], network: str) -> tuple[IPAddress, Prefix]:
    """The address a user typed, with or without its prefix length, and the prefix it belongs to. Raises
    INVALID_ARGUMENT, ADDRESS_OUTSIDE."""
    bare, slash, length = text.strip().partition("/")
    address = parse_address(bare)
    for prefix in prefixes:
        limits = pool(prefix)
        if address in limits.net and "%" not in bare:
            if slash and length != str(limits.net.prefixlen):
                raise Refusal(
                    Reason.INVALID_ARGUMENT,
                    f"{text} has another prefix length than {prefix.cidr} of network {network}",
                    f"leave the length out: {address}",
                )
            return address, prefix
    have = " and ".join(prefix.cidr for prefix in prefixes) or "no prefix"
    raise Refusal(
        Reason.ADDRESS_OUTSIDE,
        f"address {address} lies outside network {network}, which has {have}",
        f"choose an address of {have}" if prefixes else "attach without an address",
        network=network,
        address=str(address),
    )


def requested(
    snapshot: Snapshot, network: str, prefix: Prefix, address: IPAddress, owner: Owner, now_ms: int
) -> Choice:
    """The address asked for, anywhere in the prefix, ranges or not. Raises ADDRESS_OUTSIDE, ADDRESS_RESERVED,
    ADDRESS_TAKEN, ADDRESS_RESTING, ADDRESS_CONFLICT, STORE_CORRUPT."""
    limits = pool(prefix)
    check_usable(network, limits, address)
    key = keys.address(network, address)
    if key in snapshot.broken:
        raise codec.known_corrupt(key, snapshot.broken[key])
    stored = snapshot.addresses.get(network, {}).get(address)
    if stored is None:
        return Choice(address, Absent(key))
    record = stored.value
    mine = (record.host, record.owner) == (owner.host, owner.name)
    if record.kind is AddressKind.RESERVED and owner.name and record.owner == owner.name:
        return Choice(address, Unchanged(key, stored.mod_revision), promised=True)
    if record.kind is AddressKind.RESTING and (mine or max(record.rest_until_ms, record.hold_until_ms) <= now_ms):
        return Choice(address, Unchanged(key, stored.mod_revision))
    raise held_by(network, address, record, now_ms)


def check_usable(network: str, limits: Pool, address: IPAddress) -> None:
    """Raise ADDRESS_OUTSIDE or ADDRESS_RESERVED for an address that nobody can have."""
    value = int(address)
    facts = {"network": network, "address": str(address)}
    if not limits.is_host(value):
        what = "broadcast" if value > limits.last else "network" if address.version == 4 else "subnet-router anycast"
        raise Refusal(
            Reason.ADDRESS_OUTSIDE,
            f"{address} is the {what} address of {limits.net} (network {network})",
            f"choose {limits.address(limits.first)} to {limits.address(limits.last)}",
            **facts,
        )
    if value == limits.gateway:
        what, remedy = "is its gateway", "choose another address"
    elif limits.is_excluded(value):
        what, remedy = (
            "is excluded",
            f"choose another, or change the excludes with `trunkline network update {network}`",
        )
    else:
        return
    raise Refusal(Reason.ADDRESS_RESERVED, f"address {address} of network {network} {what}", remedy, **facts)


def held_by(network: str, address: IPAddress, record: AddressRecord, now_ms: int) -> Refusal:
    """Why an address with a record is not to be had, naming who has it."""
    facts = {"network": network, "address": str(address), "host": record.host, "holder": record.holder}
    where = f"address {address} of network {network}"
    if record.kind is AddressKind.RESTING:
        resting = record.rest_until_ms > now_ms
        until = clock(record.rest_until_ms if resting else record.hold_until_ms)
        what = f"{'rests' if resting else 'is held'} until {until} for {record.owner} on host {record.host}"
        return Refusal(Reason.ADDRESS_RESTING, f"{where} {what}", "choose another address, or wait", **facts)
    if record.kind is AddressKind.RESERVED or (record.promised and record.kind is not AddressKind.ATTACHMENT):
        what = f"{where} is reserved for {record.owner}"
        return Refusal(Reason.ADDRESS_RESERVED, what, "choose another address", **facts)
    if record.kind is AddressKind.CONFLICT:
        what = f"{where} is answered for by somebody else on the wire ({record.holder or 'unknown'})"
        return Refusal(Reason.ADDRESS_CONFLICT, what, "find the other user, or choose another address", **facts)
    if record.kind is AddressKind.STOCK:
        what = f"{where} is in the stock of host {record.host}"
        return Refusal(Reason.ADDRESS_TAKEN, what, "choose another address", **facts)
    if record.kind is AddressKind.KEPT:
        resting = record.rest_until_ms > now_ms
        until = clock(record.rest_until_ms if resting else record.hold_until_ms)
        who = record.owner or "its last user"
        what = f"{where} {'rests' if resting else 'is kept'} until {until} for {who} on host {record.host}"
        return Refusal(Reason.ADDRESS_RESTING, what, "choose another address, or wait", **facts)
    what = f"{where} is held by attachment {record.holder} on host {record.host}"
    return Refusal(Reason.ADDRESS_TAKEN, what, "choose another address, or detach or stop that one first", **facts)


def keep_seconds(network: NetworkRecord, hold: bool = True) -> int:
    """Seconds the lease of a resting address must live at least; 0 when addresses are free at once. Without `hold` an
    address only rests."""
    return max(network.rest_seconds, network.hold_seconds) if hold else network.rest_seconds


def holding_key(host: str, name: str) -> str:
    """How an address record or a MAC claim names the attachment that holds it."""
    return f"{host}/{name}"


def release_ops(
    network: NetworkRecord | None,
    released: tuple[tuple[str, Stored[AddressRecord]], ...],
    now_ms: int,
    lease: int,
    hold: bool = True,
) -> tuple[tuple[Guard, ...], tuple[Op, ...]]:
    """Guards and writes that turn held addresses, given as (key, record), into resting ones on `lease`, which lives
    `keep_seconds` at least. Promised ones are their owner's again. Without rest and hold, or when the network is gone,
    they are free at once. Raises STORE_CONTENTION without a lease though one is needed by now: the network's times
    changed meanwhile."""
    seconds = keep_seconds(network, hold) if network is not None else 0
    guards: list[Guard] = []
    ops: list[Op] = []
    for key, stored in released:
        guards.append(Unchanged(key, stored.mod_revision))
        if stored.value.promised and network is not None and not network.deleting:
            rest = now_ms + network.rest_seconds * 1000 if network.rest_seconds else 0
            back = AddressRecord(AddressKind.RESERVED, stored.value.owner, since_ms=now_ms, rest_until_ms=rest)
            ops.append(Put(key, codec.encode(back)))
            continue
        if network is None or seconds == 0:
            ops.append(Delete(key))
            continue
        if not lease:
            raise TrunklineError(
                Reason.STORE_CONTENTION,
                f"the rest and hold of network {network.name} changed while {key!r} was let go",
                "it is tried again",
                network=network.name,
            )
        resting = AddressRecord(
            kind=AddressKind.RESTING,
            owner=stored.value.owner,
            host=stored.value.host,
            since_ms=now_ms,
            rest_until_ms=now_ms + network.rest_seconds * 1000,
            hold_until_ms=now_ms + seconds * 1000,
            shared=stored.value.shared,
        )
        ops.append(Put(key, codec.encode(resting), lease))
    return tuple(guards), tuple(ops)
