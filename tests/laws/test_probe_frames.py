"""Frames: what is crafted is read back, in a form that another parser agrees with; garbage is nothing."""

from __future__ import annotations

import ipaddress
import random
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether

from agent.ports import ProbeAddress, ProbePeer, ProbePlan
from agent.probes import bpf, frames
from agent.probes.exchange import Exchange
from agent.probes.frames import Claim, Echo, EchoKind
from trunkline.errors import TrunklineError

MAC, OTHER = "02:03:00:00:00:01", "02:03:00:00:00:02"
hosts = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}", fullmatch=True)
macs = st.binary(min_size=6, max_size=6).map(lambda b: (bytes((b[0] & 0xFE | 2,)) + b[1:]).hex(":"))
four = st.ip_addresses(v=4).filter(lambda a: not a.is_unspecified and not a.is_multicast).map(str)
six = st.ip_addresses(v=6).filter(lambda a: not a.is_unspecified and not a.is_multicast).map(str)
echoes = st.builds(
    Echo,
    st.sampled_from(EchoKind),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    hosts,
    st.integers(0, 2**64 - 1),
    macs,
    macs,
    st.integers(0, 1400),
)
crafted = st.one_of(
    echoes.map(frames.echo),
    st.builds(frames.arp_probe, macs, four),
    st.builds(frames.arp_request, macs, four, four),
    st.builds(frames.neighbour_solicitation, macs, six, six),
    st.builds(frames.neighbour_advertisement, macs, six),
)


@given(echoes, st.binary(max_size=60))
def test_an_echo_is_read_back_with_whatever_the_nic_pads(message: Echo, trailer: bytes) -> None:
    assert frames.parse(frames.echo(message) + trailer) == message


@given(macs, four, four)
def test_arp_tells_its_sender_and_a_probe_tells_nothing(mac: str, sender: str, target: str) -> None:
    assert frames.parse(frames.arp_request(mac, sender, target)) == Claim(sender, mac, mac, frames.BROADCAST)
    assert frames.parse(frames.arp_announcement(mac, sender)) == Claim(sender, mac, mac, frames.BROADCAST)
    assert frames.parse(frames.arp_reply(mac, sender, OTHER, target)) == Claim(sender, mac, mac, OTHER)
    probe = frames.arp_probe(mac, target)
    assert frames.parse(probe) is None
    seen = Ether(probe)
    assert (seen.dst, seen.src, seen[ARP].op, seen[ARP].psrc, seen[ARP].pdst) == (
        frames.BROADCAST,
        mac,
        1,
        "0.0.0.0",
        target,
    )
    assert len(probe) == 42
    for frame in (
        frames.arp_request(mac, sender, target),
        frames.arp_announcement(mac, sender, reply=True),
        frames.arp_reply(mac, sender, OTHER, target),
    ):
        read = Ether(frame)[ARP]
        made = ARP(op=read.op, hwsrc=mac, psrc=sender, hwdst=read.hwdst, pdst=read.pdst)
        assert frame[14:] == bytes(made)


@given(macs, six, six)
def test_neighbour_discovery_tells_its_source_and_detection_tells_nothing(mac: str, source: str, target: str) -> None:
    asked = frames.neighbour_solicitation(mac, target, source)
    group = Ether(asked).dst
    assert group == "33:33:ff:" + ipaddress.ip_address(target).packed[-3:].hex(":")
    assert frames.parse(asked) == Claim(source, mac, mac, group)
    detection = frames.neighbour_solicitation(mac, target)
    assert frames.parse(detection) is None
    assert Ether(detection)[IPv6].src == "::"
    assert not Ether(detection)[ICMPv6ND_NS].payload  # RFC 4861, 4.3: no option with the unspecified source
    told = frames.neighbour_advertisement(mac, target)
    assert frames.parse(told) == Claim(target, mac, mac, frames.ALL_NODES_MAC)
    advertisement = Ether(told)[ICMPv6ND_NA]
    assert (advertisement.O, advertisement.S, advertisement.R) == (1, 0, 0)


