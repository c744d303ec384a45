"""The loop of the agent's Docker side: list, decide, act, list again. Triggers say *look*; Docker says what to do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from agent.docking import DockerAbsent, Engine, Ground
from agent.native.announcer import Announcer
from agent.native.chronicle import Chronicle
from agent.native.memory import DockerMemory
from agent.native.networks import DockerNetworks
from agent.native.rebuilding import Rebuilder
from agent.native.restarts import Restarts
from agent.plan import losses, owners
from agent.plan.docked import Docked, Standing
from agent.plan.dockernets import PENDING, wanted_name
from agent.plan.ledger import Listing
from agent.plan.losses import Losses
from agent.ports import Interface, Links, Prober
from agent.spool import Spool
from trunkline import log
from trunkline.clock import Clock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, EndpointObservation, Problem

ROUNDS: Final = 4
"""Listings in one look: a removal and a creation each take one, and a last one shows that nothing is left to do."""

TICK_SECONDS: Final = 60.0
UNSURE_SECONDS: Final = 3.0
"""Until the next listing while it is not certain that the ledger is whole: until then no address is free again."""

PACE: Final = 0.01
"""Seconds in which wakes are taken for one."""

DUTY: Final = 0.5
"""Between two looks that only events asked for, rest this many times as long as a look took. Little: a container that
started waits for a look to be announced."""

_REST_LIMIT: Final = 0.5
_RETRY_SECONDS: Final = 1.0


class Ledger(Protocol):
    """The addresses of this host, as far as the loop feeds and reads them."""

    async def desired(self, desired: Desired, removals: bool = True) -> None:
        """A desired state is in force, and may take things away with `removals`. Raises nothing."""
        ...

    async def seen(self, listing: Listing) -> None:
        """Docker was listed. Raises nothing."""
        ...

    def endpoints(self) -> tuple[EndpointObservation, ...]:
        """The whole ledger."""
        ...

    @property
    def complete(self) -> bool:
        """Whether an address that is not listed is certainly not the host's."""
        ...

    def problems(self) -> tuple[Problem, ...]:
        """What keeps the ledger from its work."""
        ...


class Unkept:
    """A ledger of nothing, in which nothing is certain."""

    complete = False

    async def desired(self, desired: Desired, removals: bool = True) -> None:
        """Nothing is taken."""

    async def seen(self, listing: Listing) -> None:
        """Nothing is learnt."""

    def endpoints(self) -> tuple[EndpointObservation, ...]:
        """None."""
        return ()

    def problems(self) -> tuple[Problem, ...]:
        """None."""
        return ()


@dataclass(frozen=True, slots=True)
class DockerWorld:
    """The ports that the loop works through. `index_of` asks the kernel for a link's index, 0 when there is none."""

    engine: Engine
    links: Links
    prober: Prober
    clock: Clock
    draw: Callable[[], float]
    index_of: Callable[[str], int]


