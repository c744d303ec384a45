"""The host's DNS server over real sockets, with real servers behind it."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from contract.dns.upstream import Said, address, fails, many, serving, silent
from contract.dns.upstream import Server as Other

from agent.dns import forwarding
from agent.dns import serving as own
from agent.dns.forwarding import Forwarder, Upstream
from agent.dns.serving import Server
from agent.dns.zone import Name, Zone
from trunkline.errors import Reason, TrunklineError

D = "trunkline.internal"
SECONDS = 10.0


class Host:
    """Our server, ready to be asked."""

    def __init__(self) -> None:
        self.zone = Zone(D)
        self.zone.known = True
        self.zone.apply([Name("h1", "web/blue", "blue", "web", ("20.0.0.1", "fd00::1"))])
        self.forwarder = Forwarder(D, time.monotonic)
        self.server = Server(self.zone, self.forwarder)
        self.port = 0

    async def udp(self, query: dns.message.Message) -> dns.message.Message:
        return await dns.asyncquery.udp(query, "127.0.0.1", port=self.port, timeout=SECONDS)

    async def tcp(self, query: dns.message.Message) -> dns.message.Message:
        return await dns.asyncquery.tcp(query, "127.0.0.1", port=self.port, timeout=SECONDS)

    async def ask(self, name: str, kind: str = "A") -> dns.message.Message:
        return await self.udp(dns.message.make_query(name, kind))

    async def address(self, name: str) -> str:
        (found,) = (await self.ask(name)).answer
        return str(found[0])


@asynccontextmanager
async def host(*upstreams: Other | Upstream) -> AsyncIterator[Host]:
    made = Host()
    made.forwarder.use([one.where if isinstance(one, Other) else one for one in upstreams])
    made.port = await made.server.start(Upstream("127.0.0.1", 0))
    try:
        yield made
    finally:
        await made.server.close()


def nobody() -> Upstream:
    """A port of loopback where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return Upstream("127.0.0.1", free.getsockname()[1])


async def test_names_of_the_fabric_are_answered_with_authority() -> None:
    async with host() as h1:
        answer = await h1.ask(f"WEB.Blue.{D}")
        assert answer.flags & dns.flags.AA
        assert answer.flags & dns.flags.RA
        assert [(str(found[0]), found.ttl) for found in answer.answer] == [("20.0.0.1", 5)]
        assert answer.question[0].name.to_text() == f"WEB.Blue.{D}."
        assert await h1.address(f"web.h1.blue.{D}") == "20.0.0.1"
        answer = await h1.ask(f"web.blue.{D}", "AAAA")
        assert str(answer.answer[0][0]) == "fd00::1"
        answer = await h1.ask("1.0.0.20.in-addr.arpa", "PTR")
        assert str(answer.answer[0][0]) == f"web.blue.{D}."


async def test_no_such_name_and_no_such_record_differ_and_carry_the_soa() -> None:
    async with host() as h1:
        for name, kind, rcode in (
            (f"db.blue.{D}", "A", dns.rcode.NXDOMAIN),
            (f"web.blue.{D}", "MX", dns.rcode.NOERROR),
            (f"blue.{D}", "A", dns.rcode.NOERROR),
        ):
            answer = await h1.ask(name, kind)
            assert answer.rcode() == rcode, name
            assert not answer.answer
            assert [found.to_text().split()[:4] for found in answer.authority] == [[f"{D}.", "5", "IN", "SOA"]]


async def test_many_addresses_are_cut_and_whole_over_tcp() -> None:
    async with host() as h1:
        h1.zone.apply([Name("h1", f"a{n}", "blue", "web", (f"20.0.{n}.9",)) for n in range(256)])
        h1.zone.apply([Name("h1", f"b{n}", "blue", "web", (f"20.1.{n}.9",)) for n in range(43)])
        answer = await h1.ask(f"web.blue.{D}")
        assert answer.flags & dns.flags.TC
        assert not answer.answer
        query = dns.message.make_query(f"web.blue.{D}", "A")
        assert len((await h1.tcp(query)).answer[0]) == 300
        wide = dns.message.make_query(f"web.blue.{D}", "A", use_edns=0, payload=4096)
        assert (await h1.udp(wide)).flags & dns.flags.TC, "300 addresses of 16 bytes are too many still"
        h1.zone.apply([Name("h1", f"a{n}") for n in range(100)])
        assert len((await h1.udp(wide)).answer[0]) == 200


async def test_an_edns_version_of_the_future() -> None:
    async with host() as h1:
        query = dns.message.make_query(f"web.blue.{D}", "A", use_edns=1)
        assert (await h1.udp(query)).rcode() == dns.rcode.BADVERS


async def test_everything_else_is_passed_on_unchanged() -> None:
    async with serving(address("192.0.2.7")) as other, host(other) as h1:
        option = dns.edns.GenericOption(dns.edns.OptionType.make(65_001), b"kept")
        query = dns.message.make_query("Www.example.org", "A", use_edns=0, payload=1232, options=[option])
        answer = await h1.udp(query)
        assert answer.id == query.id
        assert str(answer.answer[0][0]) == "192.0.2.7"
        assert answer.answer[0].ttl == 60
        (packet,) = other.seen
        assert packet[2:] == query.to_wire()[2:], "all but the id"
        assert await h1.address("9.9.9.9.in-addr.arpa") == "192.0.2.7"


async def test_ids_and_ports_cannot_be_guessed() -> None:
    async with serving(address("192.0.2.7")) as other, host(other) as h1:
        for _ in range(20):
            assert await h1.address("example.org") == "192.0.2.7"
        assert len({packet[:2] for packet in other.seen}) > 15
        assert len({port for _, port in other.sources}) > 15


