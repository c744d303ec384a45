"""Our netlink bytes read by pyroute2, and pyroute2's read by us: two codecs that share no code."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl import ifaddrmsg as _ifaddrmsg
from pyroute2.netlink.rtnl import ifinfmsg as _ifinfmsg
from pyroute2.netlink.rtnl import rtmsg as _rtmsg

from agent.kernel import codec, dump, messages, uapi
from agent.kernel.messages import Request

# pyroute2's message classes are not annotated.
ifaddrmsg: Any = _ifaddrmsg.ifaddrmsg
ifinfmsg: Any = _ifinfmsg.ifinfmsg
rtmsg: Any = _rtmsg.rtmsg


def as_seen(kind: Any, request: Request) -> Any:
    """A request as pyroute2 decodes it."""
    header = struct.pack("=IHHII", 16 + len(request.body), request.type, request.flags, 1, 0)
    message = kind(header + request.body)
    message.decode()
    return message


def inner(message: Any, name: str) -> Any:
    """An attribute by its name."""
    return message.get_attr(name)


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa"])
def test_macvlan(mode: str) -> None:
    seen = as_seen(ifinfmsg, messages.add_macvlan(7, 0, "tl~1", "02:11:14:00:00:01", mode, 1400))
    assert inner(seen, "IFLA_IFNAME") == "tl~1"
    assert inner(seen, "IFLA_LINK") == 7
    assert inner(seen, "IFLA_ADDRESS") == "02:11:14:00:00:01"
    assert inner(seen, "IFLA_MTU") == 1400
    info = inner(seen, "IFLA_LINKINFO")
    assert inner(info, "IFLA_INFO_KIND") == "macvlan"
    assert inner(inner(info, "IFLA_INFO_DATA"), "IFLA_MACVLAN_MODE") == mode


def test_change_of_flags_names_only_those() -> None:
    seen = as_seen(ifinfmsg, messages.change_link(9, flags=uapi.IFF_PROMISC, change=uapi.IFF_PROMISC))
    assert (seen["index"], seen["flags"], seen["change"]) == (9, 0x100, 0x100)
    assert as_seen(ifinfmsg, messages.lower_link(9))["flags"] == 0


@pytest.mark.parametrize(
    ("address", "broadcast", "flags"),
    [
        ("20.0.0.17/24", "20.0.0.255", None),
        ("20.0.0.17/31", None, None),
        ("20.0.0.17/32", None, None),
        ("fd00::17/64", None, 2),
    ],
)
def test_address(address: str, broadcast: str | None, flags: int | None) -> None:
    seen = as_seen(ifaddrmsg, messages.add_address(9, address))
    text, length = address.split("/")
    assert (seen["index"], seen["prefixlen"]) == (9, int(length))
    assert inner(seen, "IFA_LOCAL") == inner(seen, "IFA_ADDRESS") == text
    assert inner(seen, "IFA_BROADCAST") == broadcast
    assert inner(seen, "IFA_FLAGS") == flags


@pytest.mark.parametrize(
    ("gateway", "family", "metric"), [("20.0.0.1", socket.AF_INET, 0), ("fd00::1", socket.AF_INET6, 512)]
)
def test_default_route(gateway: str, family: int, metric: int) -> None:
    request = messages.put_default(9, gateway, metric, replace=True)
    seen = as_seen(rtmsg, request)
    assert (seen["family"], seen["dst_len"], seen["table"], seen["type"]) == (family, 0, 254, 1)
    assert (inner(seen, "RTA_GATEWAY"), inner(seen, "RTA_OIF")) == (gateway, 9)
    assert (inner(seen, "RTA_PRIORITY") or 0) == metric
    assert dump.defaults(request.body) == [
        dump.Default(9, gateway, metric, 4 if family == socket.AF_INET else 6, uapi.RTPROT_STATIC)
    ]


def test_multipath_default_has_each_next_hop() -> None:
    message = rtmsg()
    message["family"] = socket.AF_INET
    message["table"], message["type"] = 254, 1
    hops = [
        {"oif": index, "hops": 0, "attrs": [["RTA_GATEWAY", gateway]]}
        for index, gateway in ((3, "20.0.0.1"), (4, "30.0.0.1"))
    ]
    message["attrs"] = [["RTA_MULTIPATH", hops]]
    message.encode()
    assert [(one.index, one.gateway) for one in dump.defaults(bytes(message.data[16:]))] == [
        (3, "20.0.0.1"),
        (4, "30.0.0.1"),
    ]


@pytest.mark.parametrize(
    ("change", "gone"), [({"table": 100}, True), ({"dst_len": 8}, True), ({"type": 7}, True), ({}, False)]
)
def test_routes_that_are_no_default_of_the_main_table(change: dict[str, int], gone: bool) -> None:
    message = rtmsg()
    values = {"family": socket.AF_INET, "table": 254, "type": 1, "dst_len": 0} | change
    for key, value in values.items():
        message[key] = value
    message["attrs"] = [["RTA_GATEWAY", "20.0.0.1"], ["RTA_OIF", 3]]
    message.encode()
    assert (dump.defaults(bytes(message.data[16:])) == []) is gone


def link_bytes(attrs: list[list[object]], flags: int = 0) -> bytes:
    """A link as pyroute2 encodes it."""
    message = ifinfmsg()
    message["index"], message["flags"] = 9, flags
    message["attrs"] = attrs
    message.encode()
    return bytes(message.data[16:])


def test_link_reads_what_another_codec_wrote() -> None:
    vlan = {"attrs": [["IFLA_INFO_KIND", "vlan"], ["IFLA_INFO_DATA", {"attrs": [["IFLA_VLAN_ID", 10]]}]]}
    body = link_bytes(
        [
            ["IFLA_IFNAME", "enp7s0.10"],
            ["IFLA_MTU", 1500],
            ["IFLA_LINK", 2],
            ["IFLA_ADDRESS", "02:11:14:00:00:01"],
            ["IFLA_IFALIAS", "trunkline:vlan:default:10"],
            ["IFLA_PROMISCUITY", 1],
            ["IFLA_CARRIER", 0],
            ["IFLA_LINKINFO", vlan],
        ],
        flags=uapi.IFF_UP | uapi.IFF_PROMISC,
    )
    link = dump.link(body).link
    assert (link.index, link.name, link.kind, link.vlan, link.parent) == (9, "enp7s0.10", "vlan", 10, 2)
    assert (link.mac, link.mtu, link.up, link.carrier) == ("02:11:14:00:00:01", 1500, True, False)
    assert (link.alias, link.promiscuity, link.promiscuous) == ("trunkline:vlan:default:10", 1, True)
    assert dump.index_and_name(body) == (9, "enp7s0.10")


@pytest.mark.parametrize(
    ("nsid", "host_nsid", "told"),
    [
        (None, None, True),  # the host's own link on another of its own
        (3, None, False),  # the host's veth whose other end is in a container
        (None, 3, False),  # a container's link on another of its own
        (3, 3, True),
        (4, 3, False),
        (3, -1, False),  # the container does not know the host
    ],
)
def test_parent_is_on_the_host_only_when_the_kernel_says_so(
    nsid: int | None, host_nsid: int | None, told: bool
) -> None:
    attrs: list[list[object]] = [["IFLA_IFNAME", "eth0"], ["IFLA_LINK", 2]]
    if nsid is not None:
        attrs.append(["IFLA_LINK_NETNSID", nsid])
    assert dump.link(link_bytes(attrs), host_nsid).link.parent_on_host is told


def test_unnumbered_namespace() -> None:
    assert dump.nsid(bytes(4) + codec.u32(uapi.NETNSA_NSID, 0xFFFFFFFF)) == -1
    assert dump.nsid(bytes(4) + codec.u32(uapi.NETNSA_NSID, 0)) == 0


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40)))
def test_attributes_survive_the_way_there_and_back(attrs: dict[int, bytes]) -> None:
    data = b"".join(codec.attribute(kind, value) for kind, value in attrs.items())
    assert len(data) % 4 == 0
    assert codec.attributes(data) == attrs


@given(st.binary(max_size=200))
def test_cut_or_garbled_attributes_end_the_walk(data: bytes) -> None:
    assert sum(len(value) for value in codec.attributes(data).values()) <= len(data)
