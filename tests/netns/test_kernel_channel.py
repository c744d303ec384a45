"""The netlink socket under pressure: answers that are lost are never taken for consent; overruns still wake."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct

from netns.places import Place

from agent.kernel import codec, events, messages, uapi
from agent.kernel.channel import Channel
from agent.kernel.hearing import Hearing
from agent.kernel.namespaces import describe, entrance

GONE = 4711


def test_each_refusal_finds_its_request(host: Place) -> None:
    with entrance(describe(host.path)) as inside, inside.channel() as channel:
        requests = [messages.raise_link(GONE if n % 3 == 0 else 1) for n in range(200)]
        answers = channel.transact(requests)
    assert [answer.code if answer else 0 for answer in answers] == [
        errno.ENODEV if n % 3 == 0 else 0 for n in range(200)
    ]


def test_kernels_own_words_are_kept(host: Place) -> None:
    with entrance(describe(host.path)) as inside, inside.channel() as channel:
        (answer,) = channel.transact([messages.change_link(1, codec.string(uapi.IFLA_IFALIAS, "a" * 300))])
    assert answer is not None
    assert answer.text != ""


def test_lost_answers_are_no_consent(host: Place) -> None:
    with entrance(describe(host.path)) as inside, inside.channel() as channel:
        starve(channel)
        answers = channel.transact([messages.raise_link(GONE)] * 64)
        assert {answer.code if answer else 0 for answer in answers} == {errno.ENODEV, errno.ENOBUFS}
        # The next ones are judged by their own answers.
        assert channel.transact([messages.raise_link(1)]) == [None]


def test_dump_that_was_interrupted_is_made_again() -> None:
    channel = Channel()
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel._socket.close()
    channel._socket = ours
    interrupted = uapi.NLM_F_DUMP_INTR
    kernel.send(message(uapi.RTM_NEWLINK, interrupted, 1, b"one."))
    kernel.send(message(uapi.NLMSG_DONE, interrupted, 1, bytes(4)))
    kernel.send(message(uapi.RTM_NEWLINK, 0, 2, b"one.") + message(uapi.RTM_NEWLINK, 0, 2, b"two."))
    kernel.send(message(uapi.NLMSG_DONE, 0, 2, bytes(4)))
    with kernel, channel:
        assert channel.dump(messages.all_links()) == [b"one.", b"two."]


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """An answer as the kernel frames it (linux/netlink.h)."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def starve(channel: Channel) -> None:
    """The smallest receive buffer the kernel grants."""
    channel._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)


async def test_overrun_wakes_and_listening_goes_on(host: Place) -> None:
    with entrance(describe(host.path)) as inside, inside.entered():
        subscription = events.subscribe()
    subscription.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    wakes = events.Wakes(subscription, Hearing())
    try:
        for n in range(40):
            host.ip("link", "add", f"b{n}", "type", "bridge")
        assert await asyncio.wait_for(wakes.wait(), 5) == frozenset()
        waiting = asyncio.ensure_future(wakes.wait())
        for _ in range(3):  # the loop drains what is left
            await asyncio.sleep(0)
        host.ip("link", "delete", "b0")
        assert await asyncio.wait_for(waiting, 5) == frozenset()
    finally:
        wakes.close()
