"""An in-memory kernel behind the `Links` port: namespaces, indexes, parents, aliases, addresses, default routes, and
the refusals of the real one. Passes the same contract suite (tests/contract/links)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface

from agent.plan.state import Interface, Link, MacvlanSpec, Namespace, ShimRoute, ShimSpec
from trunkline import naming
from trunkline.errors import Reason, TrunklineError

METRIC = {4: 0, 6: 512}
KEPT_METRIC = {4: 4096, 6: 768}
_macs = itertools.count(1)


@dataclass
class FakeInterface:
    """A link with what is on it."""

    link: Link
    addresses: list[str] = field(default_factory=list)
    accept_ra: bool = True


@dataclass(frozen=True)
class Route:
    """A default route; of equal metric the first in the list is in force."""

    index: int
    gateway: str
    metric: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return ip_address(self.gateway).version


@dataclass
class FakeNamespace:
    """One namespace."""

    namespace: Namespace
    interfaces: dict[int, FakeInterface] = field(default_factory=dict)
    routes: list[Route] = field(default_factory=list)
    marked_routes: list[ShimRoute] = field(default_factory=list)
    foreign_routes: list[ShimRoute] = field(default_factory=list)
    next_index: int = 1

    def named(self, name: str) -> FakeInterface | None:
        """The interface of that name."""
        return next((one for one in self.interfaces.values() if one.link.name == name), None)

    def lose_routes(self, index: int) -> None:
        """Routes go with their link, and when it goes down."""
        self.routes = [route for route in self.routes if route.index != index]
        self.marked_routes = [route for route in self.marked_routes if route.index != index]
        self.foreign_routes = [route for route in self.foreign_routes if route.index != index]


class FakeKernel:
    """The machine. Its methods are what anybody on it may do; `FakeLinks` is what we do."""

    def __init__(self) -> None:
        self._inodes = itertools.count(4026532000)
        self.spaces: dict[str, FakeNamespace] = {}
        self.host = self.add_namespace("/proc/1/ns/net")
        self.changed: set[asyncio.Event] = set()
        self.add_link(self.host, "lo", mtu=65536)

    def add_namespace(self, path: str) -> Namespace:
        """A namespace at a path; a path used again leads to a new identity."""
        namespace = Namespace(path, f"4:{next(self._inodes)}")
        self.spaces[path] = FakeNamespace(namespace)
        return namespace

    def remove_namespace(self, namespace: Namespace) -> None:
        """Its interfaces go with it."""
        del self.spaces[namespace.path]

    def space(self, namespace: Namespace) -> FakeNamespace:
        """NETNS_NOT_FOUND when it is gone or another one."""
        found = self.spaces.get(namespace.path)
        if found is None or namespace.identity not in ("", found.namespace.identity):
            raise TrunklineError(Reason.NETNS_NOT_FOUND, f"network namespace {namespace.path} is gone")
        return found

    def add_link(self, where: Namespace, name: str, kind: str = "", **more: object) -> int:
        """A link, up, with an MTU of 1500 and a MAC unless said otherwise."""
        space = self.space(where)
        if space.named(name) is not None:
            raise TrunklineError(Reason.LINK_CLASH, f"{name} exists")
        index, space.next_index = space.next_index, space.next_index + 1
        mac = f"06:00:00:00:{next(_macs) >> 8:02x}:{next(_macs) & 255:02x}"
        made = Link(index=index, name=name, kind=kind, mac=mac, mtu=1500, up=True, carrier=True)
        made = replace(made, parent_on_host=space is self.spaces[self.host.path])
        space.interfaces[index] = FakeInterface(replace(made, **more))  # type: ignore[arg-type]
        self.wake()
        return index

    def change(self, where: Namespace, index: int, **values: object) -> None:
        """Change a link; a name that is taken is refused."""
        space = self.space(where)
        here = space.interfaces[index]
        name = values.get("name", here.link.name)
        holder = space.named(str(name))
        if holder is not None and holder is not here:
            raise TrunklineError(Reason.IFNAME_TAKEN, f"{name} exists")
        here.link = replace(here.link, **values)  # type: ignore[arg-type]
        if not here.link.up:
            space.lose_routes(index)
        self.wake()

    def remove_link(self, where: Namespace, index: int) -> None:
        """Everything that sits on it goes too, wherever it is."""
        space = self.space(where)
        space.interfaces.pop(index, None)
        space.lose_routes(index)
        on_host = space is self.spaces[self.host.path]
        for other in list(self.spaces.values()):
            for one in list(other.interfaces.values()):
                if on_host and one.link.parent == index and one.link.parent_on_host:
                    self.remove_link(other.namespace, one.link.index)
        self.wake()

    def wake(self) -> None:
        """Links may have changed."""
        for event in getattr(self, "changed", ()):
            event.set()


def _on_host(one: FakeInterface) -> Link:
    shown = tuple(address for address in one.addresses if not address.startswith("fe80:"))
    return replace(one.link, host_addresses=shown)


class FakeLinks:
    """`Links` on a FakeKernel. `before` is called with the name of each step of making or changing something, and
    may raise a TrunklineError: the kernel refused just there. `calls` records what was asked."""

    def __init__(self, kernel: FakeKernel, before: Callable[[str], None] = lambda step: None) -> None:
        self.kernel = kernel
        self.before = before
        self.calls: list[str] = []
        self._closed = False

    def _step(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)

    def _enter(self, call: str) -> None:
        if self._closed:
            raise TrunklineError(Reason.INTERNAL, "the kernel adapter was closed")
        self._step(call)

    def _on_host(self, index: int) -> FakeInterface:
        found = self.kernel.space(self.kernel.host).interfaces.get(index)
        if found is None:
            raise TrunklineError(Reason.UPLINK_MISSING, f"link {index} does not exist")
        return found

    def _interface(self, space: FakeNamespace, one: FakeInterface) -> Interface:
        gateways = tuple(route.gateway for route in space.routes if route.index == one.link.index)
        return Interface(one.link, tuple(one.addresses), gateways, one.accept_ra)

    async def host_links(self) -> list[Link]:
        self._enter("host_links")
        return [_on_host(one) for one in self.kernel.space(self.kernel.host).interfaces.values()]

    async def interfaces(self, namespaces: Sequence[Namespace]) -> list[list[Interface] | TrunklineError]:
        self._enter("interfaces")
        result: list[list[Interface] | TrunklineError] = []
        for namespace in namespaces:
            try:
                space = self.kernel.space(namespace)
                result.append([self._interface(space, one) for one in space.interfaces.values()])
            except TrunklineError as error:
                result.append(error)
        return result

    async def add_vlan(self, parent: int, name: str, vid: int, mtu: int, alias: str) -> int:
        self._enter("add_vlan")
        below = self._on_host(parent).link
        host = self.kernel.space(self.kernel.host)
        clash = host.named(name)
        if clash is not None:
            what = clash.link.kind or "physical"
            raise TrunklineError(Reason.LINK_CLASH, f"{name} exists: {what} link, alias {clash.link.alias!r}")
        for one in host.interfaces.values():
            if (one.link.parent, one.link.vlan) == (parent, vid):
                raise TrunklineError(Reason.LINK_CLASH, f"VLAN {vid} on {below.name} is {one.link.name} already")
        if mtu > below.mtu:
            raise TrunklineError(Reason.UPLINK_MTU, f"MTU {mtu} of {name} is above the {below.mtu} of {below.name}")
        if not below.up:
            raise TrunklineError(Reason.UPLINK_DOWN, f"cannot set {name} up: {below.name} is down")
        more = {"mtu": mtu or below.mtu, "parent": parent, "vlan": vid, "alias": alias, "mac": below.mac}
        index = self.kernel.add_link(self.kernel.host, name, "vlan", **more)
        host.interfaces[index].accept_ra = False
        return index

    def _delete(self, space: FakeNamespace, index: int, alias: str) -> None:
        found = space.interfaces.get(index)
        if found is None:
            return
        if found.link.alias != alias or not (alias or naming.is_temporary(found.link.name)):
            raise TrunklineError(Reason.LINK_CLASH, f"link {index} carries {found.link.alias!r} instead of {alias!r}")
        self.kernel.remove_link(space.namespace, index)

    async def delete_link(self, index: int, alias: str) -> None:
        self._enter("delete_link")
        found = self.kernel.space(self.kernel.host).interfaces.get(index)
        of_ours = alias.startswith(naming.SHIM_MARK)
        used = found is not None and bool(_on_host(found).host_addresses or found.link.master)
        if found is not None and found.link.alias == alias and used and not of_ours:
            raise TrunklineError(Reason.SUBINTERFACE_IN_USE, f"{found.link.name} is used by the host")
        self._delete(self.kernel.space(self.kernel.host), index, alias)

    async def set_up(self, index: int) -> None:
        self._enter("set_up")
        self._on_host(index)
        self.kernel.change(self.kernel.host, index, up=True)

    async def set_down(self, index: int) -> None:
        self._enter("set_down")
        self._on_host(index)
        self.kernel.change(self.kernel.host, index, up=False)

    async def set_mtu(self, index: int, mtu: int) -> None:
        self._enter("set_mtu")
        link = self._on_host(index).link
        if link.vlan is not None and mtu > self._on_host(link.parent).link.mtu:
            raise TrunklineError(Reason.UPLINK_MTU, f"MTU {mtu} of {link.name} is above its parent's")
        self.kernel.change(self.kernel.host, index, mtu=mtu)

    async def set_promiscuous(self, index: int, on: bool) -> None:
        self._enter("set_promiscuous")
        link = self._on_host(index).link
        if link.promiscuous != on:
            count = link.promiscuity + (1 if on else -1)
            self.kernel.change(self.kernel.host, index, promiscuous=on, promiscuity=count)

    async def set_alias(self, index: int, alias: str) -> None:
        self._enter("set_alias")
        self._on_host(index)
        self.kernel.change(self.kernel.host, index, alias=alias)

    async def add_macvlans(self, work: Sequence[tuple[Namespace, MacvlanSpec]]) -> list[Interface | TrunklineError]:
        self._enter("add_macvlans")
        result: list[Interface | TrunklineError] = []
        for namespace, spec in work:
            try:
                result.append(self._add(namespace, spec))
            except TrunklineError as error:
                result.append(error)
        return result

    def _add(self, namespace: Namespace, spec: MacvlanSpec) -> Interface:
        space = self.kernel.space(namespace)
        if space.namespace.identity == self.kernel.host.identity:
            raise TrunklineError(Reason.NETNS_IS_HOST, f"{namespace.path} is the host's own")
        return self._make(space, spec)

    def _make(self, space: FakeNamespace, spec: MacvlanSpec) -> Interface:
        namespace = space.namespace
        one = self._create(space, spec)
        routes = list(space.routes)
        try:
            self._step("name")
            self.kernel.change(namespace, one.link.index, name=spec.name or self._free_name(space), alias=spec.alias)
            one.accept_ra = spec.accept_ra
            self._step("address")
            self._address(one, spec)
            self._step("up")
            self._check_mac(spec.parent_index, one)
            self.kernel.change(namespace, one.link.index, up=True)
            self._step("route")
            self._route(space, one, spec.gateways)
        except TrunklineError:
            self.kernel.remove_link(namespace, one.link.index)
            space.routes = routes
            raise
        return self._interface(space, one)

    async def shim_routes(self) -> list[ShimRoute]:
        self._enter("shim_routes")
        return list(self.kernel.space(self.kernel.host).marked_routes)

    async def add_shim(self, spec: ShimSpec) -> int:
        self._enter("add_shim")
        made = self._make(self.kernel.space(self.kernel.host), spec.interface)
        try:
            self._step("route")
            self._lead(made.link.index, spec)
        except TrunklineError:
            self.kernel.remove_link(self.kernel.host, made.link.index)
            raise
        return made.link.index

    async def configure_shim(self, index: int, spec: ShimSpec) -> None:
        self._enter("configure_shim")
        space = self.kernel.space(self.kernel.host)
        one = space.interfaces.get(index)
        wanted = set(spec.interface.addresses) | set(spec.strange)
        foreign = [address for address in one.addresses if address not in wanted] if one else []
        self._configure(self.kernel.host, index, spec.interface)
        space.interfaces[index].addresses += foreign
        self._lead(index, spec)

    def _lead(self, index: int, spec: ShimSpec) -> None:
        space = self.kernel.space(self.kernel.host)
        wanted = [ShimRoute(index, destination, source, spec.metric) for destination, source in spec.routes]
        others = [route for route in space.marked_routes if route.index != index]
        for route in wanted:
            place = (route.destination, route.metric)
            if any((r.destination, r.metric) == place for r in (*others, *space.foreign_routes)):
                raise TrunklineError(Reason.KERNEL_REFUSED, f"there is another route to {route.destination}")
        space.marked_routes = [*others, *wanted]

    def _create(self, space: FakeNamespace, spec: MacvlanSpec) -> FakeInterface:
        parent = self._on_host(spec.parent_index).link
        self._step("create")
        if spec.mtu > parent.mtu:
            raise TrunklineError(Reason.UPLINK_MTU, f"MTU {spec.mtu} is above the {parent.mtu} of {parent.name}")
        leftover = space.named(spec.temporary_name)
        if leftover is not None:
            if leftover.link.kind != "macvlan" or leftover.link.alias not in ("", spec.alias):
                raise TrunklineError(Reason.LINK_CLASH, f"{spec.temporary_name} exists")
            self.kernel.remove_link(space.namespace, leftover.link.index)
        more: dict[str, object] = {"parent": spec.parent_index, "mode": spec.mode, "parent_on_host": True}
        more |= {"mtu": spec.mtu or parent.mtu, "up": False, "carrier": parent.carrier}
        more |= {"mac": spec.mac} if spec.mac else {}
        index = self.kernel.add_link(space.namespace, spec.temporary_name, "macvlan", **more)
        return space.interfaces[index]

    def _address(self, one: FakeInterface, spec: MacvlanSpec) -> None:
        for address in spec.addresses:
            if ":" in address and one.link.mtu < 1280:
                raise TrunklineError(Reason.INVALID_MTU, f"MTU {one.link.mtu} is too small for {address}")
        one.addresses = [str(ip_interface(address)) for address in spec.addresses]

    def _free_name(self, space: FakeNamespace) -> str:
        return next(name for n in itertools.count() if space.named(name := f"tl{n}") is None)

    def _siblings(self, parent: int) -> Iterator[FakeInterface]:
        for space in self.kernel.spaces.values():
            for one in space.interfaces.values():
                if one.link.kind == "macvlan" and one.link.parent == parent and one.link.parent_on_host:
                    yield one

    def _check_mac(self, parent: int, here: FakeInterface) -> None:
        """The kernel compares with those that are up, and with the parent's own."""
        taken = {one.link.mac for one in self._siblings(parent) if one is not here and one.link.up}
        if here.link.mac in taken | {self._on_host(parent).link.mac}:
            raise TrunklineError(Reason.MAC_TAKEN, f"{here.link.mac} is on this parent already")

    def _route(self, space: FakeNamespace, one: FakeInterface, gateways: Sequence[str]) -> None:
        for gateway in gateways:
            address = ip_address(gateway)
            if not any(address in ip_interface(own).network for own in one.addresses):
                raise TrunklineError(Reason.INVALID_GATEWAY, f"gateway {gateway} lies in no prefix of the interface")
            version = address.version
            wins = Route(one.link.index, gateway, METRIC[version])
            moved = [r for r in space.routes if (r.version, r.metric) == (version, wins.metric)]
            others = [route for route in space.routes if route not in moved]
            kept = [replace(r, metric=KEPT_METRIC[version]) for r in moved if r.index != wins.index]
            space.routes = [wins, *kept, *others]

    async def configure(self, namespace: Namespace, index: int, spec: MacvlanSpec) -> Interface:
        self._enter("configure")
        return self._configure(namespace, index, spec)

    def _configure(self, namespace: Namespace, index: int, spec: MacvlanSpec) -> Interface:
        space = self.kernel.space(namespace)
        one = space.interfaces.get(index)
        if one is None:
            raise TrunklineError(Reason.VERIFY_FAILED, f"interface {index} of {namespace.path} vanished")
        unmarked = one.link.alias == "" and one.link.name == spec.temporary_name
        if one.link.kind != "macvlan" or not (one.link.alias == spec.alias or unmarked):
            raise TrunklineError(Reason.LINK_CLASH, f"link {index} carries {one.link.alias!r}")
        kept = one.link.name if one.link.name != spec.temporary_name else self._free_name(space)
        self.kernel.change(namespace, index, name=spec.name or kept, alias=spec.alias)
        parent = self._on_host(spec.parent_index).link
        if spec.mtu > parent.mtu:
            raise TrunklineError(Reason.UPLINK_MTU, f"MTU {spec.mtu} is above the {parent.mtu} of {parent.name}")
        values = {"mac": spec.mac or one.link.mac, "mtu": spec.mtu or one.link.mtu, "up": True}
        before = one.link
        self.kernel.change(namespace, index, **values)
        try:
            self._check_mac(spec.parent_index, one)
        except TrunklineError:
            one.link = before
            raise
        one.accept_ra = spec.accept_ra
        self._address(one, spec)
        space.routes = [r for r in space.routes if r.index != index or r.gateway in spec.gateways]
        present = {route.gateway for route in space.routes if route.index == index}
        self._route(space, one, [gateway for gateway in spec.gateways if gateway not in present])
        return self._interface(space, one)

    async def delete_interface(self, namespace: Namespace, index: int, alias: str) -> None:
        self._enter("delete_interface")
        try:
            space = self.kernel.space(namespace)
        except TrunklineError:
            return
        self._delete(space, index, alias)

    async def events(self) -> AsyncIterator[frozenset[str]]:
        self._enter("events")
        changed = asyncio.Event()
        self.kernel.changed.add(changed)
        try:
            yield frozenset()
            while not self._closed:
                await changed.wait()
                changed.clear()
                if not self._closed:
                    yield frozenset()
        finally:
            self.kernel.changed.discard(changed)

    async def close(self) -> None:
        self._closed = True
        self.kernel.wake()
