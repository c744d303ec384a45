"""The kernel's refusals in our words: which step failed, with which errno, and what mends it. One table."""

from __future__ import annotations

import enum
import errno
import os
from typing import Final

from trunkline.errors import Reason, TrunklineError


def errno_name(code: int) -> str:
    """The errno's name as in the kernel's sources."""
    # Python's table has the C library's second name for this one.
    return "EOPNOTSUPP" if code == errno.EOPNOTSUPP else errno.errorcode.get(code, str(code))


class Failure(Exception):
    """A refusal as the kernel gave it: errno, and its own sentence (extended ACK) or ""."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    @property
    def is_gone(self) -> bool:
        """The link that was named does not exist."""
        return self.code in (errno.ENODEV, errno.ENXIO)

    def __str__(self) -> str:
        return f"{self.text or os.strerror(self.code)} ({errno_name(self.code)})"


class Step(enum.Enum):
    """What was being done; the same errno means different things in different steps."""

    READ = "read or change"
    MACVLAN = "make a macvlan interface"
    VLAN = "make a VLAN sub-interface"
    NAME = "name the interface"
    MARK = "mark the link"
    MAC = "set the MAC"
    MTU = "set the MTU"
    PROMISCUOUS = "set promiscuous mode"
    SYSCTL = "set router advertisement, ARP or filter handling"
    ADDRESS = "set the address"
    UP = "set the link up"
    DOWN = "set the link down"
    ROUTE = "set the default route"
    LEAD = "set or remove the route from"
    DELETE = "delete the link"


_ANY: Final = {
    errno.EPERM: (Reason.KERNEL_REFUSED, "run the agent as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN"),
    errno.EACCES: (Reason.KERNEL_REFUSED, "run the agent as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN"),
    errno.EROFS: (Reason.KERNEL_REFUSED, "let the agent's unit write /proc/sys (no ProtectKernelTunables)"),
    errno.ENOBUFS: (Reason.KERNEL_REFUSED, "the kernel is short of memory or the answer was lost; it is tried again"),
}

_BY_STEP: Final = {
    (Step.MACVLAN, errno.EOPNOTSUPP): (Reason.KERNEL_UNSUPPORTED, "kernel has no macvlan: modprobe macvlan"),
    (Step.MACVLAN, errno.ENODEV): (Reason.UPLINK_MISSING, "the parent link is gone; it is made again or comes back"),
    (Step.MACVLAN, errno.EBUSY): (
        Reason.KERNEL_REFUSED,
        "the parent belongs to a bridge, bond or passthru macvlan; map the uplink to the bridge or bond itself",
    ),
    (Step.MACVLAN, errno.EADDRNOTAVAIL): (Reason.INVALID_MAC, "give a unicast MAC that is not all zeros"),
    (Step.VLAN, errno.EOPNOTSUPP): (Reason.KERNEL_UNSUPPORTED, "kernel has no 8021q: modprobe 8021q"),
    (Step.VLAN, errno.ENODEV): (Reason.UPLINK_MISSING, "check that the uplink's device exists"),
    (Step.VLAN, errno.ERANGE): (Reason.INVALID_VLAN, "VLAN ids are 1 to 4094"),
    (Step.NAME, errno.EEXIST): (Reason.IFNAME_TAKEN, "choose another interface name, or leave the choice to us"),
    (Step.NAME, errno.EINVAL): (Reason.INVALID_NAME, "use 1 to 15 bytes without '/', ':' or spaces"),
    (Step.MAC, errno.EADDRNOTAVAIL): (Reason.INVALID_MAC, "give a unicast MAC that is not all zeros"),
    (Step.MAC, errno.EADDRINUSE): (Reason.MAC_TAKEN, "another interface on this parent has the MAC; give another"),
    (Step.MAC, errno.EBUSY): (Reason.MAC_TAKEN, "another interface on this parent has the MAC; give another"),
    (Step.UP, errno.EADDRINUSE): (Reason.MAC_TAKEN, "another interface on this parent has the MAC; give another"),
    (Step.UP, errno.EBUSY): (Reason.MAC_TAKEN, "another interface on this parent has the MAC; give another"),
    (Step.UP, errno.ENETDOWN): (Reason.UPLINK_DOWN, "set the uplink up: ip link set DEVICE up"),
    (Step.ADDRESS, errno.EACCES): (Reason.KERNEL_REFUSED, "IPv6 is disabled in the target; enable it, or use IPv4"),
    (Step.ADDRESS, errno.EOPNOTSUPP): (Reason.KERNEL_REFUSED, "the host's kernel runs without IPv6; use IPv4"),
    (Step.ADDRESS, errno.EAFNOSUPPORT): (Reason.KERNEL_REFUSED, "the host's kernel runs without IPv6; use IPv4"),
    (Step.ROUTE, errno.ENETUNREACH): (Reason.INVALID_GATEWAY, "the gateway must lie in a prefix of the interface"),
    (Step.ROUTE, errno.EHOSTUNREACH): (Reason.INVALID_GATEWAY, "the gateway must lie in a prefix of the interface"),
    (Step.ROUTE, errno.EINVAL): (Reason.INVALID_GATEWAY, "the gateway must be another address of the prefix"),
    (Step.ROUTE, errno.ENETDOWN): (Reason.KERNEL_REFUSED, "somebody set the interface down; it is tried again"),
    (Step.PROMISCUOUS, errno.ENODEV): (Reason.UPLINK_MISSING, "check that the uplink's device exists"),
}


def refused(failure: Failure, step: Step, what: str) -> TrunklineError:
    """The kernel refused `step` on `what` (names object and place): our reason, its words, what to do."""
    reason, remedy = _BY_STEP.get((step, failure.code)) or _ANY.get(failure.code) or (Reason.KERNEL_REFUSED, "")
    message = f"cannot {step.value} {what}: the kernel says: {failure}"
    return TrunklineError(reason, message, remedy, errno=errno_name(failure.code))


def mtu_above_parent(what: str, mtu: int, parent: str, limit: int) -> TrunklineError:
    """UPLINK_MTU: the kernel itself only says "Invalid argument" or "Numerical result out of range"."""
    return TrunklineError(
        Reason.UPLINK_MTU,
        f"MTU {mtu} of {what} is above the {limit} of its parent {parent}",
        f"lower the network's MTU to {limit} or raise the parent's: ip link set {parent} mtu {mtu}",
    )


def namespace_gone(path: str, why: str) -> TrunklineError:
    """NETNS_NOT_FOUND: the namespace cannot be entered, or another one has its path."""
    return TrunklineError(
        Reason.NETNS_NOT_FOUND, f"network namespace {path}: {why}", "its container or process ended; start it again"
    )


def interface_gone(what: str) -> TrunklineError:
    """VERIFY_FAILED: what was there a moment ago is not."""
    return TrunklineError(Reason.VERIFY_FAILED, f"{what} vanished while it was set up", "it is tried again")
