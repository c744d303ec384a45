"""Hosts' own interfaces on networks with host access: they appear and disappear by what the network says."""

from __future__ import annotations

from contract.controller.rig import READY, SECONDS, Rig, refused, running

from controller.store.memory import MemoryStore
from trunkline.errors import Reason
from trunkline.v1 import attachment_pb2, host_pb2, network_pb2


async def update(rig: Rig, **fields: object) -> network_pb2.UpdateNetworkResponse:
    request = network_pb2.UpdateNetworkRequest(name="blue", **fields)  # type: ignore[arg-type]
    return await rig.networks.UpdateNetwork(request, timeout=SECONDS)


async def create(rig: Rig, **fields: object) -> None:
    await rig.create(docker=network_pb2.DOCKER_MODE_NONE, **fields)  # type: ignore[arg-type]


async def test_turned_on_and_off(rig: Rig) -> None:
    one, two = await rig.agent("docker1").start(), await rig.agent("docker2").start()
    await create(rig, host_access=True)
    given = {}
    for agent in (one, two):
        seen = await rig.until_phase(agent.host, "host/blue", READY)
        assert (seen.origin, seen.owner, seen.spec.network) == (attachment_pb2.ORIGIN_HOST, "host", "blue")
        assert agent.links["host/blue"].addresses == tuple(seen.addresses)
        given[agent.host] = list(seen.addresses)
    await rig.lawful()
    with refused(Reason.NOT_DETACHABLE, "host/blue", "docker1", "--no-host-access"):
        await rig.detach("docker1", "host/blue")
    await update(rig, host_access=False)
    for agent in (one, two):
        await rig.until_gone(agent.host, "host/blue")
        assert agent.links == {}
    await rig.lawful()
    await update(rig, host_access=True)
    for host, addresses in given.items():
        assert (await rig.until_phase(host, "host/blue", READY)).addresses == addresses


async def test_a_host_that_comes_later_has_it_and_a_drained_one_keeps_it(rig: Rig) -> None:
    await create(rig, host_access=True)
    await rig.agent("docker1").start()
    await rig.until_phase("docker1", "host/blue", READY)
    await rig.hosts.DrainHost(host_pb2.DrainHostRequest(name="docker1"), timeout=SECONDS)
    await rig.agent("docker2").start()
    await rig.until_phase("docker2", "host/blue", READY)
    await rig.until_phase("docker1", "host/blue", READY)
    await rig.lawful()


async def test_a_host_out_of_reach_keeps_its_address_until_it_was_seen(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    await create(rig, host_access=True)
    await rig.until_phase("docker1", "host/blue", READY)
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    await update(rig, host_access=False)
    seen = await rig.until_phase("docker1", "host/blue", attachment_pb2.ATTACHMENT_PHASE_DETACHING)
    assert not seen.connected
    await agent.start()
    await rig.until_gone("docker1", "host/blue")


async def test_a_host_that_is_no_longer_selected(rig: Rig) -> None:
    await rig.agent("docker1").start()
    await rig.agent("docker2").start()
    await create(rig, host_access=True)
    for host in ("docker1", "docker2"):
        await rig.until_phase(host, "host/blue", READY)
    changed = await update(rig, host_selector=["docker1"], set_host_selector=True)
    assert list(changed.warnings) == []
    await rig.until_gone("docker2", "host/blue")
    await rig.until_phase("docker1", "host/blue", READY)
    await rig.lawful()


async def test_it_keeps_no_network_from_being_deleted(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    await create(rig, host_access=True)
    await rig.until_phase("docker1", "host/blue", READY)
    await rig.attach("docker1", "web")
    await rig.until_phase("docker1", "web/blue", READY)
    with refused(Reason.NETWORK_IN_USE, "docker1/web/blue"):
        await rig.networks.DeleteNetwork(network_pb2.DeleteNetworkRequest(name="blue"), timeout=SECONDS)
    await rig.detach("docker1", "web/blue")
    await rig.until_gone("docker1", "web/blue")
    await rig.networks.DeleteNetwork(network_pb2.DeleteNetworkRequest(name="blue"), timeout=SECONDS)
    await rig.until_network("blue", lambda seen: seen.gone)
    assert agent.links == {}
    await rig.lawful()


async def test_a_host_that_was_forgotten_gets_it_anew(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    await create(rig, host_access=True)
    await rig.until_phase("docker1", "host/blue", READY)
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    forgotten = await rig.hosts.ForgetHost(host_pb2.ForgetHostRequest(name="docker1"), timeout=SECONDS)
    assert list(forgotten.attachments) == ["docker1/host/blue"]
    await rig.agent("docker1", machine_id="another").start()
    await rig.until_phase("docker1", "host/blue", READY)
    await rig.lawful()


async def test_several_replicas_give_it_once(rig: Rig, memory: MemoryStore) -> None:
    async with running(memory, "c2") as other, running(memory, "c3") as third:
        agents = [await at.agent(f"docker{n}").start() for n, at in enumerate((rig, other, third, rig, other, third))]
        await create(other, host_access=True)
        for agent in agents:
            await third.until_phase(agent.host, "host/blue", READY)
        found = await rig.attachments.ListAttachments(attachment_pb2.ListAttachmentsRequest(), timeout=SECONDS)
        assert len(found.attachments) == len({one.addresses[0] for one in found.attachments}) == 6
        await rig.lawful()


async def test_networks_say_what_docker_makes_of_them(rig: Rig) -> None:
    plain = await rig.create("plain", "20.0.1.0/24", 11)
    assert (plain.network.spec.docker, plain.network.spec.host_access) == (network_pb2.DOCKER_MODE_LOCAL, False)
    swarm = await rig.create("swarm", "20.0.2.0/24", 12, docker=network_pb2.DOCKER_MODE_SWARM)
    assert swarm.network.spec.docker == network_pb2.DOCKER_MODE_SWARM
    assert (await rig.create("swarm", "20.0.2.0/24", 12, docker=network_pb2.DOCKER_MODE_SWARM)).existed
    with refused(Reason.NETWORK_EXISTS, "Docker swarm, asked for local"):
        await rig.create("swarm", "20.0.2.0/24", 12)
    with refused(Reason.NETWORK_EXISTS, "host access"):
        await rig.create("plain", "20.0.1.0/24", 11, host_access=True)
    with refused(Reason.INVALID_ARGUMENT, "17"):
        await rig.create("odd", "20.0.3.0/24", 13, docker=17)
    with refused(Reason.INVALID_ARGUMENT, "wire", "--host-access"):
        await rig.create("wire", "", 14, host_access=True)
