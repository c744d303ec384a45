"""Docker's pools against the networks of this host. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from trunkline import ids
from trunkline.errors import Reason, Refusal
from trunkline.model import Desired, HostNetwork, Prefix


@dataclass(frozen=True, slots=True)
class Asked:
    """What `docker network create` asks for: option `network` or "", `--subnet` or "", IP version, `--ip-range` or
    ""."""

    network: str
    cidr: str
    version: int
    ip_range: str = ""


def canonical(address: str) -> str:
    """One address, without prefix length, as canonical text; "" stays. Raises INVALID_ARGUMENT."""
    return str(ids.parse_address(address.partition("/")[0])) if address else ""


def check(desired: Desired | None, host: str, asked: Asked) -> tuple[str, str]:
    """The network that a Docker network is made for, and its prefix. Raises NETWORK_NOT_FOUND, INVALID_PREFIX,
    INVALID_RANGE, CONTROLLER_UNREACHABLE when the host was never told of any network."""
    cidr = str(ids.parse_prefix(asked.cidr)) if asked.cidr else ""
    network = named(desired, host, asked.network) if asked.network else _only(desired, host, cidr)
    fitting = [prefix for prefix in network.prefixes if (":" in prefix.cidr) == (asked.version == 6)]
    if cidr:
        fitting = [prefix for prefix in fitting if prefix.cidr == cidr]
    if len(fitting) != 1:
        raise _misfit(network, cidr or f"an IPv{asked.version} prefix")
    _check_range(network, fitting[0], asked.ip_range)
    return network.name, fitting[0].cidr


def of(desired: Desired | None, host: str, name: str, cidr: str) -> tuple[HostNetwork, str]:
    """The network and prefix of a pool that was checked when its Docker network was made. Raises NETWORK_NOT_FOUND,
    INVALID_PREFIX when the fabric changed since."""
    network = named(desired, host, name)
    cidr = str(ids.parse_prefix(cidr))
    if all(prefix.cidr != cidr for prefix in network.prefixes):
        raise _misfit(network, cidr)
    return network, cidr


def named(desired: Desired | None, host: str, name: str) -> HostNetwork:
    """The network of that name, as this host has it. Raises NETWORK_NOT_FOUND, CONTROLLER_UNREACHABLE."""
    for network in _networks(desired, host):
        if network.name == name:
            return network
    raise Refusal(
        Reason.NETWORK_NOT_FOUND,
        f"host {host} has no network {name} of the fabric: it was deleted, or its host selector leaves the host out",
        f"see `trunkline network list`; remove a Docker network that nobody needs any more (docker network rm {name})",
        network=name,
    )


def gateway(network: HostNetwork, cidr: str, address: str) -> str:
    """What Docker hears when it asks for a gateway, as often as it asks. `address` is the one its user gave, or "".

    Up to 28 Docker wants one even where the network has none, and asks with "". It hears the base address of the
    prefix, which is nobody's: no host has it in IPv4, and all routers have it in IPv6 (RFC 4291, 2.6.1). Docker
    networks of ours without gateway are internal, so that no route goes there. Raises INVALID_GATEWAY when the user's
    is not the network's.
    """
    base = str(ipaddress.ip_network(cidr).network_address)
    known = next((prefix.gateway for prefix in network.prefixes if prefix.cidr == cidr), "")
    wanted = canonical(address)
    if wanted and wanted not in (known, base):
        has = f"has gateway {known}" if known else "has no gateway"
        raise Refusal(
            Reason.INVALID_GATEWAY,
            f"network {network.name} {has} in {cidr}, not {wanted}",
            f"give --gateway {known}" if known else "leave out --gateway, and give --internal",
            network=network.name,
        )
    return known or base


def _networks(desired: Desired | None, host: str) -> tuple[HostNetwork, ...]:
    if desired is None:
        raise Refusal(
            Reason.CONTROLLER_UNREACHABLE,
            f"host {host} was not told yet which networks it has",
            "check on the host that the agent reaches a controller, then try again",
        )
    return desired.networks


def _only(desired: Desired | None, host: str, cidr: str) -> HostNetwork:
    networks = _networks(desired, host)
    if not cidr:
        raise Refusal(
            Reason.NETWORK_NOT_FOUND,
            "neither a network of the fabric nor a prefix of one was named",
            "give --ipam-opt network=NAME, or --subnet with the network's prefix",
        )
    fitting = [network for network in networks if any(prefix.cidr == cidr for prefix in network.prefixes)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(sorted(network.name for network in fitting))
    what = f"networks {names} of the fabric all have" if fitting else f"no network of host {host} has"
    raise Refusal(
        Reason.NETWORK_NOT_FOUND,
        f"{what} prefix {cidr}",
        "say which one is meant: --ipam-opt network=NAME" if fitting else "see `trunkline network list`",
    )


def _misfit(network: HostNetwork, asked: str) -> Refusal:
    has = ", ".join(prefix.cidr for prefix in network.prefixes) or "no prefix at all"
    return Refusal(
        Reason.INVALID_PREFIX,
        f"network {network.name} has {has}, not {asked}",
        "make the Docker network with the prefixes of the network, or let the agent make it",
        network=network.name,
    )


def _check_range(network: HostNetwork, prefix: Prefix, ip_range: str) -> None:
    """Docker's range must not promise what is not kept: it has to hold all that the fabric hands out."""
    if not ip_range:
        return
    whole = ipaddress.ip_network(prefix.cidr)
    asked = ids.parse_prefix(ip_range)
    spans = [span.split("-") for span in prefix.ranges] or [[str(whole[0]), str(whole[-1])]]
    if all(ids.parse_address(edge) in asked for span in spans for edge in (span[0], span[-1])):
        return
    raise Refusal(
        Reason.INVALID_RANGE,
        f"network {network.name} hands out addresses of {', '.join(prefix.ranges) or prefix.cidr} on every host, so "
        f"--ip-range {asked} cannot be kept",
        f"leave out --ip-range; what is handed out is set with `trunkline network update {network.name}`",
        network=network.name,
    )
