"""Rare changes of single links, through pyroute2. What is read, and what is done to many at once, goes through
`channel`; which path uses which, and what was measured, is in docs/decisions/netlink-codec.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import Any, Final, Self

from agent.kernel.errors import Failure

_SILENCE_SECONDS: Final = 10


class Changes:
    """pyroute2 on a socket that is bound for life to the namespace of the thread that opened it.

    For worker threads only: rtnetlink does a request within sendmsg(2), so a request would hold up whatever else runs
    on the caller's loop. The loop in here is private, and is closed with the socket.
    """

    def __init__(self) -> None:
        # pyroute2 costs up to 0.3 s to import, 0.8 s in a small guest: not for commands that change no link.
        import pyroute2

        library: Any = pyroute2  # not annotated
        self._runner = asyncio.Runner()
        # Left alone, a library that can be told a namespace would start a child process to open the socket there.
        self._iproute = library.AsyncIPRoute(ext_ack=True, strict_check=True)
        try:
            self._runner.get_loop()
            self._runner.run(self._iproute.setup_endpoint())
        except BaseException:
            self._runner.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. An open one keeps its whole namespace, with all links in it, alive."""
        try:
            self._runner.run(self._close())
        finally:
            self._runner.close()

    async def _close(self) -> None:
        self._iproute.close()

    def link(self, command: str, **what: object) -> None:
        """`AsyncIPRoute.link`: "add", "set" or "del". Raises Failure, with the kernel's errno and its own sentence.

        When no answer comes (ENOBUFS, or ETIMEDOUT after 10 s), it may have been done.
        """
        self._runner.run(self._link(command, what))

    async def _link(self, command: str, what: dict[str, object]) -> None:
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                await self._iproute.link(command, **what)
        except NetlinkError as error:
            # Without a sentence of the kernel's the library puts the C library's in its place; so does Failure.
            raise Failure(error.code, str(error.args[1])) from error
        except TimeoutError as error:
            raise Failure(errno.ETIMEDOUT) from error
        except OSError as error:
            raise Failure(error.errno or errno.EIO) from error

    def take_back(self, index: int) -> None:
        """Delete a link that was just made here and came to nothing; quiet when the kernel refuses."""
        with contextlib.suppress(Failure):
            self.link("del", index=index)
