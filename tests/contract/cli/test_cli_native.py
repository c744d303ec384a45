"""What an operator does with networks that Docker uses: host access, promised addresses, and who has what."""

from __future__ import annotations

import json

import pytest
from contract.cli.terminal import Cli, contents, refused
from contract.controller.rig import READY, Rig

from controller.state import codec, keys
from controller.state.records import (
    AddressKind,
    AddressRecord,
    AttachmentRecord,
    AttachmentStatus,
    HostStatus,
    NetworkHostStatus,
)
from controller.state.txn import Put, Txn
from controller.store.memory import MemoryStore
from trunkline.errors import Reason
from trunkline.model import Event, Origin, Phase, Target, TargetKind
from trunkline.v1 import network_pb2

NONE = network_pb2.DOCKER_MODE_NONE


async def put(rig: Rig, memory: MemoryStore, **records: object) -> None:
    """Write records by key, behind the controller's back."""
    ops = tuple(Put(key, codec.encode(record)) for key, record in records.items())  # type: ignore[arg-type]
    done = await memory.commit(Txn((), ops))
    await rig.app.replica.follower.reached(done.revision)


@pytest.fixture
async def scene(rig: Rig, memory: MemoryStore) -> Rig:
    """blue with docker1, which is away, so that what it has stays as it is: web attached at .2, db made by Docker at .5
    and promised, .8 kept for cache, .9 in stock, .6 resting; .20 promised to printer; .1 gateway, .7 excluded."""
    agent = await rig.agent("docker1").start()
    spec = network_pb2.Prefix(cidr="20.0.0.0/24", gateway="20.0.0.1", excludes=["20.0.0.7"])
    await rig.create("blue", prefixes=[spec], docker=NONE)
    await rig.attach("docker1", "web", addresses=["20.0.0.2"])
    await rig.attach("docker1", "gone", addresses=["20.0.0.6"])
    await rig.until_phase("docker1", "gone/blue", READY)
    await rig.detach("docker1", "gone/blue")
    await rig.until_gone("docker1", "gone/blue")
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    target = Target(TargetKind.CONTAINER, "db")
    made = AttachmentRecord(
        "docker1", "db/blue", "blue", target, "02:01:14:00:00:05", "shop/db/1", ("20.0.0.5/24",), origin=Origin.DOCKER
    )
    status = AttachmentStatus(Phase.READY, addresses=("20.0.0.5/24",), present=True, observed_ms=1)
    used = AddressRecord(AddressKind.ATTACHMENT, "shop/db/1", "docker1", "db/blue", promised=True)
    await put(
        rig,
        memory,
        **{
            keys.attachment("docker1", "db/blue"): made,
            keys.attachment_status("docker1", "db/blue"): status,
            keys.address("blue", "20.0.0.5"): used,
            keys.address("blue", "20.0.0.8"): AddressRecord(AddressKind.KEPT, "cache", "docker1"),
            keys.address("blue", "20.0.0.9"): AddressRecord(AddressKind.STOCK, "", "docker1"),
            keys.address("blue", "20.0.0.20"): AddressRecord(AddressKind.RESERVED, "printer"),
        },
    )
    await rig.lawful()
    return rig


BLUE = ("network", "create", "blue", "--vlan", "10", "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1")
RESERVE = ("address", "reserve", "blue")

