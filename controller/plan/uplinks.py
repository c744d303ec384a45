"""VLAN ranges of uplink labels. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from controller.plan.placement import readable
from controller.state import codec, keys
from controller.state.records import UplinkRecord
from controller.state.snapshot import Snapshot
from controller.state.txn import Absent, NoneNewer, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.ids import MAX_VLAN, check_name

VlanRanges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class UplinkPlan:
    """`txn` is None when the range is set already as asked."""

    txn: Txn | None
    record: UplinkRecord
    existed: bool = False
    warnings: tuple[str, ...] = ()


def parse_ranges(text: str) -> VlanRanges:
    """Parse "100-199,300" into ranges; "" gives none. Raises INVALID_VLAN."""
    ranges = []
    for part in filter(None, re.split(r"[,\s]+", text.strip())):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        if match is None:
            raise Refusal(Reason.INVALID_VLAN, f"{part!r} is not a range of VLAN ids", "write it as 100-199,300")
        ranges.append((int(match[1]), int(match[2] or match[1])))
    return check_ranges(tuple(ranges))


def check_ranges(ranges: VlanRanges) -> VlanRanges:
    """The ranges ascending and merged; raises INVALID_VLAN unless each lies in 1 to 4094 (IEEE 802.1Q)."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if not 1 <= first <= last <= MAX_VLAN:
            raise Refusal(Reason.INVALID_VLAN, f"VLAN range {first}-{last} is not valid", "use 1 to 4094, lowest first")
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return tuple(result)


def carries(ranges: VlanRanges, vid: int) -> bool:
    """Whether a VLAN id lies in the ranges."""
    return any(first <= vid <= last for first, last in ranges)


def ranges_text(ranges: VlanRanges) -> str:
    """Ranges as people write them."""
    return ",".join(f"{first}-{last}" if first != last else str(first) for first, last in ranges) or "none"


def set_uplink(snapshot: Snapshot, label: str, ranges: VlanRanges) -> UplinkPlan:
    """Set what the switches carry on an uplink; () clears it, so that `auto` is refused. A network that already
    lies outside does not stand in the way; one that would come to lie outside does. Raises INVALID_NAME,
    INVALID_VLAN, UPLINK_IN_USE, STORE_CORRUPT.

    Guards: the record as read, and no VLAN id claimed on the uplink since.
    """
    check_name("uplink", label)
    ranges = check_ranges(ranges)
    key = keys.uplink(label)
    readable(snapshot, key)
    stored = snapshot.uplinks.get(label)
    record = UplinkRecord(label, ranges)
    if stored is not None and stored.value == record:
        return UplinkPlan(None, record, True)
    if ranges:
        _check_in_use(snapshot, label, stored.value.vlans if stored is not None else (), ranges)
    guard = Absent(key) if stored is None else Unchanged(key, stored.mod_revision)
    claims = NoneNewer(f"{keys.VLANS}{label}/", snapshot.revision)
    warning = "VLAN 1 is the untagged VLAN of most switches; `auto` never takes it"
    warnings = (warning,) if carries(ranges, 1) else ()
    return UplinkPlan(Txn((guard, claims), (Put(key, codec.encode(record)),)), record, stored is not None, warnings)


def _check_in_use(snapshot: Snapshot, label: str, before: VlanRanges, after: VlanRanges) -> None:
    outside = sorted(
        (vid, claim.value.holder)
        for (uplink, vid), claim in snapshot.vlans.items()
        if uplink == label and vid and not carries(after, vid) and (not before or carries(before, vid))
    )
    if outside:
        named = ", ".join(f"{vid} ({holder})" for vid, holder in outside[:10])
        raise Refusal(
            Reason.UPLINK_IN_USE,
            f"VLAN {named} on uplink {label} would fall outside {ranges_text(after)}",
            "include them in the range, or delete the networks first",
            uplink=label,
        )
