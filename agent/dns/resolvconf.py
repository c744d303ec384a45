"""/etc/resolv.conf as text: which servers it names, and our block in front of them. Pure; see resolv.conf(5)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

BEGIN: Final = "# trunkline: names of the fabric are answered here; trunkline-agent takes these lines out when it stops"
MADE: Final = "# trunkline: there was no such file"
END: Final = "# trunkline: end"

DEFAULT: Final = "127.0.0.1"
"""Whom the C library asks when the file names nobody."""

MOST: Final = 3
"""Servers that the C library asks (MAXNS); further lines are not read."""


def servers(text: str) -> tuple[str, ...]:
    """The addresses of its nameserver lines in their order, each once; what is no address is passed over."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and is_server(words[1]):
            found[words[1]] = None
    return tuple(found)


def is_server(text: str) -> bool:
    """Whether this is a literal address, with a zone or without."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def has_block(text: str) -> bool:
    """Whether our block, or its beginning, is in there."""
    return BEGIN in text.splitlines()


def was_made(text: str) -> bool:
    """Whether the file is there only because of our block."""
    return MADE in text.splitlines() and not without(text).strip()


def without(text: str) -> str:
    """The text without our block, byte for byte what others wrote. Of a block that lost its end, the lines that look
    like ours go."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        if bare == BEGIN:
            inside = True
        elif inside and bare == END:
            inside = False
        elif inside and (bare == MADE or bare.startswith("nameserver 127.")):
            continue
        else:
            inside = False
            kept.append(line)
    return "".join(kept)


def with_block(text: str, address: str, made: bool = False) -> str:
    """The text with our block in front, once. Where nobody is named the block names the C library's default, too, so
    that it is still asked when we are not there."""
    rest = without(text)
    lines = [BEGIN, *([MADE] if made else []), f"nameserver {address}"]
    if not servers(rest):
        lines.append(f"nameserver {DEFAULT}")
    return "\n".join([*lines, END]) + "\n" + rest


def upstreams(text: str, own: str) -> tuple[str, ...]:
    """The servers the host would ask without us."""
    others = tuple(server for server in servers(without(text)) if server != own)
    return others or (DEFAULT,)


def leads_to(text: str, own: str) -> bool:
    """Whether our server is asked first."""
    return servers(text)[:1] == (own,)


def warnings(text: str, own: str) -> Sequence[str]:
    """What keeps the file from doing what it should."""
    found = []
    rest = servers(without(text))
    if len([server for server in rest if server != own]) >= MOST:
        found.append(f"programs of this host ask {MOST} servers at most: {rest[MOST - 1]} is asked only through us")
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["options"] and "rotate" in words:
            found.append("options rotate lets programs ask others first, who do not know the fabric's names")
    return found
