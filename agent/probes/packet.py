"""Packet sockets (packet(7)) on one link, by index: the kernel's filter before the first frame, bulk reads with the
kernel's time of arrival. A socket stays in the namespace it was opened in, whoever uses it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from agent.probes import bpf

_SO_ATTACH_FILTER: Final = 26
_SO_TIMESTAMPNS: Final = 35
_SO_RCVBUFFORCE: Final = 33
_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_STATISTICS: Final = 6
_PACKET_MR_MULTICAST: Final = 0
_ETH_P_ALL: Final = 3
_SIOCGIFNAME: Final = 0x8910
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40
_ARPHRD_ETHER: Final = 1
_BUFFER: Final = 4 << 20
_FRAME: Final = 65536
_BULK: Final = 256

_closers: Final = ThreadPoolExecutor(32, "close")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame with its time of arrival: the kernel's on the wall clock, ours on the monotonic one; nanoseconds."""

    frame: bytes
    wall_ns: int
    monotonic_ns: int


class PacketSocket:
    """A packet socket on the link with index `index` in the calling thread's namespace. Raises OSError.

    With `listen` false nothing is ever received, and nothing queued.
    """

    def __init__(self, index: int, listen: bool = True) -> None:
        self.index = index
        # Protocol 0 hears nothing, so no frame can slip in between the socket, its filter and its link.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            if listen:
                self._attach_filter()
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                self._grow_buffer()
            self._bind(_ETH_P_ALL if listen else 0)
            _, _, _, hardware, address = self._socket.getsockname()
            if hardware != _ARPHRD_ETHER or len(address) != 6:
                raise OSError(errno.EPROTOTYPE, "not an Ethernet link")
        except BaseException:
            self._socket.close()
            raise
        self.mac: str = address.hex(":")

    def _attach_filter(self) -> None:
        code, steps = bpf.program()
        held = ctypes.create_string_buffer(code, len(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", steps, ctypes.addressof(held)))

    def _grow_buffer(self) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)

    def _bind(self, protocol: int) -> None:
        # By index: Python binds by name only, and a name can be given to another link at any time.
        place = struct.pack("@HHiHBB8s", socket.AF_PACKET, socket.htons(protocol), self.index, 0, 0, 0, b"")
        if _libc.bind(self._socket.fileno(), place, len(place)):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def fileno(self) -> int:
        """The descriptor, for readiness."""
        return self._socket.fileno()

    def join(self, mac: str) -> None:
        """Hear a multicast MAC: NICs and macvlans drop groups that nobody asked for. Ends with the socket."""
        request = struct.pack(
            "@iHH8s", self.index, _PACKET_MR_MULTICAST, 6, bytes.fromhex(mac.replace(":", "")).ljust(8, b"\0")
        )
        self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)

    def send(self, frame: bytes) -> bool:
        """Send one frame; False when the link's queue has no room now. Raises OSError when it cannot be sent."""
        try:
            self._socket.send(frame)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return False
            raise
        return True

    def receive(self) -> list[Arrival]:
        """Frames that wait, at most a bulk. Raises OSError (ENETDOWN) when the link went down or away."""
        arrivals: list[Arrival] = []
        while len(arrivals) < _BULK:
            try:
                frame, notes, _, _ = self._socket.recvmsg(_FRAME, 64)
            except (BlockingIOError, InterruptedError):
                break
            now = time.monotonic_ns()
            wall = 0
            for level, kind, data in notes:
                if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= 16:
                    seconds, nanoseconds = struct.unpack_from("@qq", data)
                    wall = seconds * 1_000_000_000 + nanoseconds
            arrivals.append(Arrival(frame, wall, now))
        return arrivals

    def running(self) -> bool:
        """Whether the link is up with carrier: without it frames are accepted and go nowhere. Raises OSError when
        the link is gone."""
        name = fcntl.ioctl(self._socket, _SIOCGIFNAME, struct.pack("@16si20x", b"", self.index))[:16]
        flags = struct.unpack_from("@16sH", fcntl.ioctl(self._socket, _SIOCGIFFLAGS, struct.pack("@16s24x", name)))[1]
        return bool(flags & _IFF_UP and flags & _IFF_RUNNING)

    def drops(self) -> int:
        """Frames that found no room since the last call: silence proves nothing then."""
        return int(struct.unpack("@II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1])

    def close(self) -> Future[None]:
        """Close, in another thread: the kernel makes whoever closes a packet socket wait until no processor can be
        using it (synchronize_net in packet_release, some 15 ms), and those who wait at one time share the wait."""
        return _closers.submit(self._socket.close)
