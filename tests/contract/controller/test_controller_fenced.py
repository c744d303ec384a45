"""Two controllers of one name: the older one writes nothing more, says so, lets its hosts go, and ends."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from contract.controller.rig import READY, SECONDS, Rig, refused, running
from contract.controller.test_controller_store import NOT_SERVING, SERVING, until_health

from controller.store.etcd.embedded import EmbeddedEtcd
from controller.store.etcd.store import EtcdStore
from trunkline.errors import Reason
from trunkline.rpc import from_rpc_error, sync_channel
from trunkline.v1 import fabric_pb2, fabric_pb2_grpc, network_pb2, network_pb2_grpc


async def test_fenced_replica_lets_its_hosts_go(etcd: EmbeddedEtcd, etcd_rig: Rig) -> None:
    rig = etcd_rig
    agent = await rig.agent("docker1").start()
    await rig.create()
    await rig.attach("docker1", "web")
    await rig.until_phase("docker1", "web/blue", READY)
    await until_health(rig, SERVING)
    watch = rig.networks.WatchNetworks(network_pb2.WatchNetworksRequest(), timeout=SECONDS)
    await watch.read()
    store = EtcdStore(etcd.settings("c1"))
    async with running(store, "c1") as successor:
        # The successor's own work must not hide from the old one that its lanes were taken.
        error = await asyncio.wait_for(rig.app.replica.fenced(), SECONDS)
        assert error.reason is Reason.STORE_FENCED
        await until_health(rig, NOT_SERVING)
        await agent.until(agent.ended)
        assert agent.error is not None
        assert from_rpc_error(agent.error).reason is Reason.STORE_FENCED
        with refused(Reason.STORE_FENCED, "'c1'", "name of its own"):
            while True:
                await watch.read()
        with refused(Reason.STORE_FENCED, "'c1'", "name of its own"):
            await rig.attach("docker1", "late")
        agent.endpoint = successor.endpoint
        await agent.start()
        assert (await successor.attach("docker1", "web")).existed
        await successor.lawful()
    await store.close()


def configured(tmp_path: Path, etcd: EmbeddedEtcd) -> Path:
    """A configuration for replica c1 on that etcd."""
    settings = etcd.settings("c1")
    path = tmp_path / "controller.toml"
    path.write_text(
        f'[controller]\nname = "c1"\nlisten = ["127.0.0.1:0"]\n[store]\netcd = {list(settings.endpoints)!r}\n'
        f'[store.tls]\nca = "{settings.ca}"\ncert = "{settings.cert}"\nkey = "{settings.key}"\n'
    )
    return path


@contextmanager
def controller(config: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A controller process, and where it listens."""
    command = [sys.executable, "-m", "controller", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = None
        for line in process.stderr:
            if found := re.search(r"address=(127\.0\.0\.1:\d+)", line):
                break
        assert found is not None, "it never listened"
        yield process, found[1]
    finally:
        process.kill()
        process.wait(SECONDS)
        process.stderr.close()


def replica_of(address: str, wait: bool = True) -> str:
    """The name of the replica that follows the store there."""
    with sync_channel(address, None) as channel:
        listed = network_pb2_grpc.NetworkServiceStub(channel)
        listed.ListNetworks(network_pb2.ListNetworksRequest(), timeout=SECONDS, wait_for_ready=wait)
        ping = fabric_pb2_grpc.FabricServiceStub(channel).Ping
        return ping(fabric_pb2.PingRequest(), timeout=SECONDS).replica


async def test_fenced_process_ends_with_one_line(etcd: EmbeddedEtcd, tmp_path: Path) -> None:
    await asyncio.to_thread(fence_a_process, configured(tmp_path, etcd))


def fence_a_process(config: Path) -> None:
    with controller(config) as (old, first):
        assert replica_of(first) == "c1"
        with controller(config) as (new, second):
            assert old.wait(SECONDS) == 1
            assert old.stderr is not None
            left = old.stderr.read()
            assert "Traceback" not in left
            last = left.splitlines()[-1]
            assert last.startswith("trunkline-controller: another controller process took the name 'c1' over"), left
            assert "give each replica a name of its own" in last
            with pytest.raises(grpc.RpcError):
                replica_of(first, wait=False)
            assert replica_of(second) == "c1"
            new.send_signal(signal.SIGTERM)
            assert new.wait(SECONDS) == 0
