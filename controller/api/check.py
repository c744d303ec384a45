"""CheckService: probes between the hosts of a network, streamed as they come."""

# ruff: noqa: N802 - method names are those of the proto

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from grpc import aio

from controller.api.tally import Fact, Tally
from controller.fleet import Session
from controller.plan.desired import host_network, selected
from controller.reconcile.replica import Replica
from controller.state.records import NetworkRecord
from controller.state.snapshot import Snapshot
from trunkline.agent.v1 import session_pb2
from trunkline.errors import Reason, Refusal
from trunkline.ids import mac_for_probe
from trunkline.model import Mode, Phase
from trunkline.v1 import check_pb2, check_pb2_grpc
from trunkline.wire import network_to_pb

DEFAULT_MS = 3_000
MAX_MS = 30_000

GRACE = 1.5
"""Seconds beyond the probing time that a host's last report may take to arrive."""

ASKERS = 8
"""Hosts that ask for one address; more would tell nothing new and fill the wire with ARP."""

Report = tuple["Run", str, session_pb2.ProbeReport]


@dataclass
class Run:
    """The check of one network."""

    network: NetworkRecord
    hosts: dict[str, Session]
    skipped: dict[str, str]
    addresses: list[session_pb2.ProbeAddress]
    asked: dict[str, list[session_pb2.ProbeAddress]] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)

    def tally(self) -> Tally:
        """What is to be learnt."""
        facts = [
            (host, Fact(asked.kind, host, asked.host, asked.address))
            for host, addresses in self.asked.items()
            for asked in addresses
        ]
        return Tally(self.network.name, sorted(self.hosts), self.skipped, facts)

    def announcement(self) -> check_pb2.RunCheckResponse:
        """What is going to be probed."""
        plan = check_pb2.CheckPlan(
            network=self.network.name,
            hosts=sorted(self.hosts),
            skipped=[f"{host}: {why}" for host, why in sorted(self.skipped.items())],
            addresses=[one.address for one in self.addresses],
            vlan=self.network.vlan,
        )
        return check_pb2.RunCheckResponse(plan=plan)


