"""The store's content as typed maps with indexes, kept up to date from listings and changes. Pure.

Only its owner changes a snapshot; planners read it. Every change costs the same whatever the size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from controller.state import codec, keys
from controller.state.entry import Changes, Entry, Listing
from controller.state.pool import PoolIndex, is_promised
from controller.state.records import (
    GIVEN,
    AddressRecord,
    AttachmentRecord,
    AttachmentStatus,
    Claim,
    HostRecord,
    HostStatus,
    NetworkHostStatus,
    NetworkRecord,
    SessionRecord,
    UplinkRecord,
)
from controller.state.txn import Put, Txn
from trunkline.errors import TrunklineError
from trunkline.ids import IPAddress
from trunkline.model import Target

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Stored(Generic[T_co]):
    """A record with the revisions a guard compares. `lease` is 0 when it hangs on none."""

    value: T_co
    mod_revision: int
    create_revision: int = 0
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Dirty:
    """What a change touched. `desired`: hosts whose desired state may differ, or whose observation at a newer
    revision is waited for. The rest name views: networks, attachments as (host, name), and hosts."""

    desired: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    attachments: frozenset[tuple[str, str]] = frozenset()
    hosts: frozenset[str] = frozenset()
    uplinks: bool = False
    epoch: bool = False


@dataclass(slots=True)
class _Marks:
    desired: set[str] = field(default_factory=set)
    networks: set[str] = field(default_factory=set)
    attachments: set[tuple[str, str]] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    uplinks: bool = False
    epoch: bool = False
    promises: dict[tuple[str, IPAddress], str | None] = field(default_factory=dict)
    """Owners that addresses were promised to before; None for nobody."""
    disputed: dict[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """What hosts disputed before."""
    all_hosts: bool = False
    all_networks: bool = False


_EPOCH: Final = keys.EPOCH

_UNEXPECTED: Final[tuple[bytes, codec.Decoded | None]] = (b"", None)

_EXPECTED: Final = 10_000
"""Own writes of which the decoded records are kept until they come back."""


class Snapshot:
    """All records at `revision`. Values that cannot be read are in `broken` (key: why) and in no map; their keys
    still count as taken."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.revision = 0
        self.epoch = ""
        self.uplinks: dict[str, Stored[UplinkRecord]] = {}
        self.networks: dict[str, Stored[NetworkRecord]] = {}
        self.vlans: dict[tuple[str, int], Stored[Claim]] = {}
        self.numbers: dict[int, Stored[Claim]] = {}
        self.host_numbers: dict[int, Stored[Claim]] = {}
        self.addresses: dict[str, dict[IPAddress, Stored[AddressRecord]]] = {}
        self.macs: dict[str, Stored[Claim]] = {}
        self.attachments: dict[str, dict[str, Stored[AttachmentRecord]]] = {}
        self.attachment_status: dict[tuple[str, str], Stored[AttachmentStatus]] = {}
        self.network_status: dict[tuple[str, str], Stored[NetworkHostStatus]] = {}
        self.hosts: dict[str, Stored[HostRecord]] = {}
        self.host_status: dict[str, Stored[HostStatus]] = {}
        self.sessions: dict[str, Stored[SessionRecord]] = {}
        self.broken: dict[str, str] = {}
        self.pools: dict[tuple[str, int], PoolIndex] = {}
        """Index of the addresses of a network by (network, IP version)."""
        self.on_network: dict[str, dict[tuple[str, str], None]] = {}
        """Attachments of a network as (host, name)."""
        self.on_target: dict[tuple[str, Target], dict[str, None]] = {}
        """Names of the attachments of a target on a host."""
        self.networks_seen: dict[str, dict[str, None]] = {}
        """Networks with a status key, by host."""
        self.given: dict[str, dict[tuple[str, IPAddress], None]] = {}
        """Addresses that a host has and nobody uses, as (network, address)."""
        self.promises: dict[str, dict[IPAddress, str]] = {}
        """Owners of the promised addresses of a network, in whoever's hands they are."""
        self.on_mac: dict[str, dict[tuple[str, str], None]] = {}
        """Attachments with a MAC as (host, name)."""
        self._mods: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self._expected: dict[str, tuple[bytes, codec.Decoded]] = {}
        self._maps = self._by_family()

    def _by_family(self) -> dict[str, Any]:
        return {
            keys.UPLINKS: self.uplinks,
            keys.NETWORKS: self.networks,
            keys.VLANS: self.vlans,
            keys.NUMBERS: self.numbers,
            keys.HOST_NUMBERS: self.host_numbers,
            keys.MACS: self.macs,
            keys.HOSTS: self.hosts,
            keys.STATUS_HOSTS: self.host_status,
            keys.SESSIONS: self.sessions,
            keys.STATUS_ATTACHMENTS: self.attachment_status,
            keys.STATUS_NETWORKS: self.network_status,
        }

    def exists(self, key: str) -> bool:
        """Whether the key exists in the store, readable or not."""
        return key in self._mods

    def key_count(self) -> int:
        """Keys in the store, readable or not."""
        return len(self._mods)

    def mod_revision(self, key: str) -> int:
        """Revision of the key's last change; 0 when it does not exist."""
        return self._mods.get(key, 0)

    def attachment(self, host: str, name: str) -> Stored[AttachmentRecord] | None:
        """One attachment."""
        return self.attachments.get(host, {}).get(name)

    def pool(self, network: str, version: int) -> PoolIndex:
        """Index of a network's addresses of one IP version; an empty one when it has none."""
        return self.pools.get((network, version)) or PoolIndex()

    def attachment_count(self) -> int:
        """Attachments in the fabric."""
        return sum(map(len, self.attachments.values()))

    def replace(self, listing: Listing) -> Dirty:
        """Become exactly what was listed (keys below the fabric's prefix, all of them). All of it is dirty, and so is
        what was there before."""
        before = self._everything()
        self.clear()
        marks = _Marks()
        for entry in listing.entries:
            self._put(entry, marks)
        self.revision = listing.revision
        after = self._everything()
        return Dirty(
            before.desired | after.desired,
            before.networks | after.networks,
            before.attachments | after.attachments,
            before.hosts | after.hosts,
            True,
            True,
        )

    def apply(self, changes: Changes) -> Dirty:
        """Apply changes in order. One that is not newer than what is known of its key is ignored, so a change may
        come twice, or early from an own commit; `revision` moves only to what `changes` says is complete."""
        marks = _Marks()
        for change in changes.changes:
            known = self._mods.get(change.key) or self._gone.get(change.key, 0)
            if change.revision <= known or change.revision <= self.revision:
                continue
            if change.entry is None:
                self._delete(change.key, marks)
                if change.revision > changes.revision:
                    self._gone[change.key] = change.revision
            else:
                self._put(change.entry, marks)
        self.revision = max(self.revision, changes.revision)
        if self._gone:
            self._gone = {key: gone for key, gone in self._gone.items() if gone > self.revision}
        marks.all_hosts |= any(self._promise(*at) != before for at, before in marks.promises.items())
        marks.desired.update(host for host, before in marks.disputed.items() if self._disputed(host) != before)
        return Dirty(
            frozenset(marks.desired.union(self.hosts) if marks.all_hosts else marks.desired),
            frozenset(marks.networks.union(self.networks) if marks.all_networks else marks.networks),
            frozenset(marks.attachments),
            frozenset(marks.hosts),
            marks.uplinks,
            marks.epoch,
        )

    def expect(self, txn: Txn) -> None:
        """This is about to be written: if it comes back, what it says is known already. Changes nothing else."""
        expected = self._expected
        for op in txn.ops:
            if isinstance(op, Put) and op.known is not None:
                expected.pop(op.key, None)
                expected[op.key] = (op.value, op.known)
        while len(expected) > _EXPECTED:
            del expected[next(iter(expected))]

    def _everything(self) -> Dirty:
        return Dirty(
            frozenset(self.hosts),
            frozenset(self.networks),
            frozenset((host, name) for host, named in self.attachments.items() for name in named),
            frozenset(self.hosts),
        )

    def _put(self, entry: Entry, marks: _Marks) -> None:
        key = entry.key
        value, known = self._expected.pop(key, _UNEXPECTED)
        record: codec.Record | None = None
        if known is not None and value == entry.value:
            path, record = known
        else:
            try:
                path = codec.parse_key(key)
            except TrunklineError as error:
                self._mods[key] = entry.mod_revision
                self.broken[key] = error.message
                return
        self._remove(path, key, marks)
        self._mods[key] = entry.mod_revision
        if self._gone:
            self._gone.pop(key, None)
        try:
            record = record or codec.decode_at(path, key, entry.value)
        except TrunklineError as error:
            self.broken[key] = error.message
            if path.family == keys.ADDRESSES:
                self._pool_of(path).block(path.parts[1])
        else:
            self._insert(path, Stored(record, entry.mod_revision, entry.create_revision, entry.lease), marks)
        self._mark(path, marks)

    def _delete(self, key: str, marks: _Marks) -> None:
        if key not in self._mods:
            return
        try:
            path = codec.parse_key(key)
        except TrunklineError:
            self.broken.pop(key, None)
        else:
            self._mark(path, marks)
            self._remove(path, key, marks)
        self._mods.pop(key, None)

    def _pool_of(self, path: codec.Path) -> PoolIndex:
        network, address = path.parts
        index = self.pools.get((network, address.version))
        if index is None:
            index = self.pools[network, address.version] = PoolIndex()
        return index

    def _insert(self, path: codec.Path, stored: Stored[Any], marks: _Marks) -> None:
        family, parts = path.family, path.parts
        if family == keys.ADDRESSES:
            self._insert_address(path, stored, marks)
        elif family == keys.ATTACHMENTS:
            record: AttachmentRecord = stored.value
            self.attachments.setdefault(parts[0], {})[parts[1]] = stored
            self.on_network.setdefault(record.network, {})[parts] = None
            self.on_target.setdefault((record.host, record.target), {})[record.name] = None
            if record.mac:
                self.on_mac.setdefault(record.mac, {})[parts] = None
        elif family == _EPOCH:
            self.epoch = stored.value.id
        else:
            self._maps[family][parts if len(parts) > 1 else parts[0]] = stored
            if family == keys.STATUS_NETWORKS:
                self.networks_seen.setdefault(parts[0], {})[parts[1]] = None
            elif family == keys.STATUS_HOSTS:
                marks.disputed.setdefault(parts[0], ())

    def _remove(self, path: codec.Path, key: str, marks: _Marks) -> None:
        if key not in self._mods:
            return
        family, parts = path.family, path.parts
        if self.broken.pop(key, None) is not None:
            if family == keys.ADDRESSES:
                self._pool_of(path).unblock(parts[1])
        elif family == keys.ADDRESSES:
            self._remove_address(path, marks)
        elif family == keys.ATTACHMENTS:
            self._remove_attachment(parts[0], parts[1], marks)
        elif family == _EPOCH:
            self.epoch = ""
        else:
            before = self._maps[family].pop(parts if len(parts) > 1 else parts[0], None)
            if family == keys.STATUS_NETWORKS:
                _drop(self.networks_seen, parts[0], parts[1])
            elif family == keys.STATUS_HOSTS:
                marks.disputed.setdefault(parts[0], before.value.disputed if before is not None else ())
            elif family == keys.HOSTS:
                marks.desired.add(parts[0])

    def _disputed(self, host: str) -> tuple[tuple[str, str], ...]:
        status = self.host_status.get(host)
        return status.value.disputed if status is not None else ()

    def _promise(self, network: str, address: IPAddress) -> str | None:
        return self.promises.get(network, {}).get(address)

    def _insert_address(self, path: codec.Path, stored: Stored[AddressRecord], marks: _Marks) -> None:
        network, address = path.parts
        record = stored.value
        self.addresses.setdefault(network, {})[address] = stored
        self._pool_of(path).add(address, record)
        if is_promised(record):
            marks.promises.setdefault((network, address), self._promise(network, address))
            self.promises.setdefault(network, {})[address] = record.owner
        if record.kind in GIVEN:
            self.given.setdefault(record.host, {})[network, address] = None
            marks.desired.add(record.host)

    def _remove_address(self, path: codec.Path, marks: _Marks) -> None:
        network, address = path.parts
        record = self.addresses[network][address].value
        _drop(self.addresses, network, address)
        self._pool_of(path).remove(address, record)
        if is_promised(record):
            marks.promises.setdefault((network, address), self._promise(network, address))
            _drop(self.promises, network, address)
        if record.kind in GIVEN:
            _drop(self.given, record.host, (network, address))
            marks.desired.add(record.host)

    def _remove_attachment(self, host: str, name: str, marks: _Marks) -> None:
        record = self.attachments[host][name].value
        _drop(self.attachments, host, name)
        _drop(self.on_network, record.network, (host, name))
        _drop(self.on_target, (host, record.target), name)
        _drop(self.on_mac, record.mac, (host, name))
        marks.networks.add(record.network)

    def _mark(self, path: codec.Path, marks: _Marks) -> None:
        family, parts = path.family, path.parts
        if family in (keys.ATTACHMENTS, keys.STATUS_ATTACHMENTS):
            marks.attachments.add((parts[0], parts[1]))
            marks.hosts.add(parts[0])
            if family == keys.ATTACHMENTS:
                marks.desired.add(parts[0])
                stored = self.attachment(parts[0], parts[1])
                if stored is not None:
                    marks.networks.add(stored.value.network)
        elif family == keys.ADDRESSES:
            marks.networks.add(parts[0])
        elif family == keys.NETWORKS:
            marks.networks.add(parts[0])
            marks.all_hosts = True
        elif family == keys.STATUS_NETWORKS:
            marks.networks.add(parts[1])
            marks.hosts.add(parts[0])
        elif family in (keys.HOSTS, keys.STATUS_HOSTS, keys.SESSIONS):
            marks.hosts.add(parts[0])
            if family == keys.HOSTS:
                marks.desired.add(parts[0])
            elif family == keys.SESSIONS:
                marks.attachments.update((parts[0], name) for name in self.attachments.get(parts[0], ()))
            marks.all_networks |= family != keys.STATUS_HOSTS
        elif family in (keys.UPLINKS, keys.VLANS):
            marks.uplinks = True
        elif family == _EPOCH:
            marks.epoch = marks.all_hosts = True


def _drop(nested: dict[Any, Any], outer: Any, inner: Any) -> None:
    """Take one entry out of a mapping of mappings, and the inner mapping with its last."""
    within = nested.get(outer)
    if within is not None:
        within.pop(inner, None)
        if not within:
            del nested[outer]
