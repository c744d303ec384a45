"""Addresses for hosts, over a simulating store and over etcd: grants, recalls that are waited for, stock, and what
becomes of containers that Docker starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from contract.controller.rig import READY, SECONDS, Rig, refused, running
from fakes.ledger import Ledger
from fakes.scripted_agent import ScriptedAgent

from controller.config import TlsTable
from controller.state.records import AddressKind, AddressRecord
from controller.store.memory import MemoryStore
from trunkline import pki
from trunkline.agent.v1 import address_pb2, address_pb2_grpc
from trunkline.errors import Reason
from trunkline.ids import parse_address
from trunkline.model import EndpointState, Origin
from trunkline.rpc import channel
from trunkline.tls import ClientTls
from trunkline.v1 import address_pb2 as v1_address_pb2
from trunkline.v1 import attachment_pb2, host_pb2, network_pb2


@pytest.fixture(params=["memory", "etcd"])
def any_rig(request: pytest.FixtureRequest) -> Rig:
    return request.getfixturevalue("rig" if request.param == "memory" else "etcd_rig")  # type: ignore[no-any-return]


async def docker_host(rig: Rig, name: str) -> ScriptedAgent:
    return await rig.agent(name, ledger=Ledger()).start()


async def until(rig: Rig, condition: Callable[[], bool]) -> None:
    """Look at the snapshot after every change until the condition holds."""
    replica = rig.app.replica
    with replica.subscribed() as subscription:
        async with asyncio.timeout(SECONDS):
            while not condition():
                await subscription.next()


def record(rig: Rig, address: str, network: str = "blue") -> AddressRecord | None:
    stored = rig.app.replica.snapshot.addresses.get(network, {}).get(parse_address(address))
    return stored.value if stored is not None else None


def in_stock(agent: ScriptedAgent) -> list[str]:
    assert agent.ledger is not None
    return [at[1] for at, entry in agent.ledger.entries.items() if entry.state is EndpointState.STOCK]


async def test_grant_use_release(any_rig: Rig) -> None:
    rig = any_rig
    agent = await docker_host(rig, "docker1")
    await rig.create()
    await rig.until_network("blue", lambda seen: bool(seen.network.hosts))
    await agent.until(lambda: len(in_stock(agent)) == 2)
    address = await agent.start_container("web", "blue")
    seen = await rig.until_phase("docker1", "web/blue", READY)
    assert (seen.origin, list(seen.addresses), seen.ifname) == (attachment_pb2.ORIGIN_DOCKER, [f"{address}/24"], "eth0")
    await agent.until(lambda: len(in_stock(agent)) == 2)
    assert address not in in_stock(agent)
    agent.stop_container("blue", address)
    await rig.until_gone("docker1", "web/blue")
    kept = record(rig, address)
    assert kept is not None
    assert (kept.kind, kept.owner) == (AddressKind.KEPT, "web")
    assert await agent.start_container("web", "blue") == address
    await rig.until_phase("docker1", "web/blue", READY)
    await rig.lawful()


async def test_grant_waits_for_what_another_host_lets_go(any_rig: Rig) -> None:
    rig = any_rig
    one, two = await docker_host(rig, "docker1"), await docker_host(rig, "docker2")
    await rig.create(cidr="20.0.0.0/30")
    await one.until(lambda: one.desired is not None and len(one.desired.networks) == 1)
    first, second = (await one.grant("blue")).address, (await one.grant("blue")).address
    await until(rig, lambda: rig.app.replica.snapshot.host_status["docker1"].value.networks == ("blue",))
    given = await two.grant("blue")
    assert given.address in (first, second)
    await two.until(lambda: given.address in in_stock(two))
    assert in_stock(one) == [({first, second} - {given.address}).pop()]
    await rig.lawful()


async def test_grant_is_refused_in_time_when_nobody_lets_go(any_rig: Rig) -> None:
    rig = any_rig
    one, two = await docker_host(rig, "docker1"), await docker_host(rig, "docker2")
    await rig.create(cidr="20.0.0.0/30")
    await one.grant("blue")
    await one.grant("blue")
    await one.start_container("web", "blue")
    await rig.until_phase("docker1", "web/blue", READY)
    one.frozen = True
    with refused(Reason.POOL_EXHAUSTED, "20.0.0.0/30", "blue", "docker1", "1 in stock"):
        await two.grant("blue", seconds=1.0)
    with refused(Reason.POOL_EXHAUSTED):
        await two.grant("blue", seconds=1.0, spare=True)


async def test_grant_of_a_promise_follows_its_owner(rig: Rig) -> None:
    one, two = await docker_host(rig, "docker1"), await docker_host(rig, "docker2")
    await rig.create()
    address = await one.start_container("shop", "blue", owner="shop", shared=True)
    await rig.until_phase("docker1", "shop/blue", READY)
    with refused(Reason.OWNER_ELSEWHERE, "docker1", "shop", address):
        await two.grant("blue", owner="shop", shared=True, seconds=1.0)
    asked = asyncio.create_task(two.grant("blue", owner="shop", shared=True))
    one.stop_container("blue", address)
    assert (await asked).address == address
    await rig.lawful()


async def test_stock_follows_drain(rig: Rig) -> None:
    agent = await docker_host(rig, "docker1")
    await rig.create()
    await agent.until(lambda: len(in_stock(agent)) == 2)
    await rig.hosts.DrainHost(host_pb2.DrainHostRequest(name="docker1"), timeout=SECONDS)
    await agent.until(lambda: not in_stock(agent))
    await until(rig, lambda: not rig.app.replica.snapshot.addresses)
    with refused(Reason.HOST_DRAINED, "docker1"):
        await agent.grant("blue")


async def test_what_docker_made_is_not_detached(rig: Rig) -> None:
    agent = await docker_host(rig, "docker1")
    await rig.create()
    await agent.start_container("web", "blue")
    await rig.until_phase("docker1", "web/blue", READY)
    with refused(Reason.NOT_DETACHABLE, "docker network disconnect blue web", "docker1"):
        await rig.detach("docker1", "web/blue")


async def test_network_goes_with_its_stock(rig: Rig) -> None:
    agent = await docker_host(rig, "docker1")
    await rig.create()
    await agent.until(lambda: len(in_stock(agent)) == 2)
    await rig.networks.DeleteNetwork(network_pb2.DeleteNetworkRequest(name="blue"), timeout=SECONDS)
    await rig.until_network("blue", lambda seen: seen.gone)
    assert in_stock(agent) == []
    await rig.lawful()


async def test_a_restart_of_the_agent_loses_nothing(rig: Rig) -> None:
    agent = await docker_host(rig, "docker1")
    await rig.create()
    address = await agent.start_container("web", "blue")
    await rig.until_phase("docker1", "web/blue", READY)
    await agent.stop()
    await agent.start()
    agent.observe()
    await until(rig, lambda: "docker1" in rig.app.replica.snapshot.sessions)
    assert record(rig, address) is not None
    stored = rig.app.replica.snapshot.attachment("docker1", "web/blue")
    assert stored is not None
    assert stored.value.origin is Origin.DOCKER


@pytest.mark.parametrize(("identity", "allowed"), [("host:docker1", True), ("host:docker2", False)])
async def test_a_host_asks_for_itself_only(memory: MemoryStore, tmp_path: Path, identity: str, allowed: bool) -> None:
    ca, _ = pki.make_ca(tmp_path)
    cert, key = pki.issue(tmp_path, "controller:c1", ["127.0.0.1", "localhost"])
    async with running(memory, tls=TlsTable(ca=ca, cert=cert, key=key)) as rig:
        mine, secret = pki.issue(tmp_path, identity, [])
        async with channel(rig.endpoint, ClientTls(ca=ca, cert=mine, key=secret)) as secure:
            stub = address_pb2_grpc.AddressServiceStub(secure)
            request = address_pb2.GrantRequest(host="docker1", network="blue", version=4)
            # The right host gets as far as being told that it has not registered.
            with refused(Reason.NETWORK_NOT_FOUND if allowed else Reason.HOST_IDENTITY):
                await stub.Grant(request, timeout=SECONDS)


def _has_network(agent: ScriptedAgent) -> bool:
    return agent.desired is not None and bool(agent.desired.networks)


async def test_addresses_come_one_after_the_other(any_rig: Rig) -> None:
    """From the first, without a hole, though stock, grants, hosts' own interfaces and promises are chosen at once."""
    rig = any_rig
    agents = [await docker_host(rig, f"docker{number}") for number in range(4)]
    snapshot = rig.app.replica.snapshot
    for turn in range(2):
        await rig.create(host_access=True)
        await asyncio.gather(*(agent.until(partial(_has_network, agent)) for agent in agents))
        asked = [agent.grant("blue") for agent in agents for _ in range(4)]
        kept = [
            rig.addresses.Reserve(v1_address_pb2.ReserveRequest(network="blue", owner=f"o{n}"), timeout=SECONDS)
            for n in range(4)
        ]
        await asyncio.gather(*asked, *kept)
        await until(rig, lambda: len(snapshot.attachment_status) == 4)
        found = sorted(int(address) for address in snapshot.addresses["blue"])
        assert len(found) >= 16 + 4 + 4
        assert found == list(range(found[0], found[0] + len(found))), [str(a) for a in snapshot.addresses["blue"]]
        assert found[0] == int(parse_address("20.0.0.1"))
        if turn == 0:
            for n in range(4):
                release = v1_address_pb2.ReleaseRequest(network="blue", owner=f"o{n}")
                await rig.addresses.Release(release, timeout=SECONDS)
            await rig.networks.DeleteNetwork(network_pb2.DeleteNetworkRequest(name="blue"), timeout=SECONDS)
            await rig.until_network("blue", lambda seen: seen.gone)
    await rig.lawful()


