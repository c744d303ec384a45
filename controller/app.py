"""The composition root: builds one replica, owns the order of start and stop."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from grpc import aio
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from controller.api.addresses import AddressApi
from controller.api.attachments import AttachmentApi
from controller.api.authz import MAY_CALL, AuthzInterceptor
from controller.api.check import CheckApi
from controller.api.directory import DirectoryApi
from controller.api.fabric import FabricApi
from controller.api.grants import GrantApi
from controller.api.hosts import HostApi
from controller.api.networks import NetworkApi
from controller.api.session import SessionApi
from controller.config import Config
from controller.reconcile import growth
from controller.reconcile.replica import Replica
from controller.store.etcd.channel import EtcdSettings
from controller.store.etcd.embedded import EmbeddedEtcd
from controller.store.etcd.store import EtcdStore
from controller.store.port import Store
from trunkline import log
from trunkline.agent.v1 import address_pb2_grpc as grants_pb2_grpc
from trunkline.agent.v1 import directory_pb2_grpc, session_pb2_grpc
from trunkline.clock import Clock, SystemClock
from trunkline.errors import Reason, TrunklineError
from trunkline.rpc import ErrorInterceptor, server_options
from trunkline.v1 import (
    address_pb2_grpc,
    attachment_pb2_grpc,
    check_pb2_grpc,
    fabric_pb2_grpc,
    host_pb2_grpc,
    network_pb2_grpc,
)

GRACE = 2.0
"""Seconds that calls under way get to end when the controller stops."""

LANES = 2
"""Transactions to etcd that may be under way at the same time."""

HEALTH_SECONDS = 0.1
"""How often the health service looks whether the store is followed."""

_log = log.get("controller")


class App:
    """One controller process around a store, which it does not own."""

    def __init__(self, config: Config, store: Store, clock: Clock | None = None) -> None:
        self._config = config
        self.replica = Replica(config.name, store, clock or SystemClock(), lambda: secrets.token_hex(8))
        self._health = grpc_health.aio.HealthServicer()
        self._server: aio.Server | None = None
        self._watching: asyncio.Task[None] | None = None
        self.addresses: list[str] = []
        """Where it listens, with the ports that were chosen."""

    async def start(self) -> None:
        """Listen and begin to follow the store. Raises LISTEN_FAILED naming the address that cannot be had."""
        interceptors: Sequence[aio.ServerInterceptor] = [ErrorInterceptor(), AuthzInterceptor()]
        server = aio.server(interceptors=interceptors, options=server_options())
        self._register(server)
        for endpoint in self._config.controller.listen:
            self.addresses.append(self._listen(server, endpoint))
        await self._set_health(False)
        self.replica.start()
        await server.start()
        self._server = server
        self._watching = asyncio.create_task(self._watch_health())
        for address in self.addresses:
            _log.info("listening", address=address, replica=self.replica.name, tls=self._secured(address))

    def _register(self, server: aio.Server) -> None:
        replica = self.replica
        fabric_pb2_grpc.add_FabricServiceServicer_to_server(FabricApi(replica), server)
        network_pb2_grpc.add_NetworkServiceServicer_to_server(NetworkApi(replica), server)
        attachment_pb2_grpc.add_AttachmentServiceServicer_to_server(AttachmentApi(replica), server)
        host_pb2_grpc.add_HostServiceServicer_to_server(HostApi(replica), server)
        address_pb2_grpc.add_AddressServiceServicer_to_server(AddressApi(replica), server)
        check_pb2_grpc.add_CheckServiceServicer_to_server(CheckApi(replica), server)
        session_pb2_grpc.add_SessionServiceServicer_to_server(SessionApi(replica), server)
        grants_pb2_grpc.add_AddressServiceServicer_to_server(GrantApi(replica), server)
        directory_pb2_grpc.add_DirectoryServiceServicer_to_server(DirectoryApi(replica), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*MAY_CALL, grpc_health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)

    def _secured(self, endpoint: str) -> bool:
        return self._config.tls is not None and not endpoint.startswith("unix:")

    def _listen(self, server: aio.Server, endpoint: str) -> str:
        unix = endpoint.startswith("unix:")
        if unix:
            _clear_socket(endpoint.removeprefix("unix:"))
        tls = self._config.server_tls()
        # Asked of the kernel first: gRPC writes its own lines about a port in use and keeps the reason to itself.
        problem = _why_not(endpoint)
        if problem:
            raise _cannot_listen(endpoint, problem)
        try:
            if tls is not None and not unix:
                port = server.add_secure_port(endpoint, tls.credentials())
            else:
                port = server.add_insecure_port(endpoint)
        except RuntimeError:
            port = 0
        if not port:
            raise _cannot_listen(endpoint, "the address cannot be bound")
        return endpoint if unix else f"{endpoint.rpartition(':')[0]}:{port}"

    async def _set_health(self, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *MAY_CALL):
            await self._health.set(name, status)

    async def _watch_health(self) -> None:
        serving = False
        while True:
            if self.replica.level != serving:
                serving = not serving
                await self._set_health(serving)
                _log.info("serving" if serving else "not serving", replica=self.replica.name)
            await asyncio.sleep(HEALTH_SECONDS)

    async def stop(self) -> None:
        """Say NOT_SERVING, end streams, let calls end, give the lease back. Idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        if self._watching is not None:
            self._watching.cancel()
        await self._health.enter_graceful_shutdown()
        self.replica.end_streams()
        await server.stop(GRACE)
        await self.replica.stop()
        _log.info("stopped", replica=self.replica.name)


