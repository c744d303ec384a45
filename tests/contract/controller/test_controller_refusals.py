"""Bad input that the controller decides on: refused with its reason, the object and a remedy, nothing half-done."""

from __future__ import annotations

import pytest
from contract.controller.rig import SECONDS, Rig, refused

from controller.state import keys
from controller.state.txn import Put, Txn
from controller.store.memory import MemoryStore
from trunkline.errors import Reason
from trunkline.v1 import attachment_pb2, check_pb2, fabric_pb2, host_pb2, network_pb2

Prefix = network_pb2.Prefix


async def uplink(rig: Rig, first: int, last: int, label: str = "default") -> fabric_pb2.SetUplinkResponse:
    vlans = [fabric_pb2.VlanRange(first=first, last=last)]
    return await rig.fabric.SetUplink(fabric_pb2.SetUplinkRequest(label=label, vlans=vlans), timeout=SECONDS)


@pytest.mark.parametrize(
    ("reason", "mentions", "spec"),
    [
        (Reason.INVALID_NAME, "bad name", {"name": "bad name"}),
        (Reason.INVALID_NAME, "", {"name": ""}),
        (Reason.INVALID_PREFIX, "20.0.0.0/24", {"prefixes": [Prefix(cidr="20.0.0.1/24")]}),
        (Reason.INVALID_PREFIX, "nonsense", {"prefixes": [Prefix(cidr="nonsense")]}),
        (Reason.INVALID_GATEWAY, "20.0.1.1", {"prefixes": [Prefix(cidr="20.0.0.0/24", gateway="20.0.1.1")]}),
        (Reason.INVALID_RANGE, "30.0.0.1", {"prefixes": [Prefix(cidr="20.0.0.0/24", ranges=["30.0.0.1-30.0.0.9"])]}),
        (Reason.INVALID_VLAN, "4095", {"vlan": 4095}),
        (Reason.INVALID_MTU, "70000", {"mtu": 70_000}),
        (Reason.UPLINK_NOT_SET, "default", {"vlan_auto": True}),
    ],
)
async def test_network_that_cannot_be(rig: Rig, reason: Reason, mentions: str, spec: dict[str, object]) -> None:
    before = rig.app.replica.snapshot.revision
    with refused(reason, mentions):
        await rig.create(**spec)  # type: ignore[arg-type]
    listed = await rig.networks.ListNetworks(network_pb2.ListNetworksRequest(), timeout=SECONDS)
    assert list(listed.networks) == []
    assert rig.app.replica.snapshot.revision == before


async def test_networks_that_meet_others(rig: Rig) -> None:
    await rig.create("blue", "20.0.0.0/24", vlan=10)
    with refused(Reason.PREFIX_OVERLAP, "blue", "20.0.0.0/24"):
        await rig.create("red", "20.0.0.128/25", vlan=11)
    with refused(Reason.VLAN_TAKEN, "10", "blue"):
        await rig.create("red", "20.0.1.0/24", vlan=10)
    with refused(Reason.NETWORK_EXISTS, "blue"):
        await rig.create("blue", "20.0.0.0/24", vlan=12)
    await rig.lawful()


async def test_uplink_ranges(rig: Rig) -> None:
    with refused(Reason.INVALID_VLAN, "4095"):
        await uplink(rig, 100, 4095)
    set_to = await uplink(rig, 100, 101)
    assert [(one.first, one.last) for one in set_to.uplink.vlans] == [(100, 101)]
    await rig.create("a", "20.0.0.0/24", vlan_auto=True)
    await rig.create("b", "20.0.1.0/24", vlan_auto=True)
    with refused(Reason.VLAN_EXHAUSTED, "default", "100-101"):
        await rig.create("c", "20.0.2.0/24", vlan_auto=True)
    with refused(Reason.UPLINK_IN_USE, "101"):
        await uplink(rig, 100, 100)
    shown = await rig.fabric.ListUplinks(fabric_pb2.ListUplinksRequest(), timeout=SECONDS)
    assert [(one.label, one.set, list(one.vlans_in_use)) for one in shown.uplinks] == [("default", True, [100, 101])]


async def test_vlan_one_warns(rig: Rig) -> None:
    created = await rig.create("one", "20.0.0.0/24", vlan=1)
    assert any("VLAN 1" in warning for warning in created.warnings)