async def test_many_wait_for_what_one_host_lets_go(any_rig: Rig) -> None:
    """Each gets one, and no more is asked back than they need."""
    rig = any_rig
    donor = await docker_host(rig, "donor")
    await rig.create(cidr="20.0.0.0/25")
    await donor.until(lambda: donor.desired is not None and bool(donor.desired.networks))
    for _ in range(126 - len(in_stock(donor))):
        await donor.grant("blue")
    await until(rig, lambda: len(rig.app.replica.snapshot.addresses["blue"]) == 126)
    askers = [await docker_host(rig, f"docker{number}") for number in range(60)]
    given = await asyncio.gather(*(asker.start_container("web", "blue", seconds=8.0) for asker in askers))
    assert len(set(given)) == 60
    await rig.lawful()
    left = [one for one in rig.app.replica.snapshot.addresses["blue"].values() if one.value.host == "donor"]
    assert len(left) >= 126 - 60 - 30


async def test_a_host_that_does_not_answer_is_not_waited_for_alone(rig: Rig) -> None:
    """Two have something to spare, and the one that is asked first is connected and mute."""
    mute, two, three = [await docker_host(rig, name) for name in ("docker1", "docker2", "docker3")]
    await rig.create(cidr="20.0.0.0/29")
    await mute.until(lambda: mute.desired is not None and len(mute.desired.networks) == 1)
    for agent in (mute, two):
        while len(in_stock(agent)) < 3:
            await agent.grant("blue")
    mute.frozen = True
    given = await three.grant("blue", seconds=2.0)
    assert given.address
    assert len(in_stock(two)) == 2
    await rig.lawful()


async def test_what_is_written(any_rig: Rig) -> None:
    """A container's start costs a few transactions, however often it and the others are told again."""
    rig = any_rig
    agent = await docker_host(rig, "docker1")
    await rig.create()
    await agent.until(lambda: len(in_stock(agent)) == 2)
    for number in range(20):
        await agent.start_container(f"web{number}", "blue")
        await rig.until_phase("docker1", f"web{number}/blue", READY)
    await agent.until(lambda: len(in_stock(agent)) == 2)
    before = await rig.store.revision()
    for _ in range(50):
        agent.observe()
    await agent.start_container("one", "blue")
    await rig.until_phase("docker1", "one/blue", READY)
    await agent.until(lambda: len(in_stock(agent)) == 2)
    assert await rig.store.revision() - before <= 8
