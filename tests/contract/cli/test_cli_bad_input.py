"""What an operator may get wrong, typed into the program: each refused with its reason, an exit status, the object, and
what to do next, and not one key of the store changed by it.

What a host refuses is in test_cli_bad_hosts.py; what keeps a daemon from running in tests/contract/controller
(test_controller_daemon.py, test_controller_fenced.py) and tests/unit (test_agent_config.py, test_agent_spool.py).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from contract.cli.terminal import Cli, Told, command, contents, refused
from contract.controller.rig import READY, SECONDS, Rig, running

from controller.state import codec, keys
from controller.state.records import AddressKind, AddressRecord
from controller.state.txn import Put, Txn
from controller.store.etcd.embedded import EmbeddedEtcd
from controller.store.etcd.store import EtcdStore
from controller.store.memory import MemoryStore
from trunkline.cli import connect
from trunkline.errors import Reason
from trunkline.v1 import network_pb2


@pytest.fixture
async def scene(rig: Rig, memory: MemoryStore) -> Rig:
    """docker1 with containers of every kind; networks blue, full (which is), san on an uplink that no host has, far
    on a host elsewhere; 20.0.0.2 in use, .3 resting, .4 reserved, .6 excluded."""
    states = {"web": "running", "db": "running", "/run/netns/box": "running", "stopped": "stopped", "hostnet": "host"}
    await rig.agent("docker1", containers=states).start()
    blue = network_pb2.Prefix(cidr="20.0.0.0/24", gateway="20.0.0.1", excludes=["20.0.0.6"])
    await rig.create("blue", prefixes=[blue])
    await rig.create("full", "20.0.1.0/30", vlan=11)
    await rig.create("san", "20.0.2.0/24", vlan=12, uplink="storage")
    await rig.create("far", "20.0.3.0/24", vlan=13, host_selector=["rack=b"])
    await rig.attach("docker1", "web", addresses=["20.0.0.2"])
    await rig.attach("docker1", "db", addresses=["20.0.0.3"])
    for name in ("web", "db"):
        await rig.attach("docker1", name, "full")
        await rig.until_phase("docker1", f"{name}/full", READY)
    await rig.detach("docker1", "db/blue")
    await rig.until_gone("docker1", "db/blue")
    reserved = codec.encode(AddressRecord(AddressKind.RESERVED, "the printer"))
    await put(rig, memory, keys.address("blue", "20.0.0.4"), reserved)
    return rig


async def put(rig: Rig, memory: MemoryStore, key: str, value: bytes) -> None:
    """Write into the store behind the controller's back."""
    done = await memory.commit(Txn((), (Put(key, value),)))
    await rig.app.replica.follower.reached(done.revision)


CREATE = ("network", "create", "new", "--vlan", "20")
WEB = ("attach", "docker1/web", "--network")
DB = ("attach", "docker1/db", "--network", "blue")

