"""The names of the fabric as agents hear of them: everything once, then changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from contract.controller.rig import SECONDS, Rig, refused

from controller.api import directory
from controller.plan.directory import name
from controller.state import codec, keys
from controller.state.records import AddressKind, AddressRecord
from controller.state.txn import Put, Txn
from trunkline.agent.v1 import directory_pb2, directory_pb2_grpc
from trunkline.errors import Reason
from trunkline.ids import parse_address
from trunkline.model import Origin, Target, TargetKind

Names = dict[tuple[str, str], directory_pb2.DirectoryEntry]


class Copy:
    """What an agent that follows the contract knows."""

    def __init__(self) -> None:
        self.names: Names = {}
        self.synced = False
        self.listings = 0
        self.messages = 0
        self.error: BaseException | None = None
        self._heard = asyncio.Condition()

    async def follow(self, rig: Rig, host: str) -> None:
        stub = directory_pb2_grpc.DirectoryServiceStub(rig.channel)
        try:
            async for message in stub.WatchDirectory(directory_pb2.WatchDirectoryRequest(host=host), timeout=60):
                await self._take(message)
        except Exception as error:
            self.error = error

    async def _take(self, message: directory_pb2.WatchDirectoryResponse) -> None:
        if message.reset:
            self.names.clear()
            self.listings += 1
        for entry in message.entries:
            if entry.addresses:
                self.names[entry.host, entry.attachment] = entry
            else:
                self.names.pop((entry.host, entry.attachment), None)
        self.messages += 1
        self.synced |= message.synced
        async with self._heard:
            self._heard.notify_all()

    async def until(self, condition: object) -> None:
        assert callable(condition)
        async with asyncio.timeout(SECONDS), self._heard:
            await self._heard.wait_for(condition)


@asynccontextmanager
async def following(rig: Rig, host: str = "docker1") -> AsyncIterator[Copy]:
    copy = Copy()
    task = asyncio.create_task(copy.follow(rig, host))
    try:
        await copy.until(lambda: copy.synced)
        yield copy
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_everything_once_then_what_changes(rig: Rig) -> None:
    await rig.agent("docker1").start()
    await rig.create()
    await rig.attach("docker1", "web")
    async with following(rig, "docker2") as copy:
        (entry,) = copy.names.values()
        assert (entry.host, entry.network, entry.container) == ("docker1", "blue", "web")
        assert list(entry.addresses) == ["20.0.0.1"]
        await rig.attach("docker1", "db")
        await copy.until(lambda: len(copy.names) == 2)
        await rig.detach("docker1", "web/blue")
        await copy.until(lambda: set(copy.names) == {("docker1", "db/blue")})
        assert copy.listings == 1
    await rig.lawful()


async def test_an_empty_fabric_is_a_listing_too(rig: Rig) -> None:
    async with following(rig) as copy:
        assert copy.names == {}
        assert copy.listings == 1


async def test_a_state_that_changes_no_name_is_not_told(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create()
    await rig.attach("docker1", "web")
    async with following(rig) as copy:
        heard = copy.messages
        await agent.stop()
        await rig.agent("docker1").start()
        await rig.attach("docker1", "db")
        await copy.until(lambda: len(copy.names) == 2)
        assert copy.messages == heard + 1


async def test_large_fabrics_come_in_parts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "CHUNK", 3)
    await rig.agent("docker1").start()
    await rig.create()
    for number in range(10):
        await rig.attach("docker1", f"c{number}")
    async with following(rig) as copy:
        assert len(copy.names) == 10
        assert copy.messages == 4
        assert copy.listings == 1


async def test_who_is_too_far_behind_is_told_everything_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "PACE", 0.0)
    await rig.agent("docker1").start()
    await rig.create(cidr="20.0.0.0/16")
    await rig.attach("docker1", "first")
    hub = directory.Hub(rig.app.replica)
    with hub.watched():
        stream = hub.stream()
        first = await anext(stream)
        assert first.reset
        assert first.synced
        other = hub.stream()
        await anext(other)
        for number in range(directory.KEPT + 1):
            await rig.attach("docker1", f"c{number}")
            await anext(other)
        again = await anext(stream)
        assert again.reset
        assert len(again.entries) == directory.KEPT + 2
        await stream.aclose()
        await other.aclose()


async def test_a_replica_that_stops_ends_the_streams(rig: Rig) -> None:
    async with following(rig) as copy:
        rig.app.replica.end_streams()
        await copy.until(lambda: True)
        async with asyncio.timeout(SECONDS):
            while copy.error is None:
                await asyncio.sleep(0.01)


async def test_a_host_that_cannot_be(rig: Rig) -> None:
    stub = directory_pb2_grpc.DirectoryServiceStub(rig.channel)
    with refused(Reason.INVALID_NAME, "no spaces"):
        await stub.WatchDirectory(directory_pb2.WatchDirectoryRequest(host="no spaces"), timeout=SECONDS).read()


async def test_what_docker_made_has_its_service_as_alias(rig: Rig) -> None:
    await rig.agent("docker1").start()
    await rig.create()
    await rig.attach("docker1", "web")
    snapshot = rig.app.replica.snapshot
    stored = snapshot.attachment("docker1", "web/blue")
    assert stored is not None
    address = parse_address("20.0.0.1")

    async def named(container: str, owner: str, shared: bool = False, origin: Origin = Origin.DOCKER) -> object:
        target = Target(TargetKind.CONTAINER, container)
        record = replace(stored.value, owner=owner, origin=origin, target=target)
        held = AddressRecord(AddressKind.ATTACHMENT, owner, "docker1", "web/blue", shared=shared)
        puts = (
            Put(keys.attachment("docker1", "web/blue"), codec.encode(record)),
            Put(keys.address("blue", address), codec.encode(held)),
        )
        done = await rig.store.commit(Txn((), puts))
        await rig.app.replica.follower.reached(done.revision)
        found = name(snapshot, "docker1", "web/blue")
        return found and (found.container, found.aliases)

    assert await named("shop-web-1", "shop/web/1") == ("shop-web-1", ("web",))
    assert await named("web.1.k2x9", "web.1") == ("web.1.k2x9", ("web",))
    assert await named("plain", "plain") == ("plain", ())
    assert await named("plain", "a/b/1", shared=True) == ("plain", ())
    assert await named("20.0.0.1", "") is None, "the container is not known yet"
    assert await named("", "") is None
    assert await named("", "", origin=Origin.HOST) == ("docker1.host", ())
