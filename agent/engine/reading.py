"""Docker's JSON into values. It is untrusted input: a wrong shape raises ValueError, KeyError, TypeError or
AttributeError, which the engine takes for a Docker that does not answer as it should."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from agent.plan.docker import Container, DockerNetwork, DockerNetworkSpec, DockerPool, Endpoint
from trunkline import naming

PARENT = "parent"
MODE = "macvlan_mode"
IPAM_NETWORK = "network"
"""Option of our IPAM driver: the network of the fabric."""

Json = Mapping[str, Any]


def containers(listed: Iterable[Json]) -> list[Container]:
    """The answer of /containers/json."""
    return [container(one) for one in listed]


def container(listed: Json) -> Container:
    """One element of /containers/json."""
    networks = (listed.get("NetworkSettings") or {}).get("Networks") or {}
    return Container(
        id=str(listed["Id"]),
        name=_name(listed),
        state=str(listed.get("State", "")),
        labels=_strings(listed.get("Labels")),
        endpoints=tuple(_endpoint(str(name), one or {}) for name, one in sorted(networks.items())),
        network_mode=str((listed.get("HostConfig") or {}).get("NetworkMode", "")),
    )


def inspected(listed: Container, answer: Json) -> Container:
    """A listed container with what only /containers/ID/json tells."""
    policy = ((answer.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name", "")
    state = answer.get("State") or {}
    return Container(
        id=listed.id,
        name=listed.name,
        state=str(state.get("Status", listed.state)),
        labels=listed.labels,
        endpoints=listed.endpoints,
        network_mode=listed.network_mode,
        restart_policy=str(policy),
        error=str(state.get("Error", "")),
    )


def wishes(answer: Json, network: str) -> dict[str, object]:
    """What the user of an inspected container asked for on a network, in the form of a request to connect it."""
    settings = ((answer.get("NetworkSettings") or {}).get("Networks") or {}).get(network) or {}
    kept = {key: settings[key] for key in ("IPAMConfig", "Links", "DriverOpts", "GwPriority") if settings.get(key)}
    # Docker adds the short id itself, and shows it among the aliases.
    kept["Aliases"] = [alias for alias in settings.get("Aliases") or () if not str(answer["Id"]).startswith(str(alias))]
    mac = (answer.get("Config") or {}).get("MacAddress")
    if mac and (answer.get("HostConfig") or {}).get("NetworkMode") == network:
        kept["MacAddress"] = mac
    return kept


def _name(listed: Json) -> str:
    # Legacy links show up as "/other/alias"; a container's own name has one slash.
    own = [str(name) for name in listed.get("Names") or () if str(name).count("/") == 1]
    return own[0].removeprefix("/") if own else str(listed["Id"])[:12]


def _endpoint(network: str, settings: Json) -> Endpoint:
    asked = settings.get("IPAMConfig") or {}
    addresses = (
        _address(settings.get("IPAddress"), settings.get("IPPrefixLen")),
        _address(settings.get("GlobalIPv6Address"), settings.get("GlobalIPv6PrefixLen")),
    )
    requested = (asked.get("IPv4Address"), asked.get("IPv6Address"))
    return Endpoint(
        network_id=str(settings.get("NetworkID") or ""),
        network=network,
        id=str(settings.get("EndpointID") or ""),
        addresses=tuple(address for address in addresses if address),
        requested=tuple(_plain(str(address)) for address in requested if address),
        mac=str(settings.get("MacAddress") or "").lower(),
    )


def _address(address: object, length: object) -> str:
    return ipaddress.ip_interface(f"{address}/{length}").with_prefixlen if address else ""


def _plain(address: str) -> str:
    """An address that the user gave, in canonical form; Docker keeps it as it was typed."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


def networks(listed: Iterable[Json]) -> list[DockerNetwork]:
    """The answer of /networks.

    A swarm manager lists a swarm network that is made from a config-only one without what each node takes from that;
    `docker network inspect` has it on both (seen on 20.10 and 28).
    """
    found = [network(one) for one in listed]
    configs = {one.name: one for one in found if one.config_only}
    return [_completed(one, configs.get(one.config_from)) for one in found]


def _completed(found: DockerNetwork, config: DockerNetwork | None) -> DockerNetwork:
    if config is None or found.ipam_driver:
        return found
    return replace(
        found,
        parent=config.parent,
        mode=config.mode,
        pools=config.pools,
        ipam_driver=config.ipam_driver,
        ipam_network=config.ipam_network,
    )


def network(listed: Json) -> DockerNetwork:
    """One network, listed or inspected."""
    ipam = listed.get("IPAM") or {}
    options = _strings(listed.get("Options"))
    return DockerNetwork(
        id=str(listed["Id"]),
        name=str(listed["Name"]),
        driver=str(listed.get("Driver", "")),
        scope=str(listed.get("Scope", "")),
        parent=options.get(PARENT, ""),
        mode=options.get(MODE, ""),
        pools=tuple(_pool(one) for one in ipam.get("Config") or ()),
        ipam_driver=str(ipam.get("Driver", "")),
        ipam_network=_strings(ipam.get("Options")).get(IPAM_NETWORK, ""),
        labels=_strings(listed.get("Labels")),
        internal=bool(listed.get("Internal")),
        ipv6=bool(listed.get("EnableIPv6")),
        config_only=bool(listed.get("ConfigOnly")),
        config_from=str((listed.get("ConfigFrom") or {}).get("Network", "")),
    )


def _pool(config: Json) -> DockerPool:
    return DockerPool(
        cidr=str(config.get("Subnet") or ""),
        gateway=str(config.get("Gateway") or ""),
        ip_range=str(config.get("IPRange") or ""),
    )


def _strings(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        return {}
    return {str(key): str(value) for key, value in given.items()}


def creation(spec: DockerNetworkSpec) -> dict[str, object]:
    """The request that makes a network."""
    config = [{"Subnet": pool.cidr} | ({"Gateway": pool.gateway} if pool.gateway else {}) for pool in spec.pools]
    asked: dict[str, object] = {
        "Name": spec.name,
        "CheckDuplicate": True,
        "IPAM": {"Driver": naming.DOCKER_DRIVER, "Options": {IPAM_NETWORK: spec.network}, "Config": config},
        "Options": {PARENT: spec.parent, MODE: spec.mode},
        "Labels": dict(spec.labels),
        "EnableIPv6": any(":" in pool.cidr for pool in spec.pools),
        "ConfigOnly": spec.config_only,
    }
    if not spec.config_only:
        # A config-only network says nothing of driver and isolation: both belong to the network made from it.
        asked |= {"Driver": "macvlan", "Internal": spec.internal}
    return asked
