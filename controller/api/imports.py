"""The part of NetworkService that takes over hand-made Docker networks."""

# ruff: noqa: N802 - method names are those of the proto

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from grpc import aio

from controller.api import messages
from controller.fleet import Session
from controller.plan import imports, takeover
from controller.plan.desired import selected
from controller.plan.imports import Found, FoundEndpoint, FoundNetwork, Preview
from controller.plan.placement import live_network, unknown_host
from controller.reconcile.commit import Planned
from controller.reconcile.replica import Replica
from controller.state.snapshot import Snapshot
from trunkline import log
from trunkline.agent.v1 import session_pb2
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.model import Mode
from trunkline.v1 import network_pb2, network_pb2_grpc
from trunkline.wire import docker_to_pb, mode_from_pb, mode_to_pb, prefix_from_pb, prefix_to_pb

Context = aio.ServicerContext[Any, Any]

SURVEY_SECONDS: Final = 8.0
"""How long a host may take to list its Docker networks; its agent asks Docker with shorter deadlines."""

_log = log.get("imports")


class ImportApi(network_pb2_grpc.NetworkServiceServicer):
    """See protos/trunkline/v1/network.proto."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def PreviewImport(
        self, request: network_pb2.PreviewImportRequest, context: Context
    ) -> network_pb2.PreviewImportResponse:
        """Ask every connected host, and judge what they have together."""
        found, preview = await self._preview(request.name)
        return network_pb2.PreviewImportResponse(
            spec=_spec(preview),
            networks=[_network(network) for network in found.networks],
            endpoints=[_endpoint(endpoint) for endpoint in found.endpoints],
            refusals=preview.refusals,
            warnings=preview.warnings,
        )

    async def ImportNetwork(
        self, request: network_pb2.ImportNetworkRequest, context: Context
    ) -> network_pb2.ImportNetworkResponse:
        """Ask again, since containers come and go, then write."""
        found, preview = await self._preview(request.name)
        wanted = preview.request
        if preview.refusals or wanted is None:
            raise Refusal(
                Reason.IMPORT_REFUSED,
                f"Docker network {request.name} cannot be taken over: {'; '.join(preview.refusals)}",
                f"mend that on the hosts, then look again: trunkline network import {request.name} --dry-run",
                network=request.name,
            )

        def plan(snapshot: Snapshot) -> Planned[bool]:
            step = takeover.step(snapshot, wanted, found.endpoints, self._replica.clock.now_ms())
            return Planned(step.txn, step.done)

        done = False
        while not done:
            done, _ = await self._replica.committer.commit_in_turn(plan)
        _log.info("network imported", network=request.name, containers=len(found.endpoints))
        return network_pb2.ImportNetworkResponse(
            network=messages.network(self._replica.snapshot, request.name),
            endpoints=[_endpoint(endpoint) for endpoint in found.endpoints],
            warnings=preview.warnings,
        )

    async def ReplaceNetwork(
        self, request: network_pb2.ReplaceNetworkRequest, context: Context
    ) -> AsyncIterator[network_pb2.ReplaceNetworkResponse]:
        """One host after the other; the first that fails ends it."""
        snapshot = await self._replica.committer.fresh()
        network = live_network(snapshot, request.name).value
        if not network.imported or imports.pending(network):
            what = "is not imported completely" if network.imported else "was not imported"
            raise Refusal(
                Reason.IMPORT_REFUSED,
                f"network {request.name} {what}, so its Docker networks are not exchanged",
                f"import it first: trunkline network import {request.name}",
                network=request.name,
            )
        for host in request.hosts:
            if host not in snapshot.hosts:
                raise unknown_host(snapshot, host)
        every = [name for name, stored in sorted(snapshot.hosts.items()) if selected(stored.value, network)]
        for host in dict.fromkeys(request.hosts or every):
            session = self._replica.fleet.get(host)
            if session is not None:
                async for step in self._replace(session, request.name):
                    yield step
            elif request.hosts:
                raise TrunklineError(
                    Reason.HOST_UNREACHABLE,
                    f"host {host} cannot be asked: {self._absence(snapshot, host)}",
                    "exchange its network when it is back",
                    host=host,
                )
            else:
                why = f"left out: {self._absence(snapshot, host)}; repeat this when it is back"
                yield network_pb2.ReplaceNetworkResponse(host=host, message=why)

    async def _replace(self, session: Session, network: str) -> AsyncIterator[network_pb2.ReplaceNetworkResponse]:
        """Exchange on one host, once every address there is known to be its own."""
        survey = await session.survey(network, SURVEY_SECONDS)
        _check_answer(survey, session.host)
        self._check_held(await self._replica.committer.fresh(), session.host, network, survey)
        async for report in session.replace(network):
            if report.reason:
                reason = Reason.__members__.get(report.reason, Reason.DOCKER_NETWORK_FAILED)
                raise TrunklineError(
                    reason,
                    f"host {session.host}: {report.message}",
                    f"mend that, then go on with `trunkline network import {network} --replace`; hosts before it are "
                    "done",
                    host=session.host,
                    network=network,
                )
            step = report.step
            step.host = session.host
            yield step

    def _check_held(self, snapshot: Snapshot, host: str, network: str, survey: session_pb2.DockerSurvey) -> None:
        """Raise ADDRESS_DUPLICATE for an address on the host that the fabric has given to another: it would only be
        made to last."""
        held = snapshot.addresses.get(network, {})
        for endpoint in (_found_endpoint(host, pb) for pb in survey.endpoints):
            for address in endpoint.plain:
                stored = held.get(address)
                if stored is None or takeover.belongs(stored.value, endpoint):
                    continue
                whose = f"{stored.value.host}/{stored.value.holder}".strip("/") or stored.value.owner
                raise Refusal(
                    Reason.ADDRESS_DUPLICATE,
                    f"{endpoint} has address {address} of network {network}, which is {stored.value.kind} for {whose}",
                    "give the container another address first (docker network disconnect, then connect --ip)",
                    host=host,
                    address=str(address),
                )

    async def _preview(self, name: str) -> tuple[Found, Preview]:
        snapshot = await self._replica.committer.fresh()
        found = await self._survey(snapshot, name)
        return found, imports.preview(await self._replica.committer.fresh(), name, found)

    async def _survey(self, snapshot: Snapshot, name: str) -> Found:
        """Ask all hosts at once."""
        silent: dict[str, str] = {}
        unasked: dict[str, str] = {}
        asked: list[Session] = []
        for host in sorted(snapshot.hosts):
            session = self._replica.fleet.get(host)
            if session is not None:
                asked.append(session)
            elif host in snapshot.sessions:
                unasked[host] = self._absence(snapshot, host)
            else:
                silent[host] = self._absence(snapshot, host)
        answers = await asyncio.gather(
            *(session.survey(name, SURVEY_SECONDS) for session in asked), return_exceptions=True
        )
        networks: list[FoundNetwork] = []
        endpoints: list[FoundEndpoint] = []
        for session, answer in zip(asked, answers, strict=True):
            if isinstance(answer, TrunklineError):
                silent[session.host] = answer.message
            elif isinstance(answer, BaseException):
                raise answer
            elif answer.reason:
                away = answer.reason == Reason.DOCKER_UNAVAILABLE.name
                (silent if away else unasked)[session.host] = answer.message
            else:
                networks += [_found_network(session.host, pb) for pb in answer.networks]
                endpoints += [_found_endpoint(session.host, pb) for pb in answer.endpoints]
        return Found(tuple(networks), tuple(endpoints), silent, unasked)

    def _absence(self, snapshot: Snapshot, host: str) -> str:
        stored = snapshot.sessions.get(host)
        if stored is None:
            return "it has no live session"
        if stored.value.replica == self._replica.name:
            return "its session is in doubt, as the store does not answer"
        return (
            f"its session is held by controller {stored.value.replica}, and only one controller can do this; stop that "
            "one meanwhile, its hosts come here"
        )


def _check_answer(survey: session_pb2.DockerSurvey, host: str) -> None:
    if survey.reason:
        raise TrunklineError(
            Reason.__members__.get(survey.reason, Reason.DOCKER_UNAVAILABLE),
            f"host {host}: {survey.message}",
            f"look at Docker and the agent on {host}",
            host=host,
        )


def _found_network(host: str, pb: network_pb2.ImportedNetwork) -> FoundNetwork:
    mode, problem = Mode.BRIDGE, pb.problem
    try:
        mode = mode_from_pb(pb.mode)
    except Refusal as error:
        problem = problem or error.text
    return FoundNetwork(
        host=host,
        id=pb.id,
        parent=pb.parent,
        uplink=pb.uplink,
        vlan=pb.vlan,
        prefixes=tuple(prefix_from_pb(prefix) for prefix in pb.prefixes),
        mode=mode,
        mtu=pb.mtu,
        problem=problem,
    )


def _found_endpoint(host: str, pb: network_pb2.ImportedEndpoint) -> FoundEndpoint:
    return FoundEndpoint(
        host=host,
        container=pb.container,
        container_id=pb.container_id,
        addresses=tuple(pb.addresses),
        mac=pb.mac,
        running=pb.running,
        owner=pb.owner,
        shared=pb.shared,
    )


def _network(found: FoundNetwork) -> network_pb2.ImportedNetwork:
    return network_pb2.ImportedNetwork(
        host=found.host,
        id=found.id,
        parent=found.parent,
        uplink=found.uplink,
        vlan=found.vlan,
        prefixes=[prefix_to_pb(prefix) for prefix in found.prefixes],
        mode=mode_to_pb(found.mode),
        mtu=found.mtu,
        problem=found.problem,
    )


def _endpoint(found: FoundEndpoint) -> network_pb2.ImportedEndpoint:
    return network_pb2.ImportedEndpoint(
        host=found.host,
        container=found.container,
        container_id=found.container_id,
        addresses=found.addresses,
        mac=found.mac,
        running=found.running,
        owner=found.owner,
        shared=found.shared,
    )


def _spec(preview: Preview) -> network_pb2.NetworkSpec | None:
    request = preview.request
    if request is None:
        return None
    return network_pb2.NetworkSpec(
        name=request.name,
        uplink=request.uplink,
        vlan=request.vlan or 0,
        prefixes=[prefix_to_pb(prefix) for prefix in request.prefixes],
        mtu=request.mtu,
        mode=mode_to_pb(request.mode),
        docker=docker_to_pb(request.docker),
    )