MATRIX: dict[str, tuple[tuple[str, ...], Reason, int, tuple[str, ...]]] = {
    "address in use": ((*RESERVE, "x", "--address", "20.0.0.2"), Reason.ADDRESS_TAKEN, 4, ("web/blue", "docker1")),
    "address kept": ((*RESERVE, "x", "--address", "20.0.0.8"), Reason.ADDRESS_TAKEN, 4, ("kept for cache", "docker1")),
    "address in stock": ((*RESERVE, "x", "--address", "20.0.0.9"), Reason.ADDRESS_TAKEN, 4, ("stock", "docker1")),
    "address of another promise": (
        (*RESERVE, "x", "--address", "20.0.0.20"),
        Reason.ADDRESS_TAKEN,
        4,
        ("printer", "trunkline address release blue 20.0.0.20"),
    ),
    "address resting": ((*RESERVE, "x", "--address", "20.0.0.6"), Reason.ADDRESS_RESTING, 4, ("gone", "until")),
    "address outside": (
        (*RESERVE, "x", "--address", "30.0.0.2"),
        Reason.ADDRESS_OUTSIDE,
        2,
        ("30.0.0.2", "20.0.0.0/24"),
    ),
    "broadcast address": ((*RESERVE, "x", "--address", "20.0.0.255"), Reason.ADDRESS_OUTSIDE, 2, ("broadcast",)),
    "gateway": ((*RESERVE, "x", "--address", "20.0.0.1"), Reason.ADDRESS_RESERVED, 4, ("20.0.0.1", "gateway")),
    "excluded": ((*RESERVE, "x", "--address", "20.0.0.7"), Reason.ADDRESS_RESERVED, 4, ("20.0.0.7", "excluded")),
    "no address": ((*RESERVE, "x", "--address", "20.0.0.700"), Reason.INVALID_ARGUMENT, 2, ("20.0.0.700",)),
    "another promise": (
        (*RESERVE, "printer", "--address", "20.0.0.21"),
        Reason.PROMISE_EXISTS,
        4,
        ("20.0.0.20", "trunkline address release blue printer"),
    ),
    "owner that is an address": ((*RESERVE, "20.0.0.30"), Reason.INVALID_ARGUMENT, 2, ("20.0.0.30",)),
    "owner that is empty": ((*RESERVE, ""), Reason.INVALID_ARGUMENT, 2, ("owner",)),
    "unknown network": (("address", "reserve", "red", "x"), Reason.NETWORK_NOT_FOUND, 3, ("red", "blue")),
    "release of an unknown network": (("address", "release", "red", "x"), Reason.NETWORK_NOT_FOUND, 3, ("red",)),
    "release outside": (("address", "release", "blue", "30.0.0.1"), Reason.ADDRESS_OUTSIDE, 2, ("30.0.0.1",)),
    "list of an unknown network": (("address", "list", "--network", "red"), Reason.NETWORK_NOT_FOUND, 3, ("red",)),
    "list of an unknown host": (("address", "list", "--host", "docker9"), Reason.HOST_NOT_FOUND, 3, ("docker9",)),
    "list of an unknown kind": (("address", "list", "--kind", "nice"), Reason.INVALID_ARGUMENT, 2, ("nice", "kept")),
    "docker mode": (
        ("network", "create", "new", "--vlan", "20", "--no-ip", "--docker", "global"),
        Reason.INVALID_ARGUMENT,
        2,
        ("global", "swarm"),
    ),
    "host access without addresses": (
        ("network", "create", "new", "--vlan", "20", "--no-ip", "--host-access"),
        Reason.INVALID_ARGUMENT,
        2,
        ("--host-access", "--no-ip"),
    ),
    "another docker mode": (
        (*BLUE, "--exclude", "20.0.0.7"),
        Reason.NETWORK_EXISTS,
        4,
        ("blue", "Docker none, asked for local"),
    ),
    "detach what Docker made": (
        ("detach", "docker1/db/blue"),
        Reason.NOT_DETACHABLE,
        4,
        ("db/blue", "docker network disconnect blue db", "docker1"),
    ),
}


@pytest.mark.parametrize("wrong", MATRIX)
async def test_bad_input(scene: Rig, memory: MemoryStore, cli: Cli, wrong: str) -> None:
    words, reason, code, mentions = MATRIX[wrong]
    before = await contents(memory)
    refused(await cli(*words), reason, code, *mentions)
    assert await contents(memory) == before


