"""Targets on a FakeKernel, and containers that are started and stopped at will. Passes the suite of the real adapter
(tests/contract/targets_suite.py) for what both have: namespaces by path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from fakes.links import FakeKernel

from agent.ports import Namespace, ResolvedTarget
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Target, TargetKind


@dataclass
class FakeTargets:
    """`containers` maps names to the path of their namespace, None for one that does not run. `docker` is the
    engine's version; empty while none answers."""

    kernel: FakeKernel
    containers: dict[str, str | None] = field(default_factory=dict)
    docker: str = ""
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    async def resolve(self, targets: Sequence[Target]) -> list[ResolvedTarget | TrunklineError]:
        return [self._resolve(target) for target in targets]

    def _resolve(self, target: Target) -> ResolvedTarget | TrunklineError:
        path: str | None = target.value
        if target.kind is TargetKind.CONTAINER:
            if not self.docker:
                return TrunklineError(Reason.DOCKER_UNAVAILABLE, "Docker does not answer")
            if target.value not in self.containers:
                return TrunklineError(Reason.CONTAINER_NOT_FOUND, f"there is no container {target.value}")
            path = self.containers[target.value]
            if path is None:
                return TrunklineError(Reason.CONTAINER_NOT_RUNNING, f"container {target.value} does not run")
            if path == self.kernel.host.path:
                return TrunklineError(Reason.CONTAINER_HOST_NETWORK, f"{target.value} uses the host's network")
        space = self.kernel.spaces.get(path or "")
        if space is None:
            return TrunklineError(Reason.NETNS_NOT_FOUND, f"{path} does not exist", "it is attached when it appears")
        if space.namespace == self.kernel.host:
            return TrunklineError(Reason.NETNS_IS_HOST, f"{path} is the host's own")
        name = target.value if target.kind is TargetKind.CONTAINER else str(target)
        return ResolvedTarget(space.namespace, space.namespace.identity, name)

    async def namespaces(self) -> list[Namespace]:
        return [space.namespace for space in self.kernel.spaces.values() if space.namespace != self.kernel.host]

    async def version(self) -> str:
        return self.docker

    async def events(self) -> AsyncIterator[None]:
        while True:
            await self.woken.wait()
            self.woken.clear()
            yield

    async def close(self) -> None:
        """Nothing is held."""
