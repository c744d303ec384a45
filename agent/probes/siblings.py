"""The interface a check is made from: a macvlan sibling of the containers' interfaces on the same parent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from agent.ports import ProbePlan
from trunkline.errors import TrunklineError
from trunkline.log import get

_log = get("agent.probes")


class SiblingFactory(Protocol):
    """Makes and removes siblings. Netlink is not spoken in this room, so an adapter of the kernel does it."""

    async def open(self, parent_index: int, name: str, mac: str, alias: str) -> int:
        """Make a macvlan of mode bridge on the parent in the host's namespace, with this name, MAC and alias, and set
        it up; its index. All or nothing; raises TrunklineError.

        A link of that name that carries exactly this alias is the leftover of a killed run and is replaced; any other
        is refused (LINK_CLASH). The sibling is mute: IPv6 is disabled on it before it goes up (disable_ipv6), or
        router solicitations, MLD reports and duplicate address detection would go out under its MAC.
        """
        ...

    async def close(self, ifindex: int, alias: str) -> None:
        """Delete the link if it still carries exactly this alias; no error when it is gone."""
        ...


_Key = tuple[int, str, str, str]


@dataclass(slots=True)
class _Shared:
    index: int
    users: int
    alias: str


class Siblings:
    """Shares one sibling between the runs of one network: made for the first, removed after the last."""

    def __init__(self, factory: SiblingFactory) -> None:
        self._factory = factory
        self._open: dict[_Key, _Shared] = {}
        # One at a time: a name that is being removed must be gone before it is made again.
        self._turn = asyncio.Lock()

    @staticmethod
    def _key(plan: ProbePlan) -> _Key:
        return plan.parent_index, plan.link_name, plan.mac, plan.mark

    async def take(self, plan: ProbePlan) -> int:
        """The index of the plan's sibling. Each `take` needs one `give_back`. Raises what the factory raises."""
        async with self._turn:
            shared = self._open.get(self._key(plan))
            if shared is None:
                index = await self._factory.open(plan.parent_index, plan.link_name, plan.mac, plan.mark)
                shared = self._open[self._key(plan)] = _Shared(index, 0, plan.mark)
            shared.users += 1
            return shared.index

    async def give_back(self, plan: ProbePlan) -> None:
        """Say that a run no longer needs the plan's sibling. Never raises for a kernel that refuses: the next run
        replaces what is left."""
        async with self._turn:
            shared = self._open[self._key(plan)]
            shared.users -= 1
            if not shared.users:
                del self._open[self._key(plan)]
                await self._close(plan.link_name, shared)

    async def _close(self, name: str, shared: _Shared) -> None:
        try:
            await self._factory.close(shared.index, shared.alias)
        except TrunklineError as error:
            _log.warning("probe interface left behind", link=name, reason=error.reason.name, error=error.text)
