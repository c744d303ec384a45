"""Session records that nobody stands behind: a host that is gone must not look connected for as long as its
replica lives."""

from __future__ import annotations

import asyncio

import pytest
from contract.controller.rig import SECONDS, Rig, running

from controller.reconcile import orphans
from controller.state import keys
from controller.state.txn import Txn
from controller.store.memory import MemoryStore
from controller.store.port import Outcome
from trunkline.errors import StoreUnavailable
from trunkline.v1 import host_pb2


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "LOOK_SECONDS", 0.1)


class Refusing(MemoryStore):
    """Refuses to remove session records while told to, as an outage does that the lease outlives."""

    refusing = False
    refused = 0

    async def commit(self, txn: Txn) -> Outcome:
        if self.refusing and any(op.key.startswith(keys.SESSIONS) for op in txn.ops):
            self.refused += 1
            raise StoreUnavailable("away")
        return await super().commit(txn)


async def test_record_that_could_not_be_removed_is_removed_later() -> None:
    store = Refusing()
    async with running(store) as rig:
        agent = await rig.agent("docker1").start()
        store.refusing = True
        await agent.stop()
        while not store.refused:
            await asyncio.sleep(0.01)
        store.refusing = False
        await rig.until_host("docker1", lambda seen: not seen.host.connected)
        await rig.hosts.ForgetHost(host_pb2.ForgetHostRequest(name="docker1"), timeout=SECONDS)
    await store.close()


async def test_sessions_that_live_are_left_alone(rig: Rig) -> None:
    agents = [await rig.agent(f"docker{n}").start() for n in range(3)]
    lost = await rig.agent("docker9").start()
    assert lost.welcome is not None
    session = rig.app.replica.fleet.get("docker9")
    assert session is not None
    # Nobody stands behind this one any more: once its record is gone, two looks have passed over the others.
    rig.app.replica.fleet._sessions.pop("docker9")
    await rig.until_host("docker9", lambda seen: not seen.host.connected)
    assert [agent.error for agent in agents] == [None] * 3
