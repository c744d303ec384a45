"""The agent's part in imports, put together: what there is of hand-made networks, and their exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from agent.docking import Engine, Handmade
from agent.native.exchange import Bench
from agent.native.expected import Expected
from agent.native.replace import Replacer
from agent.native.survey import Surveyor
from agent.plan import owners
from agent.plan.handmade import Found, Step
from agent.plan.ledger import Entries, Listing
from agent.plan.state import HostConfig
from agent.ports import Links
from agent.spool import Spool
from trunkline.clock import Clock
from trunkline.model import Desired


class Ledger(Protocol):
    """The addresses of this host."""

    async def seen(self, listing: Listing) -> None:
        """Docker was listed."""
        ...

    def entries(self) -> Entries:
        """The whole ledger."""
        ...


class ImportSide:
    """`expected` is what the ledger asks for the addresses of containers that are off for a moment. `config` is the
    host's, `desired` what is in force (None while that is not known), `look` wakes what makes sub-interfaces."""

    def __init__(
        self,
        engine: Engine,
        handmade: Handmade,
        links: Links,
        spool: Spool,
        ledger: Ledger,
        expected: Expected,
        clock: Clock,
        config: Callable[[], HostConfig],
        desired: Callable[[], Desired | None],
        look: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._clock = clock
        self._desired = desired
        self._surveyor = Surveyor(handmade, links, config)
        bench = Bench(engine, handmade, links, spool, expected, config, desired, self._held, look, clock)
        self._replacer = Replacer(bench)

    async def run(self) -> None:
        """Finish exchanges that were begun, until cancelled."""
        await self._replacer.run()

    async def survey(self, name: str) -> list[Found]:
        """See `Surveyor.survey`."""
        return await self._surveyor.survey(name)

    def replace(self, network: str) -> AsyncIterator[Step]:
        """See `Replacer.replace`."""
        return self._replacer.replace(network)

    async def _held(self, network: str) -> set[str]:
        """Addresses of a network in the ledger, once it has seen what containers have now."""
        began_ms = self._clock.now_ms()
        networks = await self._engine.networks()
        containers = await self._engine.containers()
        await self._ledger.seen(Listing(containers, owners.docker_names(networks, self._desired()), began_ms))
        return {address for name, address in self._ledger.entries() if name == network}
