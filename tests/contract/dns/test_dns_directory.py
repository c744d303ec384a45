"""The agent's copy of the names, fed by a real controller over gRPC, and what of it a reboot finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from contract.controller.rig import Rig, running

from agent.dns.zone import Zone
from agent.session import directory
from agent.session.directory import Directory
from agent.session.live import Live
from agent.spool import NAMES, Spool
from controller.store.memory import MemoryStore
from trunkline.clock import SystemClock

D = "trunkline.internal"


class Copy:
    """An agent's directory."""

    def __init__(self, path: Path) -> None:
        self.zone = Zone(D)
        self.live = Live()
        self.spool = Spool(path)
        self.spool.prepare()
        self.directory = Directory(self.zone, self.spool, "docker1", self.live, SystemClock())
        self.directory.load()

    def addresses(self, name: str) -> list[str] | None:
        found = self.zone.addresses(f"{name}.{D}")
        return None if found is None else [str(address) for address in found]

    @asynccontextmanager
    async def following(self, rig: Rig) -> AsyncIterator[None]:
        task = asyncio.create_task(self.directory.run())
        try:
            with self.live.over(rig.channel):
                yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    store = MemoryStore()
    async with running(store) as made:
        await made.agent("docker1").start()
        await made.create()
        yield made
    await store.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "SETTLE", 0.05)


async def test_names_come_go_and_outlive_the_agent(rig: Rig, tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    assert not copy.zone.known
    await rig.attach("docker1", "web")
    async with copy.following(rig):
        await until(lambda: copy.addresses("web.blue") == ["20.0.0.1"])
        assert copy.zone.known
        await rig.attach("docker1", "db")
        await until(lambda: copy.addresses("db.blue") == ["20.0.0.2"])
        await rig.detach("docker1", "db/blue")
        await until(lambda: copy.addresses("db.blue") is None)
        await until(lambda: (tmp_path / NAMES).exists() and "db" not in (tmp_path / NAMES).read_text())
    rebooted = Copy(tmp_path)
    assert rebooted.zone.known
    assert rebooted.addresses("web.blue") == ["20.0.0.1"]


async def test_what_went_while_nobody_listened_goes_with_the_next_listing(rig: Rig, tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    await rig.attach("docker1", "web")
    await rig.attach("docker1", "db")
    async with copy.following(rig):
        await until(lambda: copy.addresses("db.blue"))
    await rig.detach("docker1", "web/blue")
    await rig.until_gone("docker1", "web/blue")
    assert copy.addresses("web.blue") == ["20.0.0.1"], "nobody has told"
    async with copy.following(rig):
        await until(lambda: copy.addresses("web.blue") is None)
        assert copy.addresses("db.blue") == ["20.0.0.2"]


async def test_a_copy_that_cannot_be_read_is_none(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / NAMES).write_text("{")
    copy = Copy(tmp_path)
    assert not copy.zone.known
    await rig.attach("docker1", "web")
    async with copy.following(rig):
        await until(lambda: copy.addresses("web.blue"))
        await until((tmp_path / NAMES).exists)
    assert Copy(tmp_path).zone.known