@given(st.binary(max_size=200), st.sampled_from([b"\x88\xb5", b"\x08\x06", b"\x86\xdd", b"\x81\x00", b""]))
def test_garbage_is_nothing(body: bytes, kind: bytes) -> None:
    seen = frames.parse(bytes(12) + kind + body)
    assert seen is None or isinstance(seen, Echo | Claim)


@given(crafted, st.data())
def test_a_damaged_frame_never_raises(frame: bytes, data: st.DataObject) -> None:
    broken = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(broken)))
    for damaged in (bytes(broken), frame[:cut]):
        seen = frames.parse(damaged)
        assert seen is None or isinstance(seen, Echo | Claim)


@given(macs, six, st.integers(40, 71))
def test_a_neighbour_message_with_a_wrong_checksum_is_nothing(mac: str, address: str, place: int) -> None:
    frame = bytearray(frames.neighbour_advertisement(mac, address))
    frame[14 + place] ^= 0x55
    assert frames.parse(bytes(frame)) is None


@given(st.text(max_size=20))
def test_only_our_errors_leave_the_craft(text: str) -> None:
    crafts: list[Callable[[], bytes]] = [
        lambda: frames.question(MAC, text),
        lambda: frames.arp_announcement(MAC, text),
        lambda: frames.neighbour_advertisement(MAC, text),
        lambda: frames.echo(Echo(EchoKind.REQUEST, 1, 1, text, 0, MAC, OTHER)),
        lambda: frames.echo(Echo(EchoKind.REQUEST, 1, 1, "h1", 0, MAC, text)),
    ]
    for craft in crafts:
        try:
            assert isinstance(craft(), bytes)
        except TrunklineError:
            pass


def test_link_local_of_a_mac() -> None:
    assert frames.link_local("02:03:00:00:00:01") == "fe80::3:ff:fe00:1"


def test_the_filter_jumps_inside_itself() -> None:
    code, steps = bpf.program()
    assert len(code) == 8 * steps
    for place in range(steps):
        if code[8 * place] == 0x15:
            assert all(place + 1 + hop < steps for hop in code[8 * place + 2 : 8 * place + 4])


def plan(host: str, peers: dict[str, str], addresses: tuple[ProbeAddress, ...] = ()) -> ProbePlan:
    others = tuple(ProbePeer(name, mac) for name, mac in peers.items() if name != host)
    return ProbePlan(7, "n", "tlp1", "m", 1, peers[host], host, others, addresses, 3.0)


