"""The channel of the session that lives, for what is asked beside the session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from grpc import aio


class Live:
    """Has a channel from the controller's welcome to the session's end."""

    def __init__(self) -> None:
        self._channel: aio.Channel | None = None
        self._wake = asyncio.Event()

    @property
    def channel(self) -> aio.Channel | None:
        """The channel; None while there is no session."""
        return self._channel

    async def open(self) -> aio.Channel:
        """The channel, once there is one."""
        while self._channel is None:
            await self._wake.wait()
        return self._channel

    @contextlib.contextmanager
    def over(self, channel: aio.Channel) -> Iterator[None]:
        """A session lives on this channel for as long as the block lasts."""
        self._channel = channel
        self._wake.set()
        try:
            yield
        finally:
            self._channel = None
            self._wake.clear()
