"""The daemon as a process: configuration, ports in use, SIGTERM, kill -9."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from contract.controller.conftest import etcd_binary
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from trunkline.rpc import sync_channel
from trunkline.v1 import fabric_pb2, fabric_pb2_grpc, network_pb2, network_pb2_grpc

SECONDS = 30.0
SERVING = health_pb2.HealthCheckResponse.SERVING


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "controller", *map(str, arguments)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=SECONDS)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@contextmanager
def daemon(tmp_path: Path, *arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running controller with an etcd of its own, and where it listens."""
    config = written(
        tmp_path / "controller.toml",
        f'[controller]\nname = "c1"\nlisten = ["127.0.0.1:0"]\n'
        f'[store]\ndata_dir = "{tmp_path}/data"\netcd_binary = "{etcd_binary()}"\n',
    )
    process = subprocess.Popen(command("--config", config, *arguments), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        seen = ""
        for line in process.stderr:
            seen += line
            if found := re.search(r'"address": "(127\.0\.0\.1:\d+)"|address=(127\.0\.0\.1:\d+)', line):
                yield process, found[1] or found[2]
                break
        else:
            raise AssertionError(f"it never listened: {seen}")
    finally:
        process.kill()
        process.wait(SECONDS)
        if process.stderr is not None:
            process.stderr.close()


def create(channel: grpc.Channel, name: str, cidr: str, vlan: int) -> None:
    spec = network_pb2.NetworkSpec(name=name, vlan=vlan, prefixes=[network_pb2.Prefix(cidr=cidr)])
    request = network_pb2.CreateNetworkRequest(spec=spec)
    network_pb2_grpc.NetworkServiceStub(channel).CreateNetwork(request, timeout=SECONDS, wait_for_ready=True)


def names(channel: grpc.Channel) -> list[str]:
    request = network_pb2.ListNetworksRequest()
    listed = network_pb2_grpc.NetworkServiceStub(channel).ListNetworks(request, timeout=SECONDS, wait_for_ready=True)
    return [network.spec.name for network in listed.networks]


def test_bad_configuration_is_one_line(tmp_path: Path) -> None:
    path = written(tmp_path / "c.toml", '[controller]\nnam = "x"\n')
    done = run("--config", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "unknown key controller.nam" in done.stderr


def test_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        # An etcd that is not there: the port is looked at first, and what is not there is not waited for.
        done = run("--etcd", "127.0.0.1:9", "--listen", address, "--name", "c1")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert address in done.stderr
    assert "in use" in done.stderr


def test_unusable_etcd_is_one_line(tmp_path: Path) -> None:
    config = written(tmp_path / "c.toml", f'[store]\ndata_dir = "{tmp_path}"\netcd_binary = "/bin/false"\n')
    done = run("--config", config, "--name", "c1", "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "etcd" in done.stderr.splitlines()[-1]


def test_sigterm_ends_in_order_and_state_stays(tmp_path: Path) -> None:
    with daemon(tmp_path) as (process, address), sync_channel(address, None) as channel:
        create(channel, "blue", "20.0.0.0/24", 10)
        health = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        assert any(seen.status == SERVING for seen in watched)
        watched.cancel()
        for service in ("", "trunkline.v1.NetworkService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS)
            assert answer.status == SERVING
        watch = network_pb2_grpc.NetworkServiceStub(channel).WatchNetworks(
            network_pb2.WatchNetworksRequest(), timeout=SECONDS
        )
        assert next(watch).network.spec.name == "blue"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as ended:
            for _ in watch:
                pass
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert process.wait(SECONDS) == 0
    with daemon(tmp_path) as (_, address), sync_channel(address, None) as channel:
        assert names(channel) == ["blue"]


def test_kill_loses_nothing_acknowledged(tmp_path: Path) -> None:
    with daemon(tmp_path) as (process, address), sync_channel(address, None) as channel:
        create(channel, "blue", "20.0.0.0/24", 10)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(SECONDS)
    with daemon(tmp_path) as (_, address), sync_channel(address, None) as channel:
        assert names(channel) == ["blue"]


def test_unix_socket_and_reflection(tmp_path: Path) -> None:
    path = tmp_path / "controller.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # what a killed controller leaves
    listening = daemon(tmp_path, "--listen", "127.0.0.1:0", "--listen", f"unix:{path}")
    with listening, sync_channel(f"unix:{path}", None) as channel:
        answer = fabric_pb2_grpc.FabricServiceStub(channel).Ping(
            fabric_pb2.PingRequest(), timeout=SECONDS, wait_for_ready=True
        )
        assert answer.replica == "c1"
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        listed = next(stub.ServerReflectionInfo(asked, timeout=SECONDS))
        services = {one.name for one in listed.list_services_response.service}
        assert {"trunkline.v1.NetworkService", "trunkline.agent.v1.SessionService"} <= services
