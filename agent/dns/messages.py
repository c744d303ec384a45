"""DNS messages, read and written with dnspython (RFC 1035, EDNS0 of RFC 6891). No other module here knows it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from trunkline.ids import IPAddress

A: Final = int(dns.rdatatype.A)
NS: Final = int(dns.rdatatype.NS)
SOA: Final = int(dns.rdatatype.SOA)
PTR: Final = int(dns.rdatatype.PTR)
TXT: Final = int(dns.rdatatype.TXT)
AAAA: Final = int(dns.rdatatype.AAAA)
ANY: Final = int(dns.rdatatype.ANY)

FORMERR: Final = 1
SERVFAIL: Final = 2
NXDOMAIN: Final = 3
NOTIMP: Final = 4
REFUSED: Final = 5
BADVERS: Final = 16

TTL: Final = 5
"""Seconds for which an answer may be kept, a negative one too: as long as containers take to move."""

PLAIN_BYTES: Final = 512
"""Most that a client without EDNS takes over UDP (RFC 1035 section 2.3.4)."""
UDP_BYTES: Final = 4096
TCP_BYTES: Final = 65_535
MOST_ADDRESSES: Final = 1000
MOST_POINTERS: Final = 100
"""Of one answer, so that every one fits a TCP message."""

CACHED: Final = 4096
"""Records kept ready: making one costs a fifth of an answer."""

_HEADER: Final = struct.Struct(">HHHHHH")
_QR: Final = 0x8000
_OPCODE: Final = 0x7800
_AA: Final = 0x0400
_TC: Final = 0x0200
_RD: Final = 0x0100
_RA: Final = 0x0080
_IN: Final = dns.rdataclass.IN
_TRANSFERS: Final = range(251, 256)  # IXFR to ANY: questions about zones and mail, not about a type of record


@dataclass(frozen=True, slots=True)
class Question:
    """What a query asks: `name` in lower case without a dot at the end, `kind` the number of the record type.
    `internet` is false for any other class than IN. `section` is the question's bytes as they came."""

    name: str
    kind: int
    internet: bool
    section: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What to say: records, or none of this kind (`rcode` 0), or why not. `zone` is whose SOA a negative answer
    carries; "" for an answer that is not ours to give with authority."""

    rcode: int = 0
    addresses: Sequence[IPAddress] = ()
    pointers: Sequence[str] = ()
    apex: bool = False
    zone: str = ""


def question(packet: bytes) -> Question | bytes | None:
    """What is asked; or bytes to answer at once; or None for what deserves no answer. Raises nothing."""
    if len(packet) < _HEADER.size:
        return None
    _, flags, questions, *_ = _HEADER.unpack_from(packet)
    if flags & _QR:
        return None  # answering answers is how two servers talk for ever
    if flags & _OPCODE:
        return failure(packet, NOTIMP)
    if questions != 1:
        return failure(packet, FORMERR)
    try:
        name, used = dns.name.from_wire(packet, _HEADER.size)
        end = _HEADER.size + used + 4
        kind, klass = struct.unpack_from(">HH", packet, end - 4)
    except (dns.exception.DNSException, struct.error):
        return failure(packet, FORMERR)
    text = name.to_text(omit_final_dot=True).lower()
    return Question(text, kind, klass == _IN, packet[_HEADER.size : end])


def failure(packet: bytes, rcode: int) -> bytes:
    """A bare answer to a query that may be malformed."""
    number, flags, *_ = _HEADER.unpack_from(packet)
    return _HEADER.pack(number, _QR | (flags & (_OPCODE | _RD)) | _RA | rcode, 0, 0, 0, 0)


def failed(packet: bytes, asked: Question, rcode: int) -> bytes:
    """An answer without records to a query whose question is known."""
    number, flags, *_ = _HEADER.unpack_from(packet)
    return _HEADER.pack(number, _QR | (flags & _RD) | _RA | rcode, 1, 0, 0, 0) + asked.section


def encode(packet: bytes, reply: Reply, tcp: bool) -> bytes:
    """The answer to a query, cut with TC where it is too long for the client. Raises nothing: FORMERR answers what
    cannot be read."""
    try:
        query = dns.message.from_wire(packet, ignore_trailing=True, continue_on_error=False)
        return _encode(query, reply, tcp)
    except (dns.exception.DNSException, ValueError, struct.error):
        return failure(packet, FORMERR)


def _encode(query: dns.message.Message, reply: Reply, tcp: bool) -> bytes:
    answer = dns.message.make_response(query, recursion_available=True, our_payload=UDP_BYTES)
    if query.edns > 0:
        answer.set_rcode(dns.rcode.Rcode(BADVERS))
        return answer.to_wire()
    answer.set_rcode(dns.rcode.Rcode(reply.rcode))
    name, kind = query.question[0].name, int(query.question[0].rdtype)
    answer.flags |= dns.flags.AA if reply.zone else 0
    answer.answer = [dns.rrset.from_rdata_list(name, TTL, [*data]) for data in _records(reply, kind) if data]
    if not answer.answer and reply.zone and reply.rcode in (0, NXDOMAIN):
        zone = dns.name.from_text(reply.zone)
        answer.authority = [dns.rrset.from_rdata(zone, TTL, _soa(reply.zone))]
    if tcp:
        return answer.to_wire(max_size=TCP_BYTES)
    limit = max(PLAIN_BYTES, min(query.payload, UDP_BYTES)) if query.edns == 0 else PLAIN_BYTES
    try:
        return answer.to_wire(max_size=limit)
    except dns.exception.TooBig:
        answer.answer, answer.authority = [], []
        answer.flags |= dns.flags.TC
        return answer.to_wire(max_size=PLAIN_BYTES)


def _records(reply: Reply, kind: int) -> list[list[dns.rdata.Rdata]]:
    found: list[list[dns.rdata.Rdata]] = []
    for of, version in ((A, 4), (AAAA, 6)):
        if kind in (of, ANY):
            wanted = [address for address in reply.addresses if address.version == version][:MOST_ADDRESSES]
            found.append([_record(of, str(address)) for address in wanted])
    if kind in (PTR, ANY):
        found.append([_record(PTR, f"{text}.") for text in reply.pointers[:MOST_POINTERS]])
    if reply.apex and kind in (SOA, ANY):
        found.append([_soa(reply.zone)])
    if reply.apex and kind in (NS, ANY):
        found.append([_record(NS, f"{reply.zone}.")])
    return found


def _name(text: str) -> dns.name.Name:
    return dns.name.from_text(text)


@lru_cache(maxsize=CACHED)
def _record(kind: int, text: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text(_IN, dns.rdatatype.RdataType.make(kind), text)


def _soa(zone: str) -> dns.rdata.Rdata:
    # As in the zones that RFC 6303 has resolvers serve themselves: nobody transfers it, nobody runs it.
    return _record(SOA, f"{zone}. nobody.invalid. 1 {TTL} {TTL} {TTL} {TTL}")


def is_transfer(kind: int) -> bool:
    """Whether a question of this kind asks for a zone or for mail records of old, which nobody gets."""
    return kind in _TRANSFERS and kind != ANY


def query(number: int, name: str, kind: int) -> bytes:
    """A query of our own."""
    message = dns.message.make_query(_name(name), dns.rdatatype.RdataType.make(kind), id=number)
    return message.to_wire()


def renumbered(packet: bytes, number: int) -> bytes:
    """The message under another id."""
    return struct.pack(">H", number) + packet[2:]


def number_of(packet: bytes) -> int:
    """Id of a message that has a header."""
    return int.from_bytes(packet[:2], "big")


def rcode_of(packet: bytes) -> int:
    """Response code of a message that has a header, less its extended part."""
    return packet[3] & 0x0F


def answers(packet: bytes, number: int, section: bytes) -> bool:
    """Whether `packet` answers the query with this id and question; names may come back in another case."""
    if len(packet) < _HEADER.size:
        return False
    found, flags, questions, *_ = _HEADER.unpack_from(packet)
    if found != number or not flags & _QR:
        return False
    same = packet[_HEADER.size : _HEADER.size + len(section)].lower() == section.lower()
    # Some servers say FORMERR, NOTIMP or REFUSED without repeating the question.
    return (questions == 1 and same) or (questions == 0 and rcode_of(packet) != 0)
