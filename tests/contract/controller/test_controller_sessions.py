"""Sessions: who may open one, who loses it, what a slow or a dead host costs the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from contract.controller.rig import PENDING, READY, SECONDS, WAITING, Rig, refused, running
from fakes.scripted_agent import ScriptedAgent
from grpc import aio

from controller.api import attachments, session
from controller.config import TlsTable
from controller.reconcile import keeping, leases
from controller.state import keys
from controller.state.entry import Listing
from controller.state.txn import Delete, Txn, Unchanged
from controller.store.memory import MemoryStore
from trunkline import pki
from trunkline.agent.v1 import session_pb2, session_pb2_grpc
from trunkline.errors import Reason
from trunkline.rpc import channel, from_rpc_error
from trunkline.tls import ClientTls
from trunkline.v1 import fabric_pb2, fabric_pb2_grpc, host_pb2


async def test_wrong_protocol_and_malformed_hello(rig: Rig) -> None:
    with refused(Reason.PROTOCOL_VERSION, "docker1", "99"):
        await rig.agent("docker1", protocol=99).start()
    with refused(Reason.INVALID_NAME, "no spaces here"):
        await rig.agent("no spaces here").start()
    stub = session_pb2_grpc.SessionServiceStub(rig.channel)
    with refused(Reason.INVALID_ARGUMENT, "hello"):
        call = stub.Connect(timeout=SECONDS)
        await call.write(session_pb2.ConnectRequest(observation=session_pb2.Observation()))
        await call.read()
    listed = await rig.hosts.ListHosts(host_pb2.ListHostsRequest(), timeout=SECONDS)
    assert list(listed.hosts) == []


async def test_another_machine_under_a_known_name(rig: Rig) -> None:
    first = await rig.agent("docker1", machine_id="aaaa").start()
    with refused(Reason.HOST_MACHINE_MISMATCH, "docker1", "aaaa", "bbbb"):
        await rig.agent("docker1", machine_id="bbbb").start()
    assert first.error is None, "the first machine keeps its session"


async def test_newer_session_takes_over(rig: Rig) -> None:
    old = await rig.agent("docker1").start()
    new = await rig.agent("docker1").start()
    await old.until(lambda: old.error is not None)
    assert old.error is not None
    assert from_rpc_error(old.error).reason is Reason.SESSION_SUPERSEDED
    assert new.welcome is not None
    await rig.create()
    await rig.attach("docker1", "web")
    await rig.until_phase("docker1", "web/blue", READY)
    assert "web/blue" in new.links
    assert "web/blue" not in old.links


async def test_another_replica_takes_over(rig: Rig, memory: MemoryStore) -> None:
    old = await rig.agent("docker1").start()
    async with running(memory, "c2") as other:
        new = await other.agent("docker1").start()
        await old.until(lambda: old.error is not None)
        assert old.error is not None
        error = from_rpc_error(old.error)
        assert (error.reason, "c2" in error.message) == (Reason.SESSION_SUPERSEDED, True)
        assert new.error is None
        # Either replica takes the request; the one that holds the session pushes and settles.
        await rig.create()
        await rig.attach("docker1", "web")
        await rig.until_phase("docker1", "web/blue", READY)
        assert "web/blue" in new.links


async def test_closed_session_shows_at_once(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    await rig.until_host("docker1", lambda seen: seen.host.connected and seen.host.replica == "c1")
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    await agent.start()
    await rig.until_host("docker1", lambda seen: seen.host.connected)


async def test_session_record_that_vanished_ends_the_session(rig: Rig, memory: MemoryStore) -> None:
    agent = await rig.agent("docker1").start()
    assert agent.welcome is not None
    key = keys.session("docker1")
    await memory.commit(Txn((Unchanged(key, agent.welcome.session),), (Delete(key),)))
    await agent.until(lambda: agent.error is not None)
    await agent.start()
    await rig.until_host("docker1", lambda seen: seen.host.connected)


async def test_observation_of_another_session_is_not_believed(rig: Rig) -> None:
    agent = await rig.agent("docker1", frozen=True).start()
    assert agent.welcome is not None
    await rig.create()
    await rig.attach("docker1", "web")
    await agent.until(lambda: agent.desired is not None and len(agent.desired.attachments) == 1)
    number, agent.welcome.session = agent.welcome.session, agent.welcome.session - 1
    agent.converge()
    agent.welcome.session = number
    # A later message on the same stream has been read once this question is answered.
    agent.containers["other"] = "stopped"
    agent.frozen = False
    with refused(Reason.CONTAINER_NOT_RUNNING):
        await rig.attach("docker1", "other", check_target=True)
    seen = await rig.until_attachment("docker1", "web/blue", lambda _: True)
    assert seen.attachment.phase == PENDING
    agent.observe()
    await rig.until_phase("docker1", "web/blue", READY)


async def test_waiting_target_and_its_return(rig: Rig) -> None:
    agent = await rig.agent("docker1", containers={"web": "stopped"}).start()
    await rig.create()
    await rig.attach("docker1", "web")
    waiting = await rig.until_phase("docker1", "web/blue", WAITING)
    assert waiting.reason == "CONTAINER_NOT_RUNNING"
    agent.containers["web"] = "running"
    agent.converge()
    ready = await rig.until_phase("docker1", "web/blue", READY)
    assert ready.mac == waiting.mac


async def test_pushes_are_merged_and_a_slow_host_costs_nobody(rig: Rig) -> None:
    slow = await rig.agent("docker1", frozen=True).start()
    await rig.agent("docker2").start()
    await rig.create()
    await asyncio.gather(*(rig.attach("docker1", f"c{n}") for n in range(100)))
    await rig.attach("docker2", "web")
    await rig.until_phase("docker2", "web/blue", READY)
    await slow.until(lambda: slow.desired is not None and len(slow.desired.attachments) == 100)
    assert slow.pushes < 50, "changes that come together are pushed together"


async def test_host_that_does_not_answer_delays_only_its_own_question(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "INSPECT_SECONDS", 1.0)
    await rig.agent("docker1", frozen=True).start()
    await rig.agent("docker2", containers={"web": "running"}).start()
    await rig.create()
    asked = asyncio.create_task(rig.attach("docker1", "web", check_target=True))
    answered = await rig.attach("docker2", "web", check_target=True)
    assert not asked.done()
    assert list(answered.warnings) == []
    late = await asked
    assert any("did not answer" in warning for warning in late.warnings)


async def test_host_that_has_seen_more_than_the_store_renews_the_history(rig: Rig) -> None:
    """The store lost data. What the hosts have is not to be removed, whatever the store is at later."""
    lost = rig.app.replica.snapshot.epoch
    bystander = await rig.agent("docker2").start()
    agent = await rig.agent("docker1", epoch=lost, revision=999_999).start()
    renewed = rig.app.replica.snapshot.epoch
    assert renewed != lost
    for one in (agent, bystander):
        await one.until(lambda one=one: one.desired is not None and one.desired.epoch == renewed)  # type: ignore[misc]
    await rig.agent("docker3", epoch=lost, revision=999_999).start()
    assert rig.app.replica.snapshot.epoch == renewed, "once is enough"
    await rig.agent("docker4", epoch="another", revision=999_999).start()
    assert rig.app.replica.snapshot.epoch == renewed, "a history that is not the store's says nothing of it"


async def test_bug_in_taking_a_message_ends_the_session(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = await rig.agent("docker1").start()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(session, "observation_from_pb", broken)
    await rig.create()  # what it observes of this is not understood
    await agent.until(lambda: agent.error is not None)
    assert agent.error is not None
    assert from_rpc_error(agent.error).reason is Reason.INTERNAL


async def test_lost_lease_ends_all_sessions(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "SESSION_TTL", 1.0)
    async with running(memory) as rig:
        agents = [await rig.agent(f"docker{n}").start() for n in range(3)]
        memory.away = True
        for agent in agents:
            await agent.until(agent.ended)
            assert agent.error is not None
            assert from_rpc_error(agent.error).reason is Reason.STORE_UNAVAILABLE
        with refused(Reason.STORE_UNAVAILABLE):
            await agents[0].start()
        memory.away = False
        for agent in agents:
            await reopened(agent)
            await rig.until_host(agent.host, lambda seen: seen.host.connected)


async def reopened(agent: ScriptedAgent) -> None:
    """Try again until a session is opened, as an agent does."""
    for _ in range(100):
        try:
            await agent.start()
        except aio.AioRpcError as error:
            if not from_rpc_error(error).retryable:
                raise
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("no session")


async def test_store_that_went_back_ends_all_sessions(rig: Rig, memory: MemoryStore) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create()
    await agent.until(lambda: agent.revision > 3)
    snapshot = rig.app.replica.snapshot
    # What a restore of an old copy looks like to a follower: a listing at an older revision.
    rig.app.replica.follower._moved(snapshot.replace(Listing(2, (await memory.read("epoch")).entries)))
    await agent.until(lambda: agent.error is not None)
    assert agent.error is not None
    assert from_rpc_error(agent.error).reason is Reason.STORE_BEHIND


async def test_bug_in_one_turn_does_not_end_the_loop(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "PAUSE", 0.01)
    agent = await rig.agent("docker1").start()
    await rig.create()

    def broken(*_: object) -> None:
        rig.app.replica.follower.forget(broken)
        raise ZeroDivisionError

    rig.app.replica.follower.listen(broken)
    await rig.attach("docker1", "web")
    await rig.until_phase("docker1", "web/blue", READY)
    assert "web/blue" in agent.links


async def test_creating_many_at_once(rig: Rig) -> None:
    await asyncio.gather(*(rig.create(f"n{n}", f"20.0.{n}.0/24", vlan=n + 2) for n in range(40)))
    assert len({stored.value.number for stored in rig.app.replica.snapshot.networks.values()}) == 40
    await rig.lawful()


async def test_registering_many_at_once(rig: Rig) -> None:
    agents = [rig.agent(f"host{n}") for n in range(40)]
    await asyncio.gather(*(agent.start() for agent in agents))
    listed = await rig.hosts.ListHosts(host_pb2.ListHostsRequest(), timeout=SECONDS)
    assert len(listed.hosts) == 40
    assert len({host.number for host in listed.hosts}) == 40
    await rig.lawful()


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.make_ca(tmp_path / "pki")
    return tmp_path / "pki"


async def test_certificates_decide_who_may_do_what(memory: MemoryStore, authority: Path) -> None:
    cert, key = pki.issue(authority, "controller:c1", ["127.0.0.1", "localhost"])
    ca = authority / "ca.crt"
    async with running(memory, tls=TlsTable(ca, cert, key)) as rig:

        def dial(identity: str) -> aio.Channel:
            mine, secret = pki.issue(authority, identity, [])
            return channel(rig.endpoint, ClientTls(ca, mine, secret))

        async with dial("operator:ann") as operator, dial("host:docker1") as host:
            ping = fabric_pb2.PingRequest()
            answer = await fabric_pb2_grpc.FabricServiceStub(operator).Ping(ping, timeout=SECONDS)
            assert answer.replica == "c1"
            with refused(Reason.NOT_PERMITTED, "host:docker1"):
                await fabric_pb2_grpc.FabricServiceStub(host).Ping(ping, timeout=SECONDS)
            agent = await rig.agent("docker1", channel=host).start()
            assert agent.welcome is not None
            with refused(Reason.HOST_IDENTITY, "host:docker1", "docker2"):
                await rig.agent("docker2", channel=host).start()
            with refused(Reason.NOT_PERMITTED, "operator:ann"):
                await rig.agent("docker3", channel=operator).start()
            await agent.stop()
