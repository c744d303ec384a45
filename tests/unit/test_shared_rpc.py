"""Errors, deadlines and identities over real gRPC on the loopback."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from trunkline import log, pki, rpc, tls
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.v1 import fabric_pb2, fabric_pb2_grpc, host_pb2, host_pb2_grpc

Act = Callable[[Any], Awaitable[None]]


class Fabric(fabric_pb2_grpc.FabricServiceServicer):
    """Does in Ping what the test says."""

    def __init__(self, act: Act) -> None:
        self.act = act

    async def Ping(self, request: Any, context: Any) -> fabric_pb2.PingResponse:
        await self.act(context)
        return fabric_pb2.PingResponse(version="1", replica=tls.peer_identity(context))


class Hosts(host_pb2_grpc.HostServiceServicer):
    """Streams one host, then does what the test says."""

    def __init__(self, act: Act) -> None:
        self.act = act

    async def WatchHosts(self, request: Any, context: Any) -> AsyncIterator[host_pb2.WatchHostsResponse]:
        yield host_pb2.WatchHostsResponse(host=host_pb2.Host(name="docker1"))
        await self.act(context)


class Served:
    """One server on the loopback, one channel to it."""

    def __init__(self, act: Act, server_tls: tls.ServerTls | None = None) -> None:
        self.server = aio.server(interceptors=[rpc.ErrorInterceptor()], options=rpc.server_options())
        # What is left out here, grpc's base class answers with UNIMPLEMENTED.
        fabric_pb2_grpc.add_FabricServiceServicer_to_server(Fabric(act), self.server)  # type: ignore[abstract]
        host_pb2_grpc.add_HostServiceServicer_to_server(Hosts(act), self.server)  # type: ignore[abstract]
        if server_tls is None:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self.server.add_secure_port("127.0.0.1:0", server_tls.credentials())
        self.client_tls: tls.ClientTls | None = None

    async def __aenter__(self) -> Served:
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop(None)

    async def ping(self, timeout: float | None = 5) -> fabric_pb2.PingResponse:
        async with rpc.channel(f"127.0.0.1:{self.port}", self.client_tls) as channel:
            return await fabric_pb2_grpc.FabricServiceStub(channel).Ping(fabric_pb2.PingRequest(), timeout=timeout)

    async def failure(self, timeout: float | None = 5) -> TrunklineError:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.ping(timeout)
        return rpc.from_rpc_error(caught.value)


def raising(error: Exception) -> Act:
    async def act(_: Any) -> None:
        raise error

    return act


async def nothing(_: Any) -> None:
    pass


@pytest.mark.parametrize("reason", list(Reason))
async def test_every_reason_survives_the_wire(reason: Reason) -> None:
    sent = TrunklineError(reason, "nétwork 'x'\nis bad", "do this", network="x", host="docker1")
    async with Served(raising(sent)) as served:
        got = await served.failure()
    assert (got.reason, got.message, got.remedy, got.facts) == (reason, sent.message, "do this", sent.facts)


async def test_streams_carry_errors_after_what_was_sent() -> None:
    sent = Refusal(Reason.HOST_NOT_FOUND, "no host docker9", "trunkline host list")
    async with Served(raising(sent)) as served, rpc.channel(f"127.0.0.1:{served.port}", None) as channel:
        call = aiter(host_pb2_grpc.HostServiceStub(channel).WatchHosts(host_pb2.WatchHostsRequest()))
        assert (await anext(call)).host.name == "docker1"
        with pytest.raises(aio.AioRpcError) as caught:
            await anext(call)
    assert rpc.from_rpc_error(caught.value).reason is Reason.HOST_NOT_FOUND


async def test_long_errors_arrive_cut_and_whole_in_kind() -> None:
    sent = TrunklineError(
        Reason.POOL_EXHAUSTED, "ü" * 100_000, "y" * 100_000, **{f"k{i}": "z" * 5000 for i in range(99)}
    )
    async with Served(raising(sent)) as served:
        got = await served.failure()
    assert got.reason is Reason.POOL_EXHAUSTED
    assert got.message.startswith("üüü")
    assert got.remedy.startswith("yyy")


async def test_a_bug_is_logged_once_and_leaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", json=True)
    async with Served(raising(KeyError("secret-detail"))) as served:
        got = await served.failure()
    assert got.reason is Reason.INTERNAL
    assert "secret" not in got.text
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(e["level"], e["method"]) for e in lines] == [("error", "/trunkline.v1.FabricService/Ping")]
    assert "secret-detail" in lines[0]["exception"]


async def test_unary_call_without_deadline_is_refused() -> None:
    async with Served(nothing) as served:
        got = await served.failure(timeout=None)
    assert got.reason is Reason.INVALID_ARGUMENT
    assert "deadline" in got.message


async def test_deadline_passed_is_deadline() -> None:
    async def forever(_: Any) -> None:
        await asyncio.Event().wait()

    async with Served(forever) as served:
        assert (await served.failure(timeout=0.05)).reason is Reason.DEADLINE


async def test_nobody_there_is_controller_unreachable() -> None:
    served = Served(nothing)
    await served.__aenter__()
    await served.__aexit__()
    got = await served.failure()
    assert got.reason is Reason.CONTROLLER_UNREACHABLE
    assert got.remedy


async def test_error_of_a_forwarded_call_is_passed_on() -> None:
    inner = Served(
        raising(Refusal(Reason.CONTAINER_NOT_FOUND, "docker2 has no container 'web9'", "docker ps", host="docker2"))
    )

    async def forward(_: Any) -> None:
        await inner.ping()

    async with inner, Served(forward) as outer:
        got = await outer.failure()
    assert (got.reason, got.facts) == (Reason.CONTAINER_NOT_FOUND, {"host": "docker2"})


async def test_error_of_a_newer_server_falls_back_to_its_status() -> None:
    async def newer(context: Any) -> None:
        from google.rpc import error_details_pb2, status_pb2

        rich = status_pb2.Status(code=3, message="too purple")
        rich.details.add().Pack(error_details_pb2.ErrorInfo(reason="TOO_PURPLE", domain="trunkline"))
        metadata = (("grpc-status-details-bin", rich.SerializeToString()),)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too purple", metadata)

    async with Served(newer) as served:
        got = await served.failure()
    assert (got.reason, got.message, got.facts) == (Reason.INVALID_ARGUMENT, "too purple", {"reason": "TOO_PURPLE"})


async def test_broken_details_do_not_hide_the_status() -> None:
    async def broken(context: Any) -> None:
        metadata = (("grpc-status-details-bin", struct.pack("B", 255) * 7),)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone", metadata)

    async with Served(broken) as served:
        assert (await served.failure()).reason is Reason.CONTROLLER_UNREACHABLE


def test_blocking_channel_reads_the_same_errors() -> None:
    import threading

    ready, done = threading.Event(), threading.Event()
    port: list[int] = []

    async def serve() -> None:
        async with Served(
            raising(Refusal(Reason.NETWORK_NOT_FOUND, "no network x", "trunkline network list"))
        ) as served:
            port.append(served.port)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        with rpc.sync_channel(f"127.0.0.1:{port[0]}", None) as channel, pytest.raises(grpc.RpcError) as caught:
            fabric_pb2_grpc.FabricServiceStub(channel).Ping(fabric_pb2.PingRequest(), timeout=5)
    finally:
        done.set()
        thread.join()
    got = rpc.from_rpc_error(caught.value)
    assert (got.reason, got.remedy) == (Reason.NETWORK_NOT_FOUND, "trunkline network list")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    pki.make_ca(directory)
    pki.issue(directory, "controller:c1", ["127.0.0.1", "c1.example"])
    return directory


def server_files(directory: Path) -> tls.ServerTls:
    return tls.ServerTls(directory / "ca.crt", directory / "controller-c1.crt", directory / "controller-c1.key")


@pytest.mark.parametrize("identity", ["host:docker1", "operator:ann", "controller:c2"])
async def test_identity_is_what_the_certificate_names(authority: Path, identity: str) -> None:
    cert, key = pki.issue(authority, identity, [])
    async with Served(nothing, server_files(authority)) as served:
        served.client_tls = tls.ClientTls(authority / "ca.crt", cert, key)
        assert (await served.ping()).replica == identity


async def test_server_name_overrides_the_name_dialled(authority: Path) -> None:
    cert, key = pki.issue(authority, "operator:ann", [])
    async with Served(nothing, server_files(authority)) as served:
        served.client_tls = tls.ClientTls(authority / "ca.crt", cert, key, server_name="c1.example")
        assert (await served.ping()).replica == "operator:ann"
        served.client_tls = tls.ClientTls(authority / "ca.crt", cert, key, server_name="c9.example")
        assert (await served.failure()).reason is Reason.CONTROLLER_UNREACHABLE


async def test_strangers_are_cut_off(authority: Path, tmp_path: Path) -> None:
    pki.make_ca(tmp_path)
    cert, key = pki.issue(tmp_path, "operator:ann", [])
    async with Served(nothing, server_files(authority)) as served:
        served.client_tls = tls.ClientTls(authority / "ca.crt", cert, key)
        assert (await served.failure()).reason is Reason.CONTROLLER_UNREACHABLE
        served.client_tls = None
        assert (await served.failure()).reason is Reason.CONTROLLER_UNREACHABLE


async def test_certificate_without_identity_does_not_pass_for_a_local_caller(authority: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    ca, ca_key = pki._authority(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "host:docker1")])
    cert = pki._builder(name, ca.subject, key.public_key(), 1).sign(ca_key, hashes.SHA256())
    (authority / "bare.crt").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    pki._write_key(authority / "bare.key", key)
    async with Served(nothing, server_files(authority)) as served:
        served.client_tls = tls.ClientTls(authority / "ca.crt", authority / "bare.crt", authority / "bare.key")
        assert (await served.failure()).reason is Reason.IDENTITY_MISSING


async def test_plain_text_has_no_identity() -> None:
    async with Served(nothing) as served:
        assert (await served.ping()).replica == ""


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:7440", "[::1]:7440", "localhost:7440", "unix:/run/t.sock", "127.8.8.8:1"]
)
def test_plain_text_is_allowed_on_this_machine(endpoint: str) -> None:
    tls.check_plaintext(endpoint, insecure=False)


@pytest.mark.parametrize(
    "endpoint", ["10.0.0.1:7440", "0.0.0.0:7440", "[::]:7440", "c1:7440", "localhost.evil.org:1", ""]
)
def test_plain_text_elsewhere_is_refused_unless_asked_for(endpoint: str) -> None:
    with pytest.raises(Refusal) as caught:
        tls.check_plaintext(endpoint, insecure=False)
    assert caught.value.reason is Reason.CONFIG_INVALID
    tls.check_plaintext(endpoint, insecure=True)


def test_missing_tls_file_is_named(tmp_path: Path) -> None:
    files = tls.ClientTls(tmp_path / "ca.crt", tmp_path / "c.crt", tmp_path / "c.key")
    with pytest.raises(Refusal, match=r"ca\.crt"):
        files.credentials()
