"""Addresses that are promised to owners: reserved, used, let go, taken back, listed."""

from __future__ import annotations

import asyncio

from contract.controller.rig import READY, SECONDS, Rig, refused, running

from controller.state import codec, keys
from controller.state.records import AddressKind, AddressRecord
from controller.state.txn import Put, Txn
from controller.store.memory import MemoryStore
from trunkline.errors import Reason
from trunkline.v1 import address_pb2, network_pb2


async def reserve(rig: Rig, owner: str, address: str = "", network: str = "blue") -> address_pb2.ReserveResponse:
    request = address_pb2.ReserveRequest(network=network, owner=owner, address=address)
    return await rig.addresses.Reserve(request, timeout=SECONDS)


async def release(rig: Rig, owner: str, network: str = "blue") -> list[str]:
    request = address_pb2.ReleaseRequest(network=network, owner=owner)
    return list((await rig.addresses.Release(request, timeout=SECONDS)).addresses)


async def listed(rig: Rig, **filters: str) -> list[tuple[str, str, bool]]:
    request = address_pb2.ListAddressesRequest(**filters)
    found = (await rig.addresses.ListAddresses(request, timeout=SECONDS)).holdings
    return [(one.address, one.kind, one.promised) for one in found]


async def put(rig: Rig, memory: MemoryStore, address: str, record: AddressRecord) -> None:
    done = await memory.commit(Txn((), (Put(keys.address("blue", address), codec.encode(record)),)))
    await rig.app.replica.follower.reached(done.revision)


async def none_docker(rig: Rig, name: str = "blue", cidr: str = "20.0.0.0/24", vlan: int = 10) -> None:
    """A network that hosts have no stock of: nothing happens on it but what the test asks for."""
    await rig.create(name, cidr, vlan, docker=network_pb2.DOCKER_MODE_NONE)


async def test_promised_used_let_go_and_taken_back(rig: Rig) -> None:
    await rig.agent("docker1").start()
    await none_docker(rig)
    made = await reserve(rig, "web")
    (one,) = made.holdings
    assert (one.address, one.kind, one.owner, one.promised, made.existed) == (
        "20.0.0.1",
        "reserved",
        "web",
        True,
        False,
    )
    assert (await reserve(rig, "web")).existed
    other = await rig.attach("docker1", "other")
    assert other.attachment.addresses == ["20.0.0.2/24"]
    web = await rig.attach("docker1", "web")
    assert web.attachment.addresses == ["20.0.0.1/24"]
    await rig.until_phase("docker1", "web/blue", READY)
    assert await listed(rig) == [("20.0.0.1", "attachment", True), ("20.0.0.2", "attachment", False)]
    await rig.detach("docker1", "web/blue")
    await rig.until_gone("docker1", "web/blue")
    assert (await listed(rig))[0] == ("20.0.0.1", "reserved", True)
    await rig.lawful()
    await rig.agent("docker2").start()
    again = await rig.attach("docker2", "web")
    assert again.attachment.addresses == ["20.0.0.1/24"], "a promise holds on any host"
    assert await release(rig, "web") == ["20.0.0.1"]
    assert await release(rig, "web") == []
    assert (await listed(rig))[0] == ("20.0.0.1", "attachment", False)
    await rig.lawful()


async def test_what_the_owner_keeps_becomes_the_promised_one(rig: Rig, memory: MemoryStore) -> None:
    # Of a host that is away, so that nothing but the promise changes what it keeps.
    agent = await rig.agent("docker1").start()
    await none_docker(rig)
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    await put(rig, memory, "20.0.0.9", AddressRecord(AddressKind.KEPT, "shop/db/1", "docker1"))
    (one,) = (await reserve(rig, "shop/db/1")).holdings
    assert (one.address, one.kind, one.host, one.promised) == ("20.0.0.9", "kept", "docker1", True)
    with refused(Reason.ADDRESS_TAKEN, "20.0.0.9", "shop/db/1", "docker1"):
        await reserve(rig, "other", "20.0.0.9")
    assert await release(rig, "20.0.0.9") == ["20.0.0.9"]
    assert await listed(rig, owner="shop/db/1") == [("20.0.0.9", "kept", False)]


