"""A real etcd under the controller: restart, outage, two replicas that race for the last addresses."""

from __future__ import annotations

import asyncio
import os
import signal

import grpc
from contract.controller.rig import READY, SECONDS, Rig, founded, refused, running
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controller.app import App
from controller.config import Config, ControllerTable
from controller.store.etcd.embedded import EmbeddedEtcd
from controller.store.etcd.store import EtcdStore
from trunkline.errors import Reason
from trunkline.rpc import channel, from_rpc_error
from trunkline.v1 import attachment_pb2, fabric_pb2, network_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def until_health(rig: Rig, wanted: int, seconds: float = 30.0) -> None:
    """Watch the health service until it says so."""
    stub = health_pb2_grpc.HealthStub(rig.channel)
    async for seen in stub.Watch(health_pb2.HealthCheckRequest(), timeout=seconds):
        if seen.status == wanted:
            return


async def test_restart_of_the_controller_keeps_all(etcd: EmbeddedEtcd) -> None:
    first = EtcdStore(etcd.settings("c1"))
    async with running(first) as rig:
        agent = await rig.agent("docker1").start()
        await rig.create()
        attached = (await rig.attach("docker1", "web")).attachment
        await rig.until_phase("docker1", "web/blue", READY)
        epoch = rig.app.replica.snapshot.epoch
    await first.close()
    second = EtcdStore(etcd.settings("c1"))
    async with running(second) as rig:
        assert rig.app.replica.snapshot.epoch == epoch
        agent.endpoint = rig.endpoint
        rig.agents.append(await agent.start())
        await agent.until(lambda: agent.desired is not None and len(agent.desired.attachments) == 1)
        again = await rig.attach("docker1", "web")
        assert again.existed
        assert again.attachment.addresses == attached.addresses
        await rig.until_phase("docker1", "web/blue", READY)
        await rig.lawful()
    await second.close()


async def test_outage_of_the_store(etcd: EmbeddedEtcd, etcd_rig: Rig) -> None:
    rig = etcd_rig
    agent = await rig.agent("docker1").start()
    await rig.create()
    await rig.attach("docker1", "web")
    await rig.until_phase("docker1", "web/blue", READY)
    await until_health(rig, SERVING)
    os.kill(etcd.pid, signal.SIGSTOP)
    try:
        with refused(Reason.STORE_UNAVAILABLE):
            await rig.attach("docker1", "late")
        await until_health(rig, NOT_SERVING)
        call = rig.networks.ListNetworks(network_pb2.ListNetworksRequest(), timeout=SECONDS)
        assert [one.spec.name for one in (await call).networks] == ["blue"], "reads go on from what is known"
        assert "trunkline-stale-seconds" in dict(await call.trailing_metadata())
        status = await rig.fabric.GetStatus(fabric_pb2.GetStatusRequest(), timeout=SECONDS)
        assert status.problems[0].reason == "STORE_UNAVAILABLE"
        assert not status.store[0].healthy
    finally:
        os.kill(etcd.pid, signal.SIGCONT)
    await until_health(rig, SERVING)
    await rig.app.replica.follower.reached(await rig.store.revision())
    assert agent.links, "nothing that runs is taken away"
    if agent.error is not None:
        await agent.start()
    await rig.attach("docker1", "late")
    await rig.until_phase("docker1", "late/blue", READY)
    await rig.lawful()


async def test_kill_of_etcd_loses_nothing_acknowledged(etcd: EmbeddedEtcd, etcd_rig: Rig) -> None:
    rig = etcd_rig
    await rig.agent("docker1").start()
    await rig.create(cidr="20.0.0.0/20")
    acknowledged: dict[str, str] = {}
    refusals: list[Reason] = []

    async def attaching(worker: int) -> None:
        for n in range(25):
            name = f"w{worker}-{n}"
            while name not in acknowledged:
                try:
                    answer = await rig.attach("docker1", name)
                    acknowledged[name] = answer.attachment.addresses[0]
                except grpc.RpcError as error:
                    refusals.append(from_rpc_error(error).reason)

    work = [asyncio.create_task(attaching(worker)) for worker in range(8)]
    while len(acknowledged) < 20:
        await asyncio.sleep(0)
    os.kill(etcd.pid, signal.SIGKILL)
    await asyncio.gather(*work)
    assert set(refusals) <= {Reason.STORE_UNAVAILABLE, Reason.DEADLINE}
    assert len(set(acknowledged.values())) == 200
    request = attachment_pb2.ListAttachmentsRequest(host="docker1")
    listed = await rig.attachments.ListAttachments(request, timeout=SECONDS)
    stored = {one.spec.target.container: one.addresses[0] for one in listed.attachments}
    assert stored == acknowledged
    await rig.lawful()


async def test_exactly_as_many_as_the_pool_has(etcd: EmbeddedEtcd) -> None:
    """200 requests at once over two replicas for a pool of 126: all 126 are given, none twice, 74 are refused."""
    stores = [EtcdStore(etcd.settings(name)) for name in ("c1", "c2")]
    async with running(stores[0], "c1") as one, running(stores[1], "c2") as two:
        await one.agent("docker1").start()
        await two.agent("docker2").start()
        await one.create(cidr="20.0.0.0/25")
        await two.app.replica.follower.reached(await stores[1].revision())

        async def attach(n: int) -> str:
            rig, host = ((one, "docker1"), (two, "docker2"))[n % 2]
            try:
                return (await rig.attach(host, f"c{n}")).attachment.addresses[0]
            except grpc.RpcError as error:
                return from_rpc_error(error).reason.name

        outcomes = await asyncio.gather(*(attach(n) for n in range(200)))
        given = [outcome for outcome in outcomes if outcome.endswith("/25")]
        assert len(given) == len(set(given)) == 126
        assert outcomes.count("POOL_EXHAUSTED") == 74
        await one.lawful()
        await two.lawful()
    for store in stores:
        await store.close()


async def test_start_while_the_store_is_away(etcd: EmbeddedEtcd) -> None:
    store = EtcdStore(etcd.settings("c1"))
    os.kill(etcd.pid, signal.SIGSTOP)
    stopped = True
    try:
        app = App(Config(controller=ControllerTable(name="c1", listen=("127.0.0.1:0",))), store)
        await app.start()
        try:
            async with channel(app.addresses[0], None) as dialled:
                rig = Rig(app, store, dialled)
                ping = await rig.fabric.Ping(fabric_pb2.PingRequest(), timeout=SECONDS)
                assert (ping.replica, ping.level) == ("c1", False)
                with refused(Reason.STORE_UNAVAILABLE, "not"):
                    await rig.networks.ListNetworks(network_pb2.ListNetworksRequest(), timeout=SECONDS)
                os.kill(etcd.pid, signal.SIGCONT)
                stopped = False
                async with asyncio.timeout(30):
                    await founded(app)
                await rig.create()
                assert (await rig.fabric.Ping(fabric_pb2.PingRequest(), timeout=SECONDS)).level
        finally:
            await app.stop()
    finally:
        if stopped:
            os.kill(etcd.pid, signal.SIGCONT)
        await store.close()
