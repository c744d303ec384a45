"""Default routes of a target: ours wins, and what was there comes back when our interface goes.

IPv6: ours has a lower metric than the kernel's and the container engines'. IPv4: theirs has metric 0, below which
there is nothing. A route that stands where ours must stand (an engine's, or that of another attachment of ours) is
kept at a higher metric, where it takes over when ours goes; side by side at one metric the kernel would choose between
them by the state of their gateways (IPv4, fib_select_default) or balance over them (IPv6).
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

METRIC: Final = {4: 0, 6: 512}
"""Metric of our default routes by IP version. IPv6's is below 1024, the kernel's own (IP6_RT_PRIO_USER)."""

KEPT_METRIC: Final = {4: 4096, 6: 768}
"""Metric of a default route that ours displaced."""


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
                    messages.remove_default(route.index, route.gateway, KEPT_METRIC[route.version]),
                ]
            )
        self._moved.clear()


def put(channel: Channel, index: int, gateways: Iterable[str], displaced: Displaced) -> None:
    """Make each gateway the target's default for its family. Raises Failure; `displaced` then says what to undo."""
    for gateway in gateways:
        version = ipaddress.ip_address(gateway).version
        for route in reading.routes(channel):
            in_place = (route.version, route.metric) == (version, METRIC[version])
            if in_place and route.index != index and route.gateway:
                _keep(channel, route, displaced)
        channel.ask(messages.put_default(index, gateway, METRIC[version], replace=True))


def _keep(channel: Channel, route: Default, displaced: Displaced) -> None:
    # Before those that are kept already: the last displaced is the first to come back.
    metric = KEPT_METRIC[route.version]
    keep = messages.put_default(route.index, route.gateway, metric, replace=False, protocol=route.protocol)
    failure = channel.transact([keep])[0]
    if failure is not None and failure.code != errno.EEXIST:
        raise failure
    displaced.kept(route)


def remove(channel: Channel, index: int, metric: int, gateway: str) -> None:
    """Take one default route of an interface away; quiet when it is gone. Raises Failure."""
    try:
        channel.ask(messages.remove_default(index, gateway, metric))
    except Failure as failure:
        if failure.code != errno.ESRCH:
            raise
