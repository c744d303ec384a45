"""What the agents' DNS is told: who is where, by name. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from controller.state.records import AttachmentRecord
from controller.state.snapshot import Snapshot
from trunkline.model import Origin, TargetKind


@dataclass(frozen=True, slots=True)
class Name:
    """One attachment's names: `container` and the `aliases` are labels below the network; `addresses` without prefix
    length."""

    host: str
    attachment: str
    network: str
    container: str
    addresses: tuple[str, ...]
    aliases: tuple[str, ...] = ()


def names(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Every attachment as (host, name), named or not."""
    for host, attachments in snapshot.attachments.items():
        for name in attachments:
            yield host, name


def name(snapshot: Snapshot, host: str, attachment: str) -> Name | None:
    """How an attachment is found; None while it has no container's name or no address, and once it is detaching.

    The host's own interface is `<host>.host`. Services of compose and swarm are aliases: Docker's embedded server
    answers them too, on one host.
    """
    stored = snapshot.attachment(host, attachment)
    if stored is None or stored.value.detaching:
        return None
    record = stored.value
    container = _container(record)
    if not container or not record.addresses:
        return None
    addresses = tuple(text.partition("/")[0] for text in record.addresses)
    aliases = _aliases(snapshot, record) if record.origin is Origin.DOCKER else ()
    return Name(host, attachment, record.network, container, addresses, aliases)


def _container(record: AttachmentRecord) -> str:
    if record.origin is Origin.HOST:
        return f"{record.host}.host"
    target = record.target
    # An address stands in for the container until Docker has shown which one has it.
    return "" if target.kind is not TargetKind.CONTAINER or _is_address(target.value) else target.value


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _aliases(snapshot: Snapshot, record: AttachmentRecord) -> tuple[str, ...]:
    """The service, where the owner is one of `project/service/number` (compose) or `service.slot` (swarm)."""
    if _shared(snapshot, record):
        return ()  # the user's own words, whatever they look like
    parts = record.owner.split("/")
    if len(parts) == 3 and parts[2].isdecimal():
        return (parts[1],)
    service, _, slot = record.owner.rpartition(".")
    if service and slot.isalnum() and record.target.value.startswith(f"{record.owner}."):
        return (service,)
    return ()


def _shared(snapshot: Snapshot, record: AttachmentRecord) -> bool:
    held = snapshot.addresses.get(record.network, {})
    found = (held.get(ipaddress.ip_interface(text).ip) for text in record.addresses)
    return any(stored is not None and stored.value.shared for stored in found)
