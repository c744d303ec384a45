"""What a new network claims: prefixes, VLAN id, number. Pure."""

from __future__ import annotations

import ipaddress

from controller.plan.desired import selected
from controller.plan.prefixes import pool
from controller.plan.uplinks import VlanRanges, carries, ranges_text
from controller.state import codec, keys
from controller.state.records import NetworkRecord
from controller.state.snapshot import Snapshot
from controller.state.txn import Absent, Guard, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.ids import DOCKER_NUMBER, MAX_NUMBER


def check_overlap(snapshot: Snapshot, asked: NetworkRecord) -> None:
    """Raise PREFIX_OVERLAP unless both networks allow it; STORE_CORRUPT while some network cannot be read."""
    mine = [ipaddress.ip_network(prefix.cidr) for prefix in asked.prefixes]
    if not mine:
        return
    for key in snapshot.broken:
        if key.startswith(keys.NETWORKS):
            raise codec.known_corrupt(key, f"{snapshot.broken[key]}; its prefixes may overlap the new ones")
    for name in sorted(snapshot.networks):
        other = snapshot.networks[name].value
        if asked.overlap and other.overlap:
            continue
        for prefix in other.prefixes:
            theirs = pool(prefix).net
            for net in mine:
                if net.version == theirs.version and net.overlaps(theirs):
                    raise Refusal(
                        Reason.PREFIX_OVERLAP,
                        f"prefix {net} overlaps {theirs} of network {name}",
                        "choose another prefix, or make both networks with --overlap",
                        network=name,
                    )


def check_uplink_mtu(snapshot: Snapshot, record: NetworkRecord) -> None:
    """Raise UPLINK_MTU when a selected host reported less on that uplink."""
    for host, stored in sorted(snapshot.host_status.items(), key=lambda item: item[0]):
        known = snapshot.hosts.get(host)
        if known is None or not record.mtu or not selected(known.value, record):
            continue
        for uplink in stored.value.uplinks:
            if uplink.label == record.uplink and 0 < uplink.mtu < record.mtu:
                raise Refusal(
                    Reason.UPLINK_MTU,
                    f"MTU {record.mtu} is above that of uplink {uplink.label} on host {host}: "
                    f"{uplink.device} has {uplink.mtu}",
                    f"use {uplink.mtu} or less, or raise the MTU of {uplink.device} on {host}",
                    host=host,
                    uplink=uplink.label,
                )


def uplink_guard(snapshot: Snapshot, label: str) -> Guard:
    """The range as read. An uplink's record is never deleted, so that absence cannot come back."""
    stored = snapshot.uplinks.get(label)
    key = keys.uplink(label)
    return Absent(key) if stored is None else Unchanged(key, stored.mod_revision)


def choose_vlan(snapshot: Snapshot, asked: NetworkRecord) -> tuple[int, list[str]]:
    """The VLAN id asked for or chosen, with warnings; raises VLAN_TAKEN, UPLINK_NOT_SET, VLAN_EXHAUSTED."""
    stored = snapshot.uplinks.get(asked.uplink)
    ranges = stored.value.vlans if stored is not None else ()
    if asked.vlan_auto:
        return _auto_vlan(snapshot, asked.uplink, ranges), []
    key = keys.vlan(asked.uplink, asked.vlan)
    if snapshot.exists(key):
        claim = snapshot.vlans.get((asked.uplink, asked.vlan))
        holder = f"by network {claim.value.holder}" if claim is not None else f"(unreadable key {key!r})"
        what = f"VLAN {asked.vlan}" if asked.vlan else "untagged VLAN 0"
        raise Refusal(
            Reason.VLAN_TAKEN,
            f"{what} is in use on uplink {asked.uplink} {holder}",
            "choose another VLAN id, or let the controller choose with --vlan auto",
            uplink=asked.uplink,
            vlan=str(asked.vlan),
        )
    warnings = []
    if asked.vlan == 1:
        warnings.append("VLAN 1 is the untagged VLAN of most switches, so its frames may arrive without a tag")
    if asked.vlan and ranges and not carries(ranges, asked.vlan):
        warnings.append(f"VLAN {asked.vlan} is outside what uplink {asked.uplink} carries ({ranges_text(ranges)})")
    return asked.vlan, warnings


def _auto_vlan(snapshot: Snapshot, label: str, ranges: VlanRanges) -> int:
    """The lowest free VLAN id of the range; never 1, which switches treat as their own."""
    if not ranges:
        raise Refusal(
            Reason.UPLINK_NOT_SET,
            f"uplink {label} has no VLAN range to choose from",
            f"set it with `trunkline uplink set {label} --vlans 100-199`, or give --vlan a number",
            uplink=label,
        )
    for first, last in ranges:
        for vid in range(max(first, 2), last + 1):
            if not snapshot.exists(keys.vlan(label, vid)):
                return vid
    raise Refusal(
        Reason.VLAN_EXHAUSTED,
        f"every VLAN id of uplink {label} is in use ({ranges_text(ranges)})",
        f"grow the range with `trunkline uplink set {label}`, or delete a network",
        uplink=label,
    )


def free_number(snapshot: Snapshot) -> int:
    """The lowest free network number, never Docker's; raises NUMBERS_EXHAUSTED."""
    for number in range(1, MAX_NUMBER + 1):
        if number != DOCKER_NUMBER and not snapshot.exists(keys.number(number)):
            return number
    raise Refusal(Reason.NUMBERS_EXHAUSTED, f"all {MAX_NUMBER - 1} network numbers are in use", "delete a network")
