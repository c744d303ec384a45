"""The worlds the suite runs in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from contract.links.worlds import FakeWorld, KernelWorld, World
from netns.places import Places


@pytest.fixture(params=["fake", pytest.param("kernel", marks=pytest.mark.netns)])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A fresh world."""
    if request.param == "fake":
        fake = FakeWorld()
        yield fake
        await fake.links.close()
        return
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    places = Places()
    try:
        kernel = KernelWorld(places)
        yield kernel
        await kernel.links.close()
    finally:
        places.remove_all()
