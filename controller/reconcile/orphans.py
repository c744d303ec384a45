"""Session records of this replica that no session stands behind.

A record hangs on the replica's lease, which lives as long as the replica does. One whose removal failed in an outage
that the lease outlived, or whose writing was not waited for by the host that asked, would show its host as connected
until the replica ends, and the host could not be forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping

from controller.fleet import Fleet
from controller.reconcile.follower import Follower
from controller.state import keys
from controller.state.txn import Delete, Txn, Unchanged
from controller.store.port import Store
from trunkline import log
from trunkline.clock import Clock
from trunkline.errors import TrunklineError

LOOK_SECONDS = 10.0
"""How often they are looked for. A record found so twice, and thus for longer than the opening of a session takes, is
removed."""

_log = log.get("orphans")


class Orphans:
    """Finds and removes them; `replica` is the name of this one."""

    def __init__(self, replica: str, store: Store, follower: Follower, fleet: Fleet, clock: Clock) -> None:
        self._replica = replica
        self._store = store
        self._follower = follower
        self._fleet = fleet
        self._clock = clock

    async def run(self) -> None:
        """Look until cancelled."""
        before: dict[str, int] = {}
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                found = self._find()
                await self._remove({host: found[host] for host in found if before.get(host) == found[host]})
            except TrunklineError as error:
                _log.info("session records not looked through", reason=error.reason.name, problem=error.message)
            else:
                before = found

    def _find(self) -> dict[str, int]:
        """Hosts with a record of this replica and no session of that number, and the numbers."""
        found = {}
        for host, stored in self._follower.snapshot.sessions.items():
            session = self._fleet.get(host)
            mine = stored.value.replica == self._replica
            if mine and (session is None or session.number != stored.mod_revision):
                found[host] = stored.mod_revision
        return found

    async def _remove(self, records: Mapping[str, int]) -> None:
        for host, number in records.items():
            key = keys.session(host)
            await self._store.commit(Txn((Unchanged(key, number),), (Delete(key),)))
            _log.info("session record removed, nobody stands behind it", host=host, session=number)