def _clear_socket(path: str) -> None:
    """Remove the socket a dead process left, and nothing else."""
    probe = socket.socket(socket.AF_UNIX)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    except OSError:
        pass
    finally:
        probe.close()


def _why_not(endpoint: str) -> str:
    """What the kernel says against listening there; empty when nothing."""
    if endpoint.startswith("unix:"):
        target = endpoint.removeprefix("unix:")
        if not os.path.exists(target):
            return "" if os.access(os.path.dirname(target), os.W_OK) else "the directory cannot be written to"
        return "the socket is in use, or the path is something else"
    host, _, port = endpoint.rpartition(":")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _cannot_listen(endpoint: str, problem: str) -> TrunklineError:
    return TrunklineError(
        Reason.LISTEN_FAILED,
        f"cannot listen on {endpoint}: {problem}",
        "stop what uses it, or choose another with --listen",
        address=endpoint,
    )


async def open_store(config: Config, stack: AsyncExitStack) -> Store:
    """The store that the configuration names, closed by `stack`; an etcd of its own is started first."""
    prefix = f"{config.store.prefix}/"
    if config.embedded:
        etcd = EmbeddedEtcd(config.store.data_dir, config.store.etcd_binary)
        await etcd.start()
        stack.push_async_callback(etcd.stop)
        settings = etcd.settings(config.name, prefix)
    else:
        tls = config.store.tls
        files = (tls.ca, tls.cert, tls.key, tls.server_name) if tls else (None, None, None, "")
        settings = EtcdSettings(config.endpoints, config.name, prefix, *files)
    # Fewer transactions under way at once share more each: measured, 2 cost a third less of the loop per attach
    # than 4 and no latency that could be told from noise.
    store = EtcdStore(replace(settings, lanes=LANES))
    stack.push_async_callback(store.close)
    return store


async def serve(config: Config) -> None:
    """Run one replica until SIGTERM or SIGINT. Raises what keeps it from running."""
    gc.set_threshold(*growth.THRESHOLDS)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        store = await open_store(config, stack)
        app = App(config, store)
        app.replica.follower.listen(growth.Growth(app.replica.follower).changed)
        stack.push_async_callback(app.stop)
        await app.start()
        await _stopped_or_fenced(stopping, app.replica)
        _log.info("stopping", replica=config.name)


async def _stopped_or_fenced(stopping: asyncio.Event, replica: Replica) -> None:
    """Return when told to stop. Raises STORE_FENCED when another process has this replica's name."""
    told, fenced = asyncio.create_task(stopping.wait()), asyncio.create_task(replica.fenced())
    done, _ = await asyncio.wait({told, fenced}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    fenced.cancel()
    if told not in done:
        raise fenced.result()
