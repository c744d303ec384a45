"""The fake prober keeps the port's promises."""

from __future__ import annotations

import pytest
from contract.prober_suite import HOSTS, ProberSuite, collect, plan
from fakes.prober import FakeProber, FakeWire

from agent.ports import Announcement, Namespace, Prober
from trunkline.errors import Reason, TrunklineError


class FakeStage:
    """Three fake probers on one wire."""

    def __init__(self) -> None:
        self.wire = FakeWire(parents={(host, 3) for host in HOSTS})
        self.probers = {host: FakeProber(self.wire, host) for host in HOSTS}

    def prober(self, host: str) -> Prober:
        return self.probers[host]

    def parent(self, host: str) -> int:
        return 3

    async def hold(self, host: str, address: str, mac: str) -> None:
        self.wire.hold(host, address, mac)

    async def drop(self, host: str, address: str) -> None:
        for mac, holder in list(self.wire.holders.get(address, {}).items()):
            if holder == host:
                self.wire.release(address, mac)

    async def cut(self, host: str) -> None:
        self.wire.cut(host)

    async def mend(self, host: str) -> None:
        self.wire.mend(host)

    def announcement(self, host: str, address: str, mac: str) -> Announcement:
        return Announcement(Namespace(f"/{host}", ""), "tl0", mac, (address,))

    async def learn(self, host: str, address: str) -> str:
        (mac,) = self.wire.answers(host, address)
        self.wire.neighbours.setdefault(host, {})[address] = mac
        return mac

    async def knows(self, host: str, address: str) -> str:
        return self.wire.neighbours[host][address]


class TestFakeProber(ProberSuite):
    @pytest.fixture
    def stage(self) -> FakeStage:
        return FakeStage()

    async def test_a_closed_prober_fails(self, stage: FakeStage) -> None:
        await stage.prober("h1").close()
        await stage.prober("h1").close()
        with pytest.raises(TrunklineError) as caught:
            await collect(stage.prober("h1"), plan(stage, "h1", 9000))
        assert caught.value.reason is Reason.PROBE_FAILED
