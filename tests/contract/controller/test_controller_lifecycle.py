"""Detach, forget, delete, idempotency and watches."""

from __future__ import annotations

import asyncio

from contract.controller.rig import DETACHING, FAILED, READY, SECONDS, Rig, refused, running

from controller.state import keys
from controller.state.txn import Put, Txn, Unchanged
from controller.store.memory import MemoryStore
from trunkline.errors import Reason
from trunkline.v1 import address_pb2, attachment_pb2, host_pb2, network_pb2


async def who(rig: Rig, query: str) -> list[address_pb2.Holding]:
    return list((await rig.addresses.Who(address_pb2.WhoRequest(query=query), timeout=SECONDS)).holdings)


async def test_repeating_is_harmless(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    assert not (await rig.create()).existed
    assert (await rig.create()).existed
    first = await rig.attach("docker1", "web")
    again = await rig.attach("docker1", "web")
    assert (first.existed, again.existed) == (False, True)
    assert first.attachment.addresses == again.attachment.addresses
    together = await asyncio.gather(*(rig.attach("docker1", "db") for _ in range(20)))
    assert len({one.attachment.addresses[0] for one in together}) == 1
    assert sum(not one.existed for one in together) == 1
    with refused(Reason.ATTACHMENT_EXISTS, "web/blue", "tl7"):
        await rig.attach("docker1", "web", ifname="tl7")
    await rig.until_phase("docker1", "db/blue", READY)
    results = await asyncio.gather(*(rig.detach("docker1", "web/blue") for _ in range(5)))
    assert not all(one.gone for one in results)
    await rig.until_gone("docker1", "web/blue")
    assert (await rig.detach("docker1", "web/blue")).gone
    assert set(agent.links) == {"db/blue"}
    await rig.lawful()


async def test_address_rests_and_comes_back_to_its_owner(rig: Rig) -> None:
    await rig.agent("docker1").start()
    await rig.create(cidr="20.0.0.0/29")
    first = await rig.attach("docker1", "web")
    await rig.detach("docker1", "web/blue")
    await rig.until_gone("docker1", "web/blue")
    holdings = await who(rig, "20.0.0.1")
    assert [(one.kind, one.owner) for one in holdings] == [("resting", "web")]
    other = await rig.attach("docker1", "other")
    assert other.attachment.addresses != first.attachment.addresses
    again = await rig.attach("docker1", "web")
    assert (again.attachment.addresses, again.attachment.mac) == (first.attachment.addresses, first.attachment.mac)
    await rig.until_phase("docker1", "web/blue", READY)
    await rig.lawful()


async def test_unreachable_host_keeps_its_addresses(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create()
    await rig.attach("docker1", "web")
    await rig.until_phase("docker1", "web/blue", READY)
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    answer = await rig.detach("docker1", "web/blue")
    assert any("docker1" in warning for warning in answer.warnings)
    seen = await rig.until_phase("docker1", "web/blue", DETACHING)
    assert not seen.connected
    with refused(Reason.ADDRESS_TAKEN, "20.0.0.1", "docker1"):
        await rig.agent("docker2").start()
        await rig.attach("docker2", "thief", addresses=["20.0.0.1"])
    assert [one.kind for one in await who(rig, "20.0.0.1")] == ["attachment"]
    await agent.start()
    await rig.until_gone("docker1", "web/blue")
    assert agent.links == {}
    await rig.lawful()


async def test_incomplete_observation_frees_nothing(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create()
    await rig.attach("docker1", "web")
    await rig.until_phase("docker1", "web/blue", READY)
    agent.complete = False
    await rig.detach("docker1", "web/blue")
    await agent.until(lambda: agent.links == {})
    seen = await rig.until_phase("docker1", "web/blue", DETACHING)
    assert seen.spec.name == "web/blue"
    agent.complete = True
    agent.observe()
    await rig.until_gone("docker1", "web/blue")


async def test_failure_on_the_host_is_shown_and_heals(rig: Rig) -> None:
    agent = await rig.agent("docker1", failing={"web/blue": ("LINK_CLASH", "enp7s0.10 is not ours")}).start()
    await rig.create()
    await rig.attach("docker1", "web")
    failed = await rig.until_phase("docker1", "web/blue", FAILED)
    assert (failed.reason, failed.message) == ("LINK_CLASH", "enp7s0.10 is not ours")
    agent.failing.clear()
    agent.converge()
    healed = await rig.until_phase("docker1", "web/blue", READY)
    assert (healed.reason, healed.message) == ("", "")


async def test_forgetting_a_host(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create()
    for name in ("a", "b", "c"):
        await rig.attach("docker1", name)
    await rig.until_phase("docker1", "c/blue", READY)
    with refused(Reason.HOST_CONNECTED, "docker1"):
        await rig.hosts.ForgetHost(host_pb2.ForgetHostRequest(name="docker1"), timeout=SECONDS)
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    forgotten = await rig.hosts.ForgetHost(host_pb2.ForgetHostRequest(name="docker1"), timeout=SECONDS)
    assert list(forgotten.attachments) == ["docker1/a/blue", "docker1/b/blue", "docker1/c/blue"]
    assert forgotten.addresses == 3
    assert [one.kind for one in await who(rig, "20.0.0.2")] == ["resting"]
    await rig.lawful()
    await rig.agent("docker1", machine_id="another").start()
    await rig.attach("docker1", "a")


async def test_forgetting_goes_on_where_somebody_stopped(rig: Rig, memory: MemoryStore) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create()
    await rig.attach("docker1", "web")
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    key = keys.host("docker1")
    stored = rig.app.replica.snapshot.hosts["docker1"]
    entry = next(one for one in (await memory.read(key)).entries if one.key == key)
    marked = entry.value.replace(b'"forgetting":false', b'"forgetting":true')
    assert marked != entry.value
    # As if a replica had died right after it marked the host.
    await memory.commit(Txn((Unchanged(key, stored.mod_revision),), (Put(key, marked),)))
    await rig.until_host("docker1", lambda seen: seen.gone)
    await rig.lawful()


async def test_deleting_a_network_waits_for_its_hosts(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    away = await rig.agent("docker2").start()
    await rig.create()
    await rig.until_network("blue", lambda seen: seen.network.phase == network_pb2.NETWORK_PHASE_READY)
    await away.stop()
    await rig.until_host("docker2", lambda seen: not seen.host.connected)
    request = network_pb2.DeleteNetworkRequest(name="blue")
    assert not (await rig.networks.DeleteNetwork(request, timeout=SECONDS)).gone
    await agent.until(lambda: agent.networks == {})
    deleting = await rig.until_network("blue", lambda seen: {one.phase for one in seen.network.hosts} >= {"CLEAN"})
    assert deleting.network.phase == network_pb2.NETWORK_PHASE_DELETING
    with refused(Reason.NETWORK_DELETING, "blue"):
        await rig.attach("docker1", "web")
    with refused(Reason.VLAN_TAKEN, "10", "blue"):
        await rig.create("red", "20.0.9.0/24", vlan=10)
    await away.start()
    await rig.until_network("blue", lambda seen: seen.gone)
    await rig.create("blue", "20.0.0.0/24", vlan=10)
    await rig.lawful()


async def test_watch_shows_all_first_and_the_latest_always(rig: Rig) -> None:
    await rig.agent("docker1").start()
    await rig.create()
    for name in ("a", "b"):
        await rig.attach("docker1", name)
    call = rig.attachments.WatchAttachments(attachment_pb2.WatchAttachmentsRequest(network="blue"), timeout=SECONDS)
    latest: dict[str, int] = {}
    gone: set[str] = set()
    async for seen in call:
        name = seen.attachment.spec.name
        if seen.gone:
            gone.add(name)
            latest.pop(name, None)
        else:
            latest[name] = seen.attachment.phase
        if latest == {"a/blue": READY, "b/blue": READY}:
            await rig.attach("docker1", "c")
            await rig.detach("docker1", "a/blue")
        if gone == {"a/blue"} and latest == {"b/blue": READY, "c/blue": READY}:
            break
    else:
        raise AssertionError(f"{latest} {gone}")


async def test_watch_of_what_is_not_there_says_gone(rig: Rig) -> None:
    await rig.until_gone("docker1", "nothing")
    await rig.until_network("nothing", lambda seen: seen.gone and seen.network.spec.name == "nothing")
    await rig.until_host("nothing", lambda seen: seen.gone)


async def test_watch_shows_hosts_that_come_and_go(rig: Rig) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create()
    await rig.attach("docker1", "web")
    await rig.until_phase("docker1", "web/blue", READY)
    seen = asyncio.create_task(rig.until_attachment("docker1", "web/blue", lambda one: not one.attachment.connected))
    network = asyncio.create_task(
        rig.until_network("blue", lambda one: [host.connected for host in one.network.hosts] == [False])
    )
    await agent.stop()
    assert (await seen).attachment.phase == READY
    await network


async def test_batch_stands_and_falls_item_by_item(rig: Rig) -> None:
    await rig.agent("docker1").start()
    await rig.create(cidr="20.0.0.0/28")

    def spec(name: str, **fields: object) -> attachment_pb2.AttachmentSpec:
        target = attachment_pb2.Target(container=name)
        return attachment_pb2.AttachmentSpec(host="docker1", network="blue", target=target, **fields)  # type: ignore[arg-type]

    specs = [spec(f"c{n}") for n in range(16)] + [spec("c0"), spec("x", addresses=["30.0.0.1"])]
    specs.append(attachment_pb2.AttachmentSpec(host="docker1", network="blue"))
    answer = await rig.attachments.BatchAttach(attachment_pb2.BatchAttachRequest(specs=specs), timeout=SECONDS)
    outcomes = [one.refusal.reason or one.attachment.addresses[0] for one in answer.results]
    held = [outcome for outcome in outcomes[:16] if outcome.endswith("/28")]
    assert len(set(held)) == len(held) == 14
    assert outcomes[:16].count("POOL_EXHAUSTED") == 2
    assert outcomes[16] == outcomes[0]
    assert outcomes[17:] == ["ADDRESS_OUTSIDE", "INVALID_ARGUMENT"]
    await rig.lawful()


async def test_lists_and_who_cover_what_another_replica_acknowledged(rig: Rig, memory: MemoryStore) -> None:
    await rig.agent("docker1").start()
    await rig.create()
    async with running(memory, "c2") as other:
        for n in range(20):
            await rig.attach("docker1", f"c{n}")
            listed = await other.attachments.ListAttachments(
                attachment_pb2.ListAttachmentsRequest(host="docker1"), timeout=SECONDS
            )
            assert len(listed.attachments) == n + 1
        mine = (
            await rig.attachments.GetAttachment(
                attachment_pb2.GetAttachmentRequest(host="docker1", name="c7/blue"), timeout=SECONDS
            )
        ).attachment
        for query in ("20.0.0.8", mine.mac, "c7", "docker1/c7", "c7/blue"):
            assert [one.attachment for one in await who(other, query)] == ["c7/blue"], query
        assert await who(other, "20.0.0.200") == []
