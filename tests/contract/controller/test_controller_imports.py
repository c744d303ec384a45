"""Importing and exchanging hand-made Docker networks, with scripted hosts."""

from __future__ import annotations

import asyncio

import pytest
from contract.controller.rig import SECONDS, Rig, refused
from fakes.handmade_host import NAME, Host

from controller.api import imports as imports_api
from controller.state.records import AddressKind
from trunkline.errors import Reason
from trunkline.ids import parse_address
from trunkline.model import Origin
from trunkline.v1 import network_pb2


async def hosts(rig: Rig, *given: Host) -> None:
    for host in given:
        rig.agents.append(host)
        await host.start()


def docker1(rig: Rig, **fields: object) -> Host:
    return Host(rig.endpoint, "docker1", running={"web": "20.0.0.11"}, **fields)  # type: ignore[arg-type]


def docker2(rig: Rig, **fields: object) -> Host:
    base: dict[str, object] = {"running": {"db": "20.0.0.12"}, "stopped": {"old": "20.0.0.13"}}
    return Host(rig.endpoint, "docker2", **(base | fields))  # type: ignore[arg-type]


async def preview(rig: Rig) -> network_pb2.PreviewImportResponse:
    return await rig.networks.PreviewImport(network_pb2.PreviewImportRequest(name=NAME), timeout=SECONDS)


async def import_(rig: Rig) -> network_pb2.ImportNetworkResponse:
    return await rig.networks.ImportNetwork(network_pb2.ImportNetworkRequest(name=NAME), timeout=SECONDS)


async def exchange(rig: Rig, *names: str) -> list[network_pb2.ReplaceNetworkResponse]:
    request = network_pb2.ReplaceNetworkRequest(name=NAME, hosts=names)
    return [step async for step in rig.networks.ReplaceNetwork(request, timeout=SECONDS)]


async def test_a_preview_writes_nothing(rig: Rig) -> None:
    await hosts(rig, docker1(rig), docker2(rig))
    seen = await preview(rig)
    assert list(seen.refusals) == []
    assert [(one.host, one.vlan) for one in seen.networks] == [("docker1", 10), ("docker2", 10)]
    told = [(one.host, one.container, list(one.addresses), one.running) for one in seen.endpoints]
    assert told == [
        ("docker1", "web", ["20.0.0.11/24"], True),
        ("docker2", "db", ["20.0.0.12/24"], True),
        ("docker2", "old", ["20.0.0.13/24"], False),
    ]
    assert (seen.spec.name, seen.spec.vlan, seen.spec.prefixes[0].gateway) == (NAME, 10, "20.0.0.1")
    assert not rig.app.replica.snapshot.networks
    assert not rig.app.replica.snapshot.addresses


async def test_an_import_claims_what_containers_have_and_keeps_it(rig: Rig) -> None:
    one, two = docker1(rig), docker2(rig)
    await hosts(rig, one, two)
    answer = await import_(rig)
    assert answer.network.imported
    assert len(answer.endpoints) == 3
    await rig.lawful()
    # Both hosts were told, have observed, and were believed.
    for host in (one, two):
        await host.until(lambda host=host: NAME in host.networks)  # type: ignore[misc]
    await rig.until_network(NAME, lambda seen: [h.phase for h in seen.network.hosts] == ["READY", "READY"])
    held = rig.app.replica.snapshot.addresses[NAME]
    kinds = {address: held[parse_address(address)].value for address in ("20.0.0.11", "20.0.0.12", "20.0.0.13")}
    assert {address: (one.kind, one.host) for address, one in kinds.items()} == {
        "20.0.0.11": (AddressKind.ATTACHMENT, "docker1"),
        "20.0.0.12": (AddressKind.ATTACHMENT, "docker2"),
        "20.0.0.13": (AddressKind.RESERVED, ""),
    }
    attachments = rig.app.replica.snapshot.attachments["docker1"]
    assert attachments[f"web/{NAME}"].value.origin is Origin.DOCKER
    with refused(Reason.ADDRESS_TAKEN, "20.0.0.11", "docker1"):
        await rig.attach("docker2", "new", NAME, addresses=["20.0.0.11"])
    given = await rig.attach("docker2", "new", NAME)
    assert given.attachment.addresses[0].partition("/")[0] not in kinds
    await rig.lawful()