async def test_promise_list_and_take_back(scene: Rig, cli: Cli) -> None:
    made = await cli(*RESERVE, "mail", "--address", "20.0.0.30")
    assert (made.code, made.out) == (0, "20.0.0.30 of network blue promised to mail\n")
    assert (await cli(*RESERVE, "mail")).out == "20.0.0.30 of network blue was promised already to mail\n"
    used = await cli(*RESERVE, "web")
    assert used.out == "20.0.0.2 of network blue promised to web, in use on host docker1\n"
    data = json.loads((await cli(*RESERVE, "web", "-o", "json")).out)
    assert (data["existed"], data["addresses"][0]["address"], data["addresses"][0]["promised"]) == (
        True,
        "20.0.0.2",
        True,
    )
    assert (await cli(*RESERVE, "cache", "-o", "name")).out == "20.0.0.8\n"
    told = await cli("address", "list", "--network", "blue")
    rows = {line.split()[1]: " ".join(line.split()[2:]) for line in told.out.splitlines()[1:]}
    for address, words in (
        ("20.0.0.2", "away (was ready), promised docker1 web"),
        ("20.0.0.5", "away (was ready), promised docker1 shop/db/1"),
        ("20.0.0.6", "resting docker1 gone"),
        ("20.0.0.8", "away (was kept), promised docker1 cache"),
        ("20.0.0.9", "away (was in stock) docker1"),
        ("20.0.0.20", "promised printer"),
        ("20.0.0.30", "promised mail"),
    ):
        assert rows[address].startswith(words), rows
    kept = json.loads((await cli("address", "list", "--kind", "kept", "--owner", "cache", "-o", "json")).out)
    assert [(one["address"], one["kind"], one["promised"]) for one in kept] == [("20.0.0.8", "kept", True)]
    assert (await cli("address", "list", "--host", "docker1", "--kind", "conflict")).out == ""
    for who, address in (("mail", "20.0.0.30"), ("20.0.0.2", "20.0.0.2")):
        taken = await cli("address", "release", "blue", who)
        assert (taken.code, taken.out) == (0, f"{address} of network blue no longer promised\n")
    nothing = await cli("address", "release", "blue", "mail")
    assert (nothing.code, nothing.out) == (0, "")
    assert "nothing is promised to mail" in nothing.err
    assert json.loads((await cli("address", "release", "blue", "mail", "-o", "json")).out) == {"addresses": []}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("20.0.0.8", ("kept by host docker1", "gives it to cache", "(the host is away)")),
        ("20.0.0.9", ("in stock: host docker1",)),
        ("20.0.0.20", ("promised to printer", "nobody uses it now")),
        ("20.0.0.5", ("attachment, away (was ready); promised to shop/db/1", "docker1")),
        ("cache", ("kept by host docker1", "20.0.0.8")),
    ],
)
async def test_who_says_it_in_words(scene: Rig, cli: Cli, query: str, words: tuple[str, ...]) -> None:
    told = await cli("who", query)
    for word in words:
        assert word in told.out, told


async def test_attachments_say_who_made_them(scene: Rig, cli: Cli) -> None:
    told = await cli("attachment", "list")
    assert told.out.splitlines()[0].split()[-1] == "BY"
    by = {line.split()[1]: line.split()[-1] for line in told.out.splitlines()[1:]}
    assert by["db"] == "docker"
    assert by["web"] != "docker"
    shown = await cli("attachment", "show", "docker1/db/blue")
    assert "docker network disconnect blue" in shown.out
    data = json.loads((await cli("attachment", "show", "docker1/db", "-o", "json")).out)
    assert (data["origin"], data["owner"]) == ("docker", "shop/db/1")
    status = await cli("status")
    for word in ("1 made by Docker", "1 in the stock of hosts", "1 kept for their last owner", "2 promised"):
        assert word in status.out, status


async def test_lists_without_docker_have_no_column_for_it(rig: Rig, cli: Cli) -> None:
    await rig.agent("docker1").start()
    await rig.create(docker=NONE)
    await rig.attach("docker1", "web")
    assert "BY" not in (await cli("attachment", "list")).out.splitlines()[0].split()