MATRIX: dict[str, tuple[tuple[str, ...], Reason, int, tuple[str, ...]]] = {
    # Malformed names.
    "network name": (("network", "create", "bad name", "--vlan", "20"), Reason.INVALID_NAME, 2, ("'bad name'",)),
    "network name too long": (("network", "create", "n" * 99, "--vlan", "20"), Reason.INVALID_NAME, 2, ("nnn",)),
    "host name": (("attach", "docker_1!/web", "--network", "blue"), Reason.INVALID_NAME, 2, ("'docker_1!'",)),
    "attachment name": ((*DB, "--name", "a b"), Reason.INVALID_NAME, 2, ("'a b'",)),
    "interface name": ((*DB, "--ifname", "x" * 20), Reason.INVALID_NAME, 2, ("x" * 20,)),
    "uplink label": (("uplink", "set", "bad label", "--vlans", "1-9"), Reason.INVALID_NAME, 2, ("'bad label'",)),
    # Prefixes, gateways, VLAN ids.
    "prefix with host bits": ((*CREATE, "--subnet", "30.0.0.1/24"), Reason.INVALID_PREFIX, 2, ("30.0.0.1/24",)),
    "prefix that is none": ((*CREATE, "--subnet", "30.0.0/24"), Reason.INVALID_PREFIX, 2, ("'30.0.0/24'",)),
    "gateway outside": (
        (*CREATE, "--subnet", "30.0.0.0/24", "--gateway", "30.0.1.1"),
        Reason.INVALID_GATEWAY,
        2,
        ("30.0.1.1", "30.0.0.0/24"),
    ),
    "range outside": (
        (*CREATE, "--subnet", "30.0.0.0/24", "--no-gateway", "--range", "31.0.0.0/28"),
        Reason.INVALID_RANGE,
        2,
        ("31.0.0.0/28", "30.0.0.0/24"),
    ),
    "VLAN 4095": (("network", "create", "new", "--no-ip", "--vlan", "4095"), Reason.INVALID_VLAN, 2, ("4095", "4094")),
    "VLAN 4095 in a range": (("uplink", "set", "default", "--vlans", "1-4095"), Reason.INVALID_VLAN, 2, ("4095",)),
    "VLAN taken": (("network", "create", "new", "--no-ip", "--vlan", "10"), Reason.VLAN_TAKEN, 4, ("VLAN 10", "blue")),
    "overlapping prefixes": (
        (*CREATE, "--subnet", "20.0.0.128/25", "--no-gateway"),
        Reason.PREFIX_OVERLAP,
        4,
        ("20.0.0.128/25", "20.0.0.0/24", "blue"),
    ),
    "automatic VLAN without a range": (
        ("network", "create", "new", "--no-ip", "--vlan", "auto"),
        Reason.UPLINK_NOT_SET,
        4,
        ("default",),
    ),
    "passthru": ((*CREATE, "--no-ip", "--mode", "passthru"), Reason.MODE_REFUSED, 2, ("passthru", "bridge")),
    "MTU above the uplink's": (
        (*CREATE, "--no-ip", "--mtu", "9000"),
        Reason.UPLINK_MTU,
        4,
        ("9000", "1500", "docker1"),
    ),
    "MTU that is none": ((*CREATE, "--no-ip", "--mtu", "70000"), Reason.INVALID_ARGUMENT, 2, ("70000",)),
    "the same name again": (
        ("network", "create", "blue", "--no-ip", "--vlan", "20"),
        Reason.NETWORK_EXISTS,
        4,
        ("blue", "10"),
    ),
    # Addresses.
    "exhausted pool": (
        ("attach", "docker1/netns:/run/netns/box", "--network", "full"),
        Reason.POOL_EXHAUSTED,
        5,
        ("20.0.1.0/30", "network full", "2 addresses", "2 used (host docker1 2)", "0 resting"),
    ),
    "address outside": ((*DB, "--ip", "30.0.0.7"), Reason.ADDRESS_OUTSIDE, 2, ("30.0.0.7", "blue", "20.0.0.0/24")),
    "address that is none": ((*DB, "--ip", "20.0.0.700"), Reason.INVALID_ARGUMENT, 2, ("20.0.0.700",)),
    "address taken": ((*DB, "--ip", "20.0.0.2"), Reason.ADDRESS_TAKEN, 4, ("20.0.0.2", "web/blue", "docker1")),
    "address resting": (
        ("attach", "docker1/netns:/run/netns/box", "--network", "blue", "--ip", "20.0.0.3"),
        Reason.ADDRESS_RESTING,
        4,
        ("20.0.0.3", "db", "docker1", "until"),
    ),
    "address reserved": ((*DB, "--ip", "20.0.0.4"), Reason.ADDRESS_RESERVED, 4, ("20.0.0.4", "the printer")),
    "address excluded": ((*DB, "--ip", "20.0.0.6"), Reason.ADDRESS_RESERVED, 4, ("20.0.0.6", "excluded")),
    "address of the gateway": ((*DB, "--ip", "20.0.0.1"), Reason.ADDRESS_RESERVED, 4, ("20.0.0.1", "gateway")),
    "broadcast address": ((*DB, "--ip", "20.0.0.255"), Reason.ADDRESS_OUTSIDE, 2, ("20.0.0.255", "broadcast")),
    "MAC that is none": ((*DB, "--mac", "03:00:00:00:00:01"), Reason.INVALID_MAC, 2, ("03:00:00:00:00:01",)),
    # Hosts and containers.
    "unknown host": (("attach", "docker9/web", "--network", "blue"), Reason.HOST_NOT_FOUND, 3, ("docker9", "docker1")),
    "unknown network": ((*WEB, "none-such"), Reason.NETWORK_NOT_FOUND, 3, ("none-such", "blue")),
    "host without that uplink": ((*WEB, "san"), Reason.UPLINK_NOT_ON_HOST, 4, ("storage", "docker1", "san")),
    "host not selected": ((*WEB, "far"), Reason.HOST_NOT_SELECTED, 4, ("far", "docker1", "rack=b")),
    "no such container": (
        ("attach", "docker1/ghost", "--network", "blue"),
        Reason.CONTAINER_NOT_FOUND,
        3,
        ("ghost", "docker1"),
    ),
    "stopped container": (
        ("attach", "docker1/stopped", "--network", "blue"),
        Reason.CONTAINER_NOT_RUNNING,
        4,
        ("stopped", "docker1"),
    ),
    "container on the host's network": (
        ("attach", "docker1/hostnet", "--network", "blue"),
        Reason.CONTAINER_HOST_NETWORK,
        4,
        ("hostnet", "docker1"),
    ),
    "attachment with another spec": (
        ("attach", "docker1/web", "--network", "blue", "--ip", "20.0.0.9"),
        Reason.ATTACHMENT_EXISTS,
        4,
        ("web/blue", "docker1", "20.0.0.9"),
    ),
    "host that is connected": (("host", "forget", "docker1", "--yes"), Reason.HOST_CONNECTED, 4, ("docker1",)),
    "network in use": (("network", "delete", "blue"), Reason.NETWORK_IN_USE, 4, ("blue", "docker1/web/blue")),
}


