"""Summaries of the snapshot for people: where networks, attachments and hosts stand, and what is not well. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from controller.plan.addresses import pool_use
from controller.plan.deletion import uncertain_hosts
from controller.plan.desired import selected, unreadable
from controller.plan.prefixes import pool
from controller.plan.usage import PoolUse, exhausted, use_of
from controller.state.records import (
    AddressKind,
    AttachmentRecord,
    AttachmentStatus,
    HostRecord,
    HostStatus,
    NetworkRecord,
)
from controller.state.snapshot import Snapshot
from trunkline.errors import Reason
from trunkline.model import HostUplink, Origin, Phase, Problem


class NetworkPhase(enum.StrEnum):
    """Where a network stands over all hosts that are to have it."""

    PENDING = "pending"
    READY = "ready"
    DEGRADED = "degraded"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class NetworkOnHost:
    """A network on one host. `phase`: READY, PENDING, FAILED, or CLEAN once a deleted network was seen gone."""

    host: str
    phase: str
    reason: str = ""
    message: str = ""
    link: str = ""
    owned: bool = False
    connected: bool = False
    docker: str = ""
    docker_message: str = ""


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network with its status."""

    record: NetworkRecord
    phase: NetworkPhase
    hosts: tuple[NetworkOnHost, ...]
    pools: tuple[PoolUse, ...]
    attachments: int


@dataclass(frozen=True, slots=True)
class AttachmentView:
    """An attachment with its status; PENDING until it was observed."""

    record: AttachmentRecord
    status: AttachmentStatus
    connected: bool


@dataclass(frozen=True, slots=True)
class HostView:
    """A host with its status; `replica` holds its session, "" without one."""

    record: HostRecord
    status: HostStatus
    connected: bool
    replica: str
    attachments: int
    attachments_ready: int
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class UplinkView:
    """An uplink label; `set` once an operator gave it a range. `hosts` are (host, what it has behind the label)."""

    label: str
    vlans: tuple[tuple[int, int], ...]
    set: bool
    hosts: tuple[tuple[str, HostUplink], ...]
    vlans_in_use: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FabricView:
    """Counts over the whole fabric."""

    epoch: str
    revision: int
    hosts: int
    hosts_connected: int
    networks: int
    attachments: int
    attachments_ready: int
    attachments_away: int
    addresses: int
    problems: tuple[Problem, ...]
    attachments_docker: int
    attachments_host: int
    addresses_stock: int
    addresses_kept: int
    addresses_promised: int


def network_hosts(snapshot: Snapshot, name: str) -> tuple[NetworkOnHost, ...]:
    """The network on each host that is to have it, or still has it; in order of name."""
    stored = snapshot.networks.get(name)
    if stored is None:
        return ()
    users = {host for host, _ in snapshot.on_network.get(name, ())}
    waiting = set(uncertain_hosts(snapshot, name)) if stored.value.deleting else set()
    found = []
    for host, known in sorted(snapshot.hosts.items(), key=lambda item: item[0]):
        status = snapshot.network_status.get((host, name))
        if status is None and host not in users and host not in waiting and not selected(known.value, stored.value):
            continue
        connected = host in snapshot.sessions
        if status is None:
            clean = stored.value.deleting and host not in waiting
            found.append(NetworkOnHost(host, "CLEAN" if clean else "PENDING", connected=connected))
            continue
        value = status.value
        phase = value.phase.name
        found.append(
            NetworkOnHost(
                host=host,
                phase=phase,
                reason=value.reason,
                message=value.message,
                link=value.link,
                owned=value.owned,
                connected=connected,
                docker=value.docker,
                docker_message=value.docker_message,
            )
        )
    return tuple(found)


def _phase(snapshot: Snapshot, name: str, hosts: tuple[NetworkOnHost, ...]) -> NetworkPhase:
    stored = snapshot.networks.get(name)
    if stored is not None and stored.value.deleting:
        return NetworkPhase.DELETING
    phases = {host.phase for host in hosts}
    if Phase.FAILED.name in phases:
        return NetworkPhase.DEGRADED
    return NetworkPhase.READY if phases == {Phase.READY.name} else NetworkPhase.PENDING


