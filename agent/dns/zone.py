"""This host's copy of the fabric's names, and what DNS says of each. Pure.

Below the domain D each attachment of container C on network N and host H has the names C.N.D and C.H.N.D; equal names
share their addresses. Names are compared in lower case (RFC 4343).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from trunkline.ids import IPAddress

_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")
"""What a label of ours can be: of DNS's 63 octets (RFC 1035 section 2.3.4) those that Docker allows in names."""

_NAME_BYTES: Final = 253
"""A name as text can have no more."""

_DOMAIN: Final = re.compile(r"(?=.{1,120}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Name:
    """One attachment, known as (host, attachment). `addresses` without prefix length; none removes it. `aliases` are
    further names beside `container`, such as the compose service's."""

    host: str
    attachment: str
    network: str = ""
    container: str = ""
    addresses: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def is_domain(text: str) -> bool:
    """Whether this can be the fabric's domain: lower case labels of a host name (RFC 1123), at most 120 bytes."""
    return bool(_DOMAIN.fullmatch(text))


class Zone:
    """Answers from names. Every change costs the same whatever the size."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.known = False
        """Somebody told what there is; until then nothing can be said not to exist."""
        self._entries: dict[Key, Name] = {}
        self._owners: dict[str, dict[Key, tuple[IPAddress, ...]]] = {}
        self._above: dict[str, int] = {}
        self._reverse: dict[IPAddress, dict[Key, str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> Iterator[Name]:
        """All that is known."""
        return iter(self._entries.values())

    def apply(self, entries: Iterable[Name]) -> None:
        """Take entries as they now stand."""
        for entry in entries:
            key = entry.host, entry.attachment
            if (before := self._entries.pop(key, None)) is not None:
                self._remove(key, before)
            if entry.addresses:
                self._entries[key] = entry
                self._add(key, entry)

    def keep_only(self, keys: set[Key]) -> None:
        """Forget every entry but these: a listing was whole without the others."""
        self.apply([Name(*key) for key in self._entries if key not in keys])

    def owns(self, name: str) -> bool:
        """Whether `name` (lower case, no dot at the end) is the domain or below it."""
        return name == self.domain or name.endswith(f".{self.domain}")

    def addresses(self, name: str) -> list[IPAddress] | None:
        """The addresses of a name, oldest attachment first; [] when it exists without any (it is the domain, or
        another name lies below it, RFC 8020); None when there is no such name."""
        found = self._owners.get(name)
        if found is not None:
            return list(dict.fromkeys(address for each in found.values() for address in each))
        return [] if name in self._above or name == self.domain else None

    def names_of(self, address: IPAddress) -> list[str]:
        """The names that an address leads back to; [] when no container of the fabric has it."""
        return list(dict.fromkeys(self._reverse.get(address, {}).values()))

    def _add(self, key: Key, entry: Name) -> None:
        addresses = tuple(_parsed(entry.addresses))
        owners = list(self._names(entry))
        for owner in owners:
            if owner not in self._owners:
                for above in self._ancestors(owner):
                    self._above[above] = self._above.get(above, 0) + 1
            self._owners.setdefault(owner, {})[key] = addresses
        for address in addresses if owners else ():
            self._reverse.setdefault(address, {})[key] = owners[0]

    def _remove(self, key: Key, entry: Name) -> None:
        for owner in self._names(entry):
            held = self._owners.get(owner, {})
            held.pop(key, None)
            if not held and self._owners.pop(owner, None) is not None:
                for above in self._ancestors(owner):
                    self._above[above] -= 1
                    if not self._above[above]:
                        del self._above[above]
        for address in _parsed(entry.addresses):
            named = self._reverse.get(address, {})
            named.pop(key, None)
            if not named:
                self._reverse.pop(address, None)

    def _names(self, entry: Name) -> Iterator[str]:
        for label in dict.fromkeys((entry.container, *entry.aliases)):
            for inner in (label, f"{label}.{entry.host}"):
                name = f"{inner}.{entry.network}.{self.domain}".lower()
                if _is_name(name):
                    yield name

    def _ancestors(self, owner: str) -> Iterator[str]:
        above = owner.partition(".")[2]
        while above != self.domain:
            yield above
            above = above.partition(".")[2]


def reverse_address(name: str) -> IPAddress | None:
    """The address that a name of the reverse tree stands for (RFC 1035 section 3.5, RFC 3596 section 2.5); None for
    any other name, and for a part of an address."""
    labels = name.split(".")
    try:
        if name.endswith(".in-addr.arpa") and len(labels) == 6:
            return ipaddress.IPv4Address(".".join(reversed(labels[:4])))
        if name.endswith(".ip6.arpa") and len(labels) == 34 and all(len(label) == 1 for label in labels[:32]):
            digits = "".join(reversed(labels[:32]))
            return ipaddress.IPv6Address(bytes.fromhex(digits))
    except ValueError:
        pass
    return None


def _is_name(name: str) -> bool:
    return len(name) <= _NAME_BYTES and all(_LABEL.fullmatch(label) for label in name.split("."))


def _parsed(texts: Iterable[str]) -> Iterator[IPAddress]:
    for text in texts:
        try:
            yield ipaddress.ip_address(text)
        except ValueError:
            continue
