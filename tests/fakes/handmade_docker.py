"""A Docker in memory with networks and containers, as far as an exchange sees them, that fails or dies when told to.

It keeps the rules that matter there: a network in use cannot be removed, a name is given once, one macvlan network has
a parent, an address is one container's, and a stopped container's settings stay with it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from agent.plan.docker import Container, DockerNetwork, DockerNetworkSpec, Endpoint
from agent.plan.handmade import Exchange, HandMade, Member
from agent.plan.state import Link
from trunkline.errors import Reason, TrunklineError


class Killed(BaseException):
    """The agent ends here, as by SIGKILL."""


@dataclass
class Box:
    """A container: addresses and settings by network id."""

    name: str
    running: bool = True
    by_id: bool = False
    addresses: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)


class MemoryDocker:
    """Implements what of `agent.docking.Engine` and `agent.docking.Handmade` an exchange uses. The call number `dies`
    ends the agent, before or after it has its effect; calls named in `refuses` fail so many times."""

    def __init__(self) -> None:
        self.networks_by_id: dict[str, DockerNetwork] = {}
        self.boxes: dict[str, Box] = {}
        self.calls: list[str] = []
        self.dies = 0
        self.late = False
        self.refuses: dict[str, int] = {}
        self.joins: str = ""
        self._ids = itertools.count(1)

    # What a test sets up and looks at

    def add_network(self, network: DockerNetwork) -> str:
        number = f"n{next(self._ids)}"
        self.networks_by_id[number] = replace(network, id=number)
        return number

    def add(self, network_id: str, name: str, address: str, running: bool = True, fixed: bool = False) -> None:
        box = self.boxes[f"id-{name}"] = Box(name, running)
        box.aliases[network_id] = (f"{name}-alias",)
        box.addresses[network_id] = address if running else ""
        if fixed or not running:
            box.fixed[network_id] = address

    def on(self, network_id: str) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Address (live, or fixed while it does not run) and aliases of each container on a network."""
        return {
            box.name: (box.addresses[network_id] or box.fixed.get(network_id, ""), box.aliases.get(network_id, ()))
            for box in self.boxes.values()
            if network_id in box.addresses
        }

    def named_id(self, name: str) -> str:
        return next((key for key, network in self.networks_by_id.items() if network.name == name), "")

    async def _call(self, name: str) -> bool:
        """Whether the call has its effect and then ends the agent."""
        await asyncio.sleep(0)
        if self.dies and len(self.calls) >= self.dies:
            raise Killed
        self.calls.append(name)
        if self.refuses.get(name):
            self.refuses[name] -= 1
            raise TrunklineError(Reason.DOCKER_NETWORK_FAILED, f"Docker refuses to {name}", "mend that")
        dying = self.dies == len(self.calls)
        if dying and not self.late:
            raise Killed
        return dying

    # agent.docking.Engine

    async def containers(self) -> list[Container]:
        await self._call("containers")
        return [
            Container(key, box.name, "running" if box.running else "exited", endpoints=self._endpoints(box))
            for key, box in self.boxes.items()
        ]

    def _endpoints(self, box: Box) -> tuple[Endpoint, ...]:
        return tuple(
            Endpoint(
                key,
                "hand",
                addresses=(f"{address}/24",) if address else (),
                requested=(box.fixed[key],) if key in box.fixed else (),
            )
            for key, address in box.addresses.items()
        )

    async def networks(self) -> list[DockerNetwork]:
        await self._call("networks")
        return list(self.networks_by_id.values())

    async def create_network(self, spec: DockerNetworkSpec) -> str:
        dying = await self._call("create_network")
        made = self._made(
            DockerNetwork(
                "", spec.name, "macvlan", parent=spec.parent, mode=spec.mode, pools=spec.pools, labels=spec.labels
            )
        )
        if dying:
            raise Killed
        return made

    def _made(self, network: DockerNetwork) -> str:
        for known in self.networks_by_id.values():
            if known.name == network.name or known.parent == network.parent:
                raise TrunklineError(Reason.DOCKER_NETWORK_FAILED, f"{network.name}: name or parent is taken")
        return self.add_network(network)

    async def remove_network(self, network_id: str) -> None:
        dying = await self._call("remove_network")
        if self.joins:
            self.add(network_id, self.joins, "20.0.0.99")
            self.joins = ""
        if any(box.running and network_id in box.addresses for box in self.boxes.values()):
            raise TrunklineError(Reason.NETWORK_IN_USE, "the network has active endpoints")
        self.networks_by_id.pop(network_id, None)
        if dying:
            raise Killed

    async def disconnect(self, network_id: str, container_id: str) -> None:
        dying = await self._call("disconnect")
        box = self.boxes[container_id]
        for kept in (box.addresses, box.fixed, box.aliases):
            kept.pop(network_id, None)
        if dying:
            raise Killed

    # agent.docking.Handmade

    async def named(self, name: str) -> list[HandMade]:
        await self._call("named")
        found = [network for network in self.networks_by_id.values() if network.name == name]
        return [HandMade(network, (), json.dumps({"parent": network.parent})) for network in found]

    async def members(self, found: HandMade) -> list[Member]:
        await self._call("members")
        key = found.network.id
        return [
            Member(
                id=number,
                name=box.name,
                running=box.running,
                addresses=(f"{box.addresses[key]}/24",) if box.addresses[key] else (),
                fixed=(box.fixed[key],) if key in box.fixed else (),
                by_id=box.by_id,
            )
            for number, box in self.boxes.items()
            if key in box.addresses
        ]

    async def detailed(self, member: Member, network: str) -> Member | None:
        await self._call("detailed")
        box = self.boxes.get(member.id)
        if box is None:
            return None
        aliases = next((names for key, names in box.aliases.items() if key in self.networks_by_id), ())
        return replace(member, settings=json.dumps({"Aliases": aliases}))

    async def create(self, recipe: str) -> str:
        dying = await self._call("create")
        made = self._made(hand(json.loads(recipe)["parent"]))
        if dying:
            raise Killed
        return made

    async def connect(self, network_id: str, member: Member, addresses: Sequence[str]) -> bool:
        dying = await self._call("connect")
        box = self.boxes.get(member.id)
        if box is None:
            return False
        wanted = addresses[0] if addresses else "20.0.0.200"
        for other in self.boxes.values():
            if other is not box and other.addresses.get(network_id) == wanted:
                raise TrunklineError(Reason.DOCKER_NETWORK_FAILED, f"{wanted} is in use by {other.name}")
        gone = [key for key in box.addresses if key not in self.networks_by_id]
        for kept in (box.addresses, box.fixed, box.aliases):
            for key in gone:
                kept.pop(key, None)
        box.addresses[network_id] = wanted if box.running else ""
        if addresses:
            box.fixed[network_id] = wanted
        box.aliases[network_id] = tuple(json.loads(member.settings or "{}").get("Aliases", ()))
        if dying:
            raise Killed
        return True


def hand(parent: str) -> DockerNetwork:
    """A network `hand` as people make it."""
    from agent.plan.docker import DockerPool

    return DockerNetwork("", "hand", "macvlan", parent=parent, pools=(DockerPool("20.0.0.0/24", "20.0.0.1"),))


class OneUplink:
    """A kernel with one device."""

    async def host_links(self) -> list[Link]:
        return [Link(1, "eth0", "", "02:00:00:00:00:01", 1500, True, True)]


class MemorySpool:
    """Keeps what an agent's next life finds."""

    def __init__(self) -> None:
        self.kept: dict[str, Exchange] = {}

    def exchanges(self) -> dict[str, Exchange]:
        return dict(self.kept)

    def keep_exchanges(self, exchanges: dict[str, Exchange]) -> None:
        self.kept = dict(exchanges)
