"""Settings of one interface that netlink does not carry. Call inside its namespace (`Entrance.entered`), since
/proc/sys/net is per reader.

Documentation/networking/ip-sysctl.rst: accept_ra 2 accepts router advertisements on a host that forwards, too.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from agent.kernel.errors import Failure, Step, refused
from agent.plan.state import MacvlanSpec

_CONF: Final = "/proc/sys/net/ipv6/conf"
_CONF4: Final = "/proc/sys/net/ipv4/conf"


def _write(ifname: str, key: str, value: bytes, conf: str = _CONF) -> None:
    descriptor = os.open(f"{conf}/{ifname}/{key}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)


def settle(ifname: str, spec: MacvlanSpec) -> None:
    """Let an interface of ours take router advertisements or not, before it goes up; and where it has IPv6
    addresses, switch IPv6 on for it alone: Docker starts containers of IPv4-only networks with IPv6 off for every
    interface to come. Nothing to do where there is no IPv6 at all (ipv6.disable=1, or an MTU below 1280)."""
    try:
        _write(ifname, "accept_ra", b"2" if spec.accept_ra else b"0")
        _write(ifname, "autoconf", b"1" if spec.accept_ra else b"0")
        if any(":" in address for address in spec.addresses):
            _write(ifname, "disable_ipv6", b"0")
    except OSError as error:
        if error.errno == errno.ENOENT and not os.path.isdir(f"{_CONF}/{ifname}"):
            return
        raise refused(Failure(error.errno or errno.EIO), Step.SYSCTL, f"of {ifname}") from error


def ignore_routers(ifname: str) -> None:
    """Take no addresses and no routes from routers, before a link of the host goes up: a router that advertises on a
    VLAN would else become the host's own way out."""
    try:
        _write(ifname, "accept_ra", b"0")
        _write(ifname, "autoconf", b"0")
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise refused(Failure(error.errno or errno.EIO), Step.SYSCTL, f"of {ifname}") from error


def mute(ifname: str) -> None:
    """Switch IPv6 off on one interface before it goes up, and ARP's answers (arp_ignore 8), so that it says nothing by
    itself: by default it would answer for each address of the host's."""
    _set4(ifname, {"arp_ignore": b"8"})
    try:
        _write(ifname, "disable_ipv6", b"1")
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise refused(Failure(error.errno or errno.EIO), Step.SYSCTL, f"of {ifname}") from error


def answer_for_itself(ifname: str) -> None:
    """Let a link of the host answer ARP only for addresses that are on it: by default (arp_ignore 0) Linux answers on
    any link for all addresses of the machine, and would tell the VLAN that its other ones live there."""
    _set4(ifname, {"arp_ignore": b"1"})


def shield(ifname: str) -> None:
    """Make an interface of the host's own in a network an honest member of it, before it goes up.

    `arp_ignore`: see `answer_for_itself`. `arp_announce` 2: it asks in the name of its own address, also for packets
    that carry another of the host's, which neighbours would else note down at its MAC. `rp_filter` 2: where the host's
    own LAN is the network's prefix, or another route of its own leads there, packets come in here whose answers leave
    there, and strict filtering would drop them, and with them their ARP (arp_process asks fib_validate_source). The
    kernel takes the larger of this and the value of all interfaces, and 2 is the largest.
    """
    _set4(ifname, {"arp_ignore": b"1", "arp_announce": b"2", "rp_filter": b"2"})


def _set4(ifname: str, values: dict[str, bytes]) -> None:
    try:
        for key, value in values.items():
            _write(ifname, key, value, _CONF4)
    except OSError as error:
        raise refused(Failure(error.errno or errno.EIO), Step.SYSCTL, f"of {ifname}") from error