async def test_addresses_that_cannot_be_had(rig: Rig) -> None:
    await rig.agent("docker1").start()
    spec = Prefix(cidr="20.0.0.0/29", gateway="20.0.0.1", excludes=["20.0.0.6"])
    await rig.create("blue", prefixes=[spec], rest_seconds=300)
    await rig.attach("docker1", "web", addresses=["20.0.0.2"])
    with refused(Reason.ADDRESS_OUTSIDE, "30.0.0.1", "blue"):
        await rig.attach("docker1", "other", addresses=["30.0.0.1"])
    with refused(Reason.ADDRESS_OUTSIDE, "broadcast"):
        await rig.attach("docker1", "other", addresses=["20.0.0.7"])
    with refused(Reason.ADDRESS_TAKEN, "20.0.0.2", "web/blue", "docker1"):
        await rig.attach("docker1", "other", addresses=["20.0.0.2"])
    with refused(Reason.ADDRESS_RESERVED, "20.0.0.1", "gateway"):
        await rig.attach("docker1", "other", addresses=["20.0.0.1"])
    with refused(Reason.ADDRESS_RESERVED, "20.0.0.6", "excluded"):
        await rig.attach("docker1", "other", addresses=["20.0.0.6"])
    await rig.detach("docker1", "web/blue")
    await rig.until_gone("docker1", "web/blue")
    with refused(Reason.ADDRESS_RESTING, "20.0.0.2", "web"):
        await rig.attach("docker1", "other", addresses=["20.0.0.2"])
    with refused(Reason.INVALID_MAC, "03:00:00:00:00:01"):
        await rig.attach("docker1", "other", mac="03:00:00:00:00:01")
    await rig.lawful()


async def test_exhausted_pool_says_who_has_it(rig: Rig) -> None:
    await rig.agent("docker1").start()
    await rig.create("blue", "20.0.0.0/30")
    await rig.attach("docker1", "a")
    await rig.attach("docker1", "b")
    with refused(Reason.POOL_EXHAUSTED, "20.0.0.0/30", "2 addresses", "2 used (host docker1 2)", "0 resting"):
        await rig.attach("docker1", "c")
    await rig.lawful()


async def test_places_that_do_not_take_it(rig: Rig) -> None:
    await rig.create("blue", "20.0.0.0/24")
    with refused(Reason.HOST_NOT_FOUND, "nowhere"):
        await rig.attach("nowhere", "web")
    await rig.agent("docker1", uplink_mtu=1500, labels={"rack": "a"}).start()
    with refused(Reason.NETWORK_NOT_FOUND, "red", "blue"):
        await rig.attach("docker1", "web", "red")
    await rig.create("san", "20.0.1.0/24", vlan=11, uplink="storage")
    with refused(Reason.UPLINK_NOT_ON_HOST, "storage", "docker1"):
        await rig.attach("docker1", "web", "san")
    with refused(Reason.UPLINK_MTU, "9000", "1500", "docker1"):
        await rig.create("jumbo", "20.0.2.0/24", vlan=12, mtu=9000)
    await rig.create("elsewhere", "20.0.3.0/24", vlan=13, host_selector=["rack=b"])
    with refused(Reason.HOST_NOT_SELECTED, "rack=b", "docker1"):
        await rig.attach("docker1", "web", "elsewhere")
    await rig.hosts.DrainHost(host_pb2.DrainHostRequest(name="docker1"), timeout=SECONDS)
    with refused(Reason.HOST_DRAINED, "docker1"):
        await rig.attach("docker1", "web")
    await rig.hosts.DrainHost(host_pb2.DrainHostRequest(name="docker1", undo=True), timeout=SECONDS)
    await rig.attach("docker1", "web")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (None, Reason.CONTAINER_NOT_FOUND),
        ("stopped", Reason.CONTAINER_NOT_RUNNING),
        ("host", Reason.CONTAINER_HOST_NETWORK),
    ],
)
async def test_targets_that_the_host_refuses(rig: Rig, state: str | None, reason: Reason) -> None:
    agent = await rig.agent("docker1", containers={"web": state} if state else {}).start()
    await rig.create()
    with refused(reason, "web", "docker1"):
        await rig.attach("docker1", "web", check_target=True)
    listed = await rig.attachments.ListAttachments(attachment_pb2.ListAttachmentsRequest(), timeout=SECONDS)
    assert list(listed.attachments) == []
    agent.containers["web"] = "running"
    assert not (await rig.attach("docker1", "web", check_target=True)).existed
    await rig.lawful()


