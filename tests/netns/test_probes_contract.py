"""The real prober keeps the port's promises, with real frames between real links."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from contract.prober_suite import HOSTS, ProberSuite
from netns.places import Places
from netns.probe_stage import RealStage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[RealStage]:
    """Three hosts, made once: a child takes a moment to load."""
    places = Places()
    try:
        made = RealStage(places, HOSTS)
        await made.ready()
        yield made
        await made.close()
        left = [link for host in made.hosts.values() for link in host.place.ip("link", "show").splitlines()]
        assert not any("macvlan" in line or "tlp7" in line for line in left)
    finally:
        places.remove_all()


@pytest.mark.asyncio(loop_scope="module")
class TestChildProber(ProberSuite):
    pass
