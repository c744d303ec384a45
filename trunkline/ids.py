"""Names, VLAN ids, MAC addresses and addresses: what is well-formed. Pure: standard library only."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from trunkline.errors import Reason, Refusal

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

PROTOCOL: Final = 1
"""Number of the wire protocol; clients and agents must speak the same."""

MAX_VLAN: Final = 4094
MAX_NUMBER: Final = (1 << 14) - 1
"""Network numbers have 14 bits: 48 bits of MAC less 32 of IPv4 less the two flag bits (IEEE 802)."""

DOCKER_NUMBER: Final = 0x42
"""The number whose MACs would begin with 02:42, Docker's own prefix; never used."""

# Docker's rule for container names, so that a container's name is always a legal name here.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_ATTACHMENT = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:@/-]{0,190}")
_IFNAME = re.compile(r"[^\s/:%]{1,15}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def check_name(kind: str, name: str) -> str:
    """Return `name` if it is a legal name of a host, network or uplink; raise INVALID_NAME otherwise."""
    if not _NAME.fullmatch(name):
        raise Refusal(
            Reason.INVALID_NAME,
            f"{kind} name {name!r} is not valid",
            "use 1 to 63 letters, digits, '_', '.' or '-', beginning with a letter or digit",
        )
    return name


def check_attachment_name(name: str) -> str:
    """Return `name` if it is a legal attachment name (may contain '/'); raise INVALID_NAME otherwise."""
    if not _ATTACHMENT.fullmatch(name) or "//" in name or name.endswith("/"):
        raise Refusal(
            Reason.INVALID_NAME,
            f"attachment name {name!r} is not valid",
            "use up to 191 letters, digits, '_', '.', ':', '@', '-' or single '/', beginning with a letter or digit",
        )
    return name


def check_ifname(name: str) -> str:
    """Return `name` if the kernel takes it as an interface name (dev_valid_name: 1 to 15 bytes, no '/', ':')."""
    if not _IFNAME.fullmatch(name) or name in (".", "..") or len(name.encode()) > 15:
        raise Refusal(
            Reason.INVALID_NAME, f"interface name {name!r} is not valid", "use 1 to 15 bytes without '/', ':' or spaces"
        )
    return name


def check_vlan(vid: int) -> int:
    """Return `vid` if it is 0 (untagged) to 4094 (IEEE 802.1Q reserves 4095); raise INVALID_VLAN otherwise."""
    if not 0 <= vid <= MAX_VLAN:
        raise Refusal(
            Reason.INVALID_VLAN, f"VLAN id {vid} is not valid", "use 1 to 4094, or 0 for untagged (4095 is reserved)"
        )
    return vid


def check_mac(text: str) -> str:
    """Return the MAC in lower case if it is a unicast address; raise INVALID_MAC otherwise."""
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise Refusal(Reason.INVALID_MAC, f"MAC {text!r} is not a unicast MAC address", "write it as 02:00:5e:10:00:01")
    return mac


def parse_address(text: str) -> IPAddress:
    """Parse one address; raise INVALID_ARGUMENT otherwise."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise Refusal(Reason.INVALID_ARGUMENT, f"{text!r} is not an IP address", "write it as 20.0.0.17") from None


def parse_prefix(text: str) -> IPNetwork:
    """Parse one prefix; raise INVALID_PREFIX when malformed or when host bits are set."""
    try:
        return ipaddress.ip_network(text, strict=True)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Refusal(
            Reason.INVALID_PREFIX, f"{text!r} is not a prefix", "write it as 20.0.0.0/24 or fd00:20::/64"
        ) from None
    raise Refusal(Reason.INVALID_PREFIX, f"prefix {text} has host bits set", f"did you mean {meant}?")


def _mac(octets: bytes) -> str:
    return octets.hex(":")


def number_prefix(number: int) -> bytes:
    """First two octets of the MACs of network `number`: locally administered, unicast (IEEE 802-2014, 8.2)."""
    if not 0 < number <= MAX_NUMBER or number == DOCKER_NUMBER:
        raise ValueError(f"network number {number} out of range")
    return bytes(((number >> 8) << 2 | 0b10, number & 0xFF))


def mac_for_ipv4(number: int, address: ipaddress.IPv4Address) -> str:
    """The MAC of an interface we make: unique over the fabric because (number, address) is."""
    return _mac(number_prefix(number) + address.packed)


def mac_for_probe(number: int, host_number: int) -> str:
    """The MAC a host probes a network with; 0.0.0.0/8 is never in a pool, so it meets no attachment's MAC."""
    if not 0 < host_number < 1 << 24:
        raise ValueError(f"host number {host_number} out of range")
    return _mac(number_prefix(number) + b"\0" + host_number.to_bytes(3, "big"))


def mac_from_random(draw: int) -> str:
    """A locally administered unicast MAC from 48 random bits; to be claimed under `macs/`, since nothing makes
    it unique by construction."""
    octets = bytearray(draw.to_bytes(6, "big"))
    octets[0] = (octets[0] & 0b1111_1100) | 0b10
    if bytes(octets[:2]) == b"\x02\x42":
        octets[1] ^= 0x80
    return _mac(bytes(octets))