class CheckApi(check_pb2_grpc.CheckServiceServicer):
    """See protos/trunkline/v1/check.proto."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def RunCheck(
        self, request: check_pb2.RunCheckRequest, context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[check_pb2.RunCheckResponse]:
        """Plans first, then what is learnt, at last what stayed open and the counts."""
        if request.timeout_ms > MAX_MS:
            raise Refusal(Reason.INVALID_ARGUMENT, f"{request.timeout_ms} ms is too long", f"probe at most {MAX_MS} ms")
        snapshot, _ = await self._replica.reading()
        runs = [self._plan(snapshot, network, request) for network in _networks(snapshot, request.networks)]
        for run in runs:
            yield run.announcement()
        tallies = {run.network.name: run.tally() for run in runs}
        async for result in self._probe(snapshot, runs, tallies, request.timeout_ms or DEFAULT_MS):
            yield check_pb2.RunCheckResponse(result=result)
        for tally in tallies.values():
            for result in tally.close():
                yield check_pb2.RunCheckResponse(result=result)
        counts = [tally.counts() for tally in tallies.values()]
        ok, bad, unknown = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
        yield check_pb2.RunCheckResponse(summary=check_pb2.CheckSummary(ok=ok, bad=bad, unknown=unknown))

    def _plan(self, snapshot: Snapshot, network: NetworkRecord, request: check_pb2.RunCheckRequest) -> Run:
        hosts: dict[str, Session] = {}
        skipped: dict[str, str] = {}
        for name in _hosts(snapshot, request.hosts):
            record = snapshot.hosts[name].value
            session = self._replica.fleet.get(name)
            if not selected(record, network):
                if request.hosts:
                    skipped[name] = f"network {network.name} does not select it"
            elif record.drained:
                skipped[name] = "it is drained"
            elif session is None:
                skipped[name] = self._absence(snapshot, name)
            else:
                hosts[name] = session
        run = Run(network, hosts, skipped, list(_addresses(snapshot, network)))
        run.asked = _share(sorted(hosts), run.addresses, local=network.mode is Mode.BRIDGE)
        return run

    def _absence(self, snapshot: Snapshot, host: str) -> str:
        stored = snapshot.sessions.get(host)
        if stored is None:
            return "it has no live session"
        if stored.value.replica == self._replica.name:
            return "its session is in doubt, as the store does not answer; see `trunkline status`"
        return f"its session is held by controller {stored.value.replica}; ask that one"

    async def _probe(
        self, snapshot: Snapshot, runs: Sequence[Run], tallies: dict[str, Tally], timeout_ms: int
    ) -> AsyncIterator[check_pb2.CheckResult]:
        """Start every host of every network at once; yield news until all are done or the time is over."""
        reports: asyncio.Queue[Report] = asyncio.Queue()
        cancels = [cancel for run in runs for cancel in _start(snapshot, run, reports, timeout_ms)]
        end = asyncio.get_running_loop().time() + timeout_ms / 1000 + GRACE
        try:
            while any(run.waiting for run in runs):
                try:
                    # Not around the yield: the time-out would then hit whatever the reader of the stream waits for.
                    async with asyncio.timeout_at(end):
                        run, host, report = await reports.get()
                except TimeoutError:
                    return
                tally = tallies[run.network.name]
                for result in tally.take(host, report.results):
                    yield result
                if report.done:
                    run.waiting.discard(host)
                    if report.error:
                        tally.fail(host, report.error)
        finally:
            for cancel in cancels:
                cancel()


def _start(
    snapshot: Snapshot, run: Run, reports: asyncio.Queue[Report], timeout_ms: int
) -> Iterator[Callable[[], None]]:
    number = secrets.randbits(63)
    macs = {host: mac_for_probe(run.network.number, snapshot.hosts[host].value.number) for host in run.hosts}
    for host, session in run.hosts.items():
        run.waiting.add(host)
        question = session_pb2.ProbeRun(
            id=number,
            network=network_to_pb(host_network(run.network, snapshot.hosts[host].value)),
            peers=[session_pb2.ProbePeer(host=peer, mac=mac) for peer, mac in sorted(macs.items()) if peer != host],
            addresses=run.asked.get(host, []),
            timeout_ms=timeout_ms,
        )

        def sink(report: session_pb2.ProbeReport, host: str = host) -> None:
            reports.put_nowait((run, host, report))

        yield session.probe(question, sink)


def _networks(snapshot: Snapshot, names: Sequence[str]) -> list[NetworkRecord]:
    for name in names:
        if name not in snapshot.networks:
            raise Refusal(
                Reason.NETWORK_NOT_FOUND, f"network {name} does not exist", "see `trunkline network list`", network=name
            )
    wanted = sorted(set(names)) or sorted(snapshot.networks)
    found = [snapshot.networks[name].value for name in wanted]
    return [network for network in found if names or not network.deleting]


def _hosts(snapshot: Snapshot, names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in snapshot.hosts:
            raise Refusal(
                Reason.HOST_NOT_FOUND, f"host {name} has not registered", "see `trunkline host list`", host=name
            )
    return sorted(set(names)) or sorted(snapshot.hosts)


def _addresses(snapshot: Snapshot, network: NetworkRecord) -> Iterator[session_pb2.ProbeAddress]:
    """Gateways, and the addresses of interfaces that were observed: the rest has nobody to answer for it."""
    for prefix in network.prefixes:
        if prefix.gateway:
            yield session_pb2.ProbeAddress(address=prefix.gateway, kind=check_pb2.PROBE_KIND_GATEWAY)
    for host, name in sorted(snapshot.on_network.get(network.name, ())):
        stored, status = snapshot.attachments[host][name].value, snapshot.attachment_status.get((host, name))
        if stored.detaching or status is None or status.value.phase is not Phase.READY:
            continue
        for text in stored.addresses:
            yield session_pb2.ProbeAddress(
                address=text.partition("/")[0], mac=stored.mac, host=host, kind=check_pb2.PROBE_KIND_ADDRESS
            )


def _share(
    hosts: Sequence[str], addresses: Sequence[session_pb2.ProbeAddress], local: bool
) -> dict[str, list[session_pb2.ProbeAddress]]:
    """Who asks for which address: up to ASKERS hosts each, begun at another host for each address. A host is asked
    for addresses of its own only where macvlan siblings reach each other (`local`)."""
    shares: dict[str, list[session_pb2.ProbeAddress]] = {host: [] for host in hosts}
    for turn, asked in enumerate(addresses):
        able = [host for host in hosts if local or host != asked.host]
        for step in range(min(ASKERS, len(able))):
            shares[able[(turn + step) % len(able)]].append(asked)
    return shares
