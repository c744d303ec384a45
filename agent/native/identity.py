"""Who asks for an address: what Docker says in the request, or shows to one who looks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

from agent.docking import Container, Engine, PoolRequest
from agent.plan import choice, owners
from agent.plan.choice import Question
from agent.plan.ledger import Entries
from agent.plan.owners import Asker, DockerNames
from trunkline import log
from trunkline.errors import TrunklineError
from trunkline.model import EndpointState

T = TypeVar("T")

NAMED_SECONDS: Final = 0.4
LIST_SECONDS: Final = 0.6
BLOCKED_SECONDS: Final = 0.1
"""How long an inspection may take before its container counts as being started. dockerd answers in 2 to 5 ms."""

BUSY_TIMES: Final = 4.0
BUSY_SECONDS: Final = 0.5
"""A dockerd that is slow to list its containers is waited for so many times as long as that took, at most so long."""


class Identity:
    """Looks at Docker for as long as a start can wait. What cannot be looked up in time is unknown, never an error."""

    def __init__(self, engine: Engine, boots: Callable[[], bool]) -> None:
        """`boots`: whether dockerd ended and was not seen to answer since."""
        self._engine = engine
        self._boots = boots
        self._log = log.get("addresses")

    async def complete(
        self, question: Question, request: PoolRequest, entries: Entries, names: DockerNames
    ) -> Question:
        """The question with who could be asking and, as far as it matters, what running containers have."""
        containers: list[Container] | None = None
        if request.endpoint:
            question = replace(question, askers=await self._named(request.endpoint, entries))
        else:
            began, boots = _now(), self._boots()
            containers = await self._within(LIST_SECONDS, self._engine.containers())
            if containers is not None:
                patience = min(BUSY_SECONDS, max(BLOCKED_SECONDS, BUSY_TIMES * (_now() - began)))
                question = await self._among(question, containers, entries, names, patience)
            else:
                question = replace(question, boots=boots)
        asked = entries.get((question.network.name, question.address))
        if asked is not None and asked.state is EndpointState.USED:
            if containers is None:
                containers = await self._within(LIST_SECONDS, self._engine.containers())
            if containers is not None:
                live = owners.holders(containers, names, question.network.name)
                question = replace(question, live=live)
        return question

    async def _named(self, endpoint: str, entries: Entries) -> tuple[Asker, ...] | None:
        """Docker 29 names an endpoint as its container. A name that cannot be looked up may be in the ledger."""
        container = await self._within(NAMED_SECONDS, self._engine.named(endpoint))
        if container is not None:
            return (owners.asker(container),)
        for entry in entries.values():
            if entry.container == endpoint and entry.owner:
                return (Asker(entry.owner, entry.shared, entry.container_id, entry.container),)
        return None

    async def _among(
        self, question: Question, containers: list[Container], entries: Entries, names: DockerNames, patience: float
    ) -> Question:
        network, version = question.network.name, 6 if ":" in question.cidr else 4
        found = owners.candidates(containers, names, network, version, question.address)
        outside = [owners.asker(one) for one in owners.outsiders(containers, names, network)]
        concerned = [who for who in outside if choice.concerns(entries, question, who)]
        question = replace(question, askers=(*map(owners.asker, found), *concerned))
        if not choice.looks_for(entries, question):
            return question
        askers = question.askers or ()
        probe = self._engine.blocked([who.container_id for who in askers], patience)
        blocked = await self._within(LIST_SECONDS, probe)
        if blocked is None:
            return replace(question, askers=None)
        return replace(question, askers=tuple(who for who in askers if who.container_id in blocked))

    async def _within(self, seconds: float, lookup: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(seconds):
                return await lookup
        except (TrunklineError, TimeoutError) as error:
            self._log.debug("who asks is not known", why=str(error) or "Docker took too long")
        except Exception as bug:
            self._log.error("looking up who asks failed", exc_info=bug)
        return None


def _now() -> float:
    return asyncio.get_running_loop().time()
