"""What the kernel shows: links, addresses and default routes out of rtnetlink messages."""

from __future__ import annotations

import ipaddress
import socket
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import Final, NamedTuple

from agent.kernel import uapi
from agent.kernel.codec import attributes, number, text
from agent.plan.state import ROUTE_PROTOCOL, Interface, Link, ShimRoute

_LINK: Final = Struct("=BxHiII")
_ADDRESS: Final = Struct("=BBBBi")
_ROUTE: Final = Struct("=BBBBBBBBI")
_NEXTHOP: Final = Struct("=HBBi")
_ATTRIBUTE: Final = Struct("=HH")
_NSID_HEADER: Final = 4  # struct rtgenmsg, one byte, padded
_MODES: Final = {value: name for name, value in uapi.MACVLAN_MODES.items()}


@dataclass(frozen=True, slots=True)
class Default:
    """A default route of the main table, one per next hop; `gateway` is empty for a route to the link itself."""

    index: int
    gateway: str
    metric: int
    version: int
    protocol: int


class SeenLink(NamedTuple):
    """A link, and whether it takes router advertisements (IPv6 only; False without IPv6)."""

    link: Link
    accept_ra: bool


def link(body: bytes, host_nsid: int | None = None) -> SeenLink:
    """A link out of RTM_NEWLINK. `host_nsid` is the number under which the namespace that was read knows the host's
    (-1 when it knows it not); None when it is the host's own."""
    _, _, index, flags, _ = _LINK.unpack_from(body)
    attrs = attributes(body, _LINK.size)
    info = attributes(attrs.get(uapi.IFLA_LINKINFO, b""))
    kind = text(info.get(uapi.IFLA_INFO_KIND))
    data = attributes(info.get(uapi.IFLA_INFO_DATA, b"")) if kind in ("vlan", "macvlan") else {}
    carrier = attrs.get(uapi.IFLA_CARRIER)
    shown = Link(
        index=index,
        name=text(attrs.get(uapi.IFLA_IFNAME)),
        kind=kind,
        mac=attrs.get(uapi.IFLA_ADDRESS, b"").hex(":"),
        mtu=number(attrs.get(uapi.IFLA_MTU)),
        up=bool(flags & uapi.IFF_UP),
        carrier=bool(number(carrier)) if carrier is not None else bool(flags & uapi.IFF_LOWER_UP),
        alias=text(attrs.get(uapi.IFLA_IFALIAS)),
        parent=number(attrs.get(uapi.IFLA_LINK)),
        master=number(attrs.get(uapi.IFLA_MASTER)),
        vlan=number(data.get(uapi.IFLA_VLAN_ID)) if kind == "vlan" and _is_8021q(data) else None,
        mode=_MODES.get(number(data.get(uapi.IFLA_MACVLAN_MODE)), "") if kind == "macvlan" else "",
        promiscuity=number(attrs.get(uapi.IFLA_PROMISCUITY)),
        promiscuous=bool(flags & uapi.IFF_PROMISC),
        parent_on_host=_parent_on_host(attrs.get(uapi.IFLA_LINK_NETNSID), host_nsid),
    )
    return SeenLink(shown, _accept_ra(attrs))


def _is_8021q(data: dict[int, bytes]) -> bool:
    """Service tags (802.1ad) are another kind of tag: a link may carry both of one id side by side."""
    return int.from_bytes(data.get(uapi.IFLA_VLAN_PROTOCOL, b""), "big") in (0, uapi.ETH_P_8021Q)


def index_and_name(body: bytes) -> tuple[int, str]:
    """Just that, out of RTM_NEWLINK, for namespaces with thousands of links."""
    offset = _LINK.size
    while offset + 4 <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if kind == uapi.IFLA_IFNAME:
            return _LINK.unpack_from(body)[2], text(body[offset + 4 : offset + length])
        offset += (max(length, 4) + 3) & ~3
    return _LINK.unpack_from(body)[2], ""


def _parent_on_host(nsid: bytes | None, host_nsid: int | None) -> bool:
    if nsid is None:  # the parent is in the namespace that was read
        return host_nsid is None
    return host_nsid is not None and host_nsid >= 0 and number(nsid) == host_nsid


def nsid(body: bytes) -> int:
    """The number a namespace knows another by, out of RTM_NEWNSID; -1 when it knows it not."""
    value = attributes(body, _NSID_HEADER).get(uapi.NETNSA_NSID)
    unsigned = number(value) if value else 0xFFFFFFFF
    return -1 if unsigned == 0xFFFFFFFF else unsigned


def _accept_ra(attrs: dict[int, bytes]) -> bool:
    family = attributes(attrs.get(uapi.IFLA_AF_SPEC, b"")).get(socket.AF_INET6, b"")
    conf = attributes(family).get(uapi.IFLA_INET6_CONF, b"")
    at = uapi.DEVCONF_ACCEPT_RA * 4
    return any(conf[at : at + 4])


