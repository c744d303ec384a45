"""What is taken in one prefix, indexed so that a choice costs the same in an empty /64 and in a full /16. Pure."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterator
from typing import Final, TypeVar

from controller.state.records import GIVEN, AddressKind, AddressRecord
from trunkline.ids import IPAddress

_BITS: Final = 8
_FULL: Final = (1 << (1 << _BITS)) - 1
_MASK: Final = (1 << _BITS) - 1

K = TypeVar("K")


class Occupancy:
    """A sparse set of non-negative integers that finds the next absent one in a few steps.

    Level 0 holds bit maps of 256 members each; a bit on level n + 1 says that a bit map of level n is full.
    """

    __slots__ = ("_levels",)

    def __init__(self) -> None:
        self._levels: list[dict[int, int]] = [{}]

    def __contains__(self, member: int) -> bool:
        return bool(self._levels[0].get(member >> _BITS, 0) >> (member & _MASK) & 1)

    def add(self, member: int) -> None:
        """Add a member; no error when it is there."""
        level = 0
        while True:
            if level == len(self._levels):
                self._levels.append({})
            maps = self._levels[level]
            index = member >> _BITS
            bits = maps.get(index, 0) | 1 << (member & _MASK)
            maps[index] = bits
            if bits != _FULL:
                return
            member, level = index, level + 1

    def discard(self, member: int) -> None:
        """Remove a member; no error when it is absent."""
        for maps in self._levels:
            index, bit = member >> _BITS, 1 << (member & _MASK)
            bits = maps.get(index, 0)
            if not bits & bit:
                return
            if bits == bit:
                del maps[index]
            else:
                maps[index] = bits ^ bit
            if bits != _FULL:
                return
            member = index

    def next_absent(self, start: int) -> int:
        """The smallest integer, `start` or above, that is not a member."""
        level = 0
        while True:
            free = (_FULL ^ self._map(level, start >> _BITS)) >> (start & _MASK)
            if free:
                start += (free & -free).bit_length() - 1
                break
            start, level = (start >> _BITS) + 1, level + 1
        while level:
            level -= 1
            free = _FULL ^ self._map(level, start)
            start = (start << _BITS) + (free & -free).bit_length() - 1
        return start

    def _map(self, level: int, index: int) -> int:
        return self._levels[level].get(index, 0) if level < len(self._levels) else 0


def is_promised(record: AddressRecord) -> bool:
    """Whether the address is promised to its owner, in whoever's hands it is now."""
    return record.promised or record.kind is AddressKind.RESERVED


def is_owned(record: AddressRecord) -> bool:
    """Whether the owner is meant wherever in the fabric it is."""
    return is_promised(record) or (record.shared and bool(record.owner))


def _drop(nested: dict[K, dict[IPAddress, AddressRecord]], outer: K, address: IPAddress) -> None:
    within = nested[outer]
    del within[address]
    if not within:
        del nested[outer]


class PoolIndex:
    """The address records of one family of a network, counted and indexed as they come and go."""

    __slots__ = ("_order", "_rests", "by_host", "counts", "given", "owned", "resting", "taken", "unreadable")

    def __init__(self) -> None:
        self.taken = Occupancy()
        """Every address that has a key, whatever it says."""
        self.counts: Counter[AddressKind] = Counter()
        self.by_host: Counter[str] = Counter()
        """Addresses in use, per host."""
        self.resting: dict[tuple[str, str], dict[IPAddress, AddressRecord]] = {}
        """Resting and held addresses of an owner, by (host, owner)."""
        self.given: dict[str, dict[IPAddress, AddressRecord]] = {}
        """Addresses of a host that nobody uses: its stock, and what it keeps."""
        self.owned: dict[str, dict[IPAddress, AddressRecord]] = {}
        """Addresses of owners that are meant wherever in the fabric they are: promised ones, and those of shared
        owners."""
        self.unreadable = 0
        self._rests: dict[int, int] = {}
        self._order: list[tuple[int, int]] = []

    def add(self, address: IPAddress, record: AddressRecord) -> None:
        """Index a record that was put."""
        self.taken.add(int(address))
        self.counts[record.kind] += 1
        if record.kind in GIVEN:
            self.given.setdefault(record.host, {})[address] = record
        if is_owned(record):
            self.owned.setdefault(record.owner, {})[address] = record
        if record.kind is AddressKind.RESTING:
            self.resting.setdefault((record.host, record.owner), {})[address] = record
            self._rests[int(address)] = record.rest_until_ms
            # Rests mostly end in the order in which they began, so this appends.
            insort(self._order, (record.rest_until_ms, int(address)))
            if len(self._order) > 2 * len(self._rests) + 64:
                self._order = sorted((until, value) for value, until in self._rests.items())
        elif record.kind is AddressKind.ATTACHMENT:
            self.by_host[record.host] += 1

    def remove(self, address: IPAddress, record: AddressRecord) -> None:
        """Forget a record that was replaced or deleted."""
        self.taken.discard(int(address))
        self.counts[record.kind] -= 1
        if record.kind in GIVEN:
            _drop(self.given, record.host, address)
        if is_owned(record):
            _drop(self.owned, record.owner, address)
        if record.kind is AddressKind.RESTING:
            del self._rests[int(address)]
            _drop(self.resting, (record.host, record.owner), address)
        elif record.kind is AddressKind.ATTACHMENT:
            self.by_host[record.host] -= 1
            if not self.by_host[record.host]:
                del self.by_host[record.host]

    def block(self, address: IPAddress) -> None:
        """A key exists for the address, but its value cannot be read."""
        self.taken.add(int(address))
        self.unreadable += 1

    def unblock(self, address: IPAddress) -> None:
        """The unreadable key is gone, or readable again."""
        self.taken.discard(int(address))
        self.unreadable -= 1

    def first_rest(self) -> int:
        """The earliest end of a rest, Unix milliseconds; 0 when nothing rests."""
        return next((until for until, value in self._order if self._rests.get(value) == until), 0)

    def last_rest(self) -> int:
        """The latest end of a rest, Unix milliseconds; 0 when nothing rests."""
        return next((until for until, value in reversed(self._order) if self._rests.get(value) == until), 0)

    def rested(self, past: int, after: tuple[int, int]) -> Iterator[tuple[int, int]]:
        """Addresses whose rest was over at `past` (Unix milliseconds), as (end of rest, address), oldest first: those
        behind the pair `after`, then those before."""
        here = bisect_right(self._order, after)
        for low, high in ((here, len(self._order)), (0, here)):
            for index in range(low, high):
                until, value = self._order[index]
                if until > past:
                    break
                if self._rests.get(value) == until:
                    yield until, value
