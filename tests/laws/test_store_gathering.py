"""Who waits for whom: one caller for nobody, several for each other's company, and nobody for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from fakes import fast_loop
from fakes.etcd_wire import LossyRing, Model

from controller.state.txn import Absent, Put, Txn
from controller.store.etcd.channel import EtcdSettings
from controller.store.etcd.commit import GATHER, HOLD, Committer
from controller.store.port import Committed

TRIP = 0.001
"""Seconds that the store takes for a transaction here, on a clock that shows nothing else."""


class Slow(LossyRing):
    """Answers everything, each after a time."""

    trip = TRIP

    async def call(self, method: Callable[[Any], Callable[[Any], Any]], request: Any) -> Any:
        await asyncio.sleep(self.trip)
        return await super().call(method, request)


def committer(model: Model) -> tuple[Committer, Slow]:
    ring = Slow(model, EtcdSettings(("model",), "c1", deadline=30.0, lanes=2), iter(()))
    return Committer(cast("Any", ring)), ring


async def commit(store: Committer, key: str) -> int:
    (outcome,) = await store.commit((Txn((Absent(key),), (Put(key, b"x"),)),))
    assert isinstance(outcome, Committed)
    return outcome.revision


def test_one_caller_never_waits() -> None:
    async def run() -> None:
        store, _ = committer(Model())
        await commit(store, "first")
        began = asyncio.get_running_loop().time()
        for number in range(20):
            await commit(store, f"k{number}")
        assert asyncio.get_running_loop().time() - began == pytest.approx(20 * TRIP, rel=0.01)
        await store.close()

    fast_loop.run(run())


def test_callers_that_come_back_share() -> None:
    async def run() -> None:
        store, _ = committer(Model())
        revisions: set[int] = set()

        async def caller(name: int) -> None:
            for number in range(20):
                revisions.add(await commit(store, f"{name}/{number}"))
                await asyncio.sleep(TRIP * name / 20)  # they take their time, each another

        await asyncio.gather(*map(caller, range(16)))
        assert len(revisions) <= 20 + 4, f"sixteen at a time, or nearly: {len(revisions)}"
        await store.close()

    fast_loop.run(run())


def test_after_a_crowd_the_last_waits_once_and_briefly() -> None:
    async def run() -> None:
        store, _ = committer(Model())
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(commit(store, f"crowd/{i}") for i in range(10)))
        for number, longest in enumerate((GATHER + TRIP, TRIP)):
            began = loop.time()
            await commit(store, f"alone/{number}")
            assert loop.time() - began <= longest * 1.01
        await store.close()

    fast_loop.run(run())


def test_what_comes_while_one_is_under_way_shares_the_next() -> None:
    async def run() -> None:
        store, _ = committer(Model())
        await commit(store, "first")
        tasks = []
        for number in range(6):
            tasks.append(asyncio.create_task(commit(store, f"k{number}")))
            await asyncio.sleep(TRIP / 8)
        first, *others = await asyncio.gather(*tasks)
        assert set(others) == {first + 1}
        await store.close()

    fast_loop.run(run())


def test_nobody_waits_long_for_a_slow_one() -> None:
    async def run() -> None:
        store, ring = committer(Model())
        await commit(store, "first")
        ring.trip = 1.0
        slow = asyncio.create_task(commit(store, "slow"))
        await asyncio.sleep(TRIP)
        ring.trip = TRIP
        began = asyncio.get_running_loop().time()
        await commit(store, "other")
        assert asyncio.get_running_loop().time() - began <= (HOLD + TRIP) * 1.01
        assert not slow.done()
        await slow
        await store.close()

    fast_loop.run(run())
