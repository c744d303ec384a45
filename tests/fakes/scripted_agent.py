"""An agent without a kernel: it speaks the session honestly and keeps a model of links instead of making them.

Several agents may share a `Segment`, a model of the wire that carries their probes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from fakes.ledger import At, Ledger
from grpc import aio

from trunkline.agent.v1 import address_pb2, address_pb2_grpc, session_pb2, session_pb2_grpc
from trunkline.ids import PROTOCOL
from trunkline.model import Desired, HostAttachment, HostNetwork, HostUplink, Observation
from trunkline.v1 import attachment_pb2, check_pb2, fabric_pb2
from trunkline.wire import desired_from_pb, observation_to_pb, uplink_to_pb

OK = check_pb2.PROBE_OUTCOME_OK
SILENT = check_pb2.PROBE_OUTCOME_SILENT


def now_ms() -> int:
    """The host's clock, Unix milliseconds."""
    return int(time.time() * 1000)


@dataclass
class Segment:
    """The wire between scripted agents: who is on it, and whose trunk is cut."""

    agents: dict[str, ScriptedAgent] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    silent_addresses: set[str] = field(default_factory=set)
    gateways: dict[str, str] = field(default_factory=dict)
    runs: set[tuple[str, int]] = field(default_factory=set)

    def carries(self, one: str, other: str) -> bool:
        return one not in self.cut and other not in self.cut and one in self.agents and other in self.agents

    def holder(self, address: str) -> ScriptedAgent | None:
        for agent in self.agents.values():
            if any(address in [text.split("/")[0] for text in link.addresses] for link in agent.links.values()):
                return agent
        return None


