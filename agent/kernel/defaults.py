"""Default routes of a target: ours wins, and what was there comes back when our interface goes.

IPv6: ours has a lower metric than the kernel's and the container engines'. IPv4: theirs has metric 0, below which
there is nothing, and two routes of one metric would be chosen between by the state of their gateways
(fib_select_default), so theirs is kept at a high metric and ours takes its place.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable
from typing import Final

from agent.kernel import messages, reading
from agent.kernel.channel import Channel
from agent.kernel.dump import Default
from agent.kernel.errors import Failure

KEPT_METRIC: Final = 4096
"""Metric of an IPv4 default route that ours displaced."""


class Displaced:
    """What was changed for the sake of one interface, so that it can be taken back."""

    def __init__(self) -> None:
        self._moved: list[Default] = []

    def kept(self, route: Default) -> None:
        """`route` is now at KEPT_METRIC."""
        self._moved.append(route)

    def restore(self, channel: Channel) -> None:
        """Put displaced routes back; after our interface, and with it our route, is gone."""
        for route in self._moved:
            channel.transact(
                [
                    messages.put_default(
                        route.index, route.gateway, route.metric, replace=False, protocol=route.protocol
                    ),
                    messages.remove_default(route.index, route.gateway, KEPT_METRIC),
                ]
            )
        self._moved.clear()


def put(channel: Channel, index: int, gateways: Iterable[str], displaced: Displaced) -> None:
    """Make each gateway the target's default for its family. Raises Failure; `displaced` then says what to undo."""
    for gateway in gateways:
        if ipaddress.ip_address(gateway).version == 6:
            channel.ask(messages.put_default(index, gateway, messages.ROUTE_METRIC_6, replace=True))
        else:
            _put_v4(channel, index, gateway, displaced)


def _put_v4(channel: Channel, index: int, gateway: str, displaced: Displaced) -> None:
    for route in reading.routes(channel):
        if route.version != 4 or route.metric != 0 or route.index == index or not route.gateway:
            continue
        # Before those that are kept already: the last displaced is the first to come back.
        keep = messages.put_default(route.index, route.gateway, KEPT_METRIC, replace=False, protocol=route.protocol)
        failure = channel.transact([keep])[0]
        if failure is not None and failure.code != errno.EEXIST:
            raise failure
        displaced.kept(route)
    channel.ask(messages.put_default(index, gateway, 0, replace=True))


def remove(channel: Channel, index: int, metric: int, gateway: str) -> None:
    """Take one default route of an interface away; quiet when it is gone. Raises Failure."""
    try:
        channel.ask(messages.remove_default(index, gateway, metric))
    except Failure as failure:
        if failure.code != errno.ESRCH:
            raise