def network_view(snapshot: Snapshot, name: str) -> NetworkView | None:
    """A network with its status; None when there is none."""
    stored = snapshot.networks.get(name)
    if stored is None:
        return None
    hosts = network_hosts(snapshot, name)
    return NetworkView(
        stored.value,
        _phase(snapshot, name, hosts),
        hosts,
        pool_use(snapshot, name),
        len(snapshot.on_network.get(name, ())),
    )


def attachment_view(snapshot: Snapshot, host: str, name: str) -> AttachmentView | None:
    """An attachment with its status; None when there is none. While it is being removed it is DETACHING."""
    stored = snapshot.attachment(host, name)
    if stored is None:
        return None
    known = snapshot.attachment_status.get((host, name))
    status = known.value if known is not None else AttachmentStatus(Phase.PENDING)
    if stored.value.detaching and status.phase is not Phase.DETACHING:
        status = AttachmentStatus(
            Phase.DETACHING,
            ifname=status.ifname,
            mac=status.mac,
            addresses=status.addresses,
            target_id=status.target_id,
            present=status.present,
            observed_ms=status.observed_ms,
        )
    return AttachmentView(stored.value, status, host in snapshot.sessions)


def _ready(snapshot: Snapshot, host: str) -> int:
    statuses = snapshot.attachment_status
    return sum(
        (status := statuses.get((host, name))) is not None
        and status.value.phase is Phase.READY
        and not stored.value.detaching
        for name, stored in snapshot.attachments.get(host, {}).items()
    )


def host_view(snapshot: Snapshot, name: str) -> HostView | None:
    """A host with its status; None when it is not known."""
    stored = snapshot.hosts.get(name)
    if stored is None:
        return None
    status = snapshot.host_status.get(name)
    session = snapshot.sessions.get(name)
    return HostView(
        record=stored.value,
        status=status.value if status is not None else HostStatus(),
        connected=session is not None,
        replica=session.value.replica if session is not None else "",
        attachments=len(snapshot.attachments.get(name, {})),
        attachments_ready=_ready(snapshot, name),
        problems=host_problems(snapshot, name),
    )


def host_problems(snapshot: Snapshot, host: str) -> tuple[Problem, ...]:
    """What is not well on a host: no session, unreadable records, uplinks, what its agent reports, its networks and
    attachments that failed."""
    found = []
    if host not in snapshot.sessions:
        message = (
            "it has no live session: what runs there goes on, its addresses stay held, changes wait; "
            f"see on {host} whether trunkline-agent runs, what it logs, and whether it reaches a controller"
        )
        found.append(Problem("host", host, Reason.HOST_UNREACHABLE.name, message))
    key = unreadable(snapshot, host)
    if key:
        message = f"{key!r} in the store cannot be read, so the host keeps its last state; restore or delete the key"
        found.append(Problem("host", host, Reason.STORE_CORRUPT.name, message))
    status = snapshot.host_status.get(host)
    if status is not None:
        found += [_uplink_problem(host, uplink) for uplink in status.value.uplinks if uplink.problem]
        found += status.value.problems
    for network in sorted(snapshot.networks_seen.get(host, ())):
        seen = snapshot.network_status[host, network].value
        if seen.phase is Phase.FAILED:
            found.append(Problem("network", network, seen.reason, f"on host {host}: {seen.message}"))
    for name in sorted(snapshot.attachments.get(host, ())):
        attachment = snapshot.attachment_status.get((host, name))
        if attachment is not None and attachment.value.phase is Phase.FAILED:
            found.append(Problem("attachment", f"{host}/{name}", attachment.value.reason, attachment.value.message))
    return (*found, *_docker_away(snapshot, host))


def _docker_away(snapshot: Snapshot, host: str) -> Iterator[Problem]:
    """One problem for all attachments that wait for the host's Docker Engine. To wait for a container is none: it was
    stopped on purpose, or its restart is somebody else's to report."""
    missing = Reason.DOCKER_UNAVAILABLE.name
    statuses = (snapshot.attachment_status.get((host, name)) for name in snapshot.attachments.get(host, ()))
    waiting = [known.value for known in statuses if known is not None and known.value.reason == missing]
    if waiting:
        yield Problem("host", host, missing, f"attachments that wait for it: {len(waiting)}; {waiting[0].message}")


