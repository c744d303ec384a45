"""Register, drain and forget hosts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from controller.plan.accounts import forgotten
from controller.plan.attachments import removal
from controller.plan.placement import readable, unknown_host
from controller.state import codec, keys
from controller.state.records import Claim, HostRecord, HostStatus, SessionRecord
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import MAX_OPS, Absent, Delete, Guard, NoneNewer, Op, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.ids import check_name
from trunkline.model import HostFacts

_MAX_HOST_NUMBER = (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class RegisterPlan:
    """The revision at which `txn` commits is the session's number."""

    txn: Txn
    record: HostRecord
    existed: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostPlan:
    """`txn` is None when the host is so already."""

    txn: Txn | None
    record: HostRecord
    existed: bool = True
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForgetPlan:
    """`steps` are committed in order, stopping at the first conflict. Unless they were all committed and `finished`
    is set, wait for the snapshot to reach the last commit and plan again. `attachments` ("<host>/<name>") and
    `addresses` are what these steps let go."""

    steps: tuple[Txn, ...]
    attachments: tuple[str, ...]
    addresses: int
    finished: bool


def register(snapshot: Snapshot, facts: HostFacts, replica: str, lease: int, now_ms: int) -> RegisterPlan:
    """Plan a new session of a host on the replica's lease; the host is made at its first one. Raises INVALID_NAME,
    INVALID_ARGUMENT, HOST_MACHINE_MISMATCH, HOST_FORGETTING, NUMBERS_EXHAUSTED, STORE_CORRUPT.

    The host's record is written only when labels changed, since every attach guards it. Guards: record, session and
    status as read, so of two sessions that open at once one plans again and is the later one.
    """
    check_name("host", facts.host)
    _check_facts(facts)
    host_key, status_key = keys.host(facts.host), keys.host_status(facts.host)
    session_key = keys.session(facts.host)
    readable(snapshot, host_key)
    stored = snapshot.hosts.get(facts.host)
    guards: list[Guard] = [_as_read(snapshot, host_key), _as_read(snapshot, session_key)]
    guards.append(_as_read(snapshot, status_key))
    ops: list[Op] = []
    if stored is None:
        number = _free_number(snapshot)
        record = HostRecord(facts.host, facts.machine_id, number, dict(facts.labels), registered_ms=now_ms)
        guards.append(Absent(keys.host_number(number)))
        ops.append(Put(keys.host_number(number), codec.encode(Claim(facts.host))))
    else:
        _check_same(stored.value, facts)
        record = replace(stored.value, labels=dict(facts.labels))
    if stored is None or record != stored.value:
        ops.append(Put(host_key, codec.encode(record)))
    ops.append(Put(session_key, codec.encode(SessionRecord(facts.host, replica, now_ms)), lease))
    ops.append(Put(status_key, codec.encode(_status(snapshot, facts))))
    return RegisterPlan(Txn(tuple(guards), tuple(ops)), record, stored is not None, _twins(snapshot, facts))


def _check_facts(facts: HostFacts) -> None:
    if not facts.machine_id or len(facts.machine_id) > 128:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"host {facts.host} gave no machine-id",
            "make one with `systemd-machine-id-setup` on the host",
            host=facts.host,
        )
    for label, value in facts.labels.items():
        if not label or len(label) > 63 or len(value) > 255 or "=" in label:
            raise Refusal(
                Reason.INVALID_ARGUMENT,
                f"label {label!r} of host {facts.host} is not valid",
                "use up to 63 characters without '=' in the agent's config",
                host=facts.host,
            )


def _check_same(record: HostRecord, facts: HostFacts) -> None:
    if record.machine_id != facts.machine_id:
        raise Refusal(
            Reason.HOST_MACHINE_MISMATCH,
            f"host name {record.name} belongs to the machine with id {record.machine_id}; "
            f"this machine has id {facts.machine_id}",
            f"give this machine another name in its agent's config, or, if it replaces the old one, "
            f"stop that one and run `trunkline host forget {record.name}`",
            host=record.name,
        )
    if record.forgetting:
        raise Refusal(
            Reason.HOST_FORGETTING,
            f"host {record.name} is being forgotten",
            "wait until it is gone; the agent then registers it anew",
            host=record.name,
        )


def _as_read(snapshot: Snapshot, key: str) -> Absent | Unchanged:
    revision = snapshot.mod_revision(key)
    return Unchanged(key, revision) if revision else Absent(key)


def _free_number(snapshot: Snapshot) -> int:
    for number in range(1, _MAX_HOST_NUMBER + 1):
        if not snapshot.exists(keys.host_number(number)):
            return number
    raise Refusal(Reason.NUMBERS_EXHAUSTED, "all host numbers are in use", "forget hosts that are gone")


def _status(snapshot: Snapshot, facts: HostFacts) -> HostStatus:
    """The host's facts over what was last observed: what it still has is only known to be gone from an observation."""
    stored = snapshot.host_status.get(facts.host)
    before = stored.value if stored is not None else HostStatus()
    return replace(
        before, version=facts.version, kernel=facts.kernel, docker=facts.docker, uplinks=tuple(facts.uplinks)
    )


def _twins(snapshot: Snapshot, facts: HostFacts) -> tuple[str, ...]:
    twins = sorted(
        name
        for name, stored in snapshot.hosts.items()
        if stored.value.machine_id == facts.machine_id and name != facts.host
    )
    if not twins:
        return ()
    return (
        f"host {facts.host} has the machine-id of {', '.join(twins)}: a cloned image, or one machine under two names; "
        "run `systemd-machine-id-setup` on the clone, or forget the old name",
    )


def _known(snapshot: Snapshot, name: str) -> Stored[HostRecord]:
    readable(snapshot, keys.host(name))
    stored = snapshot.hosts.get(name)
    if stored is None:
        raise unknown_host(snapshot, name)
    return stored


