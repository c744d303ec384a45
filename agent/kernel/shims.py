"""The host's own interfaces on networks: made and mended like those in targets, plus what a machine with routes and
addresses of its own needs."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from agent.kernel import messages, reading, sysctl
from agent.kernel.channel import Channel
from agent.kernel.errors import Failure, Step, refused
from agent.kernel.macvlans import Batch
from agent.kernel.namespaces import Entrance
from agent.kernel.repair import Repair
from agent.plan.state import Interface, ShimRoute, ShimSpec
from trunkline.errors import Reason, TrunklineError


class _Making(Batch):
    """Like any macvlan, and shielded before it goes up."""

    def _quieten(self) -> None:
        super()._quieten()
        with self._entrance.entered():
            for work in self._live():
                try:
                    sysctl.shield(work.name)
                except TrunklineError as error:
                    work.error = error


class _Mending(Repair):
    """Like any macvlan; an address that somebody put there stays unless the plan names it."""

    def __init__(self, home: Channel, entrance: Entrance, index: int, spec: ShimSpec) -> None:
        super().__init__(home, entrance.descriptor, home, entrance, index, spec.interface)
        self._strange = set(spec.strange)

    def _set_addresses(self, seen: Interface) -> None:
        with self._entrance.entered():
            sysctl.shield(seen.link.name)
        super()._set_addresses(seen)

    def _unwanted(self, seen: Interface) -> set[str]:
        return super()._unwanted(seen) & self._strange


def add(home: Channel, entrance: Entrance, spec: ShimSpec) -> int:
    """See `Links.add_shim`."""
    (made,) = _Making(home, entrance.descriptor, home, entrance, [spec.interface]).run()
    if isinstance(made, TrunklineError):
        raise made
    try:
        _route(home, made.link.index, spec)
    except BaseException:
        home.transact([messages.delete_link(made.link.index)])
        raise
    return made.link.index


def configure(home: Channel, entrance: Entrance, index: int, spec: ShimSpec) -> None:
    """See `Links.configure_shim`."""
    _Mending(home, entrance, index, spec).run()
    _route(home, index, spec)


def _route(home: Channel, index: int, spec: ShimSpec) -> None:
    wanted = [ShimRoute(index, destination, source, spec.metric) for destination, source in spec.routes]
    present = [route for route in reading.our_routes(home) if route.index == index]
    stale = [route for route in present if route not in wanted]
    # ESRCH: it has just gone by itself, as those do whose source address goes.
    _all(home, spec, stale, [messages.remove_route(route) for route in stale], errno.ESRCH)
    missing = [route for route in wanted if route not in present]
    _all(home, spec, missing, [messages.add_route(route) for route in missing], 0)


def _all(
    home: Channel, spec: ShimSpec, routes: Sequence[ShimRoute], requests: Sequence[messages.Request], fine: int
) -> None:
    for route, failure in zip(routes, home.transact(requests), strict=True):
        if failure is not None and failure.code != fine:
            raise _why_not(failure, route, spec.interface.name)


def _why_not(failure: Failure, route: ShimRoute, name: str) -> TrunklineError:
    if failure.code == errno.EEXIST:
        return TrunklineError(
            Reason.KERNEL_REFUSED,
            f"the host has a route to {route.destination} with metric {route.metric} that is not Trunkline's, so "
            f"{name} cannot have its own",
            f"give that route another metric: ip route show {route.destination}",
        )
    return refused(failure, Step.LEAD, f"{route.destination} to {name}")
