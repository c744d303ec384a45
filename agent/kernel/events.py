"""Wake-ups when links of the host's namespace change (RTNLGRP_LINK)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

from agent.kernel import uapi


def subscribe() -> socket.socket:
    """A socket that hears of links of the calling thread's namespace."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        opened.setblocking(False)
        opened.bind((0, uapi.RTMGRP_LINK))
    except BaseException:
        opened.close()
        raise
    return opened


class Wakes:
    """Whether something came in on a subscription since it was last asked; what it was is thrown away."""

    def __init__(self, subscription: socket.socket) -> None:
        self._socket = subscription
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._closed = False
        self._loop.add_reader(subscription.fileno(), self._drain)

    def _drain(self) -> None:
        self._woken.set()
        while True:
            try:
                self._socket.recv(1)
            except BlockingIOError:
                return
            except OSError as error:
                # Overrun: messages were lost, and something has changed, which is all we say anyway.
                if error.errno != errno.ENOBUFS:
                    self._loop.remove_reader(self._socket.fileno())
                    return

    async def wait(self) -> bool:
        """Until something came in; False when closed."""
        await self._woken.wait()
        self._woken.clear()
        return not self._closed

    def close(self) -> None:
        """Stop listening; wakes the waiter. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(ValueError, RuntimeError):
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._woken.set()
