"""The store port on etcd: puts channel, commits, reads, watches and leases together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from controller.state.entry import Changes, Listing
from controller.state.txn import Txn
from controller.store.etcd import lease as leases
from controller.store.etcd import read
from controller.store.etcd.channel import Endpoint, EtcdSettings, Refused, Ring, Unknown
from controller.store.etcd.commit import Committer
from controller.store.etcd.watch import Watch
from controller.store.port import Committed, Member, Outcome
from trunkline.errors import StoreUnavailable
from trunkline.etcd import rpc_pb2 as pb

_HEARTBEAT = Txn((), ())


class EtcdStore:
    """A `controller.store.port.Store`. Made inside a running event loop; connects on first use.

    Raises CONFIG_INVALID when a TLS file cannot be read. Once another process has taken the replica's name over,
    every call that writes raises STORE_FENCED.
    """

    def __init__(self, settings: EtcdSettings) -> None:
        self._ring = Ring(settings)
        self._committer = Committer(self._ring)

    async def read(self, prefix: str) -> Listing:
        """See the port."""
        return await read.listing(self._ring, prefix)

    async def revision(self) -> int:
        """See the port."""
        return await read.revision(self._ring)

    async def commit(self, txn: Txn) -> Outcome:
        """See the port."""
        return (await self._committer.commit((txn,)))[0]

    async def commit_many(self, txns: Sequence[Txn]) -> list[Outcome]:
        """See the port. The deadline grows with the number of transactions, by 2 ms each."""
        return await self._committer.commit(txns)

    def watch(self, prefix: str, after: int) -> AsyncIterator[Changes]:
        """See the port."""
        return Watch(self._ring, self._beat, self._committer.moved_by_another, prefix, after).changes()

    async def grant(self, ttl: float) -> int:
        """See the port."""
        return await leases.grant(self._ring, ttl)

    async def renew(self, lease: int) -> float:
        """See the port."""
        return await leases.renew(self._ring, lease)

    async def revoke(self, lease: int) -> None:
        """See the port."""
        await leases.revoke(self._ring, lease)

    async def members(self) -> list[Member]:
        """See the port."""
        members = await asyncio.gather(*(self._member(endpoint) for endpoint in self._ring.endpoints))
        return list(members)

    async def close(self) -> None:
        """See the port."""
        await self._committer.close()
        await self._ring.close()

    async def _beat(self) -> int:
        outcome = await self.commit(_HEARTBEAT)
        assert isinstance(outcome, Committed), "a transaction without guards cannot conflict"
        return outcome.revision

    async def _member(self, endpoint: Endpoint) -> Member:
        try:
            status = await self._ring.call(lambda e: e.maintenance.Status, pb.StatusRequest(), endpoint=endpoint)
            alarms = await self._ring.call(
                lambda e: e.maintenance.Alarm, pb.AlarmRequest(action=pb.AlarmRequest.GET), endpoint=endpoint
            )
        except (Refused, Unknown, StoreUnavailable) as failure:
            return Member(endpoint.name, False, problem=endpoint.problem or str(failure))
        raised = sorted({pb.AlarmType.Name(alarm.alarm) for alarm in alarms.alarms})
        problems = [f"alarm {name}" for name in raised]
        if not status.leader:
            problems.append("it sees no leader: fewer than half of the members reach each other")
        problems = problems or list(status.errors)
        return Member(endpoint.name, not problems, status.version, "; ".join(problems), status.dbSize)
