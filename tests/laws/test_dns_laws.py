"""Whatever comes in, DNS answers or is silent; whatever happened, the zone is what a fresh one would be."""

from __future__ import annotations

import ipaddress
from typing import Any

import dns.flags
import dns.message
import dns.rdatatype
from hypothesis import given
from hypothesis import strategies as st

from agent.dns import messages, resolvconf
from agent.dns.answering import reply
from agent.dns.messages import Question
from agent.dns.zone import Name, Zone

D = "trunkline.internal"
LABELS = ("web", "a.b", "b", "h1", "")
labels = st.sampled_from(["web", "db", "a.b", "A_1", "x-y"])
hosts = st.sampled_from(["h1", "h2", "web"])
networks = st.sampled_from(["blue", "red.1"])
addresses = st.sampled_from(["20.0.0.1", "20.0.0.2", "20.0.0.3", "fd00::1", "fd00::2"])
entries = st.builds(
    Name,
    hosts,
    st.sampled_from(["one", "two", "three"]),
    networks,
    labels,
    st.lists(addresses, max_size=3, unique=True).map(tuple),
    st.lists(labels, max_size=2).map(tuple),
)


def fresh(found: Zone) -> Zone:
    zone = Zone(D)
    zone.apply(found.entries())
    return zone


@given(st.lists(entries, max_size=12))
def test_changes_lead_to_what_a_listing_would(changes: list[Name]) -> None:
    zone = Zone(D)
    zone.known = True
    for change in changes:
        zone.apply([change])
    other = fresh(zone)
    names = {
        f"{label}.{rest}{D}".lower() for label in ("web", "a.b", "b", "h1", "") for rest in ("", "blue.", "h1.blue.")
    }
    for name in names:
        found, expected = zone.addresses(name.lstrip(".")), other.addresses(name.lstrip("."))
        assert (found is None) == (expected is None), name
        assert set(found or ()) == set(expected or ()), name
    for text in ("20.0.0.1", "fd00::1"):
        address = ipaddress.ip_address(text)
        assert set(zone.names_of(address)) == set(other.names_of(address))


def full() -> Zone:
    zone = Zone(D)
    zone.known = True
    zone.apply([Name("h1", f"a{n}", "blue", "web", (f"20.0.{n}.1", f"fd00::{n:x}")) for n in range(200)])
    return zone


ZONE = full()


def answer(packet: bytes, tcp: bool = False) -> bytes | None:
    asked = messages.question(packet)
    if not isinstance(asked, Question):
        return asked
    ours = reply(ZONE, asked)
    return messages.failed(packet, asked, messages.SERVFAIL) if ours is None else messages.encode(packet, ours, tcp)


def good_answer(packet: bytes, said: bytes) -> dns.message.Message:
    parsed = dns.message.from_wire(said)
    assert parsed.id == messages.number_of(packet)
    assert parsed.flags & dns.flags.QR
    return parsed


@given(st.binary(max_size=200))
def test_random_bytes(packet: bytes) -> None:
    said = answer(packet)
    if said is not None:
        good_answer(packet, said)


def queries() -> st.SearchStrategy[bytes]:
    def make(name: str, kind: int, edns: int, payload: int) -> bytes:
        wanted: Any = dns.rdatatype.RdataType.make(kind)
        return dns.message.make_query(name, wanted, use_edns=edns, payload=payload).to_wire()

    names = st.sampled_from([f"web.blue.{D}", f"WEB.h1.Blue.{D}", f"no.{D}", D, "1.0.0.20.in-addr.arpa", "example.org"])
    kinds = st.sampled_from([1, 2, 6, 12, 16, 28, 33, 41, 64, 251, 252, 255, 65535])
    return st.builds(make, names, kinds, st.sampled_from([-1, 0, 1]), st.sampled_from([0, 512, 1232, 65535]))


@given(queries(), st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=4), st.integers(0, 60))
def test_queries_with_bytes_that_flipped_or_are_missing(packet: bytes, flips: list[tuple[int, int]], cut: int) -> None:
    mangled = bytearray(packet[: len(packet) - cut if cut < 40 else len(packet)])
    for position, value in flips:
        if mangled:
            mangled[position % len(mangled)] = value
    said = answer(bytes(mangled))
    if said is not None:
        good_answer(bytes(mangled), said)


@given(queries(), st.booleans())
def test_answers_fit_their_client_and_are_whole_over_tcp(packet: bytes, tcp: bool) -> None:
    asked = dns.message.from_wire(packet)
    said = answer(packet, tcp)
    assert said is not None
    parsed = good_answer(packet, said)
    room = max(512, min(asked.payload, 4096)) if asked.edns == 0 else 512
    if tcp:
        assert not parsed.flags & dns.flags.TC
    else:
        assert len(said) <= room
    if parsed.flags & dns.flags.TC:
        assert not parsed.answer


@given(st.text("nameserv 127.0.0.153\n#options", max_size=200))
def test_our_lines_come_and_go(text: str) -> None:
    led = resolvconf.with_block(text, "127.0.0.153")
    assert resolvconf.leads_to(led, "127.0.0.153")
    assert resolvconf.without(led) == text
