"""Records to JSON bytes and back. Pure, total: only STORE_CORRUPT escapes, whatever the bytes.

A value is one JSON object with the schema number in front: {"v":1,"label":"default",...}. Encoding is
deterministic: fields in order of declaration, mappings in order of key.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from controller.state import keys
from controller.state.records import (
    AddressRecord,
    AttachmentRecord,
    AttachmentStatus,
    Claim,
    EpochRecord,
    HostRecord,
    HostStatus,
    NetworkHostStatus,
    NetworkRecord,
    SessionRecord,
    UplinkRecord,
)
from trunkline.errors import Reason, TrunklineError
from trunkline.ids import DOCKER_NUMBER, MAX_NUMBER, MAX_VLAN, IPAddress

Record = (
    EpochRecord
    | UplinkRecord
    | NetworkRecord
    | NetworkHostStatus
    | Claim
    | AddressRecord
    | AttachmentRecord
    | AttachmentStatus
    | HostRecord
    | HostStatus
    | SessionRecord
)

RECORDS: Final[tuple[type[Any], ...]] = typing.get_args(Record)


@dataclass(frozen=True, slots=True)
class Path:
    """A key taken apart: `family` is its constant prefix in `keys`, `parts` what follows."""

    family: str
    parts: tuple[Any, ...]


Decoded = tuple[Path, Record]
"""A key and its value as they are read."""


class _Head(msgspec.Struct):
    v: int


def _shape(kind: Any) -> Any:
    """The same type with every dataclass in it replaced by a struct that refuses unknown keys."""
    if dataclasses.is_dataclass(kind):
        return _struct(typing.cast("type[Any]", kind), ())
    origin = typing.get_origin(kind)
    if origin is tuple:
        return tuple[tuple(_shape(a) if a is not Ellipsis else a for a in typing.get_args(kind))]  # type: ignore[misc]
    return kind


def _struct(kind: type[Any], head: tuple[tuple[str, Any], ...]) -> type[Any]:
    hints = typing.get_type_hints(kind)
    fields: list[Any] = list(head)
    for f in dataclasses.fields(kind):
        shape = _shape(hints[f.name])
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        fields.append((f.name, shape) if required else (f.name, shape | None, None))
    return msgspec.defstruct(f"{kind.__name__}Shape", fields, forbid_unknown_fields=True, kw_only=True, module=__name__)


_HEAD = msgspec.json.Decoder(_Head)
_SHAPES = {kind: msgspec.json.Decoder(_struct(kind, (("v", int),))) for kind in RECORDS}
_VALUES = {kind: msgspec.json.Decoder(kind) for kind in RECORDS}
_ENCODER = msgspec.json.Encoder(order="deterministic")
_LEAD = b'{"v":%d,' % keys.SCHEMA


def corrupt(key: str, why: str) -> TrunklineError:
    """The error for a value that cannot be read."""
    return known_corrupt(key, f"the value of {key!r} in the store cannot be read: {why}")


def known_corrupt(key: str, told: str) -> TrunklineError:
    """The error for a value that was found unreadable before, which `told` says."""
    return TrunklineError(
        Reason.STORE_CORRUPT,
        told,
        f"look at it with `etcdctl get /trunkline/1/{key}` (or under your [store] prefix); restore the key from a"
        " backup, or delete it if it is not Trunkline's",
        key=key,
    )


def encode(record: Record) -> bytes:
    """The record as JSON with its schema number; equal records give equal bytes."""
    return _LEAD + _ENCODER.encode(record)[1:]


def _number(text: str, low: int, high: int) -> int:
    """A number as `keys` writes it: "7", never "07"."""
    if (
        not (text.isascii() and text.isdigit())
        or len(text) > 9
        or not low <= int(text) <= high
        or str(int(text)) != text
    ):
        raise ValueError(f"{text!r} is not a number from {low} to {high}")
    return int(text)


def _plain(text: str) -> str:
    if not text or "/" in text:
        raise ValueError(f"{text!r} is not a name")
    return text


def _pair(text: str) -> tuple[str, str]:
    first, slash, second = text.partition("/")
    if not (first and slash and second):
        raise ValueError(f"{text!r} is not two names")
    return first, second


def _address(text: str) -> tuple[str, IPAddress]:
    network, value = _pair(text)
    address = ipaddress.ip_address(value)
    if str(address) != value or "%" in value:
        raise ValueError(f"{value!r} is not in canonical form, {address}")
    return network, address


def _vlan(text: str) -> tuple[str, int]:
    label, vid = _pair(text)
    return label, _number(vid, 0, MAX_VLAN)


def _names(text: str) -> tuple[str, str]:
    first, second = _pair(text)
    return first, _plain(second)


_FAMILIES: Final[dict[str, tuple[type[Any], Callable[[str], Any]]]] = {
    keys.UPLINKS: (UplinkRecord, _plain),
    keys.NETWORKS: (NetworkRecord, _plain),
    keys.VLANS: (Claim, _vlan),
    keys.NUMBERS: (Claim, lambda text: _number(text, 1, MAX_NUMBER)),
    keys.HOST_NUMBERS: (Claim, lambda text: _number(text, 1, (1 << 24) - 1)),
    keys.ADDRESSES: (AddressRecord, _address),
    keys.MACS: (Claim, _plain),
    keys.ATTACHMENTS: (AttachmentRecord, _pair),
    keys.HOSTS: (HostRecord, _plain),
    keys.SESSIONS: (SessionRecord, _plain),
    keys.STATUS_NETWORKS: (NetworkHostStatus, _names),
    keys.STATUS_ATTACHMENTS: (AttachmentStatus, _pair),
    keys.STATUS_HOSTS: (HostStatus, _plain),
}


def _family(key: str) -> str:
    first, slash, rest = key.partition("/")
    if first == "status":
        second, slash, _ = rest.partition("/")
        return f"status/{second}{slash}"
    return first + slash


def parse_key(key: str) -> Path:
    """Take a key apart; raise STORE_CORRUPT when it is none of ours or not as `keys` writes it."""
    if key == keys.EPOCH:
        return Path(keys.EPOCH, ())
    family = _family(key)
    known = _FAMILIES.get(family)
    if known is None:
        raise corrupt(key, "the key is not one of Trunkline's")
    try:
        parts = known[1](key[len(family) :])
    except ValueError as error:
        raise corrupt(key, f"the key is malformed ({error})") from None
    return Path(family, parts if type(parts) is tuple else (parts,))


def _check_uplink(record: UplinkRecord, label: str) -> str:
    if record.label != label:
        return "it names another uplink"
    last = 0
    for low, high in record.vlans:
        if not last < low <= high <= MAX_VLAN:
            return f"VLAN range {low}-{high} is out of order"
        last = high
    return ""


def _check_network(record: NetworkRecord, name: str) -> str:
    if record.name != name:
        return "it names another network"
    if not 0 <= record.vlan <= MAX_VLAN or not record.uplink or "/" in record.uplink:
        return "its VLAN id or uplink is not valid"
    if not 0 < record.number <= MAX_NUMBER or record.number == DOCKER_NUMBER:
        return f"its number {record.number} is not valid"
    if min(record.mtu, record.rest_seconds, record.hold_seconds, record.generation) < 0:
        return "a number in it is negative"
    families: set[int] = set()
    for prefix in record.prefixes:
        net = ipaddress.ip_network(prefix.cidr)
        families.add(net.version)
        for text in (*prefix.ranges, *prefix.excludes):
            first, last = (ipaddress.ip_address(part) for part in text.split("-"))
            if first not in net or last not in net or int(first) > int(last):
                return f"range {text} does not lie in {net}"
        if prefix.gateway and ipaddress.ip_address(prefix.gateway) not in net:
            return f"gateway {prefix.gateway} does not lie in {net}"
    return "" if len(families) == len(record.prefixes) else "it has two prefixes of one family"


def _check_attachment(record: AttachmentRecord, host: str, name: str) -> str:
    if (record.host, record.name) != (host, name):
        return "it names another attachment"
    for text in record.addresses:
        ipaddress.ip_address(text.partition("/")[0])
    return "" if record.network and "/" not in record.network else "its network's name is not valid"


def _check_host(record: HostRecord, name: str) -> str:
    if record.name != name:
        return "it names another host"
    return "" if 0 < record.number < 1 << 24 else f"its number {record.number} is not valid"


def _check_session(record: SessionRecord, host: str) -> str:
    return "" if record.host == host else "it names another host"


_CHECKS: Final[dict[type[Any], Callable[..., str]]] = {
    UplinkRecord: _check_uplink,
    NetworkRecord: _check_network,
    AttachmentRecord: _check_attachment,
    HostRecord: _check_host,
    SessionRecord: _check_session,
}


def decode_at(path: Path, key: str, value: bytes) -> Record:
    """Decode the value of a key already taken apart; raise STORE_CORRUPT otherwise."""
    kind = EpochRecord if path.family == keys.EPOCH else _FAMILIES[path.family][0]
    try:
        shape = _SHAPES[kind].decode(value)
        version = shape.v
        if version == keys.SCHEMA:
            record = _VALUES[kind].decode(value)
            check = _CHECKS.get(kind)
            why = check(record, *path.parts) if check is not None else ""
            if not why:
                return typing.cast("Record", record)
            raise corrupt(key, why)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        try:
            version = _HEAD.decode(value).v
        except (msgspec.MsgspecError, ValueError, RecursionError):
            version = keys.SCHEMA
        if version == keys.SCHEMA:
            raise corrupt(key, str(error)) from None
    raise corrupt(key, f"it has schema {version}, this controller reads {keys.SCHEMA}")


def decode(key: str, value: bytes) -> Record:
    """The record under a key, its type chosen by the key; raise STORE_CORRUPT for a key that is not ours, a value
    that is no record of this schema (unknown fields and newer schemas included), or one that contradicts its key."""
    return decode_at(parse_key(key), key, value)
