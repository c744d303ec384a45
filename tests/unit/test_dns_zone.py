"""What DNS says of the names that a host knows."""

from __future__ import annotations

import ipaddress

import pytest

from agent.dns.answering import reply
from agent.dns.messages import ANY, NXDOMAIN, REFUSED, SERVFAIL, A, Question
from agent.dns.service import settings
from agent.dns.zone import Name, Zone, reverse_address

D = "trunkline.internal"


def zone(*entries: Name) -> Zone:
    made = Zone(D)
    made.known = True
    made.apply(entries)
    return made


def texts(found: Zone, name: str) -> list[str] | None:
    addresses = found.addresses(name)
    return None if addresses is None else [str(address) for address in addresses]


WEB1 = Name("h1", "web/blue", "blue", "web", ("20.0.0.1", "fd00::1"), ("shop",))
WEB2 = Name("h2", "web/blue", "blue", "web", ("20.0.0.2",))
SWARM = Name("h2", "s/blue", "blue", "Web.1.x9", ("20.0.0.3",))


def test_equal_names_share_addresses_and_are_told_apart_by_host() -> None:
    found = zone(WEB1, WEB2)
    assert texts(found, f"web.blue.{D}") == ["20.0.0.1", "fd00::1", "20.0.0.2"]
    assert texts(found, f"web.h1.blue.{D}") == ["20.0.0.1", "fd00::1"]
    assert texts(found, f"web.h2.blue.{D}") == ["20.0.0.2"]
    assert texts(found, f"shop.blue.{D}") == ["20.0.0.1", "fd00::1"]
    assert texts(found, f"shop.h2.blue.{D}") is None
    assert texts(found, f"web.red.{D}") is None


def test_names_with_dots_and_capitals() -> None:
    found = zone(SWARM)
    assert texts(found, f"web.1.x9.blue.{D}") == ["20.0.0.3"]
    assert texts(found, f"1.x9.blue.{D}") == [], "a name below it exists (RFC 8020)"
    assert texts(found, f"x9.blue.{D}") == []
    assert texts(found, f"2.x9.blue.{D}") is None


def test_what_goes_takes_its_names_along() -> None:
    found = zone(WEB1, WEB2)
    found.apply([Name("h1", "web/blue")])
    assert texts(found, f"web.blue.{D}") == ["20.0.0.2"]
    assert texts(found, f"web.h1.blue.{D}") is None
    assert texts(found, f"h1.blue.{D}") is None
    found.keep_only(set())
    assert len(found) == 0
    assert texts(found, f"blue.{D}") is None
    assert texts(found, D) == []
    assert found.names_of(ipaddress.ip_address("20.0.0.2")) == []


def test_a_rename_and_a_new_address() -> None:
    found = zone(WEB1)
    found.apply([Name("h1", "web/blue", "blue", "api", ("20.0.0.9",))])
    assert texts(found, f"web.blue.{D}") is None
    assert texts(found, f"api.blue.{D}") == ["20.0.0.9"]
    assert found.names_of(ipaddress.ip_address("20.0.0.1")) == []
    assert found.names_of(ipaddress.ip_address("20.0.0.9")) == [f"api.blue.{D}"]


def test_names_that_dns_cannot_carry_are_left_out() -> None:
    found = zone(
        Name("h1", "a", "blue", "x" * 64, ("20.0.0.1",)),
        Name("h1", "b", "blue", "a;b", ("20.0.0.2",)),
        Name("h1", "c", "blue", "a..b", ("20.0.0.3",)),
        Name("h1", "d", "blue", "ok_1", ("20.0.0.4", "nonsense")),
    )
    assert texts(found, f"ok_1.blue.{D}") == ["20.0.0.4"]
    assert texts(found, f"{'x' * 64}.blue.{D}") is None
    assert found.names_of(ipaddress.ip_address("20.0.0.2")) == []


def asked(name: str, kind: int = A, internet: bool = True) -> Question:
    return Question(name, kind, internet, b"")


def test_what_does_not_exist_and_what_is_not_known() -> None:
    found = zone(WEB1)
    answer = reply(found, asked(f"db.blue.{D}"))
    assert answer is not None
    assert (answer.rcode, answer.zone) == (NXDOMAIN, D)
    unknown = Zone(D)
    answer = reply(unknown, asked(f"db.blue.{D}"))
    assert answer is not None
    assert answer.rcode == SERVFAIL, "nobody has told what there is"
    assert reply(found, asked("example.org")) is None
    assert reply(found, asked(f"not{D}")) is None


def test_zones_are_not_handed_out_nor_other_classes() -> None:
    for question in (asked(f"web.blue.{D}", 252), asked(f"web.blue.{D}", A, False)):
        answer = reply(zone(WEB1), question)
        assert answer is not None
        assert answer.rcode == REFUSED
    assert reply(zone(WEB1), asked("version.bind", 16, False)) is None


def test_only_addresses_of_containers_are_ours_in_the_reverse_tree() -> None:
    found = zone(WEB1)
    answer = reply(found, asked("1.0.0.20.in-addr.arpa", ANY))
    assert answer is not None
    assert list(answer.pointers) == [f"web.blue.{D}"]
    name = ipaddress.ip_address("fd00::1").reverse_pointer
    answer = reply(found, asked(name))
    assert answer is not None
    assert list(answer.pointers) == [f"web.blue.{D}"]
    assert reply(found, asked("254.0.0.20.in-addr.arpa")) is None, "a gateway's name is somebody else's"
    assert reply(found, asked("0.0.20.in-addr.arpa")) is None


@pytest.mark.parametrize(
    "name", ["1.0.0.in-addr.arpa", "x.0.0.20.in-addr.arpa", "256.0.0.1.in-addr.arpa", "1.ip6.arpa", "in-addr.arpa"]
)
def test_names_that_stand_for_no_address(name: str) -> None:
    assert reverse_address(name) is None


@pytest.mark.parametrize(
    ("listen", "domain", "reach", "upstreams", "says"),
    [
        ("127.0.0.153", "no domain", "auto", (), "domain"),
        ("127.0.0.153", "", "auto", (), "domain"),
        ("127.0.0.153", D, "on", (), "resolver"),
        ("localhost", D, "auto", (), "listen"),
        ("127.0.0.153:5353", D, "auto", (), "port 53"),
        ("127.0.0.153:99999", D, "off", (), "listen"),
        ("127.0.0.153", D, "auto", ("dns.example",), "upstreams"),
        ("127.0.0.153", D, "auto", ("127.0.0.153",), "themselves"),
    ],
)
def test_settings_that_cannot_be(listen: str, domain: str, reach: str, upstreams: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        settings(listen, domain, reach, upstreams)


def test_settings_as_written() -> None:
    made = settings("[::1]:5353", "Fabric.Example.", "off", ("192.0.2.1", "192.0.2.2:54", "2001:db8::1"))
    assert str(made.listen) == "[::1]:5353"
    assert made.domain == "fabric.example"
    assert list(map(str, made.upstreams)) == ["192.0.2.1:53", "192.0.2.2:54", "[2001:db8::1]:53"]
    assert settings("", D, "auto", ()).listen is None
