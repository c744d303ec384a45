"""From what a host says of the addresses it was given to their records and to attachments of Docker. Pure.

Listed addresses are written as the host says, whatever revision it works towards: it alone decides. One that it does
not list is let go only when it was told of the record as it is, and says that its list is whole. Records that point
at each other change in one transaction, guarded by the session and by each of them as read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controller.plan import accounts
from controller.plan.accounts import At, Fate, Leases
from controller.plan.users import User, docker_attachments, grouped, mac_duplicates, user
from controller.state import codec, keys
from controller.state.records import AddressKind, AddressRecord, AttachmentRecord
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import Absent, Delete, Guard, Op, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.ids import IPAddress, parse_address
from trunkline.model import EndpointObservation, EndpointState, Observation, Problem

Write = tuple[Guard | None, Op]


@dataclass(frozen=True, slots=True)
class Native:
    """`txns` are independent of each other, and so are `writes`, which say only how attachments stand. `wanting`:
    networks of which addresses wait for a lease that lives so many seconds at least. `disputed` addresses are listed
    by the host and somebody else's."""

    txns: tuple[Txn, ...] = ()
    writes: tuple[Write, ...] = ()
    problems: tuple[Problem, ...] = ()
    disputed: tuple[tuple[str, str], ...] = ()
    wanting: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Change:
    """One key: what it is to hold, on which lease, and what it held."""

    key: str
    known: codec.Path
    record: AddressRecord | AttachmentRecord | None
    old: Stored[Any] | None
    lease: int = 0
    more: tuple[Op, ...] = ()


def settle_native(
    snapshot: Snapshot, host: str, session: Guard, observation: Observation, now_ms: int, leases: Leases
) -> Native:
    """What an observation changes of a host's account. An unchanged one changes nothing."""
    mine, problems, disputed = _listed(snapshot, host, observation)
    fates, staying = _unlisted(snapshot, host, mine, observation, now_ms, leases)
    used = {at: seen for at, seen in mine.items() if seen.state is EndpointState.USED}
    groups = grouped(snapshot, host, used, staying)
    users: dict[str, User] = {}
    holders: dict[At, str] = {}
    for name, group in groups.items():
        network = _network_of(snapshot, host, name, [seen for _, seen in group if seen is not None])
        users[name] = user(snapshot, host, name, group, snapshot.networks[network].value, now_ms)
        holders.update({(network, address): name for address, _ in group})
    changes = [*_address_changes(snapshot, host, mine, fates, holders, now_ms)]
    changes += _attachment_changes(snapshot, host, users, now_ms)
    changed = {change.key for change in changes}
    return Native(
        tuple(_txns(snapshot, session, changes)),
        tuple(_status_writes(snapshot, users, changed, now_ms)),
        (*problems, *mac_duplicates(snapshot, users.values())),
        disputed,
        {at[0]: fate.wanting for at, fate in fates.items() if fate.wanting},
    )


def _network_of(snapshot: Snapshot, host: str, name: str, seen: list[EndpointObservation]) -> str:
    return seen[0].network if seen else snapshot.attachments[host][name].value.network


def _listed(
    snapshot: Snapshot, host: str, observation: Observation
) -> tuple[dict[At, EndpointObservation], tuple[Problem, ...], tuple[tuple[str, str], ...]]:
    """Addresses that are the host's, or become so by being listed; and those that are somebody else's."""
    mine: dict[At, EndpointObservation] = {}
    problems, disputed = [], []
    for seen in observation.endpoints:
        network = snapshot.networks.get(seen.network)
        try:
            address = parse_address(seen.address)
        except Refusal as error:
            problems.append(Problem("host", host, Reason.INVALID_ARGUMENT.name, f"it lists an address: {error.text}"))
            continue
        if network is None or _is_unreadable(snapshot, host, seen.network, address):
            continue
        if network.value.deleting and not _is_known(snapshot, host, seen.network, address):
            continue  # what is claimed anew would keep the network; the host is waited for in any case (law 3)
        problem = accounts.objection(snapshot, host, network.value, address, seen)
        if problem is None:
            mine[seen.network, address] = seen
        else:
            problems.append(problem)
            disputed.append((seen.network, str(address)))
    return mine, tuple(problems), tuple(sorted(disputed))


def _is_unreadable(snapshot: Snapshot, host: str, network: str, address: IPAddress) -> bool:
    """Its record, or that of its holder: nothing is known then, and nothing is written."""
    if not snapshot.broken:
        return False
    stored = snapshot.addresses.get(network, {}).get(address)
    holder = keys.attachment(host, stored.value.holder) if stored is not None else ""
    return keys.address(network, address) in snapshot.broken or holder in snapshot.broken


def _is_known(snapshot: Snapshot, host: str, network: str, address: IPAddress) -> bool:
    stored = snapshot.addresses.get(network, {}).get(address)
    return stored is not None and accounts.is_given(snapshot, host, stored.value)


