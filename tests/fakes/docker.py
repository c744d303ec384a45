"""A Docker Engine as the address part of the agent sees it: containers that are being started, run and end, on networks
with our IPAM. Behaves as measured on 20.10 to 29: a container that is being started is listed as it was, without
addresses, and its inspection blocks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace

from agent.plan import owners
from agent.plan.docker import Container, DockerNetwork, DockerPool, Endpoint
from agent.plan.ledger import Listing
from trunkline.clock import Clock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired
from trunkline.naming import DOCKER_DRIVER


class FakeDocker:
    """Implements what `agent.native.pools` asks of `agent.docking.Engine`. `down`: it does not answer; `slow`: seconds
    each answer takes."""

    def __init__(self) -> None:
        self.all: dict[str, Container] = {}
        self.starting: set[str] = set()
        self.docker_networks: dict[str, DockerNetwork] = {}
        self.down = False
        self.slow = 0.0
        self.probes = 0
        self._ids = itertools.count(1)

    def network(self, name: str, *cidrs: str, fabric: str = "", driver: str = DOCKER_DRIVER) -> DockerNetwork:
        pools = tuple(DockerPool(cidr) for cidr in cidrs)
        made = DockerNetwork(f"net{next(self._ids)}", name, "macvlan", pools=pools, ipam_driver=driver)
        self.docker_networks[made.id] = replace(made, ipam_network=fabric or name if driver == DOCKER_DRIVER else "")
        return self.docker_networks[made.id]

    def create(self, name: str, *networks: DockerNetwork, ip: str = "", labels: dict[str, str] | None = None) -> str:
        """A container that was never started: Docker knows its networks by name only."""
        requested = (ip,) if ip else ()
        endpoints = tuple(Endpoint("", network.name, requested=requested) for network in networks)
        made = Container(f"c{next(self._ids)}", name, "created", labels or {}, endpoints)
        self.all[made.id] = made
        return made.id

    def begin(self, container_id: str) -> None:
        """dockerd takes the container's lock and asks for addresses."""
        self.starting.add(container_id)

    def runs(self, container_id: str, *addresses: str) -> None:
        """The start is over: its networks got these addresses, each the ones that are in one of its prefixes."""
        self.starting.discard(container_id)
        container = self.all[container_id]
        by_name = {network.name: network for network in self.docker_networks.values()}
        endpoints = tuple(
            replace(
                endpoint,
                network_id=by_name[endpoint.network].id,
                id=f"e{next(self._ids)}",
                addresses=addresses,
                mac=f"02:42:00:00:00:{next(self._ids) % 256:02x}",
            )
            for endpoint in container.endpoints
        )
        self.all[container_id] = replace(container, state="running", endpoints=endpoints)

    def failed(self, container_id: str) -> None:
        """The start failed."""
        self.starting.discard(container_id)

    def ends(self, container_id: str) -> None:
        container = self.all[container_id]
        endpoints = tuple(replace(endpoint, id="", addresses=(), mac="") for endpoint in container.endpoints)
        self.all[container_id] = replace(container, state="exited", endpoints=endpoints)

    def remove(self, container_id: str) -> None:
        self.starting.discard(container_id)
        del self.all[container_id]

    def listing(self, clock: Clock, desired: Desired | None = None) -> Listing:
        """What the loop would have seen now."""
        names = owners.docker_names(self.docker_networks.values(), desired)
        return Listing(list(self.all.values()), names, clock.now_ms() + 1)

    # agent.docking.Engine, as far as it is asked

    async def containers(self) -> list[Container]:
        await self._answer()
        return list(self.all.values())

    async def named(self, name: str) -> Container | None:
        await self._answer()
        return next((container for container in self.all.values() if container.name == name), None)

    async def blocked(self, container_ids: Sequence[str], seconds: float) -> list[str]:
        await self._answer()
        self.probes += 1
        waiting = [one for one in container_ids if one in self.starting]
        if waiting:
            await asyncio.sleep(seconds)
        return waiting

    async def networks(self) -> list[DockerNetwork]:
        await self._answer()
        return list(self.docker_networks.values())

    async def _answer(self) -> None:
        if self.slow:
            await asyncio.sleep(self.slow)
        if self.down:
            raise TrunklineError(Reason.DOCKER_UNAVAILABLE, "the Docker Engine does not answer", "start Docker")
