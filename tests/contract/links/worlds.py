"""Two worlds for one suite: this machine's kernel, and the fake. A world plays everybody but us."""

from __future__ import annotations

import itertools
from typing import Protocol

from fakes.links import FakeKernel, FakeLinks, Route
from netns.places import Place, Places
from oracle import links as oracle

from agent.kernel.links import KernelLinks
from agent.plan.state import Namespace, ShimRoute
from agent.ports import Links


class World(Protocol):
    """A host with an uplink `up0` (up, MTU 1500), and what others do there."""

    links: Links
    host: Namespace

    def target(self) -> Namespace:
        """A new namespace."""
        ...

    def drop(self, target: Namespace) -> None:
        """Take a namespace away."""
        ...

    def reuse(self, target: Namespace) -> Namespace:
        """Another namespace under the same path."""
        ...

    def index(self, name: str) -> int:
        """Index of a link of the host."""
        ...

    def names(self, where: Namespace) -> set[str]:
        """Names of all links."""
        ...

    def add(self, where: Namespace, name: str) -> int:
        """Somebody else's link (a bridge); its index."""
        ...

    def add_half_made(self, where: Namespace, name: str) -> None:
        """What an agent that died right after making a macvlan leaves."""
        ...

    def rename(self, where: Namespace, old: str, new: str) -> None:
        """Set a link down, rename it, set it up."""
        ...

    def mark(self, where: Namespace, name: str, alias: str) -> None:
        """Change an alias."""
        ...

    def lower(self, where: Namespace, name: str) -> None:
        """Set a link down."""
        ...

    def remove(self, where: Namespace, name: str) -> None:
        """Delete a link."""
        ...

    def move_address(self, where: Namespace, name: str, old: str, new: str) -> None:
        """Replace an address by another."""
        ...

    def add_address(self, where: Namespace, name: str, address: str) -> None:
        """Give a link an address."""
        ...

    def add_default(self, where: Namespace, name: str, address: str, gateway: str) -> None:
        """A default route, as a container engine sets it on its own interface."""
        ...

    def default(self, where: Namespace) -> tuple[str, str]:
        """(gateway, interface) of the IPv4 default route in force; ("", "") without."""
        ...

    def lose_address(self, where: Namespace, name: str, address: str) -> None:
        """Take an address from a link."""
        ...

    def add_route(self, name: str, destination: str, metric: int) -> None:
        """Somebody else's route of the host's, straight to a link."""
        ...

    def lose_route(self, name: str, destination: str, metric: int) -> None:
        """Take a route of the host's away, whoever made it."""
        ...

    def routes(self, name: str) -> set[tuple[str, str, int]]:
        """(destination, source, metric) of all of the host's routes to a link that somebody set."""
        ...


class KernelWorld:
    """This machine's kernel."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._here = places.host()
        self._by_path = {self._here.path: self._here}
        self.host = Namespace(self._here.path, self._here.identity)
        self.links: Links = KernelLinks(self._here.path)

    def _at(self, where: Namespace) -> Place:
        return self._by_path[where.path]

    def target(self) -> Namespace:
        place = self._places.new()
        self._by_path[place.path] = place
        return Namespace(place.path, place.identity)

    def drop(self, target: Namespace) -> None:
        self._places.remove(self._at(target))

    def reuse(self, target: Namespace) -> Namespace:
        # The kernel may hand the freed inode out again at once: the other namespace is there before the first goes.
        other = self._places.new()
        place = self._at(target)
        place.rebind(other)
        return Namespace(place.path, place.identity)

    def index(self, name: str) -> int:
        return oracle.links(self._here.name)[name].index

    def names(self, where: Namespace) -> set[str]:
        return set(oracle.links(self._at(where).name))

    def add(self, where: Namespace, name: str) -> int:
        place = self._at(where)
        place.ip("link", "add", name, "type", "bridge")
        place.ip("link", "set", name, "up")
        return oracle.links(place.name)[name].index

    def add_half_made(self, where: Namespace, name: str) -> None:
        place = self._at(where)
        self._here.ip("link", "add", "link", "up0", "name", name, "netns", place.name, "type", "macvlan")

    def rename(self, where: Namespace, old: str, new: str) -> None:
        place = self._at(where)
        place.ip("link", "set", old, "down")
        place.ip("link", "set", old, "name", new)
        place.ip("link", "set", new, "up")

    def mark(self, where: Namespace, name: str, alias: str) -> None:
        self._at(where).ip("link", "set", name, "alias", alias)

    def lower(self, where: Namespace, name: str) -> None:
        self._at(where).ip("link", "set", name, "down")

    def remove(self, where: Namespace, name: str) -> None:
        self._at(where).ip("link", "delete", name)

    def move_address(self, where: Namespace, name: str, old: str, new: str) -> None:
        self._at(where).ip("address", "del", old, "dev", name)
        self._at(where).ip("address", "add", new, "dev", name)

    def add_address(self, where: Namespace, name: str, address: str) -> None:
        self._at(where).ip("address", "add", address, "dev", name)

    def add_default(self, where: Namespace, name: str, address: str, gateway: str) -> None:
        place = self._at(where)
        place.ip("address", "add", address, "dev", name)
        place.ip("route", "add", "default", "via", gateway, "dev", name)

    def default(self, where: Namespace) -> tuple[str, str]:
        return next(iter(oracle.default_gateways(self._at(where).name)), ("", ""))

    def read(self, path: str) -> str:
        """A setting of the host's."""
        return self._here.run("cat", path).strip()

    def write(self, path: str, value: str) -> None:
        """Change a setting of the host's."""
        self._here.run("sh", "-c", f"echo {value} > {path}")

    def lose_address(self, where: Namespace, name: str, address: str) -> None:
        self._at(where).ip("address", "del", address, "dev", name)

    def add_route(self, name: str, destination: str, metric: int) -> None:
        self._here.ip("route", "add", destination, "dev", name, "metric", str(metric))

    def lose_route(self, name: str, destination: str, metric: int) -> None:
        self._here.ip("route", "del", destination, "dev", name, "metric", str(metric))

    def routes(self, name: str) -> set[tuple[str, str, int]]:
        return {
            (route.destination, route.source, route.metric)
            for family in (4, 6)
            for route in oracle.routes(self._here.name, family)
            if route.ifname == name and route.protocol != "kernel"
        }


