"""Numbers of the kernel's netlink interface, by header under include/uapi/linux. They are ABI and never change."""

from __future__ import annotations

from typing import Final

# linux/netlink.h
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_CAPPED: Final = 0x100
NLM_F_ACK_TLVS: Final = 0x200
NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF
NLMSGERR_ATTR_MSG: Final = 1
SOL_NETLINK: Final = 270
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NETLINK_GET_STRICT_CHK: Final = 12
NETLINK_LISTEN_ALL_NSID: Final = 8
SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
SO_RCVTIMEO: Final = 20

# linux/rtnetlink.h
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RTMGRP_LINK: Final = 0x1
RTMGRP_IPV4_IFADDR: Final = 0x10
RTMGRP_IPV6_IFADDR: Final = 0x100
RT_TABLE_MAIN: Final = 254
RTN_UNICAST: Final = 1
RTPROT_STATIC: Final = 4
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_LINK: Final = 253
RTM_F_CLONED: Final = 0x200
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_MULTIPATH: Final = 9
RTA_TABLE: Final = 15
RTEXT_FILTER_SKIP_STATS: Final = 8

# linux/if.h
IFF_UP: Final = 0x1
IFF_PROMISC: Final = 0x100
IFF_LOWER_UP: Final = 0x10000

# linux/if_link.h
IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_AF_SPEC: Final = 26
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
IFLA_PROMISCUITY: Final = 30
IFLA_CARRIER: Final = 33
IFLA_LINK_NETNSID: Final = 37
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_VLAN_ID: Final = 1
IFLA_VLAN_PROTOCOL: Final = 5  # in network byte order
IFLA_MACVLAN_MODE: Final = 1
IFLA_INET6_CONF: Final = 2
MACVLAN_MODES: Final = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}

# linux/if_ether.h
ETH_P_8021Q: Final = 0x8100

# linux/if_addr.h
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_BROADCAST: Final = 4
IFA_FLAGS: Final = 8
IFA_F_TEMPORARY: Final = 0x01
IFA_F_NODAD: Final = 0x02
IFA_F_PERMANENT: Final = 0x80
IFA_F_MANAGETEMPADDR: Final = 0x100

# linux/ipv6.h
DEVCONF_ACCEPT_RA: Final = 3

# linux/net_namespace.h (message types in linux/rtnetlink.h)
RTM_NEWNSID: Final = 88
RTM_GETNSID: Final = 90
NETNSA_NSID: Final = 1
NETNSA_FD: Final = 3

# linux/sched.h and linux/nsfs.h
CLONE_NEWNET: Final = 0x40000000
NS_GET_NSTYPE: Final = 0xB703