async def test_a_rest_goes_on_after_a_promise(rig: Rig) -> None:
    await rig.agent("docker1").start()
    await none_docker(rig)
    await rig.attach("docker1", "web")
    await rig.until_phase("docker1", "web/blue", READY)
    await rig.detach("docker1", "web/blue")
    await rig.until_gone("docker1", "web/blue")
    assert await listed(rig, kind="resting") == [("20.0.0.1", "resting", False)]
    await reserve(rig, "web")
    assert await listed(rig) == [("20.0.0.1", "reserved", True)]
    await release(rig, "web")
    assert await listed(rig) == [("20.0.0.1", "resting", False)]
    await rig.lawful()


async def test_refusals_change_nothing(rig: Rig, memory: MemoryStore) -> None:
    await rig.agent("docker1").start()
    spec = network_pb2.Prefix(cidr="20.0.0.0/29", gateway="20.0.0.1", excludes=["20.0.0.6"])
    await rig.create("blue", prefixes=[spec], docker=network_pb2.DOCKER_MODE_NONE)
    await rig.attach("docker1", "web", addresses=["20.0.0.2"])
    await rig.until_phase("docker1", "web/blue", READY)
    await reserve(rig, "db", "20.0.0.3")
    before = (await memory.read("addresses/")).entries
    for reason, owner, address, mentions in (
        (Reason.ADDRESS_TAKEN, "other", "20.0.0.2", ("web/blue", "docker1")),
        (Reason.ADDRESS_TAKEN, "other", "20.0.0.3", ("db",)),
        (Reason.ADDRESS_OUTSIDE, "other", "30.0.0.1", ("20.0.0.0/29",)),
        (Reason.ADDRESS_RESERVED, "other", "20.0.0.1", ("gateway",)),
        (Reason.ADDRESS_RESERVED, "other", "20.0.0.6", ("excluded",)),
        (Reason.PROMISE_EXISTS, "db", "20.0.0.4", ("20.0.0.3", "trunkline address release blue db")),
        (Reason.INVALID_ARGUMENT, "", "", ("owner",)),
    ):
        with refused(reason, *mentions):
            await reserve(rig, owner, address)
    with refused(Reason.NETWORK_NOT_FOUND, "red", "blue"):
        await reserve(rig, "web", network="red")
    with refused(Reason.NETWORK_NOT_FOUND, "red"):
        await release(rig, "web", network="red")
    with refused(Reason.ADDRESS_OUTSIDE, "30.0.0.1"):
        await release(rig, "30.0.0.1")
    with refused(Reason.NETWORK_NOT_FOUND, "red"):
        await listed(rig, network="red")
    with refused(Reason.HOST_NOT_FOUND, "docker9"):
        await listed(rig, host="docker9")
    with refused(Reason.INVALID_ARGUMENT, "nonsense", "kept"):
        await listed(rig, kind="nonsense")
    assert (await memory.read("addresses/")).entries == before


async def test_two_replicas_promise_one_owner_one_address(rig: Rig, memory: MemoryStore) -> None:
    await none_docker(rig)
    async with running(memory, "c2") as other:
        for turn in range(5):
            made = await asyncio.gather(*(reserve(one, f"web{turn}") for one in (rig, other, rig, other)))
            assert len({answer.holdings[0].address for answer in made}) == 1
            assert sum(not answer.existed for answer in made) == 1
        assert len(await listed(other)) == 5


async def test_lists_are_filtered_and_in_order(rig: Rig, memory: MemoryStore) -> None:
    await rig.agent("docker1").start()
    await none_docker(rig)
    await none_docker(rig, "red", "20.0.1.0/24", 11)
    await put(rig, memory, "20.0.0.10", AddressRecord(AddressKind.RESERVED, "db"))
    await put(rig, memory, "20.0.0.9", AddressRecord(AddressKind.CONFLICT, "", holder="52:54:00:00:00:01"))
    await rig.attach("docker1", "web", "red")
    conflict, reserved, attached = (
        ("20.0.0.9", "conflict", False),
        ("20.0.0.10", "reserved", True),
        ("20.0.1.1", "attachment", False),
    )
    assert await listed(rig) == [conflict, reserved, attached]
    assert await listed(rig, network="blue") == [conflict, reserved]
    assert await listed(rig, host="docker1") == [attached]
    assert await listed(rig, owner="db") == [reserved]
    assert await listed(rig, kind="conflict", network="blue") == [conflict]
    assert await listed(rig, owner="nobody") == []
