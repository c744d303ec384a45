"""From an observation to status (laws 6 and 8 of docs/architecture.md). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from controller.plan.accounts import Leases
from controller.plan.native import Native, settle_native
from controller.state import codec, keys
from controller.state.records import AttachmentRecord, AttachmentStatus, HostStatus, NetworkHostStatus
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import MAX_OPS, Delete, Guard, Op, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.model import AttachmentObservation, Event, NetworkObservation, Observation, Origin, Phase

EVENTS = 20
"""Events of a host that are kept; an agent that starts anew tells of none."""

_Write = tuple[Guard | None, Op]


@dataclass(frozen=True, slots=True)
class Settlement:
    """`status` are independent transactions, () when nothing changed. `detached` names detaching attachments that
    were seen to have no interface any more: for each, `attachments.finish_detach`. `wanting`: networks of which
    addresses were let go that must rest, on a lease that lives so many seconds at least: to be settled again with
    those, until then they stay as they are."""

    status: tuple[Txn, ...]
    detached: tuple[str, ...]
    wanting: Mapping[str, int] = field(default_factory=dict)


def settle(
    snapshot: Snapshot,
    host: str,
    session_revision: int,
    observation: Observation,
    now_ms: int,
    leases: Leases | None = None,
) -> Settlement:
    """What an observation changes. Times alone change nothing. Raises EPOCH_MISMATCH for an observation of another
    history, SESSION_SUPERSEDED when the session is not the host's live one.

    Every write guards the session's revision, so only the replica that holds the live session writes, and the
    object's own revision, so nothing is said of an intent that was not worked towards. An intent newer than the
    observation's revision is left alone; the next observation speaks of it.
    """
    _check_current(snapshot, host, session_revision, observation)
    session = Unchanged(keys.session(host), session_revision)
    seen = {attachment.name: attachment for attachment in observation.attachments}
    native = settle_native(snapshot, host, session, observation, now_ms, leases or {})
    writes: list[_Write] = [*_host_write(snapshot, host, observation, native, now_ms), *native.writes]
    writes += _network_writes(snapshot, host, observation, now_ms)
    detached = []
    for name, stored in snapshot.attachments.get(host, {}).items():
        if stored.mod_revision > observation.revision or stored.value.origin is Origin.DOCKER:
            continue
        found = seen.get(name)
        if stored.value.detaching and observation.complete and (found is None or not found.present):
            detached.append(name)
            continue
        writes += _attachment_writes(snapshot, stored, found, observation.complete, now_ms)
    return Settlement((*native.txns, *_packed(session, writes)), tuple(sorted(detached)), native.wanting)


def _check_current(snapshot: Snapshot, host: str, session_revision: int, observation: Observation) -> None:
    if observation.epoch != snapshot.epoch:
        raise Refusal(
            Reason.EPOCH_MISMATCH,
            f"host {host} observed epoch {observation.epoch!r}, the store's is {snapshot.epoch!r}",
            "the host works towards the store's epoch once it has its desired state",
            host=host,
        )
    live = snapshot.sessions.get(host)
    revision = live.mod_revision if live is not None else 0
    # A session that this snapshot has not reached yet may be the live one; the guard in the store decides.
    superseded = revision != session_revision and session_revision <= max(revision, snapshot.revision)
    if superseded or observation.session not in (0, session_revision):
        raise Refusal(
            Reason.SESSION_SUPERSEDED,
            f"session {session_revision} of host {host} is not its live one ({revision or 'none'})",
            "the agent opens a new session",
            host=host,
        )


def _host_write(
    snapshot: Snapshot, host: str, observation: Observation, native: Native, now_ms: int
) -> Iterator[_Write]:
    """`observed_revision` moves, and networks leave the list, only by complete observations: it is what says that
    nothing is left of a network (law 3), no link and no address. It may go back, when an agent returns with an older
    desired state."""
    stored = snapshot.host_status.get(host)
    before = stored.value if stored is not None else HostStatus()
    networks = {network.name for network in observation.networks}
    networks.update(seen.network for seen in observation.endpoints)
    complete = observation.complete and (observation.endpoints_complete or not _has_addresses(snapshot, host))
    if not complete:
        networks.update(before.networks)
    status = replace(
        before,
        docker=observation.docker,
        uplinks=tuple(observation.uplinks),
        problems=(*observation.problems, *native.problems),
        networks=tuple(sorted(networks)),
        observed_revision=observation.revision if complete else before.observed_revision,
        observed_ms=before.observed_ms,
        events=_events(before.events, observation.events),
        disputed=native.disputed,
    )
    if stored is None or status != before:
        yield None, Put(keys.host_status(host), codec.encode(replace(status, observed_ms=now_ms)))


def _has_addresses(snapshot: Snapshot, host: str) -> bool:
    """Whether the host has an account; agents that keep no ledger never say that theirs is whole."""
    here = snapshot.attachments.get(host, {}).values()
    return host in snapshot.given or any(stored.value.origin is Origin.DOCKER for stored in here)


def _events(before: tuple[Event, ...], told: tuple[Event, ...]) -> tuple[Event, ...]:
    """The latest of those that are known and those that are told, each once, newest last."""
    return tuple(sorted({*before, *told}, key=lambda event: (event.at_ms, event.object, event.message))[-EVENTS:])


def _network_writes(snapshot: Snapshot, host: str, observation: Observation, now_ms: int) -> Iterator[_Write]:
    seen: dict[str, NetworkObservation] = {network.name: network for network in observation.networks}
    for name, found in seen.items():
        network = snapshot.networks.get(name)
        if network is None:
            continue
        key = keys.network_status(host, name)
        stored = snapshot.network_status.get((host, name))
        status = NetworkHostStatus(
            phase=found.phase,
            reason=found.reason,
            message=found.message,
            link=found.link,
            owned=found.owned,
            mtu=found.mtu,
            observed_ms=stored.value.observed_ms if stored is not None else now_ms,
            docker=found.docker,
            docker_message=found.docker_message,
        )
        if stored is None or stored.value != status:
            guard = Unchanged(keys.network(name), network.mod_revision)
            yield guard, Put(key, codec.encode(replace(status, observed_ms=now_ms)))
    for name in snapshot.networks_seen.get(host, {}):
        if name not in snapshot.networks or (name not in seen and observation.complete):
            yield None, Delete(keys.network_status(host, name))


def _attachment_writes(
    snapshot: Snapshot,
    stored: Stored[AttachmentRecord],
    found: AttachmentObservation | None,
    complete: bool,
    now_ms: int,
) -> Iterator[_Write]:
    record = stored.value
    last = snapshot.attachment_status.get((record.host, record.name))
    if found is None and not (complete and last is not None):
        return
    status = _status(record, found, last.value.observed_ms if last is not None else now_ms)
    if last is None or last.value != status:
        key = keys.attachment(record.host, record.name)
        put = Put(keys.attachment_status(record.host, record.name), codec.encode(replace(status, observed_ms=now_ms)))
        yield Unchanged(key, stored.mod_revision), put


def _status(record: AttachmentRecord, found: AttachmentObservation | None, observed_ms: int) -> AttachmentStatus:
    if found is None:
        phase = Phase.DETACHING if record.detaching else Phase.PENDING
        return AttachmentStatus(phase=phase, observed_ms=observed_ms)
    return AttachmentStatus(
        phase=Phase.DETACHING if record.detaching else found.phase,
        reason=found.reason,
        message=found.message,
        ifname=found.ifname,
        mac=found.mac,
        addresses=found.addresses,
        target_id=found.target_id,
        present=found.present,
        observed_ms=observed_ms,
    )


def _packed(session: Guard, writes: list[_Write]) -> Iterator[Txn]:
    """As few transactions as fit."""
    room = MAX_OPS - 1
    for start in range(0, len(writes), room):
        part = writes[start : start + room]
        yield Txn((session, *(guard for guard, _ in part if guard is not None)), tuple(op for _, op in part))
