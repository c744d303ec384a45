"""Wake-ups when links of the host's namespace change (RTNLGRP_LINK)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import Any

from agent.kernel import uapi


def subscribe() -> Any:
    """A pyroute2.IPRSocket that hears of links of the calling thread's namespace. Raises OSError."""
    import pyroute2  # late: see agent.kernel.changes

    library: Any = pyroute2  # not annotated
    opened = library.IPRSocket()
    try:
        opened.bind(groups=uapi.RTMGRP_LINK)
        opened.socket.setblocking(False)
    except KeyError as error:  # bind tried each port id of its range, whatever the kernel said
        opened.close()
        raise OSError(errno.EADDRINUSE, "the subscription to link changes cannot be bound") from error
    except BaseException:
        opened.close()
        raise
    return opened


class Wakes:
    """Whether something came in on a subscription since it was last asked; what it was is thrown away undecoded."""

    def __init__(self, subscription: Any) -> None:
        self._subscription = subscription
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._closed = False
        self._loop.add_reader(subscription.fileno(), self._drain)

    def _drain(self) -> None:
        self._woken.set()
        while True:
            try:
                self._subscription.recv(1)
            except BlockingIOError:
                return
            except OSError as error:
                # Overrun: messages were lost, and something has changed, which is all we say anyway.
                if error.errno != errno.ENOBUFS:
                    self._loop.remove_reader(self._subscription.fileno())
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
            self._loop.remove_reader(self._subscription.fileno())
        self._subscription.close()
        self._woken.set()
