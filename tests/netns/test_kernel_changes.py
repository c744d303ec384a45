"""Single links changed through pyroute2: as exact as our own channel, nothing left open, imported only when needed."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from netns.places import Place, Places
from oracle import links as oracle

from agent.kernel import codec, messages, uapi
from agent.kernel.changes import Changes
from agent.kernel.channel import Channel
from agent.kernel.errors import Failure
from agent.kernel.links import KernelLinks
from agent.kernel.messages import Request
from agent.kernel.namespaces import describe, entrance
from trunkline.errors import Reason, TrunklineError

GONE = 4711
MARK = "trunkline:vlan:default:10"


@contextmanager
def both(place: Place) -> Iterator[tuple[Channel, Changes]]:
    """Our channel and pyroute2's, in one namespace."""
    with entrance(describe(place.path)) as inside, inside.channel() as channel, inside.changes() as changes:
        yield channel, changes


def descriptors() -> dict[str, str]:
    """What this process holds open."""
    found = {}
    for one in Path("/proc/self/fd").iterdir():
        try:
            found[one.name] = os.readlink(one)
        except OSError:  # the listing's own
            continue
    return found


Words = dict[str, object]

REFUSALS: dict[str, Callable[[int], tuple[Request, str, Words]]] = {
    "gone": lambda _: (messages.raise_link(GONE), "set", {"index": GONE, "state": "up"}),
    "alias too long": lambda up: (
        messages.change_link(up, codec.string(uapi.IFLA_IFALIAS, "a" * 300)),
        "set",
        {"index": up, "ifalias": "a" * 300},
    ),
    "MTU above the device's": lambda up: (
        messages.change_link(up, codec.u32(uapi.IFLA_MTU, 70000)),
        "set",
        {"index": up, "mtu": 70000},
    ),
    "not to be deleted": lambda _: (messages.delete_link(1), "del", {"index": 1}),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_errno_and_the_kernels_sentence_are_those_of_our_own_channel(host: Place, case: str) -> None:
    ours, command, words = REFUSALS[case](oracle.links(host.name)["up0"].index)
    with both(host) as (channel, changes):
        (expected,) = channel.transact([ours])
        with pytest.raises(Failure) as caught:
            changes.link(command, **words)
    assert expected is not None
    assert (caught.value.code, str(caught.value)) == (expected.code, str(expected))


def test_the_kernels_own_sentence_is_kept(host: Place) -> None:
    with both(host) as (_, changes), pytest.raises(Failure) as caught:
        changes.link("add", kind="nosuchkind", ifname="x")
    assert (caught.value.code, caught.value.text) == (errno.EOPNOTSUPP, "Unknown device type")


def test_lost_answer_is_no_consent(host: Place) -> None:
    with both(host) as (_, changes):
        changes._iproute.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        changes.link("get", index=1)  # the answer and the acknowledgement behind it do not fit together
        with pytest.raises(Failure) as caught:
            changes.link("get", index=1)
    assert caught.value.code == errno.ENOBUFS


def test_silence_ends(host: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.kernel.changes._SILENCE_SECONDS", 0.05)
    with both(host) as (_, changes):
        monkeypatch.setattr(changes._iproute, "send", len)  # the request never reaches the kernel
        with pytest.raises(Failure) as caught:
            changes.link("set", index=1, state="up")
    assert caught.value.code == errno.ETIMEDOUT


async def test_every_change_of_the_host_closes_what_it_opened(links: KernelLinks, host: Place) -> None:
    index = oracle.links(host.name)["up0"].index
    await links.set_up(index)
    before = descriptors()
    for _ in range(5):
        await asyncio.gather(
            links.set_up(index), links.set_alias(index, MARK), links.set_mtu(index, 1400), links.delete_link(GONE, MARK)
        )
        for refused in (links.set_up(GONE), links.set_alias(index, "a" * 300)):
            with pytest.raises(TrunklineError):
                await refused
    events = links.events()
    await anext(events)
    await events.aclose()  # type: ignore[attr-defined]
    assert descriptors() == before


async def test_host_that_went_away_is_told_and_kept_by_nobody(places: Places) -> None:
    host, watcher = places.host(), places.new()
    watcher.ip("link", "add", "here", "type", "veth", "peer", "name", "there", "netns", host.name)
    links = KernelLinks(host.path)
    try:
        await links.set_up(oracle.links(host.name)["there"].index)
        places.remove(host)
        async with asyncio.timeout(10):  # its half of the pair goes when nothing holds the namespace
            while "here" in oracle.links(watcher.name):
                await asyncio.sleep(0.02)
        with pytest.raises(TrunklineError) as caught:
            await links.set_up(1)
        assert caught.value.reason is Reason.NETNS_NOT_FOUND
    finally:
        await links.close()


def test_no_child_process_opens_the_socket(host: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> int:
        raise AssertionError("a process was started")

    monkeypatch.setattr(os, "fork", forbidden)
    with both(host) as (_, changes):
        changes.link("set", index=1, state="up")
    assert oracle.links(host.name)["lo"].up


@pytest.mark.parametrize("spare", [4, 5])
def test_nothing_stays_open_when_descriptors_run_out(host: Place, spare: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with entrance(describe(host.path)) as inside, inside.changes():
        before = descriptors()
        fillers = [os.open("/dev/null", os.O_RDONLY) for _ in range(max(map(int, before)))]
        # The way home, a selector and its pair of sockets fit; the netlink socket, or pyroute2's copy of it, does not.
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 1 + spare, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"), inside.changes():
                pass
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for filler in fillers:
                os.close(filler)
        gc.collect()
        assert descriptors() == before


def test_import_waits_for_the_first_change() -> None:
    program = "import sys, agent.kernel.links, agent.kernel.siblings; sys.exit('pyroute2' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