class FakeWorld:
    """The fake."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.host = self.kernel.host
        self.kernel.add_link(self.host, "up0", "veth")
        self.links: Links = FakeLinks(self.kernel)
        self._paths = itertools.count()

    def _index(self, where: Namespace, name: str) -> int:
        found = self.kernel.space(where).named(name)
        assert found is not None, name
        return found.link.index

    def target(self) -> Namespace:
        namespace = self.kernel.add_namespace(f"/run/netns/fake{next(self._paths)}")
        self.kernel.add_link(namespace, "lo", mtu=65536, up=False)
        return namespace

    def drop(self, target: Namespace) -> None:
        self.kernel.remove_namespace(target)

    def reuse(self, target: Namespace) -> Namespace:
        return self.kernel.add_namespace(target.path)

    def index(self, name: str) -> int:
        return self._index(self.host, name)

    def names(self, where: Namespace) -> set[str]:
        return {one.link.name for one in self.kernel.space(where).interfaces.values()}

    def add(self, where: Namespace, name: str) -> int:
        return self.kernel.add_link(where, name, "bridge")

    def add_half_made(self, where: Namespace, name: str) -> None:
        parent = self.index("up0")
        self.kernel.add_link(where, name, "macvlan", parent=parent, parent_on_host=True, up=False)

    def rename(self, where: Namespace, old: str, new: str) -> None:
        index = self._index(where, old)
        self.kernel.change(where, index, up=False)
        self.kernel.change(where, index, name=new, up=True)

    def mark(self, where: Namespace, name: str, alias: str) -> None:
        self.kernel.change(where, self._index(where, name), alias=alias)

    def lower(self, where: Namespace, name: str) -> None:
        self.kernel.change(where, self._index(where, name), up=False)

    def remove(self, where: Namespace, name: str) -> None:
        self.kernel.remove_link(where, self._index(where, name))

    def move_address(self, where: Namespace, name: str, old: str, new: str) -> None:
        addresses = self.kernel.space(where).interfaces[self._index(where, name)].addresses
        addresses[addresses.index(old)] = new

    def add_address(self, where: Namespace, name: str, address: str) -> None:
        self.kernel.space(where).interfaces[self._index(where, name)].addresses.append(address)
        self.kernel.wake()

    def add_default(self, where: Namespace, name: str, address: str, gateway: str) -> None:
        space = self.kernel.space(where)
        index = self._index(where, name)
        space.interfaces[index].addresses.append(address)
        space.routes.append(Route(index, gateway, 0))

    def default(self, where: Namespace) -> tuple[str, str]:
        space = self.kernel.space(where)
        best = min((route for route in space.routes if route.version == 4), key=lambda r: r.metric, default=None)
        return (best.gateway, space.interfaces[best.index].link.name) if best else ("", "")

    def lose_address(self, where: Namespace, name: str, address: str) -> None:
        self.kernel.space(where).interfaces[self._index(where, name)].addresses.remove(address)

    def add_route(self, name: str, destination: str, metric: int) -> None:
        route = ShimRoute(self.index(name), destination, "", metric)
        self.kernel.space(self.host).foreign_routes.append(route)

    def lose_route(self, name: str, destination: str, metric: int) -> None:
        space, gone = self.kernel.space(self.host), (self.index(name), destination, metric)
        for routes in (space.marked_routes, space.foreign_routes):
            routes[:] = [route for route in routes if (route.index, route.destination, route.metric) != gone]

    def routes(self, name: str) -> set[tuple[str, str, int]]:
        space = self.kernel.space(self.host)
        return {
            (route.destination, route.source, route.metric)
            for route in (*space.marked_routes, *space.foreign_routes)
            if route.index == self.index(name)
        }