def address(body: bytes) -> tuple[int, str] | None:
    """(link index, "20.0.0.17/24") out of RTM_NEWADDR, or None for what nobody configured: the kernel's own
    link-local addresses and those it drew from router advertisements."""
    family, length, flags, scope, index = _ADDRESS.unpack_from(body)
    attrs = attributes(body, _ADDRESS.size)
    flags = number(attrs.get(uapi.IFA_FLAGS)) or flags
    if family == socket.AF_INET6 and (scope == uapi.RT_SCOPE_LINK or not flags & uapi.IFA_F_PERMANENT):
        return None
    # IFA_ADDRESS is the peer on a point-to-point link; IPv6 sends IFA_LOCAL only with a peer.
    packed = attrs.get(uapi.IFA_LOCAL) or attrs.get(uapi.IFA_ADDRESS)
    if family not in (socket.AF_INET, socket.AF_INET6) or not packed:
        return None
    return index, f"{socket.inet_ntop(family, packed)}/{length}"


def host_address(body: bytes) -> tuple[int, str] | None:
    """(link index, "192.0.2.7/24") out of RTM_NEWADDR, where somebody or DHCP gave the host an address by which others
    reach it; None for link-local ones and what the kernel drew from router advertisements."""
    family, length, flags, scope, index = _ADDRESS.unpack_from(body)
    attrs = attributes(body, _ADDRESS.size)
    flags = number(attrs.get(uapi.IFA_FLAGS)) or flags
    packed = attrs.get(uapi.IFA_LOCAL) or attrs.get(uapi.IFA_ADDRESS)
    if family not in (socket.AF_INET, socket.AF_INET6) or scope >= uapi.RT_SCOPE_LINK or not packed:
        return None
    # addrconf_prefix_rcv_add_addr and ipv6_create_tempaddr set these, without PERMANENT.
    drawn = flags & (uapi.IFA_F_MANAGETEMPADDR | uapi.IFA_F_TEMPORARY) and not flags & uapi.IFA_F_PERMANENT
    return None if family == socket.AF_INET6 and drawn else (index, f"{socket.inet_ntop(family, packed)}/{length}")


def defaults(body: bytes) -> list[Default]:
    """Default routes of the main table out of RTM_NEWROUTE; several for a multipath route, none for another."""
    family, length, _, _, table, protocol, _, kind, flags = _ROUTE.unpack_from(body)
    if length or kind != uapi.RTN_UNICAST or flags & uapi.RTM_F_CLONED:
        return []
    if family not in (socket.AF_INET, socket.AF_INET6):
        return []
    attrs = attributes(body, _ROUTE.size)
    if (number(attrs.get(uapi.RTA_TABLE)) or table) != uapi.RT_TABLE_MAIN:
        return []
    metric = number(attrs.get(uapi.RTA_PRIORITY))
    version = 4 if family == socket.AF_INET else 6
    hops = [(number(attrs.get(uapi.RTA_OIF)), attrs.get(uapi.RTA_GATEWAY, b""))]
    if uapi.RTA_MULTIPATH in attrs:
        hops = _next_hops(attrs[uapi.RTA_MULTIPATH])
    return [
        Default(index, str(ipaddress.ip_address(packed)) if packed else "", metric, version, protocol)
        for index, packed in hops
    ]


def our_route(body: bytes) -> ShimRoute | None:
    """A route of ours in the main table out of RTM_NEWROUTE; None for any other."""
    family, length, _, _, table, protocol, _, _, flags = _ROUTE.unpack_from(body)
    if protocol != ROUTE_PROTOCOL or flags & uapi.RTM_F_CLONED or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    attrs = attributes(body, _ROUTE.size)
    if (number(attrs.get(uapi.RTA_TABLE)) or table) != uapi.RT_TABLE_MAIN:
        return None
    packed = attrs.get(uapi.RTA_DST) or bytes(4 if family == socket.AF_INET else 16)
    source = attrs.get(uapi.RTA_PREFSRC, b"")
    return ShimRoute(
        index=number(attrs.get(uapi.RTA_OIF)),
        destination=f"{socket.inet_ntop(family, packed)}/{length}",
        source=socket.inet_ntop(family, source) if source else "",
        metric=number(attrs.get(uapi.RTA_PRIORITY)),
    )


def _next_hops(data: bytes) -> list[tuple[int, bytes]]:
    hops = []
    offset = 0
    while offset + _NEXTHOP.size <= len(data):
        length, _, _, index = _NEXTHOP.unpack_from(data, offset)
        if length < _NEXTHOP.size:
            break
        inner = attributes(data[offset : offset + length], _NEXTHOP.size)
        hops.append((index, inner.get(uapi.RTA_GATEWAY, b"")))
        offset += (length + 3) & ~3
    return hops


def interfaces(links: Iterable[SeenLink], addresses: Iterable[bytes], routes: Iterable[Default]) -> list[Interface]:
    """Links with what is on them, in the kernel's order."""
    on_link: dict[int, list[str]] = defaultdict(list)
    for body in addresses:
        if found := address(body):
            on_link[found[0]].append(found[1])
    gateways: dict[int, list[str]] = defaultdict(list)
    for route in routes:
        if route.gateway:
            gateways[route.index].append(route.gateway)
    return [
        Interface(
            seen.link,
            addresses=tuple(on_link.get(seen.link.index, ())),
            gateways=tuple(gateways.get(seen.link.index, ())),
            accept_ra=seen.accept_ra,
        )
        for seen in links
    ]
