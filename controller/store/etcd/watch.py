"""The watch: gapless and in order over cuts, frozen and killed members.

What was delivered last decides where a new stream begins, never a header's revision: during a replay headers carry
the current revision, long before the events up to it have been sent. The stream covers the data and the lanes of all
controllers in one range, so every commit of any controller, a conflict included, shows as a revision here, in its
place among the others; that makes progress exact. When it is quiet, a commit of our own is the heartbeat: if etcd
has acknowledged it and the stream does not show it, the stream's member is frozen or cut off from the others.
A lane of ours that somebody else moved is answered by a heartbeat at once: it tells whether we are fenced, which the
revisions of a busy successor would else hide.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from grpc import aio

from controller.state.entry import Change, Changes, Entry
from controller.store.etcd.channel import Endpoint, Refused, Ring, being_cancelled
from controller.store.etcd.lanes import root
from controller.store.etcd.txn import decode, encode, prefix_end
from controller.store.port import Reload
from trunkline.errors import StoreUnavailable
from trunkline.etcd import kv_pb2
from trunkline.etcd import rpc_pb2 as pb

QUIET: Final = 2.0
"""Seconds without any revision after which a heartbeat is committed."""

GRACE: Final = 1.5
"""Seconds within which a heartbeat that etcd has acknowledged must show."""

_FIRST_PAUSE: Final = 0.02
_LAST_PAUSE: Final = 0.5

Beat = Callable[[], Awaitable[int]]
Moved = Callable[[kv_pb2.KeyValue], bool]
_Stream = aio.StreamStreamCall[pb.WatchRequest, pb.WatchResponse]


class _Cut(Exception):
    """The stream is over; go on with another."""


class Watch:
    """One watch of the port. `beat` commits an empty transaction and returns its revision; `moved` tells a change
    that another process of our name made."""

    def __init__(self, ring: Ring, beat: Beat, moved: Moved, prefix: str, after: int) -> None:
        self._ring = ring
        self._beat = beat
        self._moved = moved
        self._data = encode(ring.settings.prefix)
        self._wanted = self._data + encode(prefix)
        self._delivered = after
        self._endpoint = ring.endpoints[0]

    async def changes(self) -> AsyncIterator[Changes]:
        """Deliver until closed; raises Reload when that is not possible without a gap."""
        pause = _FIRST_PAUSE
        avoid: Endpoint | None = None
        while not self._ring.closed:
            self._endpoint = avoid = self._ring.pick(avoid)
            stream = self._endpoint.watch.Watch()
            try:
                await self._create(stream)
                while True:
                    yield await self._next(stream)
                    pause = _FIRST_PAUSE
            except _Cut:
                pass
            finally:
                stream.cancel()
            await asyncio.sleep(pause)
            pause = min(_LAST_PAUSE, pause * 2)

    async def _create(self, stream: _Stream) -> None:
        request = pb.WatchCreateRequest(
            key=root(self._ring.settings.prefix),
            range_end=prefix_end(self._data),
            start_revision=self._delivered + 1,
            fragment=True,
        )
        try:
            async with asyncio.timeout(self._ring.settings.attempt):
                await stream.write(pb.WatchRequest(create_request=request))
        except aio.AioRpcError as error:
            raise self._judge(error) from None
        except (TimeoutError, asyncio.InvalidStateError):
            self._ring.suspect(self._endpoint, "it opens no watch")
            raise _Cut from None

    def _judge(self, error: aio.AioRpcError) -> Exception:
        judged = self._ring.judge(self._endpoint, error)
        return judged.error("a watch") if isinstance(judged, Refused) else _Cut()

    async def _next(self, stream: _Stream) -> Changes:
        """The next changes; what is delivered is always whole revisions, so a cut loses or doubles no part of one."""
        events: list[kv_pb2.Event] = []
        while True:
            response = await self._read(stream)
            if response.canceled or response.compact_revision:
                cause = f"compacted up to {response.compact_revision}" if response.compact_revision else "cancelled"
                raise Reload(f"the watch after revision {self._delivered} was ended by etcd: {cause}")
            events += response.events
            # etcd splits a large response at any event; only the last piece is not marked as a fragment.
            if not events or response.fragment:
                continue
            revision = events[-1].kv.mod_revision
            if revision > self._delivered:
                changes, moved = self._changes(events)
                self._delivered = revision
                if moved:
                    await self._ask()
                return Changes(revision, changes)
            events.clear()

    async def _ask(self) -> None:
        """Raise STORE_FENCED if we are."""
        try:
            await self._beat()
        except StoreUnavailable:
            pass  # not known now; whatever is committed next tells

    def _changes(self, events: list[kv_pb2.Event]) -> tuple[tuple[Change, ...], bool]:
        """What is new of `events`, below what was asked for; and whether another moved a lane of ours."""
        skip, wanted, delivered, moved = len(self._data), self._wanted, self._delivered, False
        changes = []
        for event in events:
            kv = event.kv
            raw, revision = kv.key, kv.mod_revision
            if revision <= delivered:
                continue
            if raw.startswith(wanted):
                key = decode(raw[skip:])
                deleted = event.type == kv_pb2.Event.DELETE
                entry = None if deleted else Entry(key, kv.value, revision, kv.create_revision, kv.lease)
                changes.append(Change(key, revision, entry))
            elif self._moved(kv):
                moved = True
        return tuple(changes), moved

    async def _read(self, stream: _Stream) -> pb.WatchResponse:
        # Cancelling a read cancels its stream, so the read is waited for, never timed out.
        read = asyncio.ensure_future(stream.read())
        try:
            await asyncio.wait({read}, timeout=QUIET)
            if not read.done():
                await self._listen(read)
            answer = read.result()
        except aio.AioRpcError as error:
            raise self._judge(error) from None
        except asyncio.CancelledError:
            # gRPC reports a closed channel as a cancellation, which is not one of our task.
            if read.done() and not being_cancelled():
                raise _Cut from None
            raise
        finally:
            read.cancel()
        if not isinstance(answer, pb.WatchResponse):
            raise _Cut
        return answer

    async def _listen(self, read: asyncio.Future[Any]) -> None:
        """Wait for `read` with heartbeats; ends when it is done, raises _Cut when it should have been."""
        while not read.done():
            beat = asyncio.ensure_future(self._beat())
            beat.add_done_callback(_forget)
            await asyncio.wait({read, beat}, return_when=asyncio.FIRST_COMPLETED)
            if not beat.done():
                return
            try:
                revision = beat.result()
            except StoreUnavailable:
                # Nothing is written without a quorum, so there is nothing that the stream could be late with.
                await asyncio.wait({read}, timeout=_LAST_PAUSE)
                if self._ring.closed:
                    raise _Cut from None
                continue
            if revision <= self._delivered and not read.done():
                raise Reload(f"etcd is at revision {revision}, before {self._delivered}: its history was replaced")
            await asyncio.wait({read}, timeout=GRACE)
            if not read.done():
                self._ring.suspect(self._endpoint, "its watch does not show what was committed")
                raise _Cut


def _forget(task: asyncio.Future[int]) -> None:
    if not task.cancelled():
        task.exception()
