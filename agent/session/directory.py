"""Follows the controller's directory of names, and keeps the copy on disk that a host boots with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import grpc
from grpc import aio

from agent.dns.zone import Key, Name, Zone
from agent.session.live import Live
from agent.spool import Spool
from trunkline import log, rpc
from trunkline.agent.v1 import directory_pb2, directory_pb2_grpc
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import TrunklineError

SETTLE: Final = 2.0
"""Seconds from a change to its being on disk, at least: a wave of starts is written once."""

DUTY: Final = 50.0
"""The next write waits this many times as long as the last one took."""

_FIRST_SECONDS: Final = 0.25
_LIMIT_SECONDS: Final = 30.0


class Directory:
    """Keeps `zone` as the controller tells it. With none in reach the zone stays as it is."""

    def __init__(self, zone: Zone, spool: Spool, host: str, live: Live, clock: Clock) -> None:
        self._zone = zone
        self._spool = spool
        self._host = host
        self._live = live
        self._clock = clock
        self._dirty = asyncio.Event()
        self._listed: set[Key] | None = None
        self._log = log.get("names")

    def load(self) -> None:
        """Begin with what was kept; blocks while the disk reads. Never raises: names come again."""
        try:
            kept = self._spool.names(tuple[Name, ...])
        except TrunklineError as error:
            self._log.warning("kept names lost", problem=error.message)
            return
        if kept is not None:
            self._zone.apply(kept)
            self._zone.known = True

    async def run(self) -> None:
        """Follow whatever session lives, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._keep())

    async def _follow(self) -> None:
        backoff = Backoff(_FIRST_SECONDS, _LIMIT_SECONDS)
        said = ""
        while True:
            channel = await self._live.open()
            try:
                await self._watch(channel, backoff.reset)
                problem = ""
            except grpc.RpcError as error:
                problem = rpc.from_rpc_error(error).message
            except asyncio.CancelledError:
                # grpc.aio raises this too when the channel was closed under a call.
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                problem = ""
            except Exception as bug:
                self._log.error("directory failed", exc_info=bug)
                problem = ""
            if problem and problem != said and self._live.channel is channel:
                self._log.warning("names not followed", problem=problem)
                said = problem
            await self._clock.sleep(backoff.next())

    async def _watch(self, channel: aio.Channel, heard: Callable[[], None]) -> None:
        stub = directory_pb2_grpc.DirectoryServiceStub(channel)
        self._listed = None
        async for message in stub.WatchDirectory(directory_pb2.WatchDirectoryRequest(host=self._host)):
            self._take(message)
            heard()

    def _take(self, message: directory_pb2.WatchDirectoryResponse) -> None:
        entries = [_name(entry) for entry in message.entries]
        if message.reset:
            self._listed = set()
        self._zone.apply(entries)
        if self._listed is not None:
            self._listed.update((entry.host, entry.attachment) for entry in entries)
            if message.synced:
                # Only a listing that is whole says what is gone: until then the old names are answered, too.
                self._zone.keep_only(self._listed)
                self._zone.known = True
                self._listed = None
        self._dirty.set()

    async def _keep(self) -> None:
        failed = False
        while True:
            await self._dirty.wait()
            await self._clock.sleep(SETTLE)
            self._dirty.clear()
            if not self._zone.known:
                continue
            names, began = tuple(self._zone.entries()), time.monotonic()
            try:
                await asyncio.to_thread(self._spool.keep_names, names)
                failed = False
            except TrunklineError as error:
                if not failed:
                    self._log.warning("names not kept", problem=error.message)
                failed = True
            await self._clock.sleep(DUTY * (time.monotonic() - began))


def _name(entry: directory_pb2.DirectoryEntry) -> Name:
    return Name(
        entry.host,
        entry.attachment,
        entry.network,
        entry.container,
        tuple(entry.addresses),
        tuple(entry.aliases),
    )