class DockerLoop:
    """Implements `agent.docking.Dock`. `changed` is called when there is something new to tell the controller; `ledger`
    is set before it runs."""

    def __init__(
        self,
        world: DockerWorld,
        host: str,
        spool: Spool,
        chronicle: Chronicle,
        changed: Callable[[], None],
    ) -> None:
        self._world = world
        self._host = host
        self.ledger: Ledger = Unkept()
        self._changed = changed
        self._chronicle = chronicle
        self._memory = DockerMemory(spool, host)
        self._networks = DockerNetworks(world.engine, self._memory, chronicle, world.clock, world.draw, host)
        self._rebuilder = Rebuilder(
            world.engine, world.links, chronicle, world.clock, world.draw, self.wake, self._rebuilt
        )
        self._announcer = Announcer(world.engine, world.links, world.prober, world.clock, self._seen)
        self._restarts = Restarts(world.engine, chronicle, world.clock, world.draw, self.wake)
        self._losses = Losses()
        self._wake = asyncio.Event()
        self._ground: Ground | None = None
        self._desired: Desired | None = None
        self._away: TrunklineError | None = None
        self._missed: frozenset[str] = frozenset()
        self._docker = ""
        self._listed_ms = self._cut_ms = 0
        self._told = Docked()
        self._log = log.get("docker")

    # agent.docking.Dock

    async def desired(self, desired: Desired, removals: bool) -> None:
        """See `agent.docking.Dock.desired`."""
        self._desired = desired
        await self.ledger.desired(desired, removals)

    def ground(self, ground: Ground) -> None:
        """See `agent.docking.Dock.ground`."""
        if ground != self._ground:
            self._ground = ground
            self.wake()

    def view(self) -> Docked:
        """See `agent.docking.Dock.view`."""
        return Docked(
            networks=self._standings(),
            parents=self._networks.parents(),
            endpoints=self._endpoints(),
            endpoints_complete=self.ledger.complete,
            events=self._chronicle.events(),
            problems=(
                *self._memory.problems(),
                *self.ledger.problems(),
                *self._networks.problems(),
                *self._restarts.problems(),
                *self._announcer.problems(),
                *self._rebuilder.problems(),
                *losses.problems(self._losses, self._host),
            ),
            docker="" if self._away else self._docker,
        )

    def _endpoints(self) -> tuple[EndpointObservation, ...]:
        names = self._announcer.named()
        return tuple(
            replace(one, ifname=names.get((one.network, one.address), "")) if one.present else one
            for one in self.ledger.endpoints()
        )

    def note(self, subject: str, message: str) -> None:
        """See `agent.docking.Dock.note`."""
        self._chronicle.note(subject, message)

    def unready(self, network: str) -> TrunklineError | None:
        """What keeps containers from getting an interface on a network of this host. To be asked before an address is
        given: without the parent link Docker fails later, which on Docker 29 costs a container its network."""
        planned = self._ground.plans.get(network) if self._ground else None
        parent = planned.parent if planned else None
        if parent is not None and self._world.index_of(parent.link.name) == parent.link.index:
            return None
        blocked = planned.blocked if planned else None
        if blocked is not None:
            return TrunklineError(blocked.reason or Reason.UPLINK_MISSING, blocked.message)
        what = parent.link.name if parent else "its parent link"
        return TrunklineError(
            Reason.UPLINK_MISSING,
            f"network {network} cannot be used on {self._host} now: {what} is missing",
            "start the container again in a moment; see `trunkline host show` if this stays so",
        )

    def _standings(self) -> dict[str, Standing]:
        wanted = [one.name for one in (self._desired.networks if self._desired else ()) if wanted_name(one)]
        known = {name: Standing(PENDING, "it is being made") for name in wanted} | self._networks.standings()
        if self._away is None:
            return known
        # Nobody is to wait for a Docker that a host may not even have, once it was looked for with the network known.
        gone = self._missed if isinstance(self._away, DockerAbsent) else frozenset()
        return known | {name: Standing("" if name in gone else PENDING, self._away.text) for name in wanted}

    def refused(self) -> None:
        """Docker was refused an address."""
        self._restarts.doubt()

    def boots(self) -> bool:
        """Whether dockerd ended, or this agent began, and Docker was not listed since."""
        return self._listed_ms <= self._cut_ms

    def _seen(self, endpoint: str, interface: Interface) -> None:
        self._rebuilder.seen(endpoint, interface)
        self._changed()

    def _rebuilt(self, endpoint: str) -> None:
        self._announcer.again(endpoint)

    # The loop

    def wake(self) -> None:
        """Something in Docker, or about addresses, may have changed: look again."""
        self._wake.set()

    def tell(self) -> None:
        """The ledger changed: the controller is to hear of it, and Docker is looked at."""
        self._changed()
        self._wake.set()

    async def run(self) -> None:
        """Look, act and wait, until cancelled. What was made stays."""
        listener = asyncio.create_task(self._listen())
        clock = self._world.clock
        tick_due = clock.monotonic()
        try:
            while True:
                self._wake.clear()
                started = clock.monotonic()
                ticked = started >= tick_due
                if ticked:
                    tick_due = started + TICK_SECONDS
                await self._guarded(ticked)
                took = clock.monotonic() - started
                self._publish()
                await self._until_due(tick_due)
                # A storm of events is taken for one wake.
                await clock.sleep(min(_REST_LIMIT, max(PACE, DUTY * took)))
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            await self._announcer.close()
            await self._restarts.close()
            await self._rebuilder.close()

    async def _until_due(self, tick_due: float) -> None:
        due = [tick_due, self._networks.due(), self._restarts.due(), self._rebuilder.due()]
        if self._away is not None or self._announcer.unannounced() or self._losses.unsure:
            due.append(self._world.clock.monotonic() + _RETRY_SECONDS)
        if not self.ledger.complete:
            due.append(self._world.clock.monotonic() + UNSURE_SECONDS)
        when = min(one for one in due if one is not None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, when - self._world.clock.monotonic())):
                await self._wake.wait()

    async def _guarded(self, ticked: bool) -> None:
        """One look; nothing that goes wrong in it ends the loop."""
        wanted = frozenset(network.name for network in self._ground.desired.networks) if self._ground else frozenset()
        try:
            await self._look(ticked)
            self._away = None
        except TrunklineError as error:
            self._missed = wanted
            if self._away is None or self._away.message != error.message:
                self._log.warning("docker cannot be looked at", reason=error.reason.name, why=error.text)
            self._away = error
        except Exception as error:
            self._log.error("docker loop failed", exc_info=error)
            self._away = TrunklineError(Reason.INTERNAL, "the agent failed; its log has the traceback")

    async def _look(self, ticked: bool) -> None:
        done: set[str] = set()
        if self._away is not None or not self._docker:
            self._docker = await self._world.engine.version()
            self._restarts.doubt()
        for _ in range(ROUNDS):
            ground = self._ground
            began_ms = self._world.clock.now_ms()
            networks, containers = await asyncio.gather(self._world.engine.networks(), self._world.engine.containers())
            self._listed_ms = began_ms
            names = owners.docker_names(networks, self._desired)
            self._announcer.announce(containers, networks, self._desired)
            if ground is not None:
                self._rebuilder.look(containers, networks, ground)
            await self.ledger.seen(Listing(containers, names, began_ms))
            known = self._memory.deeds.containers
            self._losses = losses.find(known, self._losses, containers, networks, self._docker)
            await self._memory.containers(self._losses.known)
            if ground is None or not await self._networks.reconcile(
                ground, networks, containers, done, self._restarts.unknown
            ):
                await self._restarts.look(containers, names, ticked)
                return
        self.wake()

    def _publish(self) -> None:
        view = self.view()
        if view != self._told:
            self._told = view
            self._changed()

    async def _listen(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(self._world.engine.events()) as events:
                    async for _ in events:
                        self.wake()
            except TrunklineError:
                pass  # the look that follows says what is wrong
            except Exception as error:
                self._log.error("events failed", exc_info=error)
            self._cut_ms = self._world.clock.now_ms()
            self.wake()
            await self._world.clock.sleep(_RETRY_SECONDS)
