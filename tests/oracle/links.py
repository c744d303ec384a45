"""What ip(8) shows of links, addresses and routes, typed. Shares no code with what is tested."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SeenLink:
    """A link as `ip -details link` shows it. `parent` is an index of the parent's namespace; 0 without one."""

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    up: bool
    promiscuous: bool
    alias: str
    parent: int
    parent_nsid: int | None
    vlan: int | None
    mode: str


@dataclass(frozen=True)
class SeenAddress:
    """An address as `ip addr` shows it."""

    ifname: str
    address: str
    scope: str
    broadcast: str
    dynamic: bool
    nodad: bool


@dataclass(frozen=True)
class SeenRoute:
    """A route as `ip route` shows it; `destination` has its prefix length, but for "default". `protocol` is a name
    that iproute2 knows, or a number."""

    destination: str
    gateway: str
    ifname: str
    metric: int
    source: str = ""
    protocol: str = ""


def _ip(namespace: str | None, *words: str) -> list[dict[str, Any]]:
    where = ["-n", namespace] if namespace else []
    done = subprocess.run(["ip", *where, "-json", "-details", *words], capture_output=True, text=True, check=True)
    # ip prints empty objects for what its filter leaves out, and nothing at all for no answer.
    return [entry for entry in json.loads(done.stdout or "[]") if entry]


def links(namespace: str | None = None) -> dict[str, SeenLink]:
    """Links of a named namespace (default: this process's), by name."""
    # "link_index" is numeric for a parent elsewhere; a parent here is shown by name.
    entries = _ip(namespace, "link")
    index_of = {entry["ifname"]: entry["ifindex"] for entry in entries}
    found = {}
    for entry in entries:
        info = entry.get("linkinfo", {})
        data = info.get("info_data", {})
        kind = info.get("info_kind", "")
        found[entry["ifname"]] = SeenLink(
            index=entry["ifindex"],
            name=entry["ifname"],
            kind=kind,
            mac=entry.get("address", ""),
            mtu=entry["mtu"],
            up="UP" in entry["flags"],
            promiscuous="PROMISC" in entry["flags"],
            alias=entry.get("ifalias", ""),
            parent=entry.get("link_index") or index_of.get(entry.get("link", ""), 0),
            parent_nsid=entry.get("link_netnsid"),
            vlan=data.get("id") if kind == "vlan" else None,
            mode=data.get("mode", "") if kind == "macvlan" else "",
        )
    return found


def addresses(namespace: str | None = None) -> list[SeenAddress]:
    """Addresses of a named namespace."""
    return [
        SeenAddress(
            ifname=entry["ifname"],
            address=f"{info['local']}/{info['prefixlen']}",
            scope=info["scope"],
            broadcast=info.get("broadcast", ""),
            dynamic=bool(info.get("dynamic")),
            nodad=bool(info.get("nodad")),
        )
        for entry in _ip(namespace, "address")
        for info in entry.get("addr_info", [])
        if "local" in info
    ]


def addresses_of(ifname: str, namespace: str | None = None) -> list[str]:
    """Addresses of global scope of one interface, in the kernel's order."""
    return [seen.address for seen in addresses(namespace) if seen.ifname == ifname and seen.scope == "global"]


def _whole(destination: str, family: int) -> str:
    return (
        destination if "/" in destination or destination == "default" else f"{destination}/{32 if family == 4 else 128}"
    )


def routes(namespace: str | None = None, family: int = 4) -> list[SeenRoute]:
    """Routes of the main table of a named namespace, in the order in which the kernel tries them."""
    return [
        SeenRoute(
            destination=_whole(entry["dst"], family),
            gateway=entry.get("gateway", ""),
            ifname=entry.get("dev", ""),
            metric=entry.get("metric", 0),
            source=entry.get("prefsrc", ""),
            protocol=str(entry.get("protocol", "")),
        )
        for entry in _ip(namespace, f"-{family}", "route", "show", "table", "main")
    ]


def default_gateways(namespace: str | None = None, family: int = 4) -> list[tuple[str, str]]:
    """(gateway, interface) of each default route, the one in force first."""
    found = [route for route in routes(namespace, family) if route.destination == "default"]
    return [(route.gateway, route.ifname) for route in sorted(found, key=lambda route: route.metric)]
