"""MACs of attachments (law 7 of docs/architecture.md): built from network number and IPv4 address, or claimed. Pure.

Every locally administered unicast MAC reads as (network number, IPv4 address), so a claimed one could meet one
that is built. Whoever builds guards that the MAC is unclaimed; whoever claims guards that nobody can have built it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from controller.state import keys
from controller.state.records import AddressKind, Claim
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import Absent, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.ids import DOCKER_NUMBER, check_mac, mac_for_ipv4, mac_from_random

_TRIES = 64
_MULTIPLIER, _INCREMENT = 6364136223846793005, 1442695040888963407
"""Of Knuth's MMIX generator: full period modulo any power of two, so one draw gives as many as needed."""


@dataclass(frozen=True, slots=True)
class MacChoice:
    """A MAC, the guards that keep it unique, and whether it is to be claimed under `macs/`."""

    mac: str
    guards: tuple[Absent | Unchanged, ...]
    claimed: bool


def read_as(mac: str) -> tuple[int, ipaddress.IPv4Address] | None:
    """Network number and IPv4 address whose attachment would build this MAC; None when no network could."""
    octets = bytes.fromhex(mac.replace(":", ""))
    number = octets[0] >> 2 << 8 | octets[1]
    if octets[0] & 3 != 2 or number in (0, DOCKER_NUMBER):
        return None
    return number, ipaddress.IPv4Address(octets[2:])


def built(snapshot: Snapshot, number: int, address: ipaddress.IPv4Address) -> MacChoice | None:
    """The MAC of an address; None when somebody claimed that very MAC."""
    mac = mac_for_ipv4(number, address)
    key = keys.mac(mac)
    return None if snapshot.exists(key) else MacChoice(mac, (Absent(key),), False)


def drawn(snapshot: Snapshot, draw: int) -> MacChoice:
    """A MAC from a random number; raises MAC_TAKEN when none of many candidates is free."""
    for candidate in _candidates(draw):
        reading = read_as(candidate)
        if snapshot.exists(keys.mac(candidate)) or (reading is not None and reading[1].packed[0] == 0):
            continue
        guards = _unbuilt(snapshot, candidate)
        if guards is not None:
            return MacChoice(candidate, (Absent(keys.mac(candidate)), *guards), True)
    raise Refusal(Reason.MAC_TAKEN, f"none of {_TRIES} drawn MACs is free", "try again, or ask for one with --mac")


def claimed(snapshot: Snapshot, text: str) -> MacChoice:
    """The MAC a user asked for; raises INVALID_MAC, MAC_TAKEN."""
    mac = check_mac(text)
    key = keys.mac(mac)
    if snapshot.exists(key):
        stored: Stored[Claim] | None = snapshot.macs.get(mac)
        holder = f"attachment {stored.value.holder}" if stored is not None else f"the unreadable key {key!r}"
        raise Refusal(Reason.MAC_TAKEN, f"MAC {mac} is claimed by {holder}", "choose another MAC", mac=mac)
    reading = read_as(mac)
    if reading is not None and reading[1].packed[0] == 0:
        raise Refusal(
            Reason.INVALID_MAC,
            f"MAC {mac} lies where the fabric's probes take theirs",
            "choose a third octet other than 00",
            mac=mac,
        )
    guards = _unbuilt(snapshot, mac)
    if guards is None:
        raise Refusal(
            Reason.MAC_TAKEN, f"MAC {mac} is in use: {_builder(snapshot, mac)}", "choose another MAC", mac=mac
        )
    return MacChoice(mac, (Absent(key), *guards), True)


def _candidates(draw: int) -> Iterator[str]:
    for _ in range(_TRIES):
        draw %= 1 << 64
        yield mac_from_random(draw >> 16)
        draw = draw * _MULTIPLIER + _INCREMENT


def _unbuilt(snapshot: Snapshot, mac: str) -> tuple[Absent | Unchanged, ...] | None:
    """Guards that nobody has built this MAC; None when somebody has."""
    reading = read_as(mac)
    if reading is None:
        return ()
    number, address = reading
    key = keys.number(number)
    network = snapshot.numbers.get(number)
    if network is None:
        return None if snapshot.exists(key) else (Absent(key),)
    name = network.value.holder
    held = keys.address(name, address)
    if not snapshot.exists(held):
        return Unchanged(key, network.mod_revision), Absent(held)
    stored = snapshot.addresses.get(name, {}).get(address)
    if stored is None or stored.value.kind is AddressKind.ATTACHMENT:
        return None
    return Unchanged(key, network.mod_revision), Unchanged(held, stored.mod_revision)


def _builder(snapshot: Snapshot, mac: str) -> str:
    reading = read_as(mac)
    if reading is None:
        return ""
    network = snapshot.numbers.get(reading[0])
    if network is None:
        return f"network number {reading[0]} cannot be read"
    stored = snapshot.addresses.get(network.value.holder, {}).get(reading[1])
    holder = f"{stored.value.host}/{stored.value.holder}" if stored is not None else "an unreadable key"
    return f"it belongs to {reading[1]} of network {network.value.holder}, held by {holder}"
