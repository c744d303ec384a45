"""The program against a real controller: what an operator types, sees and scripts on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from clusters.etcd import etcd_binary
from contract.cli.terminal import Cli, command
from contract.controller.rig import Rig, running

from controller.store.etcd.embedded import EmbeddedEtcd
from controller.store.memory import MemoryStore
from trunkline import log


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No configuration but the test's; no line of the controller's log between those of the program."""
    log.setup("error", json=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("TRUNKLINE_CONTROLLER", raising=False)
    yield
    log.setup("info", json=True)


@pytest.fixture
async def etcd(tmp_path: Path) -> AsyncIterator[EmbeddedEtcd]:
    etcd = EmbeddedEtcd(tmp_path / "etcd", etcd_binary())
    await etcd.start()
    yield etcd
    await etcd.stop()


@pytest.fixture
async def memory() -> AsyncIterator[MemoryStore]:
    store = MemoryStore()
    yield store
    await store.close()


@pytest.fixture
async def rig(memory: MemoryStore) -> AsyncIterator[Rig]:
    async with running(memory) as rig:
        yield rig


@pytest.fixture
def cli(rig: Rig, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs one command; the controller serves from this process meanwhile."""

    return lambda *words, controller="": command(rig, capfd, *words, controller=controller)
