"""Frames of the probes: crafted and parsed, nothing sent. Pure.

The L2 echo is ours and travels under EtherType 0x88B5, which IEEE 802 sets aside for local experiments. It and ARP are
handled in bulk, have a fixed form and are packed by hand: scapy takes 215 µs to craft an ARP packet and 66 µs to read
one. IPv6 with its options and checksums is scapy's.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    in6_chksum,
)

from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.ids import IPAddress, check_name

ECHO_TYPE: Final = 0x88B5
ARP_TYPE: Final = 0x0806
IPV6_TYPE: Final = 0x86DD
BROADCAST: Final = "ff:ff:ff:ff:ff:ff"
NOBODY: Final = "00:00:00:00:00:00"
ALL_NODES: Final = "ff02::1"
ALL_NODES_MAC: Final = "33:33:00:00:00:01"

# magic, version, kind, bytes of host name, run, sequence, sender's time in ns, bytes of padding
_ECHO: Final = struct.Struct("!4sBBBxQIQH")
_MAGIC: Final = b"TRKL"
_VERSION: Final = 1
_MAX_HOST: Final = 63
# hardware Ethernet, protocol IPv4, address lengths 6 and 4 (RFC 826)
_ARP_HEAD: Final = bytes.fromhex("000108000604")
_ARP_LENGTH: Final = 28
_ETHER: Final = 14
_IPV6_HEAD: Final = 40
_SOLICITATION: Final = 135
_ADVERTISEMENT: Final = 136


class EchoKind(enum.IntEnum):
    """What an L2 echo wants: an answer, nothing (it is one), or to be reported by whoever hears it."""

    REQUEST = 1
    REPLY = 2
    BROADCAST = 3


@dataclass(frozen=True, slots=True)
class Echo:
    """An L2 echo. `host` is the sender's name, `timestamp_ns` the sender's clock; a reply repeats the request's
    sequence, timestamp and padding. `source` and `destination` are the frame's MACs."""

    kind: EchoKind
    run: int
    sequence: int
    host: str
    timestamp_ns: int
    source: str
    destination: str
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody says that `address` is at `mac`: the sender fields of an ARP packet, a neighbour advertisement, or a
    neighbour solicitation with a source. `destination` is the frame's MAC: a claim sent to one's own is an answer."""

    address: str
    mac: str
    source: str
    destination: str


def _mac(octets: bytes) -> str:
    return octets.hex(":")


def _octets(mac: str) -> bytes:
    try:
        octets = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        octets = b""
    if len(octets) != 6:
        raise Refusal(Reason.INVALID_MAC, f"MAC {mac!r} is not a MAC address", "write it as 02:00:5e:10:00:01")
    return octets


@functools.lru_cache(maxsize=4096)
def _ether(destination: str, source: str, kind: int) -> bytes:
    return _octets(destination) + _octets(source) + kind.to_bytes(2, "big")


def echo(message: Echo) -> bytes:
    """The frame of an L2 echo. Raises INVALID_ARGUMENT when a number does not fit, INVALID_NAME for the host."""
    host = check_name("host", message.host).encode()
    try:
        head = _ECHO.pack(
            _MAGIC,
            _VERSION,
            message.kind,
            len(host),
            message.run,
            message.sequence,
            message.timestamp_ns,
            message.padding,
        )
    except struct.error as error:
        raise Refusal(Reason.INVALID_ARGUMENT, f"an L2 echo cannot carry {message}: {error}") from None
    ether = _ether(message.destination, message.source, ECHO_TYPE)
    return ether + head + host + bytes(message.padding)


def arp_probe(mac: str, target: str) -> bytes:
    """Ask who has `target` with sender address zero, so that nobody learns anything from it (RFC 5227, 1.1)."""
    return _arp(1, BROADCAST, mac, "0.0.0.0", NOBODY, target)  # noqa: S104 - a sender address, not one to listen on


def arp_request(mac: str, sender: str, target: str) -> bytes:
    """Ask who has `target` in the name of `sender`, which all who hear it may learn (RFC 826)."""
    return _arp(1, BROADCAST, mac, sender, NOBODY, target)


def arp_reply(mac: str, sender: str, to_mac: str, to_address: str) -> bytes:
    """Say to one station that `sender` is at `mac`."""
    return _arp(2, to_mac, mac, sender, to_mac, to_address)


def arp_announcement(mac: str, address: str, reply: bool = False) -> bytes:
    """Gratuitous ARP: sender and target are `address`. A request as RFC 5227, 2.3 has it, or as a reply, which is
    the only form that some stacks heed."""
    return _arp(2 if reply else 1, BROADCAST, mac, address, BROADCAST if reply else NOBODY, address)


def _arp(op: int, to: str, mac: str, sender: str, target_mac: str, target: str) -> bytes:
    body = _ARP_HEAD + op.to_bytes(2, "big") + _octets(mac) + _four(sender) + _octets(target_mac) + _four(target)
    return _ether(to, mac, ARP_TYPE) + body


def neighbour_solicitation(mac: str, target: str, source: str = "::") -> bytes:
    """Ask who has `target`. From "::" it is the form of duplicate address detection: nobody learns from it, and the
    answer goes to all nodes (RFC 4861, 4.3 and 7.2.4); with a source, the answer comes back to `mac`."""
    octets = _six(target).packed[-3:]
    group = str(ipaddress.IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + octets))
    packet = IPv6(src=source, dst=group, hlim=255) / ICMPv6ND_NS(tgt=target)
    if source != "::":
        packet = packet / ICMPv6NDOptSrcLLAddr(lladdr=mac)
    return _ether(_mac(b"\x33\x33\xff" + octets), mac, IPV6_TYPE) + bytes(packet)


def neighbour_advertisement(mac: str, address: str) -> bytes:
    """Say to all nodes, unasked, that `address` is at `mac`, overriding what they have (RFC 4861, 7.2.6)."""
    _six(address)
    packet = (
        IPv6(src=address, dst=ALL_NODES, hlim=255)
        / ICMPv6ND_NA(tgt=address, R=0, S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )
    return _ether(ALL_NODES_MAC, mac, IPV6_TYPE) + bytes(packet)


def question(mac: str, target: str) -> bytes:
    """Ask who has `target` from an interface that has only a MAC: an ARP probe, or a solicitation from the
    link-local address that belongs to the MAC. The form with "::" would make a target whose own detection still runs
    give its address up (RFC 4862, 5.4.3)."""
    if _address(target).version == 4:
        return arp_probe(mac, target)
    return neighbour_solicitation(mac, target, link_local(mac))


def link_local(mac: str) -> str:
    """The link-local address made from a MAC (modified EUI-64, RFC 4291, appendix A)."""
    octets = _octets(mac)
    eui = bytes((octets[0] ^ 0b10,)) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + eui))


def canonical(address: str) -> str:
    """An address as a `Claim` spells it. Raises INVALID_ARGUMENT."""
    return str(_address(address))


def _address(text: str) -> IPAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise Refusal(Reason.INVALID_ARGUMENT, f"{text!r} is not an IP address", "write it as 20.0.0.17") from None


def _four(text: str) -> bytes:
    address = _address(text)
    if address.version != 4:
        raise Refusal(Reason.INVALID_ARGUMENT, f"ARP cannot carry {text}", "use a neighbour solicitation")
    return address.packed


def _six(text: str) -> ipaddress.IPv6Address:
    address = _address(text)
    if isinstance(address, ipaddress.IPv4Address):
        raise Refusal(Reason.INVALID_ARGUMENT, f"neighbour discovery cannot carry {text}", "use ARP")
    return address


def parse(frame: bytes) -> Echo | Claim | None:
    """What a frame says; None for whatever is not one of ours, not a claim, or malformed. Never raises."""
    kind = frame[12:14]
    body = frame[_ETHER:]
    try:
        if kind == b"\x88\xb5":
            return _parse_echo(frame, body)
        if kind == b"\x08\x06":
            return _parse_arp(frame, body)
        if kind == b"\x86\xdd":
            return _parse_neighbour(frame, body)
    except Exception:  # scapy documents no list of what its dissectors raise on bytes from strangers
        return None
    return None


def _parse_echo(frame: bytes, body: bytes) -> Echo | None:
    if len(body) < _ECHO.size:
        return None
    magic, version, kind, length, run, sequence, timestamp, padding = _ECHO.unpack_from(body)
    if magic != _MAGIC or version != _VERSION or length > _MAX_HOST or len(body) < _ECHO.size + length + padding:
        return None
    try:
        host = check_name("host", body[_ECHO.size : _ECHO.size + length].decode("ascii"))
        return Echo(EchoKind(kind), run, sequence, host, timestamp, _mac(frame[6:12]), _mac(frame[:6]), padding)
    except (ValueError, TrunklineError):
        return None


def _parse_arp(frame: bytes, body: bytes) -> Claim | None:
    if len(body) < _ARP_LENGTH or not body.startswith(_ARP_HEAD):
        return None
    if body[6:8] not in (b"\0\1", b"\0\2"):
        return None
    return _claim(str(ipaddress.IPv4Address(body[14:18])), _mac(body[8:14]), frame)


def _parse_neighbour(frame: bytes, body: bytes) -> Claim | None:
    # Next header and hop limit are looked at before anything is dissected: RFC 4861, 7.1 discards the rest.
    if len(body) < _IPV6_HEAD + 24 or body[6] != 58 or body[7] != 255 or body[41] != 0:
        return None
    length = int.from_bytes(body[4:6], "big")
    message = body[_IPV6_HEAD : _IPV6_HEAD + length]
    if len(message) != length:
        return None
    if in6_chksum(58, IPv6(body[:_IPV6_HEAD]), message) != 0:  # type: ignore[no-untyped-call]
        return None
    if message[0] == _ADVERTISEMENT:
        advertisement = ICMPv6ND_NA(message)
        option = advertisement.getlayer(ICMPv6NDOptDstLLAddr)
        return _claim(str(advertisement.tgt), _source(frame) if option is None else str(option.lladdr), frame)
    if message[0] == _SOLICITATION:
        source = ICMPv6ND_NS(message).getlayer(ICMPv6NDOptSrcLLAddr)
        address = str(ipaddress.IPv6Address(body[8:24]))
        return _claim(address, _source(frame) if source is None else str(source.lladdr), frame)
    return None


def _source(frame: bytes) -> str:
    return _mac(frame[6:12])


def _claim(address: str, mac: str, frame: bytes) -> Claim | None:
    """A claim, unless it is made of nothing: sender zero is a probe, and a group is nobody's MAC."""
    ip = ipaddress.ip_address(address)
    octets = _octets(mac)
    if ip.is_unspecified or ip.is_multicast or octets[0] & 1 or not any(octets):
        return None
    return Claim(str(ip), _mac(octets), _source(frame), _mac(frame[:6]))
