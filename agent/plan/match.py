"""Whether an interface is what an attachment wants. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from agent.plan.networks import Parent
from agent.plan.state import Interface
from trunkline import naming
from trunkline.ids import IPNetwork
from trunkline.model import HostAttachment, HostNetwork

ATTACHMENT_MARK: Final = f"{naming.MARK}attachment:"
"""How the mark of every attachment's interface begins."""


def owner(interface: Interface) -> str:
    """Name of the attachment an interface of this host is marked for; empty when it is not ours."""
    link = interface.link
    if link.kind == "macvlan" and link.parent_on_host and link.alias.startswith(ATTACHMENT_MARK):
        return link.alias.removeprefix(ATTACHMENT_MARK)
    return ""


def unfinished(interface: Interface) -> bool:
    """Whether this is an interface of ours that an agent was killed over before it could be marked: a macvlan of
    this host under a temporary name."""
    link = interface.link
    return link.kind == "macvlan" and link.parent_on_host and not link.alias and naming.is_temporary(link.name)


@lru_cache(maxsize=65536)
def canonical(address: str) -> str:
    """An address with its prefix length in one spelling."""
    return ipaddress.ip_interface(address).with_prefixlen


@lru_cache(maxsize=4096)
def _prefix(cidr: str) -> IPNetwork:
    return ipaddress.ip_network(cidr)


@lru_cache(maxsize=65536)
def inside(address: str, cidrs: tuple[str, ...]) -> bool:
    """Whether an address, with or without prefix length, lies in one of the prefixes."""
    ip = ipaddress.ip_interface(address).ip
    return any(ip in _prefix(cidr) for cidr in cidrs)


def replaced_by(interface: Interface, wanted: HostAttachment, network: HostNetwork, parent: Parent) -> tuple[str, ...]:
    """What of an interface can only be had by making it anew, in words; nothing when it can stay."""
    link = interface.link
    differences = []
    if link.mac != wanted.mac:
        differences.append(f"MAC is {link.mac}, not {wanted.mac}")
    if link.parent != parent.link.index:
        differences.append(f"it sits on link {link.parent}, not on {parent.link.name}")
    if link.mode != network.mode.value:
        differences.append(f"macvlan mode is {link.mode}, not {network.mode.value}")
    return tuple(differences)


def repaired_by(interface: Interface, wanted: HostAttachment, network: HostNetwork, parent: Parent) -> tuple[str, ...]:
    """What of an interface can be set right in place, in words.

    Addresses outside the network's prefixes, link-local ones and, where router advertisements are accepted, IPv6
    ones are the container's own business; inside them the fabric alone hands out, so others are taken away.
    """
    link = interface.link
    differences = []
    if wanted.ifname and link.name != wanted.ifname:
        differences.append(f"name is {link.name}, not {wanted.ifname}")
    elif naming.is_temporary(link.name):
        differences.append(f"it still has its temporary name {link.name}")
    if not link.up:
        differences.append("it is down")
    if link.mtu != parent.mtu:
        differences.append(f"MTU is {link.mtu}, not {parent.mtu}")
    meant = {canonical(address) for address in wanted.addresses}
    present = {canonical(address) for address in interface.addresses}
    differences += [f"address {address} is missing" for address in sorted(meant - present)]
    differences += [f"address {address} is not its own" for address in _strange(present - meant, wanted, network)]
    if wanted.default_route and (missing := sorted(set(wanted.gateways) - set(interface.gateways))):
        differences += [f"the default route via {gateway} is missing" for gateway in missing]
    if interface.accept_ra != wanted.accept_ra:
        differences.append("accept_ra is on" if interface.accept_ra else "accept_ra is off")
    return tuple(differences)


def _strange(addresses: Iterable[str], wanted: HostAttachment, network: HostNetwork) -> list[str]:
    cidrs = tuple(prefix.cidr for prefix in network.prefixes)
    return sorted(
        address
        for address in addresses
        if not (wanted.accept_ra and ":" in address) and inside(address, cidrs) and not address.startswith("fe80:")
    )


def free_name(used: Iterable[str]) -> str:
    """The first "tl<n>" that is not used."""
    used = set(used)
    return next(name for n in range(len(used) + 1) if (name := f"tl{n}") not in used)