def _unlisted(
    snapshot: Snapshot,
    host: str,
    mine: Mapping[At, EndpointObservation],
    observation: Observation,
    now_ms: int,
    leases: Leases,
) -> tuple[dict[At, Fate], dict[At, str]]:
    """Of the addresses on the host's account that it does not list: what becomes of those it let go, and the holders
    of those in use that stay as they are."""
    fates: dict[At, Fate] = {}
    staying: dict[At, str] = {}
    account = dict.fromkeys(snapshot.given.get(host, ()), "")
    for name, holder in docker_attachments(snapshot, host).items():
        for text in holder.value.addresses:
            account[holder.value.network, parse_address(text.partition("/")[0])] = name
    for at, holder_name in account.items():
        if at in mine:
            continue
        stored = snapshot.addresses.get(at[0], {}).get(at[1])
        if stored is None or (stored.value.host, stored.value.holder) != (host, holder_name):
            if snapshot.exists(accounts.key(at)) and holder_name:
                staying[at] = holder_name
            continue
        fate = None
        if observation.endpoints_complete and stored.mod_revision <= observation.revision:
            fate = accounts.let_go(stored, snapshot.networks.get(at[0]), now_ms, leases)
            fates[at] = fate
        if holder_name and (fate is None or fate.wanting):
            staying[at] = holder_name
    return fates, staying


def _address_changes(
    snapshot: Snapshot,
    host: str,
    mine: Mapping[At, EndpointObservation],
    fates: Mapping[At, Fate],
    holders: Mapping[At, str],
    now_ms: int,
) -> Iterator[_Change]:
    for at, seen in mine.items():
        stored = snapshot.addresses.get(at[0], {}).get(at[1])
        network = snapshot.networks[at[0]].value
        record = accounts.held(seen, stored, network, host, holders.get(at, ""), now_ms)
        if stored is None or stored.value != record:
            yield _Change(accounts.key(at), codec.Path(keys.ADDRESSES, at), record, stored)
    for at, fate in fates.items():
        stored = snapshot.addresses[at[0]][at[1]]
        if not fate.wanting and fate.record != stored.value:
            yield _Change(accounts.key(at), codec.Path(keys.ADDRESSES, at), fate.record, stored, fate.lease)


def _attachment_changes(snapshot: Snapshot, host: str, users: Mapping[str, User], now_ms: int) -> Iterator[_Change]:
    for name, wanted in users.items():
        old = snapshot.attachment(host, name)
        if old is not None and old.value == wanted.record:
            continue
        more: tuple[Op, ...] = ()
        if wanted.status is not None:
            status = codec.encode(replace(wanted.status, observed_ms=now_ms))
            more = (Put(keys.attachment_status(host, name), status),)
        path = codec.Path(keys.ATTACHMENTS, (host, name))
        yield _Change(keys.attachment(host, name), path, wanted.record, old, 0, more)
    for name, old in docker_attachments(snapshot, host).items():
        if name not in users:
            gone = (Delete(keys.attachment_status(host, name)),)
            yield _Change(keys.attachment(host, name), codec.Path(keys.ATTACHMENTS, (host, name)), None, old, 0, gone)


def _status_writes(snapshot: Snapshot, users: Mapping[str, User], changed: set[str], now_ms: int) -> Iterator[Write]:
    """How attachments stand that stay as they are."""
    for name, wanted in users.items():
        host, key = wanted.record.host, keys.attachment(wanted.record.host, name)
        if wanted.status is None or key in changed:
            continue
        last = snapshot.attachment_status.get((host, name))
        if last is None or replace(last.value, observed_ms=0) != wanted.status:
            put = Put(keys.attachment_status(host, name), codec.encode(replace(wanted.status, observed_ms=now_ms)))
            yield Unchanged(key, snapshot.mod_revision(key)), put


def _txns(snapshot: Snapshot, session: Guard, changes: list[_Change]) -> Iterator[Txn]:
    """One transaction for all that points at each other."""
    leader = {change.key: change.key for change in changes}

    def find(key: str) -> str:
        while leader[key] != key:
            leader[key] = key = leader[leader[key]]
        return key

    for change in changes:
        for other in _points_at(change):
            if other in leader:
                leader[find(change.key)] = find(other)
    parts: dict[str, list[_Change]] = {}
    for change in changes:
        parts.setdefault(find(change.key), []).append(change)
    for part in parts.values():
        yield _txn(snapshot, session, part)


def _points_at(change: _Change) -> Iterator[str]:
    for record in (change.record, change.old.value if change.old is not None else None):
        if isinstance(record, AddressRecord) and record.kind is AddressKind.ATTACHMENT:
            yield keys.attachment(record.host, record.holder)


def _txn(snapshot: Snapshot, session: Guard, part: list[_Change]) -> Txn:
    guards: dict[str, Guard] = {session.key if isinstance(session, Unchanged) else "": session}
    ops: list[Op] = []
    for change in part:
        if change.old is None:
            guards[change.key] = Absent(change.key)
            network = change.known.parts[0] if change.known.family == keys.ADDRESSES else ""
            if network:
                # Else it could appear under a network that is gone by now.
                key = keys.network(network)
                guards[key] = Unchanged(key, snapshot.networks[network].mod_revision)
        else:
            guards[change.key] = Unchanged(change.key, change.old.mod_revision)
        if change.record is None:
            ops.append(Delete(change.key))
        else:
            value = codec.encode(change.record)
            ops.append(Put(change.key, value, change.lease, known=(change.known, change.record)))
        ops += change.more
    return Txn(tuple(guards.values()), tuple(ops))