@settings(max_examples=40)
@given(st.integers(2, 5), st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_every_subject_has_one_result_whatever_the_wire_loses(count: int, seed: int, loss: float) -> None:
    draw = random.Random(seed).random
    macs = {f"h{n}": f"02:03:00:00:00:{n:02x}" for n in range(count)}
    parts = {host: Exchange(plan(host, macs), 0.0, draw) for host in macs}
    results: dict[str, list[tuple[str, str, str, str]]] = {host: [] for host in macs}
    now = 0.0
    while now < 3.0:
        wire = []
        for exchange in parts.values():
            for shot in exchange.due(now):
                exchange.sent(shot, int(now * 1e9), 0)
                wire.append(shot.frame)
        while wire:
            frame = wire.pop()
            to = frame[:6].hex(":")
            for host, exchange in parts.items():
                if to in (macs[host], frames.BROADCAST) and frame[6:12].hex(":") != macs[host] and draw() >= loss:
                    answer, news = exchange.receive(frame, int(now * 1e9) + 1000, 0)
                    wire += [answer] if answer else []
                    results[host] += [(r.from_host, r.to_host, r.kind, r.outcome) for r in news]
        wake = min(exchange.wake() for exchange in parts.values())
        assert wake > now
        now = wake
    for host, exchange in parts.items():
        if loss == 0:
            assert exchange.complete
        results[host] += [(r.from_host, r.to_host, r.kind, r.outcome) for r in exchange.finish(0)]
        others = [other for other in macs if other != host]
        assert sorted(r[:3] for r in results[host]) == sorted(
            [(other, host, "broadcast") for other in others] + [(host, other, "unicast") for other in others]
        )


def test_strangers_other_runs_and_false_names_count_for_nothing() -> None:
    macs = {"h0": MAC, "h1": OTHER}
    exchange = Exchange(plan("h0", macs), 0.0, lambda: 0.0)
    (hello, asked) = exchange.due(0.0)
    exchange.sent(asked, 0, 0)
    assert frames.parse(hello.frame) is not None
    for run, sequence, host, source in (
        (8, asked.sequence, "h1", OTHER),
        (7, asked.sequence + 1, "h1", OTHER),
        (7, asked.sequence, "h2", OTHER),
        (7, asked.sequence, "h1", "02:03:00:00:00:99"),
    ):
        for kind in (EchoKind.REPLY, EchoKind.REQUEST, EchoKind.BROADCAST):
            if kind is not EchoKind.REPLY and (run, host, source) == (7, "h1", OTHER):
                continue
            frame = frames.echo(Echo(kind, run, sequence, host, 0, source, MAC))
            assert exchange.receive(frame, 1, 0) == (None, [])
    answer = frames.echo(Echo(EchoKind.REPLY, 7, asked.sequence, "h1", 0, OTHER, MAC))
    assert [r.outcome for r in exchange.receive(answer, 2_000_000, 0)[1]] == ["ok"]


def test_the_kernels_time_is_taken_unless_the_clock_was_set() -> None:
    left, seen, read = 5_000_000, 5_500_000, 2_000_000  # left and seen on the wall clock, read 2 ms after leaving
    for wall, rtt in ((seen, 0.0005), (0, 0.002), (left - 1, 0.002), (left + 99_000_000_000, 0.002)):
        exchange = Exchange(plan("h0", {"h0": MAC, "h1": OTHER}), 0.0, lambda: 0.0)
        asked = exchange.due(0.0)[1]
        exchange.sent(asked, 0, left)
        answer = frames.echo(Echo(EchoKind.REPLY, 7, asked.sequence, "h1", 0, OTHER, MAC))
        (result,) = exchange.receive(answer, read, wall)[1]
        assert result.rtt == pytest.approx(rtt)


def test_two_holders_of_one_address_are_a_conflict_and_a_wrong_one_too() -> None:
    held = tuple(ProbeAddress(f"20.0.0.{n}", "02:03:14:00:00:09", "h1") for n in range(1, 5))
    exchange = Exchange(plan("h0", {"h0": MAC}, held), 0.0, lambda: 0.0)
    for shot in exchange.due(0.0):
        exchange.sent(shot, 0, 0)
    right, wrong = "02:03:14:00:00:09", "02:aa:00:00:00:01"
    for address, mac in (("20.0.0.1", right), ("20.0.0.2", right), ("20.0.0.2", wrong), ("20.0.0.3", wrong)):
        exchange.receive(frames.arp_reply(mac, address, MAC, "0.0.0.0"), 1_000_000, 0)
    assert exchange.settled(0.05) == []
    results = exchange.settled(0.2) + exchange.finish(0)
    assert [(r.address, r.outcome, r.mac) for r in results] == [
        ("20.0.0.1", "ok", right),
        ("20.0.0.2", "conflict", wrong),
        ("20.0.0.3", "conflict", wrong),
        ("20.0.0.4", "silent", ""),
    ]


def test_silence_after_lost_frames_and_what_was_never_sent_is_unknown() -> None:
    exchange = Exchange(plan("h0", {"h0": MAC, "h1": OTHER}), 0.0, lambda: 0.0)
    exchange.sent(exchange.due(0.0)[1], 0, 0)
    assert {r.outcome for r in exchange.finish(3)} == {"unknown"}
    unsent = Exchange(plan("h0", {"h0": MAC, "h1": OTHER}), 0.0, lambda: 0.0)
    assert [(r.kind, r.outcome) for r in unsent.finish(0)] == [("broadcast", "silent"), ("unicast", "unknown")]


def test_bursts_are_paced() -> None:
    macs = {f"h{n}": f"02:03:00:00:01:{n:02x}" for n in range(100)}
    exchange = Exchange(plan("h0", macs), 0.0, lambda: 0.0)
    assert [len(exchange.due(at)) for at in (0.0, 0.005, 0.01, 0.02, 0.03)] == [40, 0, 40, 20, 0]


def test_the_agent_does_not_load_scapy() -> None:
    code = "import sys, agent.probes.prober; sys.exit('scapy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
