from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from contract.controller.rig import Rig, running

from controller.store.etcd.embedded import EmbeddedEtcd
from controller.store.etcd.store import EtcdStore
from controller.store.memory import MemoryStore


def etcd_binary() -> Path:
    """The etcd of TRUNKLINE_ETCD, else of the checkout's cache, else of PATH."""
    kept = Path(__file__).parents[3] / ".work/bin/etcd"
    found = os.environ.get("TRUNKLINE_ETCD") or (str(kept) if kept.exists() else shutil.which("etcd"))
    if not found:
        pytest.fail("no etcd: run tools/setup, or set TRUNKLINE_ETCD")
    return Path(found)


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
async def etcd(tmp_path: Path) -> AsyncIterator[EmbeddedEtcd]:
    etcd = EmbeddedEtcd(tmp_path / "etcd", etcd_binary())
    await etcd.start()
    yield etcd
    await etcd.stop()


@pytest.fixture
async def etcd_rig(etcd: EmbeddedEtcd) -> AsyncIterator[Rig]:
    store = EtcdStore(etcd.settings("c1"))
    async with running(store) as rig:
        yield rig
    await store.close()