async def test_an_import_that_is_refused_says_why_and_writes_nothing(rig: Rig) -> None:
    await hosts(rig, docker1(rig), docker2(rig, running={"db": "20.0.0.11"}))
    with refused(Reason.IMPORT_REFUSED, "20.0.0.11", "web on docker1", "db on docker2"):
        await import_(rig)
    assert not rig.app.replica.snapshot.networks
    assert not rig.app.replica.snapshot.addresses


async def test_hosts_that_differ_are_refused(rig: Rig) -> None:
    await hosts(rig, docker1(rig), docker2(rig, vlan=11))
    with refused(Reason.IMPORT_REFUSED, "differ in VLAN", "10 on docker1", "11 on docker2"):
        await import_(rig)


async def test_hosts_that_cannot_be_heard_are_named(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports_api, "SURVEY_SECONDS", 0.3)
    away = Host(rig.endpoint, "docker3")
    dockerless = Host(rig.endpoint, "docker4", problem=("DOCKER_UNAVAILABLE", "no Docker answers"))
    await hosts(rig, docker1(rig), docker2(rig, mute=True), away, dockerless)
    await away.stop()
    rig.agents.remove(away)
    await rig.until_host("docker3", lambda seen: not seen.host.connected)
    warnings = " | ".join((await preview(rig)).warnings)
    for name, why in (("docker2", "did not answer"), ("docker3", "no live session"), ("docker4", "no Docker answers")):
        assert f"host {name} was not heard" in warnings
        assert why in warnings


async def test_a_session_that_ends_ends_the_wait(rig: Rig) -> None:
    mute = docker1(rig, mute=True)
    await hosts(rig, mute)
    asked = asyncio.create_task(preview(rig))
    await mute.until(lambda: mute.asked)
    await mute.stop()
    rig.agents.remove(mute)
    seen = await asked
    assert any("docker1 was not heard" in warning for warning in seen.warnings)


async def test_hosts_are_exchanged_one_after_the_other(rig: Rig) -> None:
    one, two = docker1(rig), docker2(rig)
    await hosts(rig, one, two)
    await import_(rig)
    steps = await exchange(rig)
    assert [(step.host, step.container, step.off_ms, step.done) for step in steps] == [
        ("docker1", "web", 250, False),
        ("docker1", "", 0, True),
        ("docker2", "db", 250, False),
        ("docker2", "", 0, True),
    ]


async def test_the_first_host_that_fails_ends_it_and_repeating_goes_on(rig: Rig) -> None:
    one, two = docker1(rig, failing_exchange="DOCKER_NETWORK_FAILED"), docker2(rig)
    await hosts(rig, one, two)
    await import_(rig)
    with refused(Reason.DOCKER_NETWORK_FAILED, "docker1", "every container is connected", "--replace"):
        await exchange(rig)
    assert two.exchanges == 0
    one.failing_exchange = ""
    steps = await exchange(rig, "docker2", "docker1")
    assert [step.host for step in steps if step.done] == ["docker2", "docker1"]


async def test_an_exchange_needs_an_import_and_hosts_that_are_there(rig: Rig) -> None:
    one, two = docker1(rig), docker2(rig)
    await hosts(rig, one, two)
    with refused(Reason.NETWORK_NOT_FOUND, NAME):
        await exchange(rig)
    await rig.create("other", "30.0.0.0/24", vlan=30)
    request = network_pb2.ReplaceNetworkRequest(name="other")
    with refused(Reason.IMPORT_REFUSED, "other", "was not imported"):
        [step async for step in rig.networks.ReplaceNetwork(request, timeout=SECONDS)]
    await import_(rig)
    with refused(Reason.HOST_NOT_FOUND, "nowhere"):
        await exchange(rig, "nowhere")
    await two.stop()
    rig.agents.remove(two)
    await rig.until_host("docker2", lambda seen: not seen.host.connected)
    with refused(Reason.HOST_UNREACHABLE, "docker2"):
        await exchange(rig, "docker2")
    steps = await exchange(rig)
    assert [(step.host, step.done) for step in steps][-2:] == [("docker1", True), ("docker2", False)]
    assert "left out" in steps[-1].message


async def test_an_address_that_another_host_was_given_is_not_made_to_last(rig: Rig) -> None:
    one, two = docker1(rig), docker2(rig)
    await hosts(rig, one, two)
    await import_(rig)
    given = await rig.attach("docker1", "new", NAME)
    # Docker on the old network hands out by itself.
    two.running["late"] = given.attachment.addresses[0].partition("/")[0]
    with refused(Reason.ADDRESS_DUPLICATE, "late on docker2", "docker1/new", two.running["late"]):
        await exchange(rig, "docker2")
    assert two.exchanges == 0
