"""Docker networks, made and removed as planned."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from agent.docking import Container, DockerNetwork, Engine, Ground
from agent.native.chronicle import Chronicle
from agent.native.memory import DockerMemory
from agent.plan import dockernets
from agent.plan.docked import Standing
from agent.plan.dockernets import Creation, DockerPlan, Rebinding, Removal
from agent.spool import MadeNetwork
from trunkline import log
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Problem

_FIRST_SECONDS: Final = 0.5
_LIMIT_SECONDS: Final = 30.0


@dataclass(slots=True)
class _Failure:
    error: TrunklineError
    backoff: Backoff
    due: float


class DockerNetworks:
    """Makes Docker's networks what they should be, and knows how they stand. One that cannot be had is tried again
    after a wait that doubles."""

    def __init__(
        self,
        engine: Engine,
        memory: DockerMemory,
        chronicle: Chronicle,
        clock: Clock,
        draw: Callable[[], float],
        host: str,
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._chronicle = chronicle
        self._clock = clock
        self._draw = draw
        self._host = host
        self._failures: dict[str, _Failure] = {}
        self._plan = DockerPlan()
        self._ground: Ground | None = None
        self._found: Sequence[DockerNetwork] = ()
        self._log = log.get("docker")

    async def reconcile(
        self,
        ground: Ground,
        found: Sequence[DockerNetwork],
        containers: Sequence[Container],
        done: set[str],
        unknown: Collection[str] = (),
    ) -> bool:
        """One step towards `ground`; whether anything was done, so that Docker has to be read again. `done` are names
        of Docker networks that were made since the caller began: one that is still not right is a failure, found by
        reading. `unknown`: ids of Docker networks whose driver does not know them."""
        if self._ground is None or self._ground.desired != ground.desired:
            self._failures.clear()
        self._ground, self._found = ground, found
        self._plan = dockernets.plan(ground, found, containers, self._host, unknown)
        await self._recall(found)
        acted = False
        for removal in self._plan.removals:
            if removal.found.name in done:
                self._failed(removal.network, _not_verified(removal, self._host))
            else:
                acted |= await self._try(removal.network, lambda what=removal: self._remove(what))  # type: ignore[misc]
        for creation in self._plan.creations:
            if creation.spec.name in done:
                self._failed(creation.spec.network, _not_made(creation, self._host))
            elif await self._try(creation.spec.network, lambda what=creation: self._create(what)):  # type: ignore[misc]
                done.add(creation.spec.name)
                acted = True
        for rebinding in dockernets.stale(found, containers):
            subject = f"container {rebinding.container.name}"
            acted |= await self._try(subject, lambda what=rebinding: self._rebind(what))  # type: ignore[misc]
        self._settle()
        return acted

    async def _recall(self, found: Sequence[DockerNetwork]) -> None:
        """What was made and is there no more was removed by somebody, or by us, as read."""
        assert self._ground is not None
        known = {one.id for one in found}
        wanted = {network.name for network in self._ground.desired.networks}
        there = {dockernets.ours(one): one for one in found if dockernets.ours(one)}
        for network, made in list(self._memory.deeds.networks.items()):
            if made.id in known or network in there:
                continue
            if made.id and network in wanted:
                self._chronicle.note(
                    f"network {network}", f"its Docker network {made.name} was removed by somebody; it is made again"
                )
            if made.id or network not in wanted:
                await self._memory.network(network, None)
        for network, one in there.items():
            await self._memory.network(network, MadeNetwork(one.name, one.parent, one.id))

    async def _try(self, subject: str, act: Callable[[], Awaitable[None]]) -> bool:
        failure = self._failures.get(subject)
        if failure is not None and failure.due > self._clock.monotonic():
            return False
        try:
            await act()
        except TrunklineError as error:
            self._failed(subject, error)
            if error.reason is Reason.DOCKER_UNAVAILABLE:
                raise
            return False
        self._failures.pop(subject, None)
        return True

    def _failed(self, subject: str, error: TrunklineError) -> None:
        known = self._failures.get(subject)
        if known is not None and known.due > self._clock.monotonic():
            return
        if known is None or known.error.message != error.message:
            self._log.warning("failed", subject=subject, reason=error.reason.name, why=error.text)
        backoff = known.backoff if known else Backoff(_FIRST_SECONDS, _LIMIT_SECONDS, self._draw)
        self._failures[subject] = _Failure(error, backoff, self._clock.monotonic() + backoff.next())

    async def _create(self, creation: Creation) -> None:
        spec = creation.spec
        await self._memory.network(spec.network, MadeNetwork(spec.name, spec.parent))
        made = await self._engine.create_network(spec)
        await self._memory.network(spec.network, MadeNetwork(spec.name, spec.parent, made))
        self._log.info("Docker network made", network=spec.network, name=spec.name, parent=spec.parent)

    async def _remove(self, removal: Removal) -> None:
        await self._engine.remove_network(removal.found.id)
        await self._memory.network(removal.network, None)
        self._log.info("Docker network removed", network=removal.network, name=removal.found.name, because=removal.why)

    async def _rebind(self, rebinding: Rebinding) -> None:
        container, network = rebinding.container, rebinding.network
        await self._engine.rebind(network.id, container.id)
        self._chronicle.note(
            f"container {container.name}",
            f"its Docker network {network.name} had been removed; it was set up with the new one, so it can start",
        )

    def _settle(self) -> None:
        """Failures of what is no longer to be done say nothing any more."""
        planned = {removal.network for removal in self._plan.removals}
        planned |= {creation.spec.network for creation in self._plan.creations}
        self._failures = {
            subject: failure
            for subject, failure in self._failures.items()
            if subject in planned or subject.startswith("container ")
        }

    def due(self) -> float | None:
        """Monotonic time of the next try; None when nothing waits."""
        return min((failure.due for failure in self._failures.values()), default=None)

    def standings(self) -> dict[str, Standing]:
        """How each network stands in Docker."""
        failed = {
            network: Standing(dockernets.FAILED, failure.error.text)
            for network, failure in self._failures.items()
            if network in self._plan.standings
        }
        return dict(self._plan.standings) | failed

    def problems(self) -> tuple[Problem, ...]:
        """What keeps a network from being in Docker, or a container from its network."""
        found = {
            network: (reason, self._plan.standings[network].message) for network, reason in self._plan.reasons.items()
        }
        problems = []
        for subject, failure in self._failures.items():
            if subject.startswith("container "):
                name = subject.removeprefix("container ")
                problems.append(Problem("container", name, failure.error.reason.name, failure.error.text))
            else:
                found[subject] = (failure.error.reason, failure.error.text)
        problems += [
            Problem("network", network, reason.name, text) for network, (reason, text) in sorted(found.items())
        ]
        return tuple(problems)

    def parents(self) -> dict[str, str]:
        """Links that carry Docker networks, and why they stay: also what Docker, while it is away, may still have."""
        remembered = {
            made.parent: f"Docker network {made.name} sits on it; it goes when that is gone"
            for made in self._memory.deeds.networks.values()
            if made.parent
        }
        return remembered | dockernets.parents(self._found)


def _not_verified(removal: Removal, host: str) -> TrunklineError:
    return TrunklineError(
        Reason.VERIFY_FAILED,
        f"Docker network {removal.found.name} of {host} was made, but Docker shows it otherwise: {removal.why}",
        "tell us what Docker version this is",
    )


def _not_made(creation: Creation, host: str) -> TrunklineError:
    return TrunklineError(
        Reason.VERIFY_FAILED,
        f"Docker network {creation.spec.name} of {host} was made, but Docker does not list it",
        "something else on the host removes it",
    )
