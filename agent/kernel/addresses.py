"""Addresses of one interface that the kernel would not take."""

from __future__ import annotations

from typing import Final

from agent.kernel import reading
from agent.kernel.channel import Channel
from agent.kernel.errors import Failure, Step, refused
from trunkline.errors import Reason, TrunklineError

IPV6_MIN_MTU: Final = 1280
"""RFC 8200 section 5; below it the kernel takes IPv6 off the link and only says "Invalid argument"."""


def why_refused(channel: Channel, index: int, address: str, what: str, failure: Failure) -> TrunklineError:
    """The kernel refused `address` on link `index` of the channel's namespace: why, in our words."""
    link = reading.link(channel, index)
    if ":" in address and link is not None and link.mtu < IPV6_MIN_MTU:
        return TrunklineError(
            Reason.INVALID_MTU,
            f"{what} has an MTU of {link.mtu} and cannot have {address}: IPv6 needs {IPV6_MIN_MTU}",
            f"raise the network's MTU to {IPV6_MIN_MTU} or more, or leave IPv6 out",
        )
    return refused(failure, Step.ADDRESS, f"{address} of {what}")
