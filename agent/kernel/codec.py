"""Netlink attributes to bytes and back (layout: linux/netlink.h; all numbers in the host's byte order)."""

from __future__ import annotations

import sys
from struct import Struct
from typing import Final

from agent.kernel import uapi

_ATTRIBUTE: Final = Struct("=HH")
_U32: Final = Struct("=I")
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    length = len(value)
    return _ATTRIBUTE.pack(length + 4, kind) + value + _PADDING[length & 3]


def u32(kind: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number."""
    return attribute(kind, _U32.pack(value))


def string(kind: int, value: str) -> bytes:
    """An attribute that holds a zero-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *inner: bytes) -> bytes:
    """An attribute made of attributes; strict parsers want the nesting flag."""
    return attribute(kind | uapi.NLA_F_NESTED, b"".join(inner))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attributes of `data` from `offset` on, by kind without its flag bits. A cut attribute ends the walk."""
    found: dict[int, bytes] = {}
    unpack = _ATTRIBUTE.unpack_from
    end = len(data)
    while offset + 4 <= end:
        length, kind = unpack(data, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & uapi.NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def number(value: bytes | None) -> int:
    """The number an attribute holds, whatever its width; 0 when it is absent."""
    return int.from_bytes(value, sys.byteorder) if value else 0


def text(value: bytes | None) -> str:
    """The string an attribute holds; empty when it is absent."""
    return value.split(b"\0", 1)[0].decode(errors="replace") if value else ""
