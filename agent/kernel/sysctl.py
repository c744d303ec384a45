"""IPv6 settings of one interface. Call inside its namespace (`Entrance.entered`), since /proc/sys/net is per reader.

Documentation/networking/ip-sysctl.rst: accept_ra 2 accepts router advertisements on a host that forwards, too.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from agent.kernel.errors import Failure, Step, refused
from agent.plan.state import MacvlanSpec

_CONF: Final = "/proc/sys/net/ipv6/conf"


def _write(ifname: str, key: str, value: bytes) -> None:
    descriptor = os.open(f"{_CONF}/{ifname}/{key}", os.O_WRONLY | os.O_CLOEXEC)
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
    """Switch IPv6 off on one interface before it goes up, so that it says nothing by itself."""
    try:
        _write(ifname, "disable_ipv6", b"1")
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise refused(Failure(error.errno or errno.EIO), Step.SYSCTL, f"of {ifname}") from error
