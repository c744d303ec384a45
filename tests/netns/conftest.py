"""Fixtures of the floor that needs root and this machine's kernel."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fakes.controller import FakeController
from netns.agents import AgentProcess
from netns.places import Place, Places

from agent.kernel.links import KernelLinks

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here, and skip it where it cannot run."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.netns)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="network namespaces need root"))


@pytest.fixture
def places() -> Iterator[Places]:
    """Makes namespaces that are gone after the test, also after a failed one."""
    made = Places()
    try:
        yield made
    finally:
        made.remove_all()


@pytest.fixture
def host(places: Places) -> Place:
    """A namespace that plays the host: `up0`, up, MTU 1500."""
    return places.host()


@pytest.fixture
def target(places: Places) -> Place:
    """A namespace that plays a container."""
    return places.new()


@pytest.fixture
async def links(host: Place) -> AsyncIterator[KernelLinks]:
    """The adapter, with `host` for its host."""
    adapter = KernelLinks(host.path)
    yield adapter
    await adapter.close()


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[FakeController]:
    """A controller that says what the test tells it."""
    made = FakeController(tmp_path / "controller.sock")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def agent(host: Place, tmp_path: Path, controller: FakeController) -> AsyncIterator[AgentProcess]:
    """The real agent on `host`, dialling `controller`; started by the test."""
    made = AgentProcess(host, tmp_path, [controller.endpoint])
    yield made
    await made.stop()
