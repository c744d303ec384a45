"""Sockets in other network namespaces, opened by a thread that enters them and ends there (setns(2), CLONE_NEWNET).

A namespace belongs to a thread, a socket to the namespace it was opened in; so the thread that talks to the agent
never leaves the host's.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Sequence
from typing import Final

from agent.ports import Announcement, Namespace
from agent.probes.packet import PacketSocket

_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _enter(namespace: Namespace) -> None:
    place = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        seen = os.fstat(place)
        identity = f"{seen.st_dev}:{seen.st_ino}"
        if namespace.identity and identity != namespace.identity:
            # The path of a process's namespace leads elsewhere once its number is used again.
            raise OSError(f"{namespace.path} is namespace {identity} now, not {namespace.identity}")
        if _libc.setns(place, _CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), namespace.path)
    finally:
        os.close(place)


def _open(wanted: Announcement) -> PacketSocket:
    _enter(wanted.namespace)
    found = PacketSocket(socket.if_nametoindex(wanted.ifname), listen=False)
    if found.mac != wanted.mac.lower():
        mac = found.mac
        found.close()
        raise OSError(f"{wanted.ifname} has MAC {mac}, not {wanted.mac}")
    return found


def open_all(wanted: Sequence[Announcement]) -> list[PacketSocket | OSError]:
    """A sending socket on each interface, or why there is none; in the order asked for. Blocks."""
    opened: list[PacketSocket | OSError] = []

    def work() -> None:
        for each in wanted:
            try:
                opened.append(_open(each))
            except OSError as error:
                opened.append(error)

    thread = threading.Thread(target=work, name="namespaces", daemon=True)
    thread.start()
    thread.join()
    return opened
