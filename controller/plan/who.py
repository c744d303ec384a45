"""Who holds an address, a MAC, or what a container holds. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from controller.plan.prefixes import pool
from controller.state import keys
from controller.state.records import AddressKind, AddressRecord, AttachmentRecord
from controller.state.snapshot import Snapshot
from trunkline.ids import IPAddress
from trunkline.model import Origin, Phase

_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")
_ID = re.compile(r"[0-9a-f]{6,64}")
_MEANT = (AddressKind.KEPT, AddressKind.RESERVED, AddressKind.STOCK)


@dataclass(frozen=True, slots=True)
class Holding:
    """One fact about an address or a MAC. `kind`: attachment, stock, kept, resting, held, reserved, conflict,
    gateway, excluded, or unreadable; times are Unix milliseconds, 0 when open."""

    network: str
    address: str
    kind: str
    host: str = ""
    attachment: str = ""
    target: str = ""
    target_id: str = ""
    mac: str = ""
    phase: str = ""
    since_ms: int = 0
    until_ms: int = 0
    observed: bool = False
    owner: str = ""
    connected: bool = False
    observed_ms: int = 0
    promised: bool = False


def who(snapshot: Snapshot, query: str, now_ms: int) -> tuple[Holding, ...]:
    """Every holder of an address (with or without prefix length) or a MAC, or all that a container (name, or id from
    6 digits on), an attachment ("<name>" or "<host>/<name>") or "<host>/<container>" holds, with what is kept for or
    promised to an owner of that name; in order of network and address. An empty answer is an answer."""
    query = query.strip()
    try:
        address = ipaddress.ip_address(query.partition("/")[0])
    except ValueError:
        pass
    else:
        return _sorted(_at(snapshot, address, now_ms))
    if _MAC.fullmatch(query):
        return _sorted(_with_mac(snapshot, query.lower().replace("-", ":")))
    return _sorted((*_named(snapshot, query), *_meant_for(snapshot, query, now_ms))) if query else ()


def _sorted(holdings: Iterable[Holding]) -> tuple[Holding, ...]:
    def order(holding: Holding) -> tuple[str, int, int, str, str]:
        if not holding.address:
            return holding.network, 9, 0, holding.host, holding.attachment
        address = ipaddress.ip_address(holding.address)
        return holding.network, address.version, int(address), holding.host, holding.attachment

    return tuple(sorted(holdings, key=order))


def _at(snapshot: Snapshot, address: IPAddress, now_ms: int) -> Iterator[Holding]:
    for name, stored in snapshot.networks.items():
        key = keys.address(name, address)
        record = snapshot.addresses.get(name, {}).get(address)
        if record is not None:
            yield of_record(snapshot, name, address, record.value, now_ms)
        elif key in snapshot.broken:
            yield Holding(name, str(address), "unreadable")
        for prefix in stored.value.prefixes:
            limits = pool(prefix)
            if address.version != limits.net.version:
                continue
            if int(address) == limits.gateway:
                yield Holding(name, str(address), "gateway")
            elif limits.is_excluded(int(address)):
                yield Holding(name, str(address), "excluded")


def of_record(snapshot: Snapshot, network: str, address: IPAddress, record: AddressRecord, now_ms: int) -> Holding:
    """What the record of one address says, with the attachment that holds it."""
    if record.kind is AddressKind.ATTACHMENT:
        attachment = snapshot.attachment(record.host, record.holder)
        if attachment is not None:
            held = _of_attachment(snapshot, attachment.value, str(address))
            return replace(held, promised=record.promised)
    kind, until = record.kind.value, 0
    if record.kind is AddressKind.RESTING:
        resting = now_ms < record.rest_until_ms
        kind, until = ("resting", record.rest_until_ms) if resting else ("held", record.hold_until_ms)
    elif record.kind is AddressKind.KEPT:
        until = max(record.rest_until_ms, record.hold_until_ms)
    return Holding(
        network=network,
        address=str(address),
        kind=kind,
        host=record.host,
        attachment=record.holder,
        since_ms=record.since_ms,
        until_ms=until,
        owner=record.owner,
        connected=record.host in snapshot.sessions,
        promised=record.promised or record.kind is AddressKind.RESERVED,
    )


def _of_attachment(snapshot: Snapshot, record: AttachmentRecord, address: str) -> Holding:
    stored = snapshot.attachment_status.get((record.host, record.name))
    status = stored.value if stored is not None else None
    phase = Phase.DETACHING if record.detaching else status.phase if status is not None else Phase.PENDING
    observed = status is not None and status.present
    if status is not None and address:
        observed = observed and address in {text.partition("/")[0] for text in status.addresses}
    return Holding(
        network=record.network,
        address=address,
        kind="attachment",
        host=record.host,
        attachment=record.name,
        target=_target(record),
        target_id=status.target_id if status is not None else "",
        mac=record.mac,
        phase=phase.value,
        since_ms=record.created_ms,
        observed=observed,
        owner=record.owner,
        connected=record.host in snapshot.sessions,
        observed_ms=status.observed_ms if status is not None else 0,
    )


def _target(record: AttachmentRecord) -> str:
    """What has the interface; "" for the host itself."""
    return "" if record.origin is Origin.HOST else str(record.target)


def _each(snapshot: Snapshot, record: AttachmentRecord) -> Iterator[Holding]:
    """One holding per address, or one without."""
    for text in record.addresses or ("",):
        bare = text.partition("/")[0]
        stored = snapshot.addresses.get(record.network, {}).get(ipaddress.ip_address(bare)) if bare else None
        promised = stored is not None and stored.value.promised
        yield replace(_of_attachment(snapshot, record, bare), promised=promised)


def _records(snapshot: Snapshot) -> Iterator[AttachmentRecord]:
    for named in snapshot.attachments.values():
        for stored in named.values():
            yield stored.value


def _with_mac(snapshot: Snapshot, mac: str) -> Iterator[Holding]:
    for record in _records(snapshot):
        stored = snapshot.attachment_status.get((record.host, record.name))
        if mac == record.mac or (stored is not None and stored.value.mac == mac):
            yield from _each(snapshot, record)


def _named(snapshot: Snapshot, query: str) -> Iterator[Holding]:
    is_id = _ID.fullmatch(query) is not None
    for record in _records(snapshot):
        names = {record.name, f"{record.host}/{record.name}"}
        if record.origin is not Origin.HOST:
            names |= {record.target.value, str(record.target), f"{record.host}/{record.target.value}"}
        if query in names or (is_id and _has_id(snapshot, record, query)):
            yield from _each(snapshot, record)


def _meant_for(snapshot: Snapshot, query: str, now_ms: int) -> Iterator[Holding]:
    """What is kept for, promised to or given only to an owner of that name, "<name>" or "<host>/<name>"."""
    for network, held in snapshot.addresses.items():
        for address, stored in held.items():
            record = stored.value
            if record.kind in _MEANT and record.owner and query in (record.owner, f"{record.host}/{record.owner}"):
                yield of_record(snapshot, network, address, record, now_ms)


def _has_id(snapshot: Snapshot, record: AttachmentRecord, prefix: str) -> bool:
    stored = snapshot.attachment_status.get((record.host, record.name))
    return record.target.value.startswith(prefix) or (stored is not None and stored.value.target_id.startswith(prefix))
