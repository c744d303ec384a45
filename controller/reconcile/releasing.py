"""Steps that follow from what is in the store: the last ones of detaching, of deleting a network and of forgetting
a host. Each looks at the snapshot afresh, so a replica that died between two steps is finished by any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from controller.plan.attachments import finish_detach, lease_seconds
from controller.plan.deletion import finish_delete
from controller.plan.hosts import forget, forget_seconds
from controller.reconcile.commit import TRIES
from controller.reconcile.follower import Follower
from controller.reconcile.leases import RestLeases
from controller.state.snapshot import Dirty, Snapshot
from controller.state.txn import Txn
from controller.store.port import Conflict, Reload, Store
from trunkline import log
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import Reason, TrunklineError

LOOK_SECONDS = 30.0
"""How often the unfinished is looked at with nothing having changed."""

_log = log.get("releasing")


@dataclass
class LetGo:
    """What a forgotten host held."""

    attachments: set[str] = field(default_factory=set)
    addresses: set[tuple[str, str]] = field(default_factory=set)

    def add(self, snapshot: Snapshot, host: str) -> None:
        """Note what the host holds as of a snapshot."""
        for name, stored in snapshot.attachments.get(host, {}).items():
            self.attachments.add(f"{host}/{name}")
            self.addresses.update((stored.value.network, address) for address in stored.value.addresses)
        self.addresses.update((network, str(address)) for network, address in snapshot.given.get(host, ()))


class Releaser:
    """Commits last steps. Every method returns False when it has to be tried again on a newer snapshot."""

    def __init__(self, store: Store, follower: Follower, leases: RestLeases, clock: Clock) -> None:
        self._store = store
        self._follower = follower
        self._leases = leases
        self._clock = clock
        self._at_work: set[str] = set()

    async def finish_detach(self, host: str, name: str, observed_revision: int) -> bool:
        """Free the address of an attachment that was observed gone, and forget it; the address rests."""
        stored = self._follower.snapshot.attachment(host, name)
        if stored is None:
            return True
        seconds = lease_seconds(self._follower.snapshot, stored.value)
        lease = await self._leases.lease(stored.value.network, seconds) if seconds else 0
        snapshot = self._follower.snapshot
        if (again := snapshot.attachment(host, name)) is None or again.mod_revision != stored.mod_revision:
            return False
        if lease_seconds(snapshot, again.value) > seconds:
            return False  # rest or hold grew while the lease was granted, which may end too early now
        txn = finish_detach(snapshot, host, name, self._clock.now_ms(), lease, observed_revision)
        if txn is None:
            return True
        done = await self.commit(txn)
        if done:
            _log.info("detached", host=host, attachment=name, network=stored.value.network)
        return done

    async def rest_leases(self, wanting: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        """By network, a lease that lives at least the seconds wanted, and those."""
        leases = await asyncio.gather(*(self._leases.lease(name, seconds) for name, seconds in wanting.items()))
        return {name: (lease, wanting[name]) for name, lease in zip(wanting, leases, strict=True)}

    def drop_leases(self) -> None:
        """The store has refused one of the leases: others are granted from now on."""
        self._leases.drop()

    async def finish_delete(self, network: str) -> bool:
        """Remove what is left of a deleting network, once each of its hosts was observed clean of it."""
        txns = finish_delete(self._follower.snapshot, network)
        if txns is None:
            return True
        if not await self._commit_all(txns):
            return False
        _log.info("network gone", network=network)
        return True

    async def forget(self, host: str) -> LetGo:
        """Let a host go with everything it held, and say what that was. Raises HOST_NOT_FOUND, HOST_CONNECTED,
        STORE_CONTENTION. What is interrupted is taken up by any replica's upkeep."""
        self._at_work.add(host)
        try:
            return await self._forget(host)
        finally:
            self._at_work.discard(host)

    async def _forget(self, host: str) -> LetGo:
        let_go = LetGo()
        for turn in range(TRIES):
            snapshot = self._follower.snapshot
            if turn and host not in snapshot.hosts:
                return let_go
            seconds = forget_seconds(snapshot, host)
            lease = await self._leases.lease("", seconds) if seconds else 0
            snapshot = self._follower.snapshot
            if forget_seconds(snapshot, host) > seconds or (turn and host not in snapshot.hosts):
                continue
            plan = forget(snapshot, host, self._clock.now_ms(), lease)
            let_go.add(snapshot, host)
            if await self._commit_all(plan.steps) and plan.finished:
                _log.info("host forgotten", host=host, attachments=len(let_go.attachments))
                return let_go
        raise TrunklineError(Reason.STORE_CONTENTION, f"host {host} keeps changing while it is forgotten", "try again")

    async def resume_forget(self, host: str) -> bool:
        """Go on with a host that somebody began to forget, unless this replica is at it already."""
        if host in self._at_work or host not in self._follower.snapshot.hosts:
            return True
        await self.forget(host)
        return True

    async def _commit_all(self, txns: Iterable[Txn]) -> bool:
        for txn in txns:
            if not await self.commit(txn):
                return False
        return True

    async def commit(self, txn: Txn) -> bool:
        """Commit one step and wait until the snapshot shows it; False after a lost race, once it shows that."""
        try:
            outcome = await self._store.commit(txn)
        except Reload:
            # The lease that the step hangs an address on is gone; the next try is granted another.
            self._leases.drop()
            return False
        await self._follower.reached(outcome.revision)
        return not isinstance(outcome, Conflict)


class Upkeep:
    """Looks for what is unfinished after every change that may let it go on, and every half minute."""

    def __init__(self, releaser: Releaser, follower: Follower, clock: Clock) -> None:
        self._releaser = releaser
        self._follower = follower
        self._clock = clock
        self._backoff = Backoff(0.1, 5.0)
        self._wake = asyncio.Event()
        self._deleting: set[str] = set()
        self._forgetting: set[str] = set()

    def changed(self, dirty: Dirty, _flapped: frozenset[str]) -> None:
        """Listener of the follower: keeps track of what is unfinished, so that other changes cost nothing."""
        snapshot = self._follower.snapshot
        for name in dirty.networks:
            network = snapshot.networks.get(name)
            _mark(self._deleting, name, network is not None and network.value.deleting)
        for name in dirty.hosts:
            host = snapshot.hosts.get(name)
            _mark(self._forgetting, name, host is not None and host.value.forgetting)
        if self._deleting or self._forgetting:
            self._wake.set()

    async def run(self) -> None:
        """Finish what can be finished, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                done = await self._look()
            except TrunklineError as error:
                _log.warning("upkeep failed", reason=error.reason.name, problem=error.message)
                done = False
            if done:
                self._backoff.reset()
            else:
                self._wake.set()
                await self._clock.sleep(self._backoff.next())

    async def _look(self) -> bool:
        if not self._follower.level:
            return True
        done = True
        for name in sorted(self._deleting):
            done &= await self._attempt(self._releaser.finish_delete, name)
        for name in sorted(self._forgetting):
            done &= await self._attempt(self._releaser.resume_forget, name)
        return done

    async def _attempt(self, step: Callable[[str], Awaitable[bool]], name: str) -> bool:
        """One object that cannot be finished does not keep the others from it."""
        try:
            return await step(name)
        except TrunklineError as error:
            _log.warning("upkeep failed", object=name, reason=error.reason.name, problem=error.message)
            return False


def _mark(names: set[str], name: str, unfinished: bool) -> None:
    if unfinished:
        names.add(name)
    else:
        names.discard(name)