async def test_an_answer_to_another_question_is_not_taken() -> None:
    def liar(query: dns.message.Message) -> Said:
        return address("192.0.2.66")(dns.message.make_query("other.example", "A", id=query.id))

    async with serving(liar) as false, serving(address("192.0.2.7")) as true, host(false, true) as h1:
        assert await h1.address("example.org") == "192.0.2.7"


async def test_servers_that_refuse_or_fail_or_are_silent_are_passed_over() -> None:
    async with (
        serving(silent) as mute,
        serving(fails(dns.rcode.SERVFAIL)) as broken,
        serving(address("192.0.2.7")) as good,
        host(nobody(), broken, mute, good) as h1,
    ):
        began = time.monotonic()
        assert await h1.address("example.org") == "192.0.2.7"
        assert time.monotonic() - began < forwarding.PATIENCE
        # Who was silent is asked last for a while.
        began = time.monotonic()
        assert await h1.address("example.net") == "192.0.2.7"
        assert time.monotonic() - began < forwarding.TRY / 2
        assert len(mute.seen) == 1


async def test_no_server_at_all() -> None:
    for upstreams in ((), (nobody(),)):
        async with host(*upstreams) as h1:
            began = time.monotonic()
            assert (await h1.ask("example.org")).rcode() == dns.rcode.SERVFAIL
            assert time.monotonic() - began < 1
            assert await h1.address(f"web.blue.{D}") == "20.0.0.1"


async def test_what_all_servers_refuse_is_told_as_they_did() -> None:
    async with serving(fails(dns.rcode.REFUSED)) as other, host(other, nobody()) as h1:
        assert (await h1.ask("example.org")).rcode() == dns.rcode.REFUSED


async def test_a_lost_datagram_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "TRY", 0.1)
    calls = iter((silent, address("192.0.2.7")))

    def first_silent(query: dns.message.Message) -> Said:
        behave = next(calls)
        return behave(query)

    async with serving(first_silent) as other, host(other) as h1:
        assert await h1.address("example.org") == "192.0.2.7"


async def test_long_answers_of_others_come_by_tcp() -> None:
    async with serving(many(200)) as other, host(other) as h1:
        query = dns.message.make_query("example.org", "A")
        assert (await h1.udp(query)).flags & dns.flags.TC
        assert len((await h1.tcp(query)).answer[0]) == 200


async def test_a_server_that_asks_us_is_left_out() -> None:
    async with host() as h1, serving(address("192.0.2.7")) as good:
        h1.forwarder.use([Upstream("127.0.0.1", h1.port), good.where])
        looking = asyncio.create_task(h1.forwarder.run())
        try:
            async with asyncio.timeout(SECONDS):
                while not h1.forwarder.looping:
                    await asyncio.sleep(0.01)
            assert h1.forwarder.upstreams == (good.where,)
            assert await h1.address("example.org") == "192.0.2.7"
        finally:
            looking.cancel()


async def test_a_loop_that_nobody_noticed_yet_ends() -> None:
    async with host() as h1:
        h1.forwarder.use([Upstream("127.0.0.1", h1.port)])
        answer = await h1.ask("example.org")
        assert answer.rcode() == dns.rcode.SERVFAIL
        assert await h1.address(f"web.blue.{D}") == "20.0.0.1"


async def test_what_is_no_query_gets_formerr_or_silence_and_harms_nobody() -> None:
    async with host() as h1:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(("127.0.0.1", h1.port))
            good = dns.message.make_query(f"web.blue.{D}", "A").to_wire()
            response = bytes([*good[:2], 0x81, 0x80, *good[4:]])
            for packet in (b"", b"x", good[:11], response):
                await loop.sock_sendall(client, packet)
            for packet, rcode in (
                (good[:-3], dns.rcode.FORMERR),
                (good[:12] + b"\xc0\x0c" + good[14:], dns.rcode.FORMERR),
                (bytes([*good[:2], 0x28, *good[3:]]), dns.rcode.NOTIMP),
                (good + b"\x00" * 20, dns.rcode.NOERROR),
            ):
                await loop.sock_sendall(client, packet)
                async with asyncio.timeout(SECONDS):
                    said = await loop.sock_recv(client, 4096)
                assert dns.message.from_wire(said).rcode() == rcode
        assert await h1.address(f"web.blue.{D}") == "20.0.0.1"


async def test_tcp_clients_may_ask_more_than_once_stall_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "IDLE", 0.2)
    async with host() as h1:
        good = dns.message.make_query(f"web.blue.{D}", "A").to_wire()
        framed = struct.pack(">H", len(good)) + good
        reader, writer = await asyncio.open_connection("127.0.0.1", h1.port)
        writer.write(framed + framed[:5])
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        await reader.readexactly(length)
        writer.write(framed[5:])
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        await reader.readexactly(length)
        assert await asyncio.wait_for(reader.read(), SECONDS) == b"", "a client that says nothing is let go"
        writer.close()


async def test_an_address_that_is_taken() -> None:
    async with host() as h1:
        with pytest.raises(TrunklineError) as refused:
            await Server(h1.zone, h1.forwarder).start(Upstream("127.0.0.1", h1.port))
        assert refused.value.reason is Reason.LISTEN_FAILED
        assert str(h1.port) in refused.value.message


async def test_a_crowd_is_answered() -> None:
    async with serving(address("192.0.2.7")) as other, host(other) as h1:
        names = [f"web.blue.{D}", "example.org"] * 100
        answers = await asyncio.gather(*(h1.address(name) for name in names))
        assert answers == ["20.0.0.1", "192.0.2.7"] * 100
