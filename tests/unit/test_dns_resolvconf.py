"""Our lines in /etc/resolv.conf."""

from __future__ import annotations

import pytest

from agent.dns import resolvconf

OWN = "127.0.0.153"
DHCP = "# by dhclient\nsearch example.org\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions edns0\n"


@pytest.mark.parametrize("text", [DHCP, "", "nameserver 192.0.2.1", "search a\r\nnameserver 192.0.2.1\r\n", "\n\n"])
def test_what_others_wrote_comes_back_byte_for_byte(text: str) -> None:
    led = resolvconf.with_block(text, OWN)
    assert resolvconf.leads_to(led, OWN)
    assert resolvconf.without(led) == text
    assert resolvconf.with_block(led, OWN) == led, "once"


def test_the_hosts_own_servers() -> None:
    led = resolvconf.with_block(DHCP, OWN)
    assert resolvconf.servers(led) == (OWN, "192.0.2.1", "192.0.2.2")
    assert resolvconf.upstreams(led, OWN) == ("192.0.2.1", "192.0.2.2")


def test_where_nobody_is_named_the_default_is_asked_still() -> None:
    led = resolvconf.with_block("search a\n", OWN)
    assert resolvconf.servers(led) == (OWN, "127.0.0.1")
    assert resolvconf.upstreams(led, OWN) == ("127.0.0.1",)
    assert resolvconf.without(led) == "search a\n"


def test_a_block_that_lost_its_end_takes_nothing_along() -> None:
    led = resolvconf.with_block(DHCP, OWN).replace(f"{resolvconf.END}\n", "")
    assert resolvconf.without(led) == DHCP


def test_a_file_that_is_there_for_us_only() -> None:
    assert resolvconf.was_made(resolvconf.with_block("", OWN, made=True))
    assert not resolvconf.was_made(resolvconf.with_block("", OWN))
    assert not resolvconf.was_made(resolvconf.with_block("", OWN, made=True) + "nameserver 192.0.2.1\n")


def test_lines_that_name_no_server_are_passed_over() -> None:
    text = "nameserver\nnameserver example.org\n#nameserver 192.0.2.9\nnameserver fe80::1%eth0 # x\nnameserver ::1\n"
    assert resolvconf.servers(text) == ("fe80::1%eth0", "::1")


def test_what_keeps_the_file_from_doing_what_it_should() -> None:
    assert resolvconf.warnings(DHCP, OWN) == []
    three = DHCP + "nameserver 192.0.2.3\n"
    assert "192.0.2.3 is asked only through us" in resolvconf.warnings(three, OWN)[0]
    assert "rotate" in resolvconf.warnings(DHCP + "options timeout:1 rotate\n", OWN)[0]
