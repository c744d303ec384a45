"""Leases of resting addresses: long enough for what they carry, and no release waits for one while releases go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from contract.controller.rig import READY, SECONDS, Rig

from controller.reconcile.leases import BUCKET, RestLeases
from controller.reconcile.releasing import Releaser
from controller.state.records import AddressKind
from controller.store.memory import MemoryStore
from trunkline.clock import Clock, SystemClock
from trunkline.errors import StoreUnavailable
from trunkline.v1 import network_pb2


class ByHand(SystemClock):
    """Monotonic time that a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0 * BUCKET

    def monotonic(self) -> float:
        return self.at


class Granting(MemoryStore):
    """Notes for how long leases were granted; holds a grant up, or fails it."""

    def __init__(self) -> None:
        super().__init__()
        self.ttls: list[float] = []
        self.open = asyncio.Event()
        self.open.set()
        self.away = False

    async def grant(self, ttl: float) -> int:
        self.ttls.append(ttl)
        await self.open.wait()
        if self.away:
            raise StoreUnavailable("away")
        return await super().grant(ttl)


async def test_one_lease_serves_a_network_for_half_a_minute() -> None:
    store, clock = Granting(), ByHand()
    leases = RestLeases(store, clock)
    first = await asyncio.gather(*(leases.lease("blue", 300) for _ in range(10)))
    clock.at += BUCKET - 1
    assert set(first) == {await leases.lease("blue", 300)}
    assert await leases.lease("red", 300) not in first
    assert await leases.lease("blue", 600) not in first
    # Used until the end of the half-minute after its own, it still lives as long as what hangs on it must.
    assert store.ttls == [300 + 3 * BUCKET, 300 + 3 * BUCKET, 600 + 3 * BUCKET]


async def test_no_release_waits_while_releases_go_on() -> None:
    store, clock = Granting(), ByHand()
    leases = RestLeases(store, clock)
    first = await leases.lease("blue", 300)
    store.open.clear()
    clock.at += BUCKET
    assert await asyncio.wait_for(leases.lease("blue", 300), SECONDS) == first
    store.open.set()
    async with asyncio.timeout(SECONDS):
        while (second := await leases.lease("blue", 300)) == first:
            await asyncio.sleep(0)
    assert len(store.ttls) == 2
    clock.at += 2 * BUCKET
    assert await leases.lease("blue", 300) not in (first, second), "too old to serve"


async def test_a_grant_that_failed_is_tried_again() -> None:
    store, clock = Granting(), ByHand()
    leases = RestLeases(store, clock)
    store.away = True
    with pytest.raises(StoreUnavailable):
        await leases.lease("blue", 300)
    store.away = False
    first = await leases.lease("blue", 300)
    clock.at += BUCKET
    store.away = True
    assert await leases.lease("blue", 300) == first
    await asyncio.sleep(0)
    store.away = False
    assert await leases.lease("blue", 300) == first
    async with asyncio.timeout(SECONDS):
        while await leases.lease("blue", 300) == first:
            await asyncio.sleep(0)


class Meanwhile(RestLeases):
    """Something happens while the first lease is granted."""

    def __init__(self, store: MemoryStore, clock: Clock, happening: Callable[[], Awaitable[None]]) -> None:
        super().__init__(store, clock)
        self._happening: Callable[[], Awaitable[None]] | None = happening
        self.asked: list[int] = []

    async def lease(self, network: str, seconds: int) -> int:
        self.asked.append(seconds)
        lease = await super().lease(network, seconds)
        happening, self._happening = self._happening, None
        if happening is not None:
            await happening()
        return lease


async def test_a_hold_that_grew_meanwhile_gets_a_lease_of_its_own(rig: Rig, memory: MemoryStore) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create()
    await rig.attach("docker1", "web")
    await rig.until_phase("docker1", "web/blue", READY)
    agent.frozen = True
    await rig.detach("docker1", "web/blue")
    follower = rig.app.replica.follower

    async def grow() -> None:
        request = network_pb2.UpdateNetworkRequest(name="blue", hold_seconds=200_000)
        await rig.networks.UpdateNetwork(request, timeout=SECONDS)
        await follower.reached(await memory.revision())

    leases = Meanwhile(memory, SystemClock(), grow)
    releaser = Releaser(memory, follower, leases, SystemClock())
    await follower.reached(await memory.revision())
    seen = follower.snapshot.revision
    assert not await releaser.finish_detach("docker1", "web/blue", seen)
    assert [one.value.kind for one in follower.snapshot.addresses["blue"].values()] == [AddressKind.ATTACHMENT]
    assert await releaser.finish_detach("docker1", "web/blue", seen)
    assert leases.asked == [86_400, 200_000]
    (left,) = follower.snapshot.addresses["blue"].values()
    assert left.value.hold_until_ms - left.value.since_ms == 200_000_000
    await rig.lawful()


async def test_a_destroyed_container_holds_nothing(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create(cidr="20.0.0.0/30")
    for name in ("web", "db"):
        await rig.attach("docker1", name)
        await rig.until_phase("docker1", f"{name}/blue", READY)
    agent.containers["web"] = "gone"
    agent.converge()
    await rig.until_attachment("docker1", "web/blue", lambda one: one.attachment.reason == "CONTAINER_NOT_FOUND")
    for name in ("web", "db"):
        await rig.detach("docker1", f"{name}/blue")
        await rig.until_gone("docker1", f"{name}/blue")
    records = [stored.value for stored in rig.app.replica.snapshot.addresses["blue"].values()]
    held = {record.owner: (record.hold_until_ms - record.since_ms) // 1000 for record in records}
    assert held == {"web": 300, "db": 86_400}
    await rig.lawful()