@dataclass
class ScriptedAgent:
    """One host. `containers` maps names to "running", "stopped", "host" or "gone"; an attachment's interface appears
    in `links` when its container runs. With `frozen` it reads messages and does nothing about them. With a `ledger` it
    has Docker networks, too, and says what it does with the addresses it was given."""

    endpoint: str
    host: str
    machine_id: str = ""
    protocol: int = PROTOCOL
    labels: dict[str, str] = field(default_factory=dict)
    uplink_mtu: int = 1500
    uplink_labels: tuple[str, ...] = ("default",)
    segment: Segment | None = None
    epoch: str = ""
    revision: int = 0
    containers: dict[str, str] = field(default_factory=dict)
    links: dict[str, HostAttachment] = field(default_factory=dict)
    networks: dict[str, HostNetwork] = field(default_factory=dict)
    failing: dict[str, tuple[str, str]] = field(default_factory=dict)
    frozen: bool = False
    complete: bool = True
    desired: Desired | None = None
    welcome: session_pb2.Welcome | None = None
    error: aio.AioRpcError | None = None
    pushes: int = 0
    channel: aio.Channel | None = None
    ledger: Ledger | None = None

    def __post_init__(self) -> None:
        self.machine_id = self.machine_id or f"machine-of-{self.host}"
        self._up: asyncio.Queue[session_pb2.ConnectRequest | None] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._own_channel: aio.Channel | None = None
        self._call: aio.StreamStreamCall[session_pb2.ConnectRequest, session_pb2.ConnectResponse] | None = None

    async def start(self) -> ScriptedAgent:
        """Open the session and return once it was welcomed; raises the controller's error otherwise."""
        self.error, self.welcome = None, None
        self._up = asyncio.Queue()
        if self.channel is None:
            self._own_channel = aio.insecure_channel(self.endpoint, options=[("grpc.use_local_subchannel_pool", 1)])
        channel = self.channel or self._own_channel
        assert channel is not None
        if self.segment is not None:
            self.segment.agents[self.host] = self
        self._up.put_nowait(session_pb2.ConnectRequest(hello=self.hello()))
        self._call = session_pb2_grpc.SessionServiceStub(channel).Connect(self._requests())
        self._task = asyncio.create_task(self._run())
        await self.until(lambda: self.welcome is not None or self.error is not None)
        if self.error is not None:
            raise self.error
        return self

    async def stop(self) -> None:
        """Close the session as a machine that loses its power: what it made stays in the model."""
        if self._call is not None:
            self._call.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if self._own_channel is not None:
            await self._own_channel.close()
            self._own_channel = None
        self._task = None
        self.welcome = None

    async def __aenter__(self) -> ScriptedAgent:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def hello(self) -> session_pb2.Hello:
        return session_pb2.Hello(
            protocol=self.protocol,
            host=self.host,
            machine_id=self.machine_id,
            version="0.1.0",
            kernel="6.1.0",
            docker="29.0.0",
            labels=self.labels,
            uplinks=self._uplinks(),
            epoch=self.epoch,
            revision=self.revision,
        )

    def _uplinks(self) -> list[fabric_pb2.HostUplink]:
        return [
            uplink_to_pb(
                HostUplink(label, f"enp{7 + n}s0", True, True, True, self.uplink_mtu, f"52:54:00:00:00:{n:02x}")
            )
            for n, label in enumerate(self.uplink_labels)
        ]

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until `condition()` holds; it is looked at after every message."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    def ended(self) -> bool:
        """The controller ended the session."""
        return self.error is not None

    async def _requests(self) -> AsyncIterator[session_pb2.ConnectRequest]:
        while (message := await self._up.get()) is not None:
            yield message

    async def _run(self) -> None:
        assert self._call is not None
        try:
            async for message in self._call:
                await self._take(message)
        except aio.AioRpcError as error:
            self.error = error
        except asyncio.CancelledError:
            pass
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def _take(self, message: session_pb2.ConnectResponse) -> None:
        match message.WhichOneof("message"):
            case "welcome":
                self.welcome = message.welcome
            case "desired":
                self.pushes += 1
                self.desired = desired_from_pb(message.desired)
                if not self.frozen:
                    self.converge()
            case "inspect" if not self.frozen:
                self._send(target=self._inspect(message.inspect))
            case "probe" if not self.frozen:
                self._probe(message.probe)
        async with self._changed:
            self._changed.notify_all()

    def _send(self, **fields: object) -> None:
        self._up.put_nowait(session_pb2.ConnectRequest(**fields))  # type: ignore[arg-type]

    def converge(self) -> None:
        """Make the model what is desired, then report it."""
        assert self.desired is not None
        self.networks = {network.name: network for network in self.desired.networks}
        wanted = {attachment.name: attachment for attachment in self.desired.attachments}
        self.links = {name: one for name, one in wanted.items() if self._runs(one) and name not in self.failing}
        self.epoch, self.revision = self.desired.epoch, self.desired.revision
        if self.ledger is not None:
            self.ledger.told(self.desired, now_ms())
        self.observe()

    async def grant(self, network: str, seconds: float = 5.0, **fields: object) -> address_pb2.GrantResponse:
        """Ask for an address, which goes into the ledger."""
        channel = self.channel or self._own_channel
        assert channel is not None
        request = address_pb2.GrantRequest(host=self.host, network=network, **{"version": 4, **fields})  # type: ignore[arg-type]
        answer = await address_pb2_grpc.AddressServiceStub(channel).Grant(request, timeout=seconds)
        if self.ledger is not None:
            self.ledger.take(network, answer.address, request.owner, request.shared)
        return answer

    async def start_container(self, name: str, network: str, seconds: float = 5.0, **fields: object) -> str:
        """Docker starts a container on a network of ours, with what the ledger has or a grant."""
        assert self.ledger is not None
        owner = str(fields.get("owner", name))
        at: At | None = self.ledger.free(network, owner)
        at = at or (network, (await self.grant(network, seconds, **{**fields, "owner": owner})).address)
        self.ledger.start(at, name, owner, bool(fields.get("shared")))
        self.ledger.show(at)
        self.observe()
        return at[1]

    def stop_container(self, network: str, address: str) -> None:
        """Docker gives an address back."""
        assert self.ledger is not None
        self.ledger.stop((network, address), now_ms())
        self.observe()

    def _runs(self, attachment: HostAttachment) -> bool:
        return self.containers.get(attachment.target.value, "running") == "running"

    def observe(self) -> None:
        """Report the model as it is."""
        assert self.welcome is not None
        self._send(
            observation=session_pb2.Observation(
                session=self.welcome.session,
                epoch=self.epoch,
                revision=self.revision,
                networks=[
                    session_pb2.NetworkObservation(
                        name=name,
                        phase="READY",
                        link=f"enp7s0.{one.vlan}",
                        owned=True,
                        mtu=1500,
                        docker="READY" if self.ledger is not None else "",
                    )
                    for name, one in self.networks.items()
                ],
                attachments=self._attachments(),
                uplinks=self._uplinks(),
                complete=self.complete,
                docker="29.0.0",
                endpoints=self._endpoints(),
                endpoints_complete=self.ledger is not None,
            )
        )

    def _endpoints(self) -> Sequence[session_pb2.EndpointObservation]:
        listed = self.ledger.endpoints() if self.ledger is not None else ()
        return observation_to_pb(Observation(self.epoch, self.revision, endpoints=listed)).endpoints

    def _attachments(self) -> list[session_pb2.AttachmentObservation]:
        wanted = {one.name: one for one in (self.desired.attachments if self.desired else ())}
        seen = []
        for name, one in {**wanted, **self.links}.items():
            reason, message = self.failing.get(name, ("", ""))
            phase = attachment_pb2.ATTACHMENT_PHASE_READY
            if name in self.failing:
                phase = attachment_pb2.ATTACHMENT_PHASE_FAILED
            elif name not in self.links:
                phase = attachment_pb2.ATTACHMENT_PHASE_WAITING
                reason, message = self._why_not(one.target.value, self.containers.get(one.target.value, "stopped"))
            seen.append(
                session_pb2.AttachmentObservation(
                    name=name,
                    phase=phase,
                    reason=reason,
                    message=message,
                    ifname="tl0" if name in self.links else "",
                    mac=one.mac if name in self.links else "",
                    addresses=one.addresses if name in self.links else (),
                    target_id=f"id-of-{one.target.value}",
                    present=name in self.links,
                )
            )
        return seen

    def _inspect(self, question: session_pb2.InspectTarget) -> session_pb2.TargetReport:
        name = question.target.container or question.target.netns
        reason, message = self._why_not(name, self.containers.get(name, "gone"))
        return session_pb2.TargetReport(id=question.id, reason=reason, message=message, name=name)

    def _why_not(self, name: str, state: str) -> tuple[str, str]:
        return {
            "gone": ("CONTAINER_NOT_FOUND", f"host {self.host} has no container {name}"),
            "running": ("", ""),
            "stopped": ("CONTAINER_NOT_RUNNING", f"container {name} on host {self.host} does not run"),
            "host": ("CONTAINER_HOST_NETWORK", f"container {name} on host {self.host} uses the host's network"),
        }[state]

    def _probe(self, run: session_pb2.ProbeRun) -> None:
        assert self.segment is not None
        self.segment.runs.add((run.network.name, run.id))
        results = [*self._heard(run), *self._asked(run), *self._addressed(run)]
        self._send(probe=session_pb2.ProbeReport(id=run.id, results=results, done=True))

    def _heard(self, run: session_pb2.ProbeRun) -> list[check_pb2.CheckResult]:
        assert self.segment is not None
        return [
            self._result(run, from_host=peer.host, to_host=self.host, kind=check_pb2.PROBE_KIND_BROADCAST, outcome=OK)
            for peer in run.peers
            if self.segment.carries(peer.host, self.host)
        ]

    def _asked(self, run: session_pb2.ProbeRun) -> list[check_pb2.CheckResult]:
        assert self.segment is not None
        return [
            self._result(
                run,
                from_host=self.host,
                to_host=peer.host,
                kind=check_pb2.PROBE_KIND_UNICAST,
                outcome=OK if self.segment.carries(self.host, peer.host) else SILENT,
                rtt_us=120,
                mac=peer.mac,
            )
            for peer in run.peers
        ]

    def _addressed(self, run: session_pb2.ProbeRun) -> list[check_pb2.CheckResult]:
        assert self.segment is not None
        results = []
        for asked in run.addresses:
            holder = self.segment.holder(asked.address)
            answers = asked.address in self.segment.gateways or (
                holder is not None and (holder is self or self.segment.carries(self.host, holder.host))
            )
            results.append(
                self._result(
                    run,
                    from_host=self.host,
                    to_host=asked.host,
                    kind=asked.kind,
                    outcome=OK if answers else SILENT,
                    address=asked.address,
                    mac=asked.mac if answers else "",
                )
            )
        return results

    def _result(self, run: session_pb2.ProbeRun, **fields: object) -> check_pb2.CheckResult:
        return check_pb2.CheckResult(network=run.network.name, **fields)  # type: ignore[arg-type]
