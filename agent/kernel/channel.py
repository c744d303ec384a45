"""One netlink route socket: many requests in flight, answers matched by sequence number; consistent dumps.

rtnetlink handles a request inside the sender's sendmsg(2), so answers never have to be waited for; what several
requests in one datagram save is system calls and Python.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final, Self

from agent.kernel import uapi
from agent.kernel.codec import attributes, text
from agent.kernel.errors import Failure
from agent.kernel.messages import Request

_HEADER: Final = Struct("=IHHII")
_CODE: Final = Struct("=i")
_TIMEVAL: Final = Struct("@ll")

WINDOW: Final = 64
"""Requests in flight. Their refusals queue in the receive buffer before we read the first, at most about 1.3 kB of
it each (capped), so 64 fit the kernel's default of 208 kB even where it cannot be raised."""

_RECEIVE_BUFFER: Final = 1 << 20
_ANSWER_CHUNK: Final = 1 << 13
_DUMP_CHUNK: Final = 1 << 16
_DUMP_TRIES: Final = 16
_SILENCE_SECONDS: Final = 10


class Channel:
    """A route socket, bound for life to the namespace of the thread that opened it. Not for two threads at once."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0
        try:
            self._prepare()
        except BaseException:
            self._socket.close()
            raise

    def _prepare(self) -> None:
        put = self._socket.setsockopt
        for option in (uapi.NETLINK_CAP_ACK, uapi.NETLINK_EXT_ACK, uapi.NETLINK_GET_STRICT_CHK):
            put(uapi.SOL_NETLINK, option, 1)
        put(socket.SOL_SOCKET, uapi.SO_RCVTIMEO, _TIMEVAL.pack(_SILENCE_SECONDS, 0))
        # The forced form needs CAP_NET_ADMIN of the initial user namespace; WINDOW does without it.
        with contextlib.suppress(OSError):
            put(socket.SOL_SOCKET, uapi.SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self._socket.bind((0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. An open one keeps its whole namespace, with all links in it, alive."""
        self._socket.close()

    def transact(self, requests: Sequence[Request]) -> list[Failure | None]:
        """Send all; for each, None when it was done, or the kernel's refusal. A refusal stops none of the others.

        A request whose answer was lost (ENOBUFS) is reported as refused with ENOBUFS: it may have been done.
        """
        answers: list[Failure | None] = []
        for start in range(0, len(requests), WINDOW):
            answers += self._window(requests[start : start + WINDOW])
        return answers

    def ask(self, request: Request) -> None:
        """Send one; raise Failure when it is refused."""
        failure = self.transact([request])[0]
        if failure is not None:
            raise failure

    def _window(self, requests: Sequence[Request]) -> list[Failure | None]:
        first = self._sequence + 1
        self._send(requests, acknowledge=True)
        refusals: dict[int, Failure] = {}
        done: Failure | None = None
        while True:
            try:
                data = self._socket.recv(_ANSWER_CHUNK)
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # what is in the queue can still be read
                    done = Failure(errno.ENOBUFS)
                    self._socket.setblocking(False)
                    continue
                if error.errno != errno.EAGAIN:
                    raise
                done = Failure(errno.ENOBUFS)
                break
            for kind, flags, sequence, body in _messages(data):
                if kind == uapi.NLMSG_ERROR and (failure := _verdict(flags, body)) is not None:
                    refusals[sequence] = failure
            if sequence == self._sequence:
                break
        self._socket.setblocking(True)
        return [refusals.get(first + place, done) for place in range(len(requests))]

    def _send(self, requests: Sequence[Request], *, acknowledge: bool) -> None:
        """One datagram. The kernel answers refused requests unasked and in order, so that the answer to the last
        one, which alone asks for it, says of all before it that they were done unless refused."""
        parts = []
        last = len(requests) - 1
        for place, request in enumerate(requests):
            self._sequence += 1
            body = request.body
            asked = uapi.NLM_F_ACK if acknowledge and place == last else 0
            flags = request.flags | asked | uapi.NLM_F_REQUEST
            # Bodies are made of padded attributes, so messages follow each other aligned.
            parts += [_HEADER.pack(16 + len(body), request.type, flags, self._sequence, 0), body]
        self._socket.send(b"".join(parts))

    def get(self, request: Request) -> bytes:
        """Body of the one object asked for; raises Failure (ENODEV when there is none)."""
        self._send([request], acknowledge=False)
        while True:
            for kind, flags, sequence, body in _messages(self._socket.recv(_DUMP_CHUNK)):
                if sequence != self._sequence:
                    continue
                if kind == uapi.NLMSG_ERROR:
                    raise _verdict(flags, body) or Failure(errno.EPROTO)
                return body

    def dump(self, request: Request) -> list[bytes]:
        """Bodies of all objects asked for, from one consistent walk; raises Failure.

        The kernel marks a dump during which the table changed; such a dump may lack objects and is repeated.
        """
        for _ in range(_DUMP_TRIES):
            bodies, interrupted = self._dump(request)
            if not interrupted:
                return bodies
        raise Failure(errno.EBUSY, f"the table changed during each of {_DUMP_TRIES} dumps")

    def _dump(self, request: Request) -> tuple[list[bytes], bool]:
        self._send([request], acknowledge=False)
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, sequence, body in _messages(self._socket.recv(_DUMP_CHUNK)):
                if sequence != self._sequence:
                    continue
                interrupted |= bool(flags & uapi.NLM_F_DUMP_INTR)
                if kind in (uapi.NLMSG_ERROR, uapi.NLMSG_DONE):
                    failure = _verdict(flags, body)
                    if failure is not None and failure.code != errno.EINTR:
                        raise failure
                    return bodies, interrupted or failure is not None
                bodies.append(body)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < 16:
            return
        yield kind, flags, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def _verdict(flags: int, body: bytes) -> Failure | None:
    (code,) = _CODE.unpack_from(body) if len(body) >= 4 else (0,)
    if code == 0:
        return None
    said = ""
    if flags & uapi.NLM_F_ACK_TLVS:
        # After the code comes the refused message's header (capped), or the whole message.
        skip = 16 if flags & uapi.NLM_F_CAPPED else (_HEADER.unpack_from(body, 4)[0] + 3) & ~3
        said = text(attributes(body, 4 + skip).get(uapi.NLMSGERR_ATTR_MSG))
    return Failure(-code, said or "")
