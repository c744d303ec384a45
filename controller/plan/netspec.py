"""Networks as asked for, checked without looking at the fabric, and compared with what exists. Pure."""

from __future__ import annotations

import re

from controller.plan.prefixes import canonical
from controller.plan.requests import NetworkRequest
from controller.state.records import HOLD_SECONDS, REST_SECONDS, NetworkRecord
from trunkline.errors import Reason, Refusal
from trunkline.ids import check_name, check_vlan
from trunkline.model import Mode, Prefix

MIN_MTU_IPV4 = 68
"""RFC 791, 3.2: every module must forward 68 octets without fragmentation; also Linux's ETH_MIN_MTU."""

MIN_MTU_IPV6 = 1280
"""RFC 8200, 5; below it Linux takes IPv6 off an interface."""

MAX_MTU = 65535
"""Linux's ETH_MAX_MTU."""

MAX_SECONDS = 365 * 86_400
"""Longest rest or hold: a year, so that a slip of units does not lock a pool for ever."""

_LABEL_TERM = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_./-]{0,62}=[a-zA-Z0-9_.:/@-]{0,63}")
_PATTERN_TERM = re.compile(r"[a-zA-Z0-9_.*?\[\]!-]{1,63}")


def check_selector(terms: tuple[str, ...]) -> tuple[str, ...]:
    """The terms without repetitions; raises INVALID_ARGUMENT unless each is `label=value` or a name pattern."""
    for term in terms:
        if not (_LABEL_TERM if "=" in term else _PATTERN_TERM).fullmatch(term):
            raise Refusal(
                Reason.INVALID_ARGUMENT,
                f"host selector {term!r} is not valid",
                "write a name pattern such as docker*, or label=value",
            )
    return tuple(dict.fromkeys(terms))


def check_mtu(mtu: int, prefixes: tuple[Prefix, ...]) -> int:
    """The MTU if it is 0 (the uplink's) or fits the families in use; raises INVALID_MTU otherwise."""
    six = any(":" in prefix.cidr for prefix in prefixes)
    low = MIN_MTU_IPV6 if six else MIN_MTU_IPV4
    if mtu and not low <= mtu <= MAX_MTU:
        why = "IPv6 needs 1280 (RFC 8200)" if six and mtu < low else f"it must be {low} to {MAX_MTU}"
        raise Refusal(Reason.INVALID_MTU, f"MTU {mtu} is out of range: {why}", "leave it out to take the uplink's")
    return mtu


def check_seconds(what: str, seconds: int | None, default: int) -> int:
    """A time in seconds, `default` for None; raises INVALID_ARGUMENT unless 0 to a year."""
    value = default if seconds is None else seconds
    if not 0 <= value <= MAX_SECONDS:
        raise Refusal(
            Reason.INVALID_ARGUMENT, f"{what} of {value} s is out of range", f"use 0 to {MAX_SECONDS} seconds"
        )
    return value


def check_prefixes(prefixes: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
    """Canonical prefixes, IPv4 first; raises INVALID_PREFIX for two of one family, and as `canonical`."""
    result = sorted((canonical(prefix) for prefix in prefixes), key=lambda prefix: ":" in prefix.cidr)
    if len({":" in prefix.cidr for prefix in result}) != len(result):
        both = " and ".join(prefix.cidr for prefix in result)
        raise Refusal(
            Reason.INVALID_PREFIX, f"{both} are of one family", "give one prefix per family; make two networks"
        )
    return tuple(result)


def check_host_access(wanted: bool, network: str, prefixes: tuple[Prefix, ...]) -> bool:
    """Whether hosts are to have access; raises INVALID_ARGUMENT when the network has no address to give them."""
    if wanted and not prefixes:
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"network {network} has no addresses, so its hosts cannot reach it by one of their own",
            "give it a prefix (--subnet), or leave --host-access out",
            network=network,
        )
    return wanted


def checked(request: NetworkRequest) -> NetworkRecord:
    """The record a request asks for, in canonical form, with no number and (for auto) no VLAN id yet. Raises
    INVALID_*, MODE_REFUSED."""
    if not isinstance(request.mode, Mode):
        raise Refusal(
            Reason.MODE_REFUSED,
            f"macvlan mode {request.mode!r} is refused",
            "use bridge, private or vepa; passthru leaves no interface to probe from",
        )
    prefixes = check_prefixes(request.prefixes)
    return NetworkRecord(
        name=check_name("network", request.name),
        uplink=check_name("uplink", request.uplink),
        vlan=0 if request.vlan is None else check_vlan(request.vlan),
        number=0,
        prefixes=prefixes,
        vlan_auto=request.vlan is None,
        mtu=check_mtu(request.mtu, prefixes),
        mode=request.mode,
        overlap=request.overlap,
        host_selector=check_selector(request.host_selector),
        rest_seconds=check_seconds("a rest", request.rest_seconds, REST_SECONDS),
        hold_seconds=check_seconds("a hold", request.hold_seconds, HOLD_SECONDS),
        docker=request.docker,
        host_access=check_host_access(request.host_access, request.name, prefixes),
    )


def differences(have: NetworkRecord, asked: NetworkRecord) -> list[str]:
    """How an existing network differs from what is asked for, for people; [] when it does not."""

    def prefixes(record: NetworkRecord) -> str:
        return ", ".join(
            f"{p.cidr} gateway {p.gateway or 'none'} ranges {' '.join(p.ranges) or 'all'}"
            f" excludes {' '.join(p.excludes) or 'none'}"
            for p in record.prefixes
        )

    def vlan(record: NetworkRecord) -> str:
        return "auto" if record.vlan_auto else str(record.vlan)

    pairs = [
        ("uplink", have.uplink, asked.uplink),
        ("VLAN", vlan(have), vlan(asked)),
        ("prefixes", prefixes(have), prefixes(asked)),
        ("MTU", have.mtu, asked.mtu),
        ("mode", have.mode.value, asked.mode.value),
        ("overlap", have.overlap, asked.overlap),
        ("host selector", " ".join(have.host_selector), " ".join(asked.host_selector)),
        ("rest", have.rest_seconds, asked.rest_seconds),
        ("hold", have.hold_seconds, asked.hold_seconds),
        ("Docker", have.docker.value, asked.docker.value),
        ("host access", have.host_access, asked.host_access),
    ]
    return [f"{what} {old or 'not set'}, asked for {new or 'none'}" for what, old, new in pairs if old != new]
