"""Messages as plain data for -o json and -o yaml.

Field names are those of the protos; enum values are short and in lower case ("ready"); 64-bit numbers are numbers,
which proto JSON makes strings; a message or `optional` field that is not set is null; times are Unix milliseconds.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message

_DOCKER_PHASE: Final = "trunkline.v1.HostNetworkStatus.docker"


def plain(message: Message) -> dict[str, Any]:
    """`message` as dicts, lists and scalars."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields if _shown(message, field)}


def enum_text(kind: EnumDescriptor, number: int) -> str:
    """Short name of an enum value: ATTACHMENT_PHASE_READY is "ready"; "unknown" for a newer one."""
    value = kind.values_by_number.get(number)
    if value is None:
        return "unknown"
    prefix = kind.values[0].name.removesuffix("UNSPECIFIED")
    return value.name.removeprefix(prefix).lower()


def _shown(message: Message, field: Any) -> bool:
    oneof = field.containing_oneof
    # Of several that exclude each other only the one that is set says anything.
    return oneof is None or len(oneof.fields) == 1 or message.HasField(field.name)


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return {str(key): value[key] for key in sorted(value)}
        return [_scalar(field, item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _scalar(field, value)


def _scalar(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        return enum_text(field.enum_type, value)
    # Phases of a network on a host travel as text, in the upper case of enums.
    return value.lower() if field.name == "phase" or field.full_name == _DOCKER_PHASE else value
