"""One controller app on loopback, with stubs and the waiting that tests need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import grpc
from fakes.scripted_agent import ScriptedAgent, Segment
from grpc import aio

from controller.app import App
from controller.config import Config, ControllerTable, TlsTable
from controller.plan.invariants import violations
from controller.store.port import Store
from trunkline.errors import Reason, TrunklineError
from trunkline.rpc import client_options, from_rpc_error
from trunkline.v1 import (
    address_pb2_grpc,
    attachment_pb2,
    attachment_pb2_grpc,
    check_pb2_grpc,
    fabric_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    network_pb2,
    network_pb2_grpc,
)

SECONDS = 10.0
READY = attachment_pb2.ATTACHMENT_PHASE_READY
PENDING = attachment_pb2.ATTACHMENT_PHASE_PENDING
WAITING = attachment_pb2.ATTACHMENT_PHASE_WAITING
FAILED = attachment_pb2.ATTACHMENT_PHASE_FAILED
DETACHING = attachment_pb2.ATTACHMENT_PHASE_DETACHING


@dataclass
class Refused:
    """What a call was refused with; filled when the block ends."""

    error: TrunklineError | None = None


@contextmanager
def refused(reason: Reason, *mentions: str) -> Iterator[Refused]:
    """The block must be refused with `reason`, a remedy, and a text that names everything in `mentions`."""
    caught = Refused()
    try:
        yield caught
    except grpc.RpcError as error:
        caught.error = from_rpc_error(error)
    assert caught.error is not None, f"not refused; expected {reason.name}"
    assert caught.error.reason is reason, str(caught.error)
    assert caught.error.remedy, f"no remedy: {caught.error}"
    for word in mentions:
        assert word in caught.error.text, f"{word!r} is not in: {caught.error.text}"


@dataclass
class Rig:
    """A running app and a channel to it."""

    app: App
    store: Store
    channel: aio.Channel
    agents: list[ScriptedAgent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fabric = fabric_pb2_grpc.FabricServiceStub(self.channel)
        self.networks = network_pb2_grpc.NetworkServiceStub(self.channel)
        self.attachments = attachment_pb2_grpc.AttachmentServiceStub(self.channel)
        self.hosts = host_pb2_grpc.HostServiceStub(self.channel)
        self.addresses = address_pb2_grpc.AddressServiceStub(self.channel)
        self.check = check_pb2_grpc.CheckServiceStub(self.channel)

    @property
    def endpoint(self) -> str:
        return self.app.addresses[0]

    def agent(self, host: str, segment: Segment | None = None, **fields: object) -> ScriptedAgent:
        """An agent that is not started yet; ended with the rig."""
        agent = ScriptedAgent(self.endpoint, host, segment=segment or Segment(), **fields)  # type: ignore[arg-type]
        self.agents.append(agent)
        return agent

    async def create(
        self, name: str = "blue", cidr: str = "20.0.0.0/24", vlan: int = 10, **spec: object
    ) -> network_pb2.CreateNetworkResponse:
        """Create a network with one prefix."""
        prefixes = [network_pb2.Prefix(cidr=cidr)] if cidr else []
        wanted = network_pb2.NetworkSpec(name=name, vlan=vlan, **{"prefixes": prefixes, **spec})  # type: ignore[arg-type]
        return await self.networks.CreateNetwork(network_pb2.CreateNetworkRequest(spec=wanted), timeout=SECONDS)

    async def attach(
        self, host: str, container: str, network: str = "blue", check_target: bool = False, **spec: object
    ) -> attachment_pb2.AttachResponse:
        """Attach a container."""
        wanted = attachment_pb2.AttachmentSpec(
            host=host,
            network=network,
            target=attachment_pb2.Target(container=container),
            **spec,  # type: ignore[arg-type]
        )
        request = attachment_pb2.AttachRequest(spec=wanted, check_target=check_target)
        return await self.attachments.Attach(request, timeout=SECONDS)

    async def detach(self, host: str, name: str) -> attachment_pb2.DetachResponse:
        """Detach by name."""
        return await self.attachments.Detach(attachment_pb2.DetachRequest(host=host, name=name), timeout=SECONDS)

    async def until_attachment(
        self, host: str, name: str, condition: Callable[[attachment_pb2.WatchAttachmentsResponse], bool]
    ) -> attachment_pb2.WatchAttachmentsResponse:
        """Watch one attachment until the condition holds."""
        request = attachment_pb2.WatchAttachmentsRequest(host=host, name=name)
        last = None
        try:
            async for seen in self.attachments.WatchAttachments(request, timeout=SECONDS):
                last = seen
                if condition(seen):
                    return seen
        except aio.AioRpcError as error:
            raise AssertionError(f"{from_rpc_error(error)}; last seen: {last}") from None
        raise AssertionError(f"the watch ended; last seen: {last}")

    async def until_phase(self, host: str, name: str, phase: int) -> attachment_pb2.Attachment:
        """Watch one attachment until it has the phase."""
        return (await self.until_attachment(host, name, lambda seen: seen.attachment.phase == phase)).attachment

    async def until_gone(self, host: str, name: str) -> None:
        """Watch one attachment until it is gone."""
        await self.until_attachment(host, name, lambda seen: seen.gone)

    async def until_network(
        self, name: str, condition: Callable[[network_pb2.WatchNetworksResponse], bool]
    ) -> network_pb2.WatchNetworksResponse:
        """Watch one network until the condition holds."""
        request = network_pb2.WatchNetworksRequest(names=[name])
        async for seen in self.networks.WatchNetworks(request, timeout=SECONDS):
            if condition(seen):
                return seen
        raise AssertionError("the watch ended")

    async def until_host(
        self, name: str, condition: Callable[[host_pb2.WatchHostsResponse], bool]
    ) -> host_pb2.WatchHostsResponse:
        """Watch one host until the condition holds."""
        request = host_pb2.WatchHostsRequest(names=[name])
        async for seen in self.hosts.WatchHosts(request, timeout=SECONDS):
            if condition(seen):
                return seen
        raise AssertionError("the watch ended")

    async def lawful(self) -> None:
        """All laws hold over what is in the store."""
        await self.app.replica.follower.reached(await self.store.revision())
        assert violations(self.app.replica.snapshot) == []


@asynccontextmanager
async def running(
    store: Store, name: str = "c1", listen: str = "127.0.0.1:0", tls: TlsTable | None = None
) -> AsyncIterator[Rig]:
    """An app on `store`, which stays open afterwards; yields once the app follows the store."""
    app = App(Config(controller=ControllerTable(name=name, listen=(listen,)), tls=tls), store)
    await app.start()
    options = [*client_options(), ("grpc.use_local_subchannel_pool", 1)]
    channel = aio.insecure_channel(app.addresses[0], options=options)
    rig = Rig(app, store, channel)
    try:
        if tls is None:
            async with asyncio.timeout(SECONDS):
                await founded(app)
        yield rig
        for agent in rig.agents:
            await agent.stop()
    finally:
        await channel.close()
        await app.stop()


async def founded(app: App) -> None:
    """Return once the app has read the store and the history has its id."""
    done = asyncio.Event()

    def look(*_: object) -> None:
        if app.replica.level and app.replica.snapshot.epoch:
            done.set()

    app.replica.follower.listen(look)
    look()
    await done.wait()
    app.replica.follower.forget(look)