def _uplink_problem(host: str, uplink: HostUplink) -> Problem:
    reason = Reason.UPLINK_MISSING if not uplink.present else Reason.UPLINK_DOWN
    return Problem("uplink", f"{host}/{uplink.label}", reason.name, f"{uplink.device}: {uplink.problem}")


def problems(snapshot: Snapshot) -> tuple[Problem, ...]:
    """All that is not well, worst first: the store, hosts, uplinks, networks, attachments."""
    store = [
        Problem("store", key, Reason.STORE_CORRUPT.name, f"{why}; restore the key from a backup, or delete it")
        for key, why in sorted(snapshot.broken.items())
    ]
    found = [problem for host in sorted(snapshot.hosts) for problem in host_problems(snapshot, host)]
    found += [full for name in sorted(snapshot.networks) for full in _full_pools(snapshot, name)]
    order = {kind: rank for rank, kind in enumerate(("store", "host", "uplink", "network", "attachment"))}
    return (*store, *sorted(found, key=lambda problem: order.get(problem.kind, len(order))))


def _full_pools(snapshot: Snapshot, network: str) -> Iterator[Problem]:
    """Pools without an address left or soon to come: what rests or is kept for an owner still gets free."""
    for prefix in snapshot.networks[network].value.prefixes:
        limits, index = pool(prefix), snapshot.pool(network, 6 if ":" in prefix.cidr else 4)
        use = use_of(prefix, limits, index)
        if use.used + use.reserved >= use.size:
            full = exhausted(network, prefix, limits, index)
            yield Problem("network", network, full.reason.name, full.text)


def uplink_views(snapshot: Snapshot) -> tuple[UplinkView, ...]:
    """All labels that were set, that hosts report or that networks use; in order of label."""
    hosts: dict[str, list[tuple[str, HostUplink]]] = {}
    for host, stored in sorted(snapshot.host_status.items(), key=lambda item: item[0]):
        for uplink in stored.value.uplinks:
            hosts.setdefault(uplink.label, []).append((host, uplink))
    used: dict[str, list[int]] = {}
    for label, vid in sorted(snapshot.vlans):
        used.setdefault(label, []).append(vid)
    return tuple(
        UplinkView(
            label=label,
            vlans=snapshot.uplinks[label].value.vlans if label in snapshot.uplinks else (),
            set=label in snapshot.uplinks,
            hosts=tuple(hosts.get(label, ())),
            vlans_in_use=tuple(used.get(label, ())),
        )
        for label in sorted({*snapshot.uplinks, *hosts, *used})
    )


def fabric_view(snapshot: Snapshot) -> FabricView:
    """The fabric in numbers."""
    origins = Counter(stored.value.origin for named in snapshot.attachments.values() for stored in named.values())
    records = [stored.value for held in snapshot.addresses.values() for stored in held.values()]
    kinds = Counter(record.kind for record in records)
    return FabricView(
        epoch=snapshot.epoch,
        revision=snapshot.revision,
        hosts=len(snapshot.hosts),
        hosts_connected=sum(host in snapshot.sessions for host in snapshot.hosts),
        networks=len(snapshot.networks),
        attachments=snapshot.attachment_count(),
        attachments_ready=sum(_ready(snapshot, host) for host in snapshot.hosts if host in snapshot.sessions),
        attachments_away=sum(
            len(named) for host, named in snapshot.attachments.items() if host not in snapshot.sessions
        ),
        addresses=sum(map(len, snapshot.addresses.values())),
        problems=problems(snapshot),
        attachments_docker=origins[Origin.DOCKER],
        attachments_host=origins[Origin.HOST],
        addresses_stock=kinds[AddressKind.STOCK],
        addresses_kept=kinds[AddressKind.KEPT],
        addresses_promised=kinds[AddressKind.RESERVED] + sum(record.promised for record in records),
    )
