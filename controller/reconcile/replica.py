"""One controller replica: what it knows, what it commits, which sessions it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from controller.fleet import Fleet, Session
from controller.plan.addresses import Cursors
from controller.plan.desired import Made, desired
from controller.plan.hosts import register
from controller.reconcile.commit import Committer, Planned
from controller.reconcile.follower import Follower
from controller.reconcile.hostaccess import HostAccess
from controller.reconcile.keeping import keep
from controller.reconcile.leases import ReplicaLease, RestLeases
from controller.reconcile.orphans import Orphans
from controller.reconcile.releasing import Releaser, Upkeep
from controller.reconcile.settling import Settling
from controller.reconcile.stocking import Stocking
from controller.reconcile.subscription import Subscription
from controller.state import codec, keys
from controller.state.records import EpochRecord
from controller.state.snapshot import Dirty, Snapshot
from controller.state.txn import Absent, Delete, Put, Txn, Unchanged
from controller.store.port import Store
from trunkline import log
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import Reason, StoreUnavailable, TrunklineError
from trunkline.model import HostFacts

FOUNDED_SECONDS = 5.0
"""How long a host waits at most for a replica that is just starting."""

_log = log.get("replica")


class Replica:
    """Owns the snapshot, the sessions and the background work of one controller process."""

    def __init__(self, name: str, store: Store, clock: Clock, new_epoch: Callable[[], str]) -> None:
        self.name = name
        self.store = store
        self.clock = clock
        self.fleet = Fleet()
        self.follower = Follower(store, clock, Backoff(0.05, 2.0))
        self.committer = Committer(store, self.follower)
        self.leases = RestLeases(store, clock)
        self.cursors = Cursors()
        self.releaser = Releaser(store, self.follower, self.leases, clock)
        self._lease = ReplicaLease(store, clock, Backoff(0.05, 2.0), self._lost_lease)
        self._upkeep = Upkeep(self.releaser, self.follower, clock)
        self._access = HostAccess(self.releaser, self.follower, self.cursors, clock)
        self._stocking = Stocking(store, self.follower, self.fleet, self.cursors, clock)
        self._orphans = Orphans(name, store, self.follower, self.fleet, clock)
        self._new_epoch = new_epoch
        self._founded = asyncio.Event()
        self._fenced = asyncio.Event()
        self._fence: TrunklineError | None = None
        self._revision = 0
        self._settlings: dict[str, Settling] = {}
        self._subscriptions: set[Subscription] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.follower.listen(self._changed)
        self.follower.listen(self._upkeep.changed)
        self.follower.listen(self._access.changed)
        self.follower.listen(self._stocking.changed)

    def start(self) -> None:
        """Begin to follow the store; returns at once, whether it answers or not."""
        background = (self._lease.run, self._upkeep.run, self._access.run, self._orphans.run, self._found_epoch)
        for work in (self._follow, self._stocking.run, *background):
            self._tasks.append(asyncio.create_task(keep(work.__qualname__, work, self.clock)))

    def end_streams(self) -> None:
        """End sessions and watches: this replica stops, and their callers go on with another."""
        self._end_streams(
            TrunklineError(
                Reason.CONTROLLER_UNREACHABLE, f"controller {self.name} stops", "ask again, or another controller"
            )
        )

    def _end_streams(self, error: TrunklineError) -> None:
        self.fleet.end_all(error)
        for subscription in self._subscriptions:
            subscription.close(error)

    async def _follow(self) -> None:
        try:
            await self.follower.run()
        except TrunklineError as error:
            self._fence = error
            self._end_streams(error)
            self._fenced.set()

    async def fenced(self) -> TrunklineError:
        """Return once another process has taken this replica's name over, with the error that says so: this one can
        write nothing any more, its sessions and watches are ended, and it should."""
        await self._fenced.wait()
        assert self._fence is not None
        return self._fence

    async def stop(self) -> None:
        """End the background work and give the lease back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._lease.end()

    @property
    def snapshot(self) -> Snapshot:
        """What is known now; StoreUnavailable until the store was read once."""
        return self.follower.snapshot

    @property
    def level(self) -> bool:
        """The store answers, the snapshot follows it, and no other process has taken this replica's name over."""
        return self._fence is None and self.follower.level

    async def reading(self) -> tuple[Snapshot, float]:
        """A snapshot for a reader and its age in seconds: 0 when it covers all that was acknowledged before the
        call. With the store away the last one known is given, since knowing it is better than knowing nothing."""
        if self.level:
            try:
                return await self.committer.fresh(), 0.0
            except StoreUnavailable:
                pass
        return await self.follower.loaded(), self.follower.age

    @contextmanager
    def subscribed(self) -> Iterator[Subscription]:
        """A subscription that collects from now on."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def _found_epoch(self) -> None:
        """Give the history its id, once for all replicas."""
        backoff = Backoff(0.05, 2.0)
        while True:
            try:
                await self.committer.commit(self._plan_epoch)
            except TrunklineError as error:
                _log.debug("epoch not founded yet", problem=error.message)
                await self.clock.sleep(0.05 + backoff.next())
            else:
                self._founded.set()
                return

    def _plan_epoch(self, snapshot: Snapshot) -> Planned[None]:
        if snapshot.epoch:
            return Planned(None, None)
        record = codec.encode(EpochRecord(self._new_epoch()))
        return Planned(Txn((Absent(keys.EPOCH),), (Put(keys.EPOCH, record),)), None)

    def _plan_renewal(self, snapshot: Snapshot, lost: str) -> Planned[None]:
        if snapshot.epoch != lost:
            return Planned(None, None)  # another host has shown it already
        record = codec.encode(EpochRecord(self._new_epoch()))
        guard = Unchanged(keys.EPOCH, snapshot.mod_revision(keys.EPOCH))
        return Planned(Txn((guard,), (Put(keys.EPOCH, record),)), None)

    def _changed(self, dirty: Dirty, flapped: frozenset[str]) -> None:
        self._check_order()
        self.fleet.poke(dirty.desired)
        for host in dirty.hosts:
            if (settling := self._settlings.get(host)) is not None:
                settling.check_session()
        for subscription in self._subscriptions:
            subscription.add(dirty, flapped)

    def _check_order(self) -> None:
        """A store whose revision went back was replaced by an older copy of itself: no session of before may go on
        as if nothing had happened. Its agent shows what it has seen when it comes back."""
        revision, before = self.snapshot.revision, self._revision
        self._revision = revision
        if revision < before:
            error = TrunklineError(
                Reason.STORE_BEHIND,
                f"the store went back from revision {before} to {revision}: it lost data",
                "the hosts remove nothing until `trunkline-agent accept-epoch` there; or bring its newer data back",
            )
            _log.error("store behind", problem=error.message)
            self.fleet.end_all(error)

    def _lost_lease(self) -> None:
        # The store may already show these hosts to others; acting on for them would make two writers (law 8).
        self.fleet.end_all(StoreUnavailable(f"controller {self.name} lost its lease", "the agent connects again"))

    @asynccontextmanager
    async def session(self, facts: HostFacts) -> AsyncIterator[tuple[Session, Settling]]:
        """Register a host and hold its session: its record is written on entry and removed on leaving.

        Raises what `register` refuses, and STORE_UNAVAILABLE while this replica holds no lease.
        """
        await self._check_history(facts)
        # New hosts all want the lowest free number; known ones want nothing of each other.
        known = facts.host in self.snapshot.hosts
        commit = self.committer.commit if known else self.committer.commit_in_turn
        warnings, number = await commit(lambda snapshot: self._plan_session(snapshot, facts))
        await self.follower.reached(number)
        host = facts.host
        made = Made()
        session = Session(host, number, lambda: desired(self.snapshot, host, made), self.fleet.budget, made.forget)
        settling = Settling(session, self.store, self.follower, self.releaser, self.clock)
        self.fleet.open(session)
        if self.fleet.get(host) is session:
            self._settlings[host] = settling
        work = asyncio.create_task(keep("settling", settling.run, self.clock))
        _log.info("session opened", host=host, session=number, warnings=warnings)
        try:
            yield session, settling
        finally:
            work.cancel()
            self.fleet.close(session)
            if self._settlings.get(host) is settling:
                del self._settlings[host]
            _log.info("session closed", host=host, session=number)
            await self._close_record(host, number)

    def _plan_session(self, snapshot: Snapshot, facts: HostFacts) -> Planned[tuple[str, ...]]:
        plan = register(snapshot, facts, self.name, self._lease.current(), self.clock.now_ms())
        return Planned(plan.txn, plan.warnings)

    async def _close_record(self, host: str, number: int) -> None:
        """Show the host as gone at once; if the store is away, a later look for orphans does, or the lease."""
        key = keys.session(host)
        try:
            await asyncio.shield(self.store.commit(Txn((Unchanged(key, number),), (Delete(key),))))
        except TrunklineError as error:
            _log.info("session record left for later", host=host, problem=error.message)

    async def _check_history(self, facts: HostFacts) -> None:
        """A host that has worked towards a revision of this history that the store has not reached: the store lost
        data, as by a restored copy. The history gets a new id, so that no host removes what the store forgot before
        an operator has looked."""
        try:
            async with asyncio.timeout(FOUNDED_SECONDS):
                await self._founded.wait()
        except TimeoutError:
            raise StoreUnavailable("the store has not been read yet") from None
        snapshot = await self.committer.fresh()
        if facts.epoch and facts.epoch == snapshot.epoch and facts.revision > snapshot.revision:
            _, revision = await self.committer.commit(lambda snapshot: self._plan_renewal(snapshot, facts.epoch))
            await self.follower.reached(revision)
            _log.error(
                "history renewed: the store lost data",
                host=facts.host,
                seen=facts.revision,
                store=snapshot.revision,
                was=facts.epoch,
                now=self.snapshot.epoch,
            )
