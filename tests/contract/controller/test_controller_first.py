"""The way of one attachment, from nothing to READY and back, on each store."""

from __future__ import annotations

import pytest
from contract.controller.rig import READY, SECONDS, Rig

from trunkline.v1 import attachment_pb2, fabric_pb2, host_pb2, network_pb2


@pytest.fixture(params=["rig", "etcd_rig"])
def any_rig(request: pytest.FixtureRequest) -> Rig:
    rig: Rig = request.getfixturevalue(request.param)
    return rig


async def test_from_create_to_ready_and_gone(any_rig: Rig) -> None:
    rig = any_rig
    ping = await rig.fabric.Ping(fabric_pb2.PingRequest(protocol=1), timeout=SECONDS)
    assert (ping.replica, ping.protocol) == ("c1", 1)

    agent = await rig.agent("docker1").start()
    created = await rig.create("blue", "20.0.0.0/24", vlan=10)
    assert not created.existed
    assert created.network.spec.vlan == 10

    attached = await rig.attach("docker1", "web")
    assert attached.attachment.addresses == ["20.0.0.1/24"]
    assert list(attached.warnings) == []
    ready = await rig.until_phase("docker1", "web/blue", READY)
    assert agent.links["web/blue"].mac == ready.mac
    assert (ready.ifname, ready.connected) == ("tl0", True)
    await rig.until_network("blue", lambda seen: seen.network.phase == network_pb2.NETWORK_PHASE_READY)
    await rig.lawful()

    assert not (await rig.detach("docker1", "web/blue")).gone
    await rig.until_gone("docker1", "web/blue")
    assert agent.links == {}
    await rig.lawful()

    deleted = await rig.networks.DeleteNetwork(network_pb2.DeleteNetworkRequest(name="blue"), timeout=SECONDS)
    assert not deleted.gone
    await rig.until_network("blue", lambda seen: seen.gone)
    assert agent.networks == {}
    await rig.lawful()

    hosts = await rig.hosts.ListHosts(host_pb2.ListHostsRequest(), timeout=SECONDS)
    assert [(host.name, host.connected) for host in hosts.hosts] == [("docker1", True)]
    listed = await rig.attachments.ListAttachments(attachment_pb2.ListAttachmentsRequest(), timeout=SECONDS)
    assert list(listed.attachments) == []
