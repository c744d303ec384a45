"""A TCP proxy that is told how to fail: answers lost after the request went through, silence, cuts in mid-stream."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from types import TracebackType
from typing import Self


class Mode(enum.Enum):
    """PASS both ways; SWALLOW: requests go through, answers vanish; HOLD: nothing goes through, nothing is closed."""

    PASS = enum.auto()
    SWALLOW = enum.auto()
    HOLD = enum.auto()


class Proxy:
    """`async with Proxy(endpoint) as proxy:` forwards `proxy.endpoint` to `endpoint`.

    `cut_after` lists bytes of answers, each counted from the cut before, after which all connections are cut.
    """

    def __init__(self, endpoint: str) -> None:
        host, port = endpoint.rsplit(":", 1)
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self.swallowed = asyncio.Event()
        self.cut_after: list[int] = []
        self.cuts = 0
        self._mode = Mode.PASS

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def set(self, mode: Mode) -> None:
        """Change how data is treated from now on, on open connections, too."""
        self._mode = mode
        self.swallowed.clear()
        if mode is Mode.HOLD:
            self._passing.clear()
        else:
            self._passing.set()

    def cut(self) -> None:
        """End all connections."""
        self.cuts += 1
        for writer in list(self._writers):
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        self._passing.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        try:
            await asyncio.gather(self._copy(reader, far_writer, False), self._copy(far_reader, writer, True))
        finally:
            for each in (writer, far_writer):
                each.transport.abort()
                self._writers.discard(each)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._passing.wait()
                if answers and self._mode is Mode.SWALLOW:
                    self.swallowed.set()
                    continue
                if answers and self.cut_after:
                    self.cut_after[0] -= len(data)
                    if self.cut_after[0] < 0:
                        self.cut_after.pop(0)
                        self.cut()
                        return
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
