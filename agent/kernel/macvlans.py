"""Macvlan interfaces inside targets: made in phases, each phase for all interfaces of one target at once.

The name goes first to something temporary because kernels before 6.14 look for a clash of names in the namespace
the request comes from, where a container's "eth1" may well be the host's; and because a link that was left
unmarked by a crash between making and marking can be told by such a name.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.kernel import addresses, defaults, dump, messages, naming, reading, sysctl, uapi
from agent.kernel.channel import Channel
from agent.kernel.codec import string
from agent.kernel.errors import Failure, Step, interface_gone, mtu_above_parent, refused
from agent.kernel.messages import Request
from agent.kernel.namespaces import Entrance
from agent.plan.state import Interface, MacvlanSpec
from trunkline.errors import Reason, TrunklineError


@dataclass
class _Work:
    """One interface on its way. It lives until `error` is set; `index` is 0 until the kernel told it."""

    spec: MacvlanSpec
    what: str
    index: int = 0
    name: str = ""
    made: bool = False
    error: TrunklineError | None = None
    displaced: defaults.Displaced = field(default_factory=defaults.Displaced)


class Batch:
    """All interfaces to make in one target. `home` is a socket of the host's namespace."""

    def __init__(self, home: Channel, host: int, target: Channel, entrance: Entrance, specs: Sequence[MacvlanSpec]):
        self._home = home
        self._host = host
        self._target = target
        self._entrance = entrance
        place = entrance.namespace.path
        self._work = [_Work(spec, f"{spec.name or spec.temporary_name} in {place}") for spec in specs]

    def run(self) -> list[Interface | TrunklineError]:
        """Make them; a failure removes what was made of that one, an unforeseen one what was made of all."""
        try:
            self._create()
            self._find()
            self._name()
            self._quieten()
            self._address()
            self._raise()
            self._route()
            return self._read_back()
        except BaseException as error:
            for work in self._live():
                work.error = _unforeseen(error, work.what)
            raise
        finally:
            self._undo()

    def _live(self) -> list[_Work]:
        return [work for work in self._work if work.error is None]

    def _create(self) -> None:
        works = self._live()
        failures = self._home.transact([self._creation(work.spec) for work in works])
        for work, failure in zip(works, failures, strict=True):
            # After ENOBUFS it may have been made: undo looks for it by its temporary name.
            work.made = failure is None or failure.code == errno.ENOBUFS
            if failure is not None and failure.code == errno.EEXIST and self._clear_leftover(work.spec):
                failure = self._home.transact([self._creation(work.spec)])[0]
                work.made = failure is None
            if failure is not None:
                work.error = self._why_not_made(failure, work)

    def _creation(self, spec: MacvlanSpec) -> Request:
        return messages.add_macvlan(
            spec.parent_index, self._entrance.descriptor, spec.temporary_name, spec.mac, spec.mode, spec.mtu
        )

    def _clear_leftover(self, spec: MacvlanSpec) -> bool:
        """Delete what an agent that died half-way left in the target under our temporary name."""
        found = reading.link(self._target, name=spec.temporary_name)
        if found is None or found.kind != "macvlan" or found.alias not in ("", spec.alias):
            return False
        return self._target.transact([messages.delete_link(found.index)])[0] is None

    def _why_not_made(self, failure: Failure, work: _Work) -> TrunklineError:
        spec = work.spec
        if failure.code == errno.EEXIST:
            return TrunklineError(
                Reason.LINK_CLASH,
                f"a link named {spec.temporary_name} exists, which {work.what} needs while it is made",
                f"rename or delete it: ip link delete {spec.temporary_name}",
            )
        parent = reading.link(self._home, spec.parent_index)
        if parent is None:
            return refused(Failure(errno.ENODEV), Step.MACVLAN, f"{work.what} on link {spec.parent_index}")
        if failure.code in (errno.EINVAL, errno.ERANGE) and spec.mtu > parent.mtu:
            return mtu_above_parent(work.what, spec.mtu, parent.name, parent.mtu)
        return refused(failure, Step.MACVLAN, f"{work.what} on {parent.name}")

    def _find(self) -> None:
        """Learn the indexes (NLM_F_ECHO would tell, since Linux 6.2), and choose names where the choice is ours."""
        seen = reading.indexes(self._target)
        free = naming.free_names(set(seen))
        for work in self._live():
            work.index = seen.get(work.spec.temporary_name, 0)
            if not work.index:
                work.error = interface_gone(work.what)
                continue
            work.name = work.spec.name or next(free)

    def _name(self) -> None:
        """Name and mark in one message, which no crash of ours can divide."""

        def request(work: _Work) -> Request:
            name = string(uapi.IFLA_IFNAME, work.name)
            return messages.change_link(work.index, name, string(uapi.IFLA_IFALIAS, work.spec.alias))

        self._each(Step.NAME, request)

    def _quieten(self) -> None:
        with self._entrance.entered():
            for work in self._live():
                try:
                    sysctl.settle(work.name, work.spec)
                except TrunklineError as error:
                    work.error = error

    def _address(self) -> None:
        asked = [(work, address) for work in self._live() for address in work.spec.addresses]
        failures = self._target.transact([messages.add_address(work.index, address) for work, address in asked])
        for (work, address), failure in zip(asked, failures, strict=True):
            if failure is not None and work.error is None:
                work.error = addresses.why_refused(self._target, work.index, address, work.what, failure)

    def _raise(self) -> None:
        self._each(Step.UP, lambda work: messages.raise_link(work.index))

    def _route(self) -> None:
        for work in self._live():
            if work.spec.gateways:
                try:
                    defaults.put(self._target, work.index, work.spec.gateways, work.displaced)
                except Failure as failure:
                    gateways = ", ".join(work.spec.gateways)
                    work.error = refused(failure, Step.ROUTE, f"of {work.what} to {gateways}")

    def _each(self, step: Step, request: Callable[[_Work], Request]) -> None:
        """One phase: the requests of all live interfaces in flight together."""
        works = self._live()
        failures = self._target.transact([request(work) for work in works])
        for work, failure in zip(works, failures, strict=True):
            if failure is not None:
                work.error = refused(failure, step, work.what)

    def _read_back(self) -> list[Interface | TrunklineError]:
        nsid = reading.host_nsid(self._target, self._host)
        routes = reading.routes(self._target) if any(work.spec.gateways for work in self._work) else []
        bodies = self._target.dump(messages.all_addresses())
        shown = dump.interfaces(reading.links(self._target, nsid), bodies, routes)
        by_index = {interface.link.index: interface for interface in shown}
        result: list[Interface | TrunklineError] = []
        for work in self._work:
            if work.error is None and work.index not in by_index:
                work.error = interface_gone(work.what)
            result.append(work.error or by_index[work.index])
        return result

    def _undo(self) -> None:
        failed = [work for work in self._work if work.made and work.error is not None]
        for work in failed:
            if not work.index:
                found = reading.link(self._target, name=work.spec.temporary_name)
                work.index = found.index if found else 0
        self._target.transact([messages.delete_link(work.index) for work in failed if work.index])
        for work in reversed(failed):
            work.displaced.restore(self._target)


def _unforeseen(error: BaseException, what: str) -> TrunklineError:
    if isinstance(error, TrunklineError):
        return error
    if isinstance(error, Failure):
        return refused(error, Step.READ, what)
    return TrunklineError(Reason.KERNEL_REFUSED, f"{what}: {error}", "it is tried again")