async def test_detach_means_what_was_attached_where_docker_made_another(
    rig: Rig, memory: MemoryStore, cli: Cli
) -> None:
    agent = await rig.agent("docker1").start()
    await rig.create("blue", docker=NONE)
    await rig.create("red", "20.0.1.0/24", 11, docker=NONE)
    await rig.attach("docker1", "db", "red")
    await rig.until_phase("docker1", "db/red", READY)
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    target = Target(TargetKind.CONTAINER, "db")
    made = AttachmentRecord(
        "docker1", "db/blue", "blue", target, "02:01:14:00:00:05", "db", ("20.0.0.5/24",), origin=Origin.DOCKER
    )
    held = AddressRecord(AddressKind.ATTACHMENT, "db", "docker1", "db/blue")
    await put(rig, memory, **{keys.attachment("docker1", "db/blue"): made, keys.address("blue", "20.0.0.5"): held})
    told = await cli("detach", "docker1/db", "--no-wait")
    assert (told.code, told.out) == (0, "docker1/db/red is being detached\n")


async def test_host_access_from_beginning_to_end(rig: Rig, cli: Cli) -> None:
    agent = await rig.agent("docker1").start()
    made = await cli(*BLUE, "--docker", "none", "--host-access")
    assert made.code == 0, made
    assert set(agent.links) == {"host/blue"}, "it is waited for"
    listed = await cli("attachment", "list")
    assert "the host" in listed.out
    assert listed.out.splitlines()[1].split()[-1] == "host"
    shown = await cli("network", "show", "blue")
    assert "host access" in shown.out
    refused(await cli("detach", "docker1/host/blue"), Reason.NOT_DETACHABLE, 4, "docker1", "--no-host-access")
    off = await cli("network", "update", "blue", "--no-host-access")
    assert off.code == 0, off
    assert agent.links == {}, "and so is its end"
    assert (await cli("network", "update", "blue", "--no-host-access")).code == 0
    on = await cli("network", "update", "blue", "--host-access", "-o", "json")
    assert json.loads(on.out)["spec"]["host_access"] is True
    assert (await cli("network", "delete", "blue")).code == 0


async def test_network_shows_docker_and_stock(rig: Rig, memory: MemoryStore, cli: Cli) -> None:
    agent = await rig.agent("docker1").start()
    for words in ("web --vlan 10 --subnet 20.0.0.0/24 --no-gateway", "swarmed --vlan 11 --no-ip --docker swarm"):
        told = await cli("network", "create", *words.split())
        assert told.code == 0, told
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    status = NetworkHostStatus(Phase.READY, link="enp7s0.10", docker="FOREIGN", docker_message="rename or remove it")
    await put(
        rig,
        memory,
        **{
            keys.network_status("docker1", "web"): status,
            keys.address("web", "20.0.0.77"): AddressRecord(AddressKind.STOCK, "", "docker1"),
        },
    )
    shown = await cli("network", "show", "web")
    assert "a network of this name on each host" in shown.out
    assert "STOCK" in shown.out
    assert "was foreign" in shown.out
    assert "rename or remove it" in shown.out
    data = json.loads((await cli("network", "show", "web", "-o", "json")).out)
    assert (data["spec"]["docker"], data["hosts"][0]["docker"]) == ("local", "foreign")
    assert data["pools"][0]["stock"] >= 1
    assert "swarmed-config" in (await cli("network", "show", "swarmed")).out
    wide = (await cli("network", "list", "-o", "wide")).out
    assert "DOCKER" in wide
    assert "swarm" in wide


async def test_host_shows_what_happened_lately(rig: Rig, memory: MemoryStore, cli: Cli) -> None:
    agent = await rig.agent("docker1").start()
    await agent.stop()
    await rig.until_host("docker1", lambda seen: not seen.host.connected)
    events = tuple(Event(n, "network blue", f"event number {n}") for n in range(1, 13))
    await put(rig, memory, **{keys.host_status("docker1"): HostStatus(events=events)})
    shown = await cli("host", "show", "docker1")
    assert "WHAT HAPPENED" in shown.out
    assert [line.split()[-1] for line in shown.out.splitlines() if "event number" in line] == [
        str(n) for n in range(3, 13)
    ]
    data = json.loads((await cli("host", "show", "docker1", "-o", "json")).out)
    assert [one["at_ms"] for one in data["events"]] == list(range(1, 13))
