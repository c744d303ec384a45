"""The stores that the contract is checked on: in memory, etcd of one member, etcd of three members with TLS."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio
from clusters.etcd import EtcdCluster

from controller.store.etcd import EtcdStore
from controller.store.memory import MemoryStore
from controller.store.port import Store
from trunkline.etcd import rpc_pb2 as pb
from trunkline.etcd import rpc_pb2_grpc as stubs

_numbers = itertools.count()


@dataclass
class Case:
    """A store under the contract, and what a test needs beside the port."""

    store: Store
    compact: Callable[[int], Awaitable[None]]
    another: Callable[[], Store]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_member() -> AsyncIterator[EtcdCluster]:
    """Shared by all tests that break nothing."""
    async with EtcdCluster(1) as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def three_members() -> AsyncIterator[EtcdCluster]:
    """Shared by all tests that break nothing."""
    async with EtcdCluster(3, tls=True) as cluster:
        yield cluster


@pytest.fixture(params=["memory", "one_member", "three_members"])
def cluster(request: pytest.FixtureRequest) -> EtcdCluster | None:
    """The cluster of the case, None for the store in memory; started outside of the test's event loop."""
    return None if request.param == "memory" else request.getfixturevalue(request.param)


@pytest.fixture
async def case(cluster: EtcdCluster | None) -> AsyncIterator[Case]:
    """One store of each kind, empty."""
    if cluster is None:
        memory = MemoryStore()

        async def forget(revision: int) -> None:
            memory.compact(revision)

        yield Case(memory, forget, lambda: memory)
        await memory.close()
        return
    prefix = f"/test/{next(_numbers)}/"
    stores: list[EtcdStore] = []

    def another() -> EtcdStore:
        stores.append(EtcdStore(cluster.settings(f"c{len(stores)}", prefix=prefix)))
        return stores[-1]

    async def compact(revision: int) -> None:
        async with cluster.channel() as channel:
            await stubs.KVStub(channel).Compact(pb.CompactionRequest(revision=revision), timeout=5)

    yield Case(another(), compact, another)
    for store in stores:
        await store.close()


@pytest.fixture
def store(case: Case) -> Store:
    """The store alone."""
    return case.store


@pytest.fixture
def lent(which: str, request: pytest.FixtureRequest) -> EtcdCluster:
    """A shared cluster for a test that breaks only the way to it; `which` comes from the test's parameters."""
    found: EtcdCluster = request.getfixturevalue(which)
    return found
