"""Between what people type and what messages carry: durations, VLAN ranges, targets, times. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Final

from trunkline.errors import Reason, Refusal
from trunkline.ids import IPAddress, IPNetwork, check_vlan, parse_address
from trunkline.model import Target, TargetKind

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d+[smhd])+")
_PART = re.compile(r"(\d+)([smhd])")
_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{64}")
_MAX_SECONDS: Final = (1 << 32) - 1


def seconds(text: str) -> int:
    """Seconds of "90", "5m", "24h" or "1h30m"; raises INVALID_ARGUMENT."""
    if text.isascii() and text.isdecimal():
        total = int(text)
    elif _DURATION.fullmatch(text) and text.isascii():
        total = sum(int(n) * _UNITS[unit] for n, unit in _PART.findall(text))
    else:
        raise Refusal(Reason.INVALID_ARGUMENT, f"{text!r} is not a duration", "write it as 90s, 5m, 24h or 1h30m")
    if total > _MAX_SECONDS:
        raise Refusal(Reason.INVALID_ARGUMENT, f"duration {text} is too long", "use at most 49000d")
    return total


def duration(total: float) -> str:
    """Seconds as people read them: "40 ms", "0.4 s", "5m", "1d2h"; at most two units."""
    if 0 < total < 0.1:
        return f"{total * 1000:.0f} ms"
    if total < 10:
        return f"{total:.1f} s"
    rest, parts = int(total), []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        if rest >= size:
            parts.append(f"{rest // size}{unit}")
            rest %= size
    return "".join(parts[:2])


def ago(then_ms: int, now_ms: int) -> str:
    """How long ago a Unix time was; "never" for 0, "now" for the last second."""
    if not then_ms:
        return "never"
    past = (now_ms - then_ms) // 1000
    return f"{age(past)} ago" if past >= 1 else "now"


def age(total: int) -> str:
    """Whole seconds as people read them: "3s", "42s", "1h5m"."""
    return f"{total}s" if total < 10 else duration(total)


def short_id(text: str) -> str:
    """A container's id as Docker shows it, 12 digits; anything else as it is."""
    return text[:12] if _CONTAINER_ID.fullmatch(text) else text


def moment(at_ms: int) -> str:
    """A Unix time in the local time zone, to the second; empty for 0."""
    if not at_ms:
        return ""
    return datetime.datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(sep=" ", timespec="seconds")


def vlan_ranges(text: str) -> list[tuple[int, int]]:
    """Ranges of "100-199,300"; "none" is no range. Raises INVALID_VLAN."""
    if text.strip() == "none":
        return []
    return [_vlan_range(part.strip()) for part in text.split(",")]


def _vlan_range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    low, high = _vlan(first, text), _vlan(last if dash else first, text)
    if low > high:
        raise Refusal(Reason.INVALID_VLAN, f"VLAN range {text} runs backwards", f"did you mean {high}-{low}?")
    return low, high


def _vlan(text: str, whole: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal()):
        raise Refusal(Reason.INVALID_VLAN, f"{whole!r} is not a VLAN range", "write ranges as 100-199,300")
    vid = check_vlan(int(text))
    if vid == 0:
        raise Refusal(Reason.INVALID_VLAN, "VLAN 0 cannot be in a range", "it means untagged; ranges are 1 to 4094")
    return vid


def vlan_text(ranges: list[tuple[int, int]]) -> str:
    """Ranges as typed: "100-199,300"."""
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def joined(vids: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending ids as ranges: 10, 11, 12, 20 is (10, 12), (20, 20)."""
    ranges: list[tuple[int, int]] = []
    for vid in vids:
        if ranges and ranges[-1][1] == vid - 1:
            ranges[-1] = (ranges[-1][0], vid)
        else:
            ranges.append((vid, vid))
    return ranges


def vlan_choice(text: str) -> int | None:
    """A VLAN id of 0 to 4094, or None for "auto"; raises INVALID_VLAN."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdecimal()):
        raise Refusal(Reason.INVALID_VLAN, f"{text!r} is not a VLAN id", "use 0 for untagged, 1 to 4094, or auto")
    return check_vlan(int(text))


def place(text: str) -> tuple[str, str]:
    """Host and the rest of "HOST/REST"; raises INVALID_ARGUMENT when either is missing."""
    host, _, rest = text.partition("/")
    if not host or not rest:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"{text!r} does not name a host and a target",
            "write HOST/CONTAINER, HOST/netns:/run/netns/NAME or HOST/pid:1234",
        )
    return host, rest


def target(text: str) -> Target:
    """The target "web1", "netns:/run/netns/blue" or "pid:123"; raises INVALID_ARGUMENT."""
    kind, colon, value = text.partition(":")
    if not colon:
        return Target(TargetKind.CONTAINER, text)
    if kind == "netns" and value.startswith("/"):
        return Target(TargetKind.NETNS, value)
    if kind == "pid" and value.isascii() and value.isdecimal() and 0 < int(value) < 1 << 32:
        return Target(TargetKind.PID, value)
    raise Refusal(
        Reason.INVALID_ARGUMENT,
        f"{text!r} is not a target",
        "write a container's name or id, netns:/run/netns/NAME, or pid:1234",
    )


def first_address(text: str) -> IPAddress:
    """First address of "20.0.0.10-20.0.0.20", "20.0.0.128/25" or "20.0.0.7"; raises INVALID_ARGUMENT."""
    return parse_address(re.split(r"[-/]", text, maxsplit=1)[0].strip())


def home(address: IPAddress, prefixes: list[IPNetwork]) -> IPNetwork | None:
    """The prefix that holds `address`, if any."""
    return next((p for p in prefixes if p.version == address.version and address in p), None)