async def test_unreachable_host_is_a_warning(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create()
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    attached = await rig.attach("docker1", "web", check_target=True)
    assert any("no live session" in warning for warning in attached.warnings)
    assert not attached.attachment.connected


async def test_target_that_says_nothing(rig: Rig) -> None:
    spec = attachment_pb2.AttachmentSpec(host="docker1", network="blue")
    with refused(Reason.INVALID_ARGUMENT):
        await rig.attachments.Attach(attachment_pb2.AttachRequest(spec=spec), timeout=SECONDS)


async def test_things_that_are_not_there(rig: Rig) -> None:
    with refused(Reason.NETWORK_NOT_FOUND, "red"):
        await rig.networks.GetNetwork(network_pb2.GetNetworkRequest(name="red"), timeout=SECONDS)
    with refused(Reason.NETWORK_NOT_FOUND, "red"):
        await rig.networks.UpdateNetwork(network_pb2.UpdateNetworkRequest(name="red"), timeout=SECONDS)
    with refused(Reason.HOST_NOT_FOUND, "h"):
        await rig.hosts.GetHost(host_pb2.GetHostRequest(name="h"), timeout=SECONDS)
    with refused(Reason.HOST_NOT_FOUND, "h"):
        await rig.hosts.DrainHost(host_pb2.DrainHostRequest(name="h"), timeout=SECONDS)
    with refused(Reason.HOST_NOT_FOUND, "h"):
        await rig.hosts.ForgetHost(host_pb2.ForgetHostRequest(name="h"), timeout=SECONDS)
    with refused(Reason.ATTACHMENT_NOT_FOUND, "a", "h"):
        await rig.attachments.GetAttachment(attachment_pb2.GetAttachmentRequest(host="h", name="a"), timeout=SECONDS)
    with refused(Reason.NETWORK_NOT_FOUND, "red"):
        async for _ in rig.check.RunCheck(check_pb2.RunCheckRequest(networks=["red"]), timeout=SECONDS):
            pass
    assert (await rig.detach("h", "a")).gone
    deleted = await rig.networks.DeleteNetwork(network_pb2.DeleteNetworkRequest(name="red"), timeout=SECONDS)
    assert deleted.gone


async def test_what_never_changes(rig: Rig) -> None:
    await rig.create("blue", "20.0.0.0/24")
    await rig.agent("docker1").start()
    update = network_pb2.UpdateNetworkRequest(name="blue", prefixes=[network_pb2.PrefixUpdate(cidr="30.0.0.0/24")])
    with refused(Reason.IMMUTABLE, "30.0.0.0/24", "blue"):
        await rig.networks.UpdateNetwork(update, timeout=SECONDS)
    await rig.attach("docker1", "web")
    with refused(Reason.NETWORK_IN_USE, "blue", "docker1/web/blue"):
        await rig.networks.UpdateNetwork(network_pb2.UpdateNetworkRequest(name="blue", mtu=1400), timeout=SECONDS)
    with refused(Reason.NETWORK_IN_USE, "docker1/web/blue"):
        await rig.networks.DeleteNetwork(network_pb2.DeleteNetworkRequest(name="blue"), timeout=SECONDS)
    changed = await rig.networks.UpdateNetwork(
        network_pb2.UpdateNetworkRequest(name="blue", rest_seconds=7), timeout=SECONDS
    )
    assert (changed.network.spec.rest_seconds, changed.network.generation) == (7, 2)


async def test_protocol_and_deadline(rig: Rig) -> None:
    with refused(Reason.PROTOCOL_VERSION, "99"):
        await rig.fabric.Ping(fabric_pb2.PingRequest(protocol=99), timeout=SECONDS)
    with refused(Reason.INVALID_ARGUMENT, "deadline"):
        await rig.fabric.Ping(fabric_pb2.PingRequest())


async def test_corrupt_value_in_the_store(rig: Rig, memory: MemoryStore) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create("blue", "20.0.0.0/24")
    await rig.create("red", "20.0.1.0/24", vlan=11)
    await rig.attach("docker1", "web", "red")
    await rig.until_attachment("docker1", "web/red", lambda seen: seen.attachment.phase == 2)
    await memory.commit(Txn((), (Put(keys.network("red"), b"{not json"), Put("rubbish", b"\xff"))))
    await rig.app.replica.follower.reached(await memory.revision())
    with refused(Reason.STORE_CORRUPT, "networks/red"):
        await rig.attach("docker1", "other", "red")
    status = await rig.fabric.GetStatus(fabric_pb2.GetStatusRequest(), timeout=SECONDS)
    named = {problem.object for problem in status.problems if problem.reason == "STORE_CORRUPT"}
    assert {"networks/red", "rubbish"} <= named
    assert set(agent.links) == {"web/red"}, "a host keeps what cannot be read"
    await rig.create("green", "20.0.2.0/24", vlan=12, prefixes=[])