@pytest.mark.parametrize("wrong", MATRIX)
async def test_bad_input(scene: Rig, memory: MemoryStore, cli: Cli, wrong: str) -> None:
    words, reason, code, mentions = MATRIX[wrong]
    before = await contents(memory)
    refused(await cli(*words), reason, code, *mentions)
    assert await contents(memory) == before


@pytest.mark.parametrize("value", [b"{not json", b'{"schema":99}', b"", b"\xff\xfe"])
async def test_value_in_the_store_that_cannot_be_read(rig: Rig, memory: MemoryStore, cli: Cli, value: bytes) -> None:
    agent = await rig.agent("docker1", containers={"web": "running", "db": "running"}).start()
    await rig.create("blue")
    await rig.create("red", "20.0.1.0/24", vlan=11)
    await rig.attach("docker1", "web", "red")
    await rig.until_phase("docker1", "web/red", READY)
    await put(rig, memory, keys.network("red"), value)
    await put(rig, memory, "rubbish", value)
    before = await contents(memory)
    for words in (("attach", "docker1/db", "--network", "red"), ("network", "delete", "red")):
        refused(await cli(*words), Reason.STORE_CORRUPT, 1, "networks/red")
        assert await contents(memory) == before
    status = await cli("status")
    for key in ("networks/red", "rubbish"):
        assert key in status.out, status
    assert set(agent.links) == {"web/red"}, "a host keeps what cannot be read"


async def test_no_controller(cli: Cli) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        told = await cli("network", "list", controller=nobody)
    refused(told, Reason.CONTROLLER_UNREACHABLE, 6, nobody)
    assert "trunkline-controller" in told.part("next")


async def test_controller_of_another_protocol(rig: Rig, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "PROTOCOL", 99)
    refused(await cli("network", "create", "new", "--no-ip"), Reason.PROTOCOL_VERSION, 4, "99", rig.app.replica.name)


async def test_plain_text_to_another_machine(cli: Cli) -> None:
    refused(await cli("network", "list", controller="192.0.2.1:7440"), Reason.CONFIG_INVALID, 2, "192.0.2.1:7440")


@pytest.mark.parametrize(("text", "mentions"), [("controler = 'x'", "controler"), ("controllers = 7", "controllers")])
async def test_config_file(cli: Cli, tmp_path: Path, text: str, mentions: str) -> None:
    path = tmp_path / "trunkline" / "config.toml"
    path.parent.mkdir()
    path.write_text(text)
    refused(await cli("network", "list"), Reason.CONFIG_INVALID, 2, mentions, str(path))


async def test_store_that_does_not_answer(etcd: EmbeddedEtcd, capfd: pytest.CaptureFixture[str]) -> None:
    """What a frozen etcd was sent may be written when it thaws: all of it or nothing, and asking again does no harm."""
    store = EtcdStore(etcd.settings("c1"))
    async with running(store) as rig:
        await rig.create("blue")
        before = await store.read("")
        os.kill(etcd.pid, signal.SIGSTOP)
        try:
            told = await command(rig, capfd, "network", "create", "new", "--no-ip", "--vlan", "20")
        finally:
            os.kill(etcd.pid, signal.SIGCONT)
        refused(told, Reason.STORE_UNAVAILABLE, 6, "etcd", "trunkline status", "ask again")
        again = await command(rig, capfd, "network", "create", "new", "--no-ip", "--vlan", "20", "--no-wait")
        assert again.code == 0, again
        added = {entry.key for entry in (await store.read("")).entries} - {entry.key for entry in before.entries}
        assert added == {"networks/new", "numbers/2", "vlans/default/20"}
        await rig.lawful()
    await store.close()


def test_the_program_itself_says_so() -> None:
    """Once as a process of its own: the status is that of the process, and nothing is on standard output."""
    words = ["--controller", "127.0.0.1:9", "network", "create", "bad name", "--vlan", "20", "--no-ip"]
    done = subprocess.run(
        [sys.executable, "-c", "from trunkline.cli.main import main; main()", *words],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    refused(Told(done.returncode, done.stdout, done.stderr), Reason.INVALID_NAME, 2, "'bad name'")
    assert done.stderr.count("\n") == 3, "three lines, and no log among them"
