"""Checks from the interfaces that `agent.kernel` makes: both sides of `SiblingFactory` together."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from contract.prober_suite import HOSTS, collect, outcomes, pairs, plan, together
from netns.places import Places
from netns.probe_stage import PARENT, RealStage, capture, link_names

from agent.kernel.links import KernelLinks
from agent.kernel.siblings import KernelSiblings
from agent.probes.siblings import SiblingFactory
from trunkline.errors import Reason, TrunklineError

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[RealStage]:
    places = Places()
    adapters: list[KernelLinks] = []

    def siblings(path: str) -> SiblingFactory:
        adapters.append(KernelLinks(path))
        return KernelSiblings(adapters[-1])

    try:
        made = RealStage(places, HOSTS, siblings)
        await made.ready()
        yield made
        await made.close()
        assert all(link_names(host.place) == {"lo", PARENT} for host in made.hosts.values())
    finally:
        for adapter in adapters:
            await adapter.close()
        places.remove_all()


async def test_three_hosts_prove_each_other_and_the_interface_is_mute(stage: RealStage) -> None:
    async with capture(stage.wire, "h1") as seen:
        results = await together(stage, [plan(stage, host, 1, timeout=4.0) for host in HOSTS])
    for host in HOSTS:
        assert outcomes(results[host]) == pairs(host, tuple(h for h in HOSTS if h != host))
    kinds = set()
    while not seen.empty():
        _, frame = seen.get_nowait()
        if frame[6:12].hex(":") == plan(stage, "h1", 1).mac:
            kinds.add(frame[12:14])
    assert kinds == {b"\x88\xb5"}


async def test_a_foreign_link_of_that_name_is_refused(stage: RealStage) -> None:
    place = stage.hosts["h2"].place
    place.ip("link", "add", "tlp9", "type", "bridge")
    try:
        part = plan(stage, "h2", 2, timeout=1.0)
        clash = type(part)(
            part.run, part.network, "tlp9", part.mark, part.parent_index, part.mac, part.host, part.peers, (), 1.0
        )
        with pytest.raises(TrunklineError, match="tlp9") as caught:
            await collect(stage.prober("h2"), clash)
        assert caught.value.reason is Reason.PROBE_FAILED
    finally:
        place.ip("link", "del", "tlp9")
