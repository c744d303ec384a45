"""DirectoryService: the names of the whole fabric for every agent."""

# ruff: noqa: N802 - method names are those of the proto

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from grpc import aio

from controller.api.reading import BREATH
from controller.plan import directory
from controller.reconcile.replica import Replica
from trunkline import log
from trunkline.agent.v1 import directory_pb2, directory_pb2_grpc
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.ids import check_name
from trunkline.tls import peer_identity

PACE: Final = 0.05
"""Seconds between two looks at what changed: one message to each of a thousand agents costs the loop that long."""

DUTY: Final = 4.0
"""The next look waits this many times as long as the last one took."""

CHUNK: Final = 500
"""Entries of one message, so that a listing of a large fabric never stops the loop."""

KEPT: Final = 256
"""Messages kept for agents that are behind. Who is further behind is told everything again."""

LISTINGS: Final = 4
"""Whole listings under way at the same time. Agents that wait for theirs answer from the copy they have."""

Key = tuple[str, str]
Response = directory_pb2.WatchDirectoryResponse

_log = log.get("directory")


class Hub:
    """All names as messages, followed once for all agents, and the last changes of them."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._entries: dict[Key, directory_pb2.DirectoryEntry] = {}
        self._changes: deque[Response] = deque(maxlen=KEPT)
        self._turn = asyncio.Condition()
        self._listings = asyncio.Semaphore(LISTINGS)
        self._task: asyncio.Task[None] | None = None
        self._watchers = 0
        self._made = 0
        self._whole = False
        self._closed: TrunklineError | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Names are followed as long as somebody watches."""
        if self._task is None or self._task.done():
            self._reset()
            self._task = asyncio.create_task(self._run())
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers and self._task is not None:
                self._task.cancel()
                self._task = None

    async def stream(self) -> AsyncGenerator[Response, None]:
        """Everything, then changes. Raises what the replica ends its watches with."""
        seen = -1
        while True:
            await self._news(seen)
            if seen < self._made - len(self._changes):
                async with self._listings:
                    seen = self._made
                    for message in self._listing():
                        yield message
            else:
                missed = list(self._changes)[seen - self._made :]
                seen = self._made
                for message in missed:
                    yield message

    async def _news(self, seen: int) -> None:
        async with self._turn:
            await self._turn.wait_for(lambda: self._closed or (self._whole and self._made != seen))
        if self._closed is not None:
            raise self._closed

    def _listing(self) -> Iterator[Response]:
        """All names as they are when each message is taken; what changes meanwhile comes again as a change."""
        keys = list(self._entries)
        for start in range(0, len(keys), CHUNK):
            entries = [entry for key in keys[start : start + CHUNK] if (entry := self._entries.get(key)) is not None]
            yield Response(reset=start == 0, synced=start + CHUNK >= len(keys), entries=entries)
        if not keys:
            yield Response(reset=True, synced=True)

    def _reset(self) -> None:
        # Who still watches from the former run missed what happened in between, and is told everything.
        self._made += KEPT + 1
        self._entries.clear()
        self._changes.clear()
        self._whole, self._closed = False, None

    async def _run(self) -> None:
        try:
            await self._follow()
        except TrunklineError as error:
            self._closed = error
        except Exception as bug:
            # Agents would go on with names that nobody keeps up to date.
            _log.error("directory failed", exc_info=bug)
            self._closed = TrunklineError(Reason.INTERNAL, "the controller failed on the directory of names")
        async with self._turn:
            self._turn.notify_all()

    async def _follow(self) -> None:
        with self._replica.subscribed() as subscription:
            snapshot, _ = await self._replica.reading()
            keys: Iterable[Key] = list(directory.names(snapshot))
            while True:
                spent = await self._take(keys)
                await asyncio.sleep(max(PACE, DUTY * spent))
                keys = (await subscription.next()).attachments

    async def _take(self, keys: Iterable[Key]) -> float:
        """Look at these attachments and tell what is different of them; seconds of the loop that it took."""
        changed: list[directory_pb2.DirectoryEntry] = []
        spent, began = 0.0, time.perf_counter()
        for turn, key in enumerate(keys):
            if turn % BREATH == BREATH - 1:
                spent += time.perf_counter() - began
                await asyncio.sleep(0)
                began = time.perf_counter()
            if (entry := self._renewed(key)) is not None:
                changed.append(entry)
        async with self._turn:
            if self._whole:
                for start in range(0, len(changed), CHUNK):
                    self._changes.append(Response(entries=changed[start : start + CHUNK]))
                    self._made += 1
            self._whole = True
            self._turn.notify_all()
        return spent + time.perf_counter() - began

    def _renewed(self, key: Key) -> directory_pb2.DirectoryEntry | None:
        """The entry of an attachment if it is another than before; one without addresses stands for "gone"."""
        named = directory.name(self._replica.snapshot, *key)
        known = self._entries.get(key)
        if named is None:
            gone = self._entries.pop(key, None)
            return None if gone is None else directory_pb2.DirectoryEntry(host=key[0], attachment=key[1])
        entry = directory_pb2.DirectoryEntry(
            host=named.host,
            attachment=named.attachment,
            network=named.network,
            container=named.container,
            addresses=named.addresses,
            aliases=named.aliases,
        )
        if entry == known:
            return None
        self._entries[key] = entry
        return entry


class DirectoryApi(directory_pb2_grpc.DirectoryServiceServicer):
    """See protos/trunkline/agent/v1/directory.proto."""

    def __init__(self, replica: Replica) -> None:
        self._hub = Hub(replica)

    async def WatchDirectory(
        self, request: directory_pb2.WatchDirectoryRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Response]:
        """Everything once, then changes."""
        check_name("host", request.host)
        identity = peer_identity(context)
        if identity and identity != f"host:{request.host}":
            raise Refusal(
                Reason.HOST_IDENTITY,
                f"the certificate is for {identity}, the directory was asked for host {request.host}",
                f"issue a certificate for host:{request.host}",
                host=request.host,
            )
        with self._hub.watched():
            async for message in self._hub.stream():
                yield message
