"""The few rtnetlink requests we make, as bytes without their netlink header (rtnetlink(7))."""

from __future__ import annotations

import ipaddress
import socket
from struct import Struct
from typing import Final, NamedTuple

from agent.kernel import uapi
from agent.kernel.codec import attribute, nested, string, u32
from agent.plan.state import ROUTE_PROTOCOL, ShimRoute

_LINK: Final = Struct("=BxHiII")
_ADDRESS: Final = Struct("=BBBBi")
_ROUTE: Final = Struct("=BBBBBBBBI")
_NEW: Final = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL


class Request(NamedTuple):
    """A request: message type, netlink flags beside REQUEST and ACK, and body."""

    type: int
    flags: int
    body: bytes


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, index, flags, change)


def mac_bytes(mac: str) -> bytes:
    """A MAC as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def add_macvlan(parent: int, namespace: int, name: str, mac: str, mode: str, mtu: int) -> Request:
    """A macvlan on link `parent` of the socket's namespace, made inside the namespace of descriptor `namespace`.
    An empty MAC or an MTU of 0 leaves the choice to the kernel."""
    data = nested(uapi.IFLA_INFO_DATA, u32(uapi.IFLA_MACVLAN_MODE, uapi.MACVLAN_MODES[mode]))
    body = [
        _link(),
        string(uapi.IFLA_IFNAME, name),
        u32(uapi.IFLA_LINK, parent),
        u32(uapi.IFLA_NET_NS_FD, namespace),
        attribute(uapi.IFLA_ADDRESS, mac_bytes(mac)) if mac else b"",
        u32(uapi.IFLA_MTU, mtu) if mtu else b"",
        nested(uapi.IFLA_LINKINFO, string(uapi.IFLA_INFO_KIND, "macvlan"), data),
    ]
    return Request(uapi.RTM_NEWLINK, _NEW, b"".join(body))


def change_link(index: int, *attrs: bytes, flags: int = 0, change: int = 0) -> Request:
    """Set attributes of a link, and those of its flags that are in `change`."""
    return Request(uapi.RTM_SETLINK, 0, _link(index, flags, change) + b"".join(attrs))


def raise_link(index: int) -> Request:
    """Set a link up."""
    return change_link(index, flags=uapi.IFF_UP, change=uapi.IFF_UP)


def lower_link(index: int) -> Request:
    """Set a link down."""
    return change_link(index, change=uapi.IFF_UP)


def delete_link(index: int) -> Request:
    """Delete a link by index."""
    return Request(uapi.RTM_DELLINK, 0, _link(index))


def get_link(index: int = 0, name: str = "") -> Request:
    """One link, by index or by name."""
    mask = u32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS)
    return Request(uapi.RTM_GETLINK, 0, _link(index) + mask + (string(uapi.IFLA_IFNAME, name) if name else b""))


def all_links() -> Request:
    """A dump of links, without statistics."""
    mask = u32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS)
    return Request(uapi.RTM_GETLINK, uapi.NLM_F_DUMP, _link() + mask)


def _address(index: int, address: str, extra: bytes = b"") -> bytes:
    interface = ipaddress.ip_interface(address)
    packed = interface.packed
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    head = _ADDRESS.pack(family, interface.network.prefixlen, 0, uapi.RT_SCOPE_UNIVERSE, index)
    return head + attribute(uapi.IFA_LOCAL, packed) + attribute(uapi.IFA_ADDRESS, packed) + extra


def add_address(index: int, address: str) -> Request:
    """Give a link the address "20.0.0.17/24".

    IPv4 gets the prefix's broadcast address, as from Docker. IPv6 skips duplicate address detection (RFC 4862
    section 5.4): the address is unique by the store's guard and was probed for on the wire, and one that is
    tentative for a second cannot be bound by a container that starts now.
    """
    interface = ipaddress.ip_interface(address)
    if interface.version == 6:
        extra = u32(uapi.IFA_FLAGS, uapi.IFA_F_NODAD)
    elif interface.network.prefixlen < 31:
        extra = attribute(uapi.IFA_BROADCAST, interface.network.broadcast_address.packed)
    else:
        extra = b""
    return Request(uapi.RTM_NEWADDR, _NEW, _address(index, address, extra))


def remove_address(index: int, address: str) -> Request:
    """Take an address from a link."""
    return Request(uapi.RTM_DELADDR, 0, _address(index, address))


def all_addresses() -> Request:
    """A dump of the addresses of all families."""
    return Request(uapi.RTM_GETADDR, uapi.NLM_F_DUMP, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))


def _default(index: int, gateway: str, metric: int, protocol: int, flags: int = 0) -> bytes:
    address = ipaddress.ip_address(gateway)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    scope = uapi.RT_SCOPE_UNIVERSE
    head = _ROUTE.pack(family, 0, 0, 0, uapi.RT_TABLE_MAIN, protocol, scope, uapi.RTN_UNICAST, flags)
    attrs = attribute(uapi.RTA_GATEWAY, address.packed) + u32(uapi.RTA_OIF, index)
    return head + attrs + (u32(uapi.RTA_PRIORITY, metric) if metric else b"")


def put_default(index: int, gateway: str, metric: int, *, replace: bool, protocol: int = uapi.RTPROT_STATIC) -> Request:
    """A default route; with `replace` in the place of one of the same family and metric, else before it."""
    flags = uapi.NLM_F_CREATE | (uapi.NLM_F_REPLACE if replace else 0)
    return Request(uapi.RTM_NEWROUTE, flags, _default(index, gateway, metric, protocol))


def remove_default(index: int, gateway: str, metric: int) -> Request:
    """Take a default route away. Protocol 0 matches any (fib_table_delete, ip6_route_del)."""
    return Request(uapi.RTM_DELROUTE, 0, _default(index, gateway, metric, 0))


def _to_link(route: ShimRoute) -> bytes:
    network = ipaddress.ip_network(route.destination)
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    # IPv4 refuses a route without gateway that claims more than the link (fib_check_nh); IPv6 does not look.
    scope = uapi.RT_SCOPE_LINK if network.version == 4 else uapi.RT_SCOPE_UNIVERSE
    table, kind = uapi.RT_TABLE_MAIN, uapi.RTN_UNICAST
    head = _ROUTE.pack(family, network.prefixlen, 0, 0, table, ROUTE_PROTOCOL, scope, kind, 0)
    source = ipaddress.ip_address(route.source).packed if route.source else b""
    return b"".join(
        [
            head,
            attribute(uapi.RTA_DST, network.network_address.packed),
            u32(uapi.RTA_OIF, route.index),
            u32(uapi.RTA_PRIORITY, route.metric),
            attribute(uapi.RTA_PREFSRC, source) if source else b"",
        ]
    )


def add_route(route: ShimRoute) -> Request:
    """A route of ours. EEXIST when any of the same prefix and metric is there, whoever made it."""
    return Request(uapi.RTM_NEWROUTE, _NEW, _to_link(route))


def remove_route(route: ShimRoute) -> Request:
    """Take exactly that route of ours away: the kernel compares link, metric, source and protocol."""
    return Request(uapi.RTM_DELROUTE, 0, _to_link(route))


def our_routes(version: int) -> Request:
    """A dump of the routes of one IP version that bear our protocol number: the kernel leaves out the others, of
    which a router may have a million (strict checking, Linux 4.20)."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return Request(uapi.RTM_GETROUTE, uapi.NLM_F_DUMP, _ROUTE.pack(family, 0, 0, 0, 0, ROUTE_PROTOCOL, 0, 0, 0))


def all_routes() -> Request:
    """A dump of the routes of all families."""
    return Request(uapi.RTM_GETROUTE, uapi.NLM_F_DUMP, _ROUTE.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0))


def give_number(namespace: int) -> Request:
    """Let the socket's namespace number the one behind a descriptor; EEXIST when it has a number."""
    choose = attribute(uapi.NETNSA_NSID, b"\xff" * 4)
    return Request(uapi.RTM_NEWNSID, 0, bytes(4) + choose + u32(uapi.NETNSA_FD, namespace))


def number_of(namespace: int) -> Request:
    """The number (nsid) by which the socket's namespace knows the one behind a descriptor."""
    return Request(uapi.RTM_GETNSID, 0, bytes(4) + u32(uapi.NETNSA_FD, namespace))
