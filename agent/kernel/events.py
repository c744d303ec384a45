"""Wake-ups when links or addresses change, on the host or where interfaces of ours are."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import Any, Final

from agent.kernel import uapi
from agent.kernel.codec import number
from agent.kernel.hearing import Hearing

_GROUPS: Final = uapi.RTMGRP_LINK | uapi.RTMGRP_IPV4_IFADDR | uapi.RTMGRP_IPV6_IFADDR
_ANCILLARY: Final = socket.CMSG_SPACE(4)


def subscribe() -> Any:
    """A pyroute2.IPRSocket that hears of links and addresses of the calling thread's namespace, and of those that it
    has numbered. Raises OSError."""
    import pyroute2  # late: see agent.kernel.changes

    library: Any = pyroute2  # not annotated
    opened = library.IPRSocket()
    try:
        opened.bind(groups=_GROUPS)
        opened.socket.setblocking(False)
        with contextlib.suppress(PermissionError):  # without CAP_NET_BROADCAST the tick must do for targets
            opened.socket.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_LISTEN_ALL_NSID, 1)
    except KeyError as error:  # bind tried each port id of its range, whatever the kernel said
        opened.close()
        raise OSError(errno.EADDRINUSE, "the subscription to link changes cannot be bound") from error
    except BaseException:
        opened.close()
        raise
    return opened


class Wakes:
    """Where something happened since it was last asked; what it was is thrown away undecoded."""

    def __init__(self, subscription: Any, hearing: Hearing) -> None:
        self._subscription = subscription
        self._hearing = hearing
        self._places: set[str] = set()
        self._everywhere = False
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._closed = False
        self._broken = False
        self._loop.add_reader(subscription.fileno(), self._drain)

    def _drain(self) -> None:
        while True:
            try:
                _, ancillary, _, _ = self._subscription.socket.recvmsg(1, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError as error:
                # Overrun: messages were lost, and something has changed somewhere, which is all we say anyway.
                self._note("")
                if error.errno != errno.ENOBUFS:
                    self._loop.remove_reader(self._subscription.fileno())
                    self._broken = True
                    return
                continue
            if not ancillary:  # of the host's own namespace
                self._note("")
            elif identity := self._hearing.identity(number(ancillary[0][2])):
                self._note(identity)

    def _note(self, identity: str) -> None:
        if identity:
            self._places.add(identity)
        else:
            self._everywhere = True
        self._woken.set()

    async def wait(self) -> frozenset[str] | None:
        """Until something happened: identities of the targets where it did, none for anywhere. None when closed, or
        when nothing can be heard any more."""
        await self._woken.wait()
        self._woken.clear()
        places = frozenset() if self._everywhere else frozenset(self._places)
        self._places.clear()
        self._everywhere = False
        return None if self._closed or self._broken else places

    def close(self) -> None:
        """Stop listening; wakes the waiter. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(ValueError, RuntimeError):
            self._loop.remove_reader(self._subscription.fileno())
        self._subscription.close()
        self._woken.set()
