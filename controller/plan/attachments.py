"""Attach and detach. Pure.

Guards of an attach: the attachment is absent; network and host are as read (so deleting, draining, forgetting and
every change of selector, excludes or gateway in between fail it); the addresses are absent, or resting as read; the
MAC is unclaimed. All are mod-revisions of keys, so nothing deleted and made anew can revive them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from controller.plan import macs
from controller.plan.addresses import (
    Choice,
    Cursors,
    Owner,
    choose,
    holding_key,
    keep_seconds,
    parse_requested,
    release_ops,
    requested,
)
from controller.plan.placement import check_place, live_network, open_host, readable, warnings_of
from controller.plan.prefixes import pool
from controller.plan.requests import AttachmentRequest
from controller.state import codec, keys
from controller.state.records import (
    AddressKind,
    AddressRecord,
    AttachmentRecord,
    Claim,
    HostRecord,
    NetworkRecord,
)
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import Absent, Delete, Guard, Op, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.ids import check_attachment_name, check_ifname, check_mac, parse_address
from trunkline.model import Origin, Prefix, Target, TargetKind


@dataclass(frozen=True, slots=True)
class AttachPlan:
    """`txn` is None when the attachment is there already as asked."""

    txn: Txn | None
    record: AttachmentRecord
    existed: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DetachPlan:
    """`gone`: nothing of that name exists. `txn` is None when it is gone or detaching already."""

    txn: Txn | None
    record: AttachmentRecord | None
    gone: bool = False
    warnings: tuple[str, ...] = ()


def default_name(target: Target, network: str) -> str:
    """The name of an attachment that was given none: "<target>/<network>", made of legal characters."""
    value = re.sub(r"[^a-zA-Z0-9_.:@/-]+", "-", target.value)
    value = re.sub(r"/+", "/", value).strip("/")
    kind = "" if target.kind is TargetKind.CONTAINER else f"{target.kind}:"
    return f"{kind}{value}/{network}"


def _checked(request: AttachmentRequest) -> AttachmentRequest:
    """The request with its defaults filled in; raises for what is malformed in itself."""
    target = request.target
    if not target.value or (target.kind is TargetKind.NETNS and not target.value.startswith("/")):
        what = "a path such as /run/netns/blue" if target.kind is TargetKind.NETNS else "a container's name or id"
        raise Refusal(Reason.INVALID_ARGUMENT, f"target {str(target)!r} is not valid", f"write {what}")
    if target.kind is TargetKind.PID and not (target.value.isdigit() and 0 < int(target.value[:12]) < 1 << 22):
        raise Refusal(Reason.INVALID_ARGUMENT, f"process id {target.value!r} is not valid", "write 1 to 4194303")
    if request.no_ip and request.addresses:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"an attachment without address cannot have {', '.join(request.addresses)}",
            "drop either the addresses or --no-ip",
        )
    if len(request.owner) > 255 or any(ord(c) < 32 for c in request.owner):
        raise Refusal(Reason.INVALID_ARGUMENT, f"owner {request.owner!r} is not valid", "use up to 255 characters")
    return AttachmentRequest(
        host=request.host,
        network=request.network,
        target=target,
        name=check_attachment_name(request.name or default_name(target, request.network)),
        addresses=tuple(text.strip() for text in request.addresses),
        mac=check_mac(request.mac) if request.mac else "",
        no_ip=request.no_ip,
        ifname=check_ifname(request.ifname) if request.ifname else "",
        default_route=request.default_route,
        accept_ra=request.accept_ra,
        owner=request.owner or str(target),
    )


def attach(snapshot: Snapshot, request: AttachmentRequest, cursors: Cursors, draw: int, now_ms: int) -> AttachPlan:
    """Plan an attachment; `draw` is 64 random bits. Idempotent by name.

    Raises HOST_NOT_FOUND, HOST_FORGETTING, HOST_DRAINED, HOST_NOT_SELECTED, NETWORK_NOT_FOUND, NETWORK_DELETING,
    UPLINK_NOT_ON_HOST, UPLINK_MTU, ATTACHMENT_EXISTS, ATTACHMENT_DETACHING, IFNAME_TAKEN, INVALID_*, MAC_TAKEN,
    POOL_EXHAUSTED, ADDRESS_*, STORE_CORRUPT.
    """
    request = _checked(request)
    key = keys.attachment(request.host, request.name)
    existing = snapshot.attachment(request.host, request.name)
    if existing is not None:
        return _existing(snapshot, request, existing.value)
    readable(snapshot, key, keys.network(request.network), keys.host(request.host))
    host = open_host(snapshot, request.host)
    network = live_network(snapshot, request.network)
    check_place(snapshot, host.value, network.value)
    warnings = warnings_of(snapshot, request, network.value)
    plan = claim(snapshot, request, host, network, cursors, draw, now_ms)
    return replace(plan, warnings=(*warnings, *plan.warnings))


def claim(
    snapshot: Snapshot,
    request: AttachmentRequest,
    host: Stored[HostRecord],
    network: Stored[NetworkRecord],
    cursors: Cursors,
    draw: int,
    now_ms: int,
    origin: Origin = Origin.TRUNKLINE,
) -> AttachPlan:
    """Plan an attachment that nothing speaks against: the request is complete, its name free, its place checked.
    Raises what the choice of addresses and MAC raises."""
    choices = _choose(snapshot, request, network.value, cursors, now_ms)
    mac = _mac(snapshot, request, network.value, choices, draw)
    record = replace(_record(request, choices, mac, now_ms), origin=origin)
    return AttachPlan(_txn(record, host, network, choices, mac), record, False, _notes(choices))


def _choose(
    snapshot: Snapshot, request: AttachmentRequest, network: NetworkRecord, cursors: Cursors, now_ms: int
) -> list[tuple[Choice, Prefix]]:
    owner = Owner(request.host, request.owner)
    asked: dict[str, Choice] = {}
    for text in request.addresses:
        address, prefix = parse_requested(text, network.prefixes, network.name)
        if prefix.cidr in asked:
            raise Refusal(
                Reason.INVALID_ARGUMENT,
                f"two addresses of {prefix.cidr} were asked for ({', '.join(request.addresses)})",
                "ask for one address per family",
            )
        asked[prefix.cidr] = requested(snapshot, network.name, prefix, address, owner, now_ms)
    if request.no_ip:
        return []
    choices = []
    for prefix in network.prefixes:
        choice = asked.get(prefix.cidr)
        if choice is None:
            cursor = cursors.of(network.name, 6 if ":" in prefix.cidr else 4)
            choice = choose(snapshot, network.name, prefix, owner, cursor, now_ms)
        choices.append((choice, prefix))
    return choices


def _mac(
    snapshot: Snapshot,
    request: AttachmentRequest,
    network: NetworkRecord,
    choices: list[tuple[Choice, Prefix]],
    draw: int,
) -> macs.MacChoice:
    if request.mac:
        return macs.claimed(snapshot, request.mac)
    for choice, _ in choices:
        if isinstance(choice.address, IPv4Address):
            return macs.built(snapshot, network.number, choice.address) or macs.drawn(snapshot, draw)
    return macs.drawn(snapshot, draw)


def _bare(text: str) -> str:
    """Canonical text of an address, its prefix length left out."""
    return str(parse_address(text.partition("/")[0]))


def _record(
    request: AttachmentRequest, choices: list[tuple[Choice, Prefix]], mac: macs.MacChoice, now_ms: int
) -> AttachmentRecord:
    return AttachmentRecord(
        host=request.host,
        name=request.name,
        network=request.network,
        target=request.target,
        mac=mac.mac,
        owner=request.owner,
        addresses=tuple(f"{choice.address!s}/{pool(prefix).net.prefixlen}" for choice, prefix in choices),
        requested=tuple(_bare(text) for text in request.addresses),
        requested_mac=request.mac,
        mac_claimed=mac.claimed,
        no_ip=request.no_ip,
        ifname=request.ifname,
        default_route=request.default_route,
        accept_ra=request.accept_ra,
        created_ms=now_ms,
    )


def _notes(choices: list[tuple[Choice, Prefix]]) -> tuple[str, ...]:
    return tuple(choice.note for choice, _ in choices if choice.note)


def _txn(
    record: AttachmentRecord,
    host: Stored[HostRecord],
    network: Stored[NetworkRecord],
    choices: list[tuple[Choice, Prefix]],
    mac: macs.MacChoice,
) -> Txn:
    key = keys.attachment(record.host, record.name)
    facts: list[Absent | Unchanged] = [
        Absent(key),
        Unchanged(keys.network(record.network), network.mod_revision),
        Unchanged(keys.host(record.host), host.mod_revision),
        *(choice.guard for choice, _ in choices),
        *mac.guards,
    ]
    guards: dict[str, Guard] = {}
    for fact in facts:
        guards.setdefault(fact.key, fact)
    path = codec.Path(keys.ATTACHMENTS, (record.host, record.name))
    ops: list[Op] = [Put(key, codec.encode(record), known=(path, record))]
    for choice, _ in choices:
        held = AddressRecord(
            kind=AddressKind.ATTACHMENT,
            owner=record.owner,
            host=record.host,
            holder=record.name,
            since_ms=record.created_ms,
            promised=choice.promised,
        )
        path = codec.Path(keys.ADDRESSES, (record.network, choice.address))
        ops.append(Put(choice.guard.key, codec.encode(held), known=(path, held)))
    if mac.claimed:
        ops.append(Put(keys.mac(mac.mac), codec.encode(Claim(holding_key(record.host, record.name)))))
    return Txn(tuple(guards.values()), tuple(ops))


def _existing(snapshot: Snapshot, request: AttachmentRequest, record: AttachmentRecord) -> AttachPlan:
    where = f"attachment {record.name} on host {record.host}"
    facts = {"host": record.host, "attachment": record.name}
    if record.detaching:
        raise Refusal(Reason.ATTACHMENT_DETACHING, f"{where} is being detached", "wait until it is gone", **facts)
    asked = (
        ("network", record.network, request.network),
        ("target", str(record.target), str(request.target)),
        ("addresses", " ".join(sorted(record.requested)), " ".join(sorted(map(_bare, request.addresses)))),
        ("MAC", record.requested_mac, request.mac),
        ("--no-ip", record.no_ip, request.no_ip),
        ("interface name", record.ifname, request.ifname),
        ("default route", record.default_route, request.default_route),
        ("--ra", record.accept_ra, request.accept_ra),
        ("owner", record.owner, request.owner),
    )
    differs = [f"{what} {have or 'not set'}, asked for {want or 'none'}" for what, have, want in asked if have != want]
    if differs:
        raise Refusal(
            Reason.ATTACHMENT_EXISTS,
            f"{where} exists with another spec: {'; '.join(differs)}",
            "give the new one another --name, or detach the old one first",
            **facts,
        )
    warning = f"host {record.host} has no live session; the interface is made when it returns"
    return AttachPlan(None, record, True, () if record.host in snapshot.sessions else (warning,))


def detach(snapshot: Snapshot, host: str, name: str) -> DetachPlan:
    """Plan to mark an attachment for removal; it holds its addresses until its host was seen without it (law 6).
    Raises NOT_DETACHABLE for one that was not asked for by attaching, STORE_CORRUPT."""
    key = keys.attachment(host, name)
    readable(snapshot, key)
    stored = snapshot.attachment(host, name)
    if stored is None:
        return DetachPlan(None, None, True)
    if stored.value.origin is not Origin.TRUNKLINE:
        raise _not_ours(stored.value)
    away = f"host {host} has no live session; the addresses stay held until it returns or is forgotten"
    warnings = () if host in snapshot.sessions else (away,)
    if stored.value.detaching:
        return DetachPlan(None, stored.value, False, warnings)
    record = replace(stored.value, detaching=True)
    txn = Txn((Unchanged(key, stored.mod_revision),), (Put(key, codec.encode(record)),))
    return DetachPlan(txn, record, False, warnings)


def _not_ours(record: AttachmentRecord) -> Refusal:
    where = f"attachment {record.name} on host {record.host}"
    if record.origin is Origin.DOCKER:
        what = f"{where} was made by Docker, which alone can take it away"
        remedy = f"run `docker network disconnect {record.network} {record.target}` on host {record.host}"
    else:
        what = f"{where} is the host's own access to network {record.network}"
        remedy = f"turn it off: `trunkline network update {record.network} --no-host-access`"
    return Refusal(Reason.NOT_DETACHABLE, what, remedy, host=record.host, attachment=record.name)


def removal(
    snapshot: Snapshot, stored: Stored[AttachmentRecord], now_ms: int, lease: int
) -> tuple[tuple[Guard, ...], tuple[Op, ...]]:
    """Guards and writes that take an attachment out of the store, with its status and MAC claim, its addresses
    resting on `lease`. A key that does not point back at the attachment is left alone."""
    record = stored.value
    destroyed = _destroyed(snapshot, record)
    me = holding_key(record.host, record.name)
    key = keys.attachment(record.host, record.name)
    # A status may have been written since the snapshot, and no guard sees it; deleting an absent key is no error.
    ops: list[Op] = [Delete(key), Delete(keys.attachment_status(record.host, record.name))]
    if record.mac_claimed and record.mac in snapshot.macs and snapshot.macs[record.mac].value.holder == me:
        ops.append(Delete(keys.mac(record.mac)))
    network = snapshot.networks.get(record.network)
    guards, freed = release_ops(
        network.value if network is not None else None,
        _held_by(snapshot, record),
        now_ms,
        lease,
        # A container that Docker attached can come back to its own host only, which is forgotten if we are here.
        hold=destroyed is None and record.origin is not Origin.DOCKER,
    )
    seen = (destroyed,) if destroyed is not None else ()
    return (Unchanged(key, stored.mod_revision), *seen, *guards), (*ops, *freed)


def _destroyed(snapshot: Snapshot, record: AttachmentRecord) -> Guard | None:
    """The fact that the attachment's container was seen to be gone for good when it was last observed: then nobody
    comes back for its addresses, and they rest without being held (law 5). None when it was not."""
    stored = snapshot.attachment_status.get((record.host, record.name))
    if record.target.kind is not TargetKind.CONTAINER or stored is None or stored.value.present:
        return None
    if stored.value.reason != Reason.CONTAINER_NOT_FOUND.name:
        return None
    return Unchanged(keys.attachment_status(record.host, record.name), stored.mod_revision)


def lease_seconds(snapshot: Snapshot, record: AttachmentRecord) -> int:
    """Seconds the lease must live at least that an attachment's addresses rest on once it is let go; 0 when they are
    free at once."""
    stored = snapshot.networks.get(record.network)
    if stored is None or not record.addresses:
        return 0
    return keep_seconds(stored.value, hold=_destroyed(snapshot, record) is None)


def _held_by(snapshot: Snapshot, record: AttachmentRecord) -> tuple[tuple[str, Stored[AddressRecord]], ...]:
    held = []
    for text in record.addresses:
        address = parse_address(text.partition("/")[0])
        stored = snapshot.addresses.get(record.network, {}).get(address)
        if stored is not None and (stored.value.host, stored.value.holder) == (record.host, record.name):
            held.append((keys.address(record.network, address), stored))
    return tuple(held)


def finish_detach(
    snapshot: Snapshot, host: str, name: str, now_ms: int, lease: int, observed_revision: int
) -> Txn | None:
    """The transaction that lets a detaching attachment go after `settle` found it gone in an observation at
    `observed_revision`; None when there is nothing to let go. `lease` lives `lease_seconds` at least.

    Guarded by the attachment itself, so a second call, or one planned before a change, does nothing. An attachment of
    the same name that was made, or marked, after that observation is another matter: it was not seen gone (law 6)."""
    stored = snapshot.attachment(host, name)
    if stored is None or not stored.value.detaching or stored.mod_revision > observed_revision:
        return None
    return Txn(*removal(snapshot, stored, now_ms, lease))
