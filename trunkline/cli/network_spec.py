"""From the options of `network create` and `network update` to messages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trunkline.cli import words
from trunkline.errors import Reason, Refusal
from trunkline.ids import IPNetwork, parse_address, parse_prefix
from trunkline.v1 import network_pb2

_MODES: Final = {
    "bridge": network_pb2.MACVLAN_MODE_BRIDGE,
    "private": network_pb2.MACVLAN_MODE_PRIVATE,
    "vepa": network_pb2.MACVLAN_MODE_VEPA,
}


_DOCKER: Final = {
    "local": network_pb2.DOCKER_MODE_LOCAL,
    "swarm": network_pb2.DOCKER_MODE_SWARM,
    "none": network_pb2.DOCKER_MODE_NONE,
}


def macvlan_mode(text: str) -> network_pb2.MacvlanMode.ValueType:
    """The macvlan mode of that name; raises MODE_REFUSED for passthru."""
    if text == "passthru":
        raise Refusal(
            Reason.MODE_REFUSED,
            "macvlan mode passthru is not on offer: its single interface per parent leaves none to probe from",
            "use bridge, private or vepa",
        )
    return _MODES[text]


def spec(
    *,
    name: str,
    subnet: Sequence[str],
    gateway: Sequence[str],
    no_gateway: bool,
    no_ip: bool,
    vlan: str,
    uplink: str,
    mtu: int,
    mode: str,
    ranges: Sequence[str],
    excludes: Sequence[str],
    selector: Sequence[str],
    rest: int | None,
    hold: int | None,
    overlap: bool,
    docker: str,
    host_access: bool,
) -> network_pb2.NetworkSpec:
    """The spec that the options ask for. Raises what `trunkline.ids` and this module find wrong with them."""
    _addressing(subnet, gateway, no_gateway, no_ip, (*ranges, *excludes))
    vid = words.vlan_choice(vlan)
    chosen_mode = macvlan_mode(mode)
    if no_ip and host_access:
        raise _refusal("--no-ip goes with no --host-access: the hosts would have no address", "leave either out")
    prefixes = _prefixes(subnet, gateway, ranges, excludes)
    if subnet and not gateway and not no_gateway:
        raise _refusal(
            "neither --gateway nor --no-gateway is given", "name the router of the VLAN, or say there is none"
        )
    return network_pb2.NetworkSpec(
        name=name,
        uplink=uplink,
        vlan=vid or 0,
        vlan_auto=vid is None,
        prefixes=prefixes,
        mtu=mtu,
        mode=chosen_mode,
        overlap=overlap,
        host_selector=selector,
        rest_seconds=rest,
        hold_seconds=hold,
        docker=_DOCKER[docker],
        host_access=host_access,
    )


def _addressing(
    subnet: Sequence[str], gateway: Sequence[str], no_gateway: bool, no_ip: bool, lists: Sequence[str]
) -> None:
    if no_ip and (subnet or gateway or lists):
        raise _refusal("--no-ip goes with no --subnet, --gateway, --range or --exclude", "leave either out")
    if not no_ip and not subnet:
        raise _refusal("no --subnet is given", "give --subnet CIDR, or --no-ip for a network without addresses")
    if no_gateway and gateway:
        raise _refusal("--gateway and --no-gateway exclude each other", "leave one out")


def _refusal(message: str, remedy: str) -> Refusal:
    return Refusal(Reason.INVALID_ARGUMENT, message, remedy)


def _prefixes(
    subnet: Sequence[str], gateway: Sequence[str], ranges: Sequence[str], excludes: Sequence[str]
) -> list[network_pb2.Prefix]:
    prefixes = [parse_prefix(text) for text in subnet]
    made = {p: network_pb2.Prefix(cidr=str(p)) for p in prefixes}
    for text in gateway:
        chosen = made[_home(text, prefixes, Reason.INVALID_GATEWAY, "gateway")]
        if chosen.gateway:
            raise Refusal(
                Reason.INVALID_GATEWAY,
                f"gateways {chosen.gateway} and {text} are both in {chosen.cidr}",
                "name one gateway for each prefix",
            )
        chosen.gateway = str(parse_address(text))
    for text in ranges:
        made[_home(text, prefixes, Reason.INVALID_RANGE, "range")].ranges.append(text)
    for text in excludes:
        made[_home(text, prefixes, Reason.INVALID_RANGE, "exclude")].excludes.append(text)
    return list(made.values())


def _home(text: str, prefixes: list[IPNetwork], reason: Reason, what: str) -> IPNetwork:
    found = words.home(words.first_address(text), prefixes)
    if found is None:
        listed = ", ".join(map(str, prefixes)) or "no prefix at all"
        raise Refusal(reason, f"{what} {text} is outside of {listed}", "choose it from the prefix")
    return found


def changes(
    network: network_pb2.Network,
    *,
    ranges: Sequence[str],
    excludes: Sequence[str],
    no_exclude: bool,
    gateway: Sequence[str],
    no_gateway: bool,
    selector: Sequence[str],
    all_hosts: bool,
    rest: int | None,
    hold: int | None,
    mtu: int | None,
    host_access: bool | None,
) -> network_pb2.UpdateNetworkRequest:
    """The update that the options ask for, on the network as it stands. Raises INVALID_ARGUMENT when nothing is
    asked for, or what excludes itself."""
    if not (ranges or excludes or no_exclude or gateway or no_gateway or selector or all_hosts) and (
        rest is None and hold is None and mtu is None and host_access is None
    ):
        raise _refusal("nothing to change is named", "trunkline network update --help lists what can be changed")
    for pair, both in (
        ("--exclude and --no-exclude", bool(excludes) and no_exclude),
        ("--gateway and --no-gateway", bool(gateway) and no_gateway),
        ("--host and --all-hosts", bool(selector) and all_hosts),
    ):
        if both:
            raise _refusal(f"{pair} exclude each other", "leave one out")
    return network_pb2.UpdateNetworkRequest(
        name=network.spec.name,
        prefixes=_prefix_updates(network, ranges, excludes, no_exclude, gateway, no_gateway),
        host_selector=selector,
        set_host_selector=bool(selector) or all_hosts,
        rest_seconds=rest,
        hold_seconds=hold,
        mtu=mtu,
        host_access=host_access,
    )


def _prefix_updates(
    network: network_pb2.Network,
    ranges: Sequence[str],
    excludes: Sequence[str],
    no_exclude: bool,
    gateway: Sequence[str],
    no_gateway: bool,
) -> list[network_pb2.PrefixUpdate]:
    cidrs = [p.cidr for p in network.spec.prefixes]
    updates = []
    for wanted in _prefixes(cidrs, gateway, ranges, excludes):
        update = network_pb2.PrefixUpdate(
            cidr=wanted.cidr,
            ranges=wanted.ranges,
            set_ranges=bool(wanted.ranges),
            excludes=wanted.excludes,
            set_excludes=bool(wanted.excludes) or no_exclude,
            gateway=wanted.gateway,
            set_gateway=bool(wanted.gateway) or no_gateway,
        )
        if update.set_ranges or update.set_excludes or update.set_gateway:
            updates.append(update)
    return updates