def drain(snapshot: Snapshot, name: str, undo: bool = False) -> HostPlan:
    """Plan to stop new attachments on a host, or to allow them again. Raises HOST_NOT_FOUND, HOST_FORGETTING."""
    stored = _known(snapshot, name)
    if stored.value.forgetting:
        raise Refusal(Reason.HOST_FORGETTING, f"host {name} is being forgotten", "wait until it is gone", host=name)
    record = replace(stored.value, drained=not undo)
    if record == stored.value:
        return HostPlan(None, record)
    key = keys.host(name)
    return HostPlan(Txn((Unchanged(key, stored.mod_revision),), (Put(key, codec.encode(record)),)), record)


def forget(snapshot: Snapshot, name: str, now_ms: int, lease: int) -> ForgetPlan:
    """Plan to remove a host with everything it held; its addresses rest on `lease`, which must live
    `forget_seconds` at least. Raises HOST_NOT_FOUND, HOST_CONNECTED, STORE_CORRUPT.

    First the host is marked, guarded by the absence of a session: from then on no session opens and no attach or grant
    passes, since both guard or read the record. Then its attachments go in chunks, each guarded by the mark and
    by every attachment as read, and with them what else it was given. Last the host itself goes, if nothing of it is
    newer than the snapshot. Every guard on the mark is a mod-revision, so a host that registers anew under the name
    is not touched by a late transaction.
    """
    stored = _known(snapshot, name)
    key = keys.host(name)
    if name in snapshot.sessions:
        raise Refusal(
            Reason.HOST_CONNECTED,
            f"host {name} has a live session, so it may still use its addresses",
            "stop its agent first, or drain it and detach what it has",
            host=name,
        )
    if not stored.value.forgetting:
        record = replace(stored.value, forgetting=True, drained=True)
        guards = (Unchanged(key, stored.mod_revision), Absent(keys.session(name)))
        return ForgetPlan((Txn(guards, (Put(key, codec.encode(record)),)),), (), 0, False)
    _check_readable(snapshot, name)
    guard = Unchanged(key, stored.mod_revision)
    chunks, let_go, addresses = _removals(snapshot, name, guard, now_ms, lease)
    statuses = [keys.network_status(name, network) for network in snapshot.networks_seen.get(name, {})]
    room = MAX_OPS - 3
    chunks += [Txn((guard,), tuple(Delete(k) for k in statuses[i : i + room])) for i in range(0, len(statuses), room)]
    return ForgetPlan((*chunks, _last(snapshot, stored, guard)), let_go, addresses, True)


def _check_readable(snapshot: Snapshot, name: str) -> None:
    prefix = keys.attachments(name)
    for key in snapshot.broken:
        if key.startswith(prefix):
            raise codec.known_corrupt(key, snapshot.broken[key])


def _removals(
    snapshot: Snapshot, host: str, guard: Guard, now_ms: int, lease: int
) -> tuple[list[Txn], tuple[str, ...], int]:
    chunks: list[Txn] = []
    guards: list[Guard] = [guard]
    ops: list[Op] = []
    addresses = 0
    held = snapshot.attachments.get(host, {})
    parts = [removal(snapshot, held[name], now_ms, lease) for name in sorted(held)]
    parts += _given_back(snapshot, host, now_ms, lease)
    for more_guards, more_ops in parts:
        if max(len(ops) + len(more_ops), len(guards) + len(more_guards)) > MAX_OPS:
            chunks.append(Txn(tuple(guards), tuple(ops)))
            guards, ops = [guard], []
        guards += more_guards
        ops += more_ops
        addresses += sum(guard.key.startswith(keys.ADDRESSES) for guard in more_guards if isinstance(guard, Unchanged))
    if ops:
        chunks.append(Txn(tuple(guards), tuple(ops)))
    return chunks, tuple(f"{host}/{name}" for name in sorted(held)), addresses


def _given_back(
    snapshot: Snapshot, host: str, now_ms: int, lease: int
) -> Iterator[tuple[tuple[Guard, ...], tuple[Op, ...]]]:
    """What the host was given and did not use, or kept."""
    for name, address in snapshot.given.get(host, ()):
        stored, network = snapshot.addresses[name][address], snapshot.networks.get(name)
        key = keys.address(name, address)
        fate = forgotten(stored.value, network.value if network is not None else None, now_ms, lease)
        op = Delete(key) if fate.record is None else Put(key, codec.encode(fate.record), fate.lease)
        yield (Unchanged(key, stored.mod_revision),), (op,)


def _last(snapshot: Snapshot, stored: Stored[HostRecord], guard: Guard) -> Txn:
    name, number = stored.value.name, stored.value.number
    guards = (
        guard,
        Absent(keys.session(name)),
        NoneNewer(keys.attachments(name), snapshot.revision),
        NoneNewer(f"{keys.STATUS_NETWORKS}{name}/", snapshot.revision),
    )
    ops: list[Op] = [Delete(keys.host(name)), Delete(keys.host_status(name))]
    claim = snapshot.host_numbers.get(number)
    if claim is not None and claim.value.holder == name:
        ops.append(Delete(keys.host_number(number)))
    return Txn(guards, tuple(ops))


def forget_seconds(snapshot: Snapshot, name: str) -> int:
    """Seconds the lease of a forgotten host's addresses must live at least: the longest rest or hold of any network."""
    longest = 0
    names = {stored.value.network for stored in snapshot.attachments.get(name, {}).values()}
    for one in names.union(network for network, _ in snapshot.given.get(name, ())):
        network = snapshot.networks.get(one)
        if network is not None:
            longest = max(longest, network.value.rest_seconds, network.value.hold_seconds)
    return longest
