"""Hosts that hand out addresses by themselves, planners on stale snapshots, messages that are late, lost or repeated:
no address is ever on two hosts, what a host has is on its account, and at rest nothing has leaked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from fakes.applier import Applier
from fakes.ledger import At, Ledger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.plan.addresses import Cursors
from controller.plan.attachments import attach, detach, finish_detach, lease_seconds
from controller.plan.deletion import delete_network, finish_delete
from controller.plan.desired import desired
from controller.plan.grants import Ask, GrantPlan, grant
from controller.plan.hosts import drain, forget, forget_seconds, register
from controller.plan.invariants import violations
from controller.plan.networks import create_network, update_network
from controller.plan.requests import AttachmentRequest, NetworkRequest, NetworkUpdate
from controller.plan.reservations import release, reserve
from controller.plan.settle import settle
from controller.plan.stock import stock_steps, stocked_hosts
from controller.state import codec, keys
from controller.state.records import AddressKind, EpochRecord
from controller.state.snapshot import Snapshot
from controller.state.txn import Txn
from trunkline.errors import TrunklineError
from trunkline.ids import IPAddress, parse_address
from trunkline.model import (
    AttachmentObservation,
    Desired,
    EndpointState,
    HostFacts,
    HostUplink,
    NetworkObservation,
    Observation,
    Phase,
    Prefix,
    Target,
    TargetKind,
)

HOSTS = ("h1", "h2", "h3")
NETWORKS = {"red": ("20.0.0.0/29",), "dual": ("20.0.1.0/29", "fd00::/125")}
OWNERS = ("web", "db", "shop")
REPLICAS = 2
SESSION_LEASES = 1_000_000
UPLINKS = (HostUplink("default", "eth0", True, True, True, 1500),)


@dataclass
class Replica:
    snapshot: Snapshot = field(default_factory=Snapshot)
    cursors: Cursors = field(default_factory=Cursors)


@dataclass
class Asked:
    """A call under way: what was planned, and the answer once it is written."""

    ask: Ask
    replica: int
    recalled: frozenset[IPAddress] = frozenset()
    answer: tuple[IPAddress, int] | None = None


@dataclass
class Host:
    """An agent with its ledger, its session, and the messages under way."""

    ledger: Ledger = field(default_factory=Ledger)
    session: int = 0
    replica: int = 0
    down: deque[Desired] = field(default_factory=deque)
    up: deque[Observation] = field(default_factory=deque)
    pushed: int = 0
    told: Desired | None = None
    complete: bool = True
    calls: list[Asked] = field(default_factory=list)
    settling: deque[Txn] = field(default_factory=deque)
    containers: int = 0


class World:
    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)
        self.store = Applier()
        self.store.put(keys.EPOCH, codec.encode(EpochRecord("e1")))
        self.truth = Snapshot()
        self.replicas = [Replica() for _ in range(REPLICAS)]
        self.hosts = {name: Host() for name in HOSTS}
        self.now = 1_700_000_000_000
        self.leases: dict[int, int] = {}
        self.next_lease = 1
        self.pending: list[tuple[list[Txn], Callable[[], None]]] = []
        self.granted = 0
        self.kinds: set[tuple[AddressKind, bool]] = set()
        self.see()
        self.follow_all()
        for name in HOSTS:
            self.hello(name)
        for network in NETWORKS:
            self.create(network)
        self.follow_all()

    # The store and time.

    def see(self) -> None:
        self.truth.apply(self.store.changes(self.truth.revision))

    def commit(self, txn: Txn) -> int | None:
        revision = self.store.commit(txn)
        if revision is not None:
            self.see()
            assert violations(self.truth) == []
        return revision

    def submit(self, *txns: Txn | None, done: Callable[[], None] = lambda: None) -> None:
        """Some transactions come late: others are committed in between."""
        known = [txn for txn in txns if txn is not None]
        if known and self.draw.random() < 0.3:
            self.pending.append((known, done))
        elif known and all(self.commit(txn) is not None for txn in known):
            done()

    def late(self) -> None:
        if self.pending:
            txns, done = self.pending.pop(self.draw.randrange(len(self.pending)))
            if all(self.commit(txn) is not None for txn in txns):
                done()

    def lease(self, seconds: int) -> int:
        self.next_lease += 1
        self.leases[self.next_lease] = self.now + seconds * 1000
        return self.next_lease

    def wait(self) -> None:
        self.now += self.draw.choice((1, 10, 40, 120)) * 1000

    def expire(self) -> None:
        due = [lease for lease, until in self.leases.items() if until < self.now]
        if due:
            lease = self.draw.choice(due)
            del self.leases[lease]
            self.store.expire(lease)
            self.see()
            assert violations(self.truth) == []

    def follow(self) -> None:
        snapshot = self.draw.choice(self.replicas).snapshot
        snapshot.apply(self.store.changes(snapshot.revision, snapshot.revision + self.draw.choice((1, 3, 100, 100))))

    def follow_all(self) -> None:
        for replica in self.replicas:
            replica.snapshot.apply(self.store.changes(replica.snapshot.revision))

    # Operators.

    def any(self) -> Snapshot:
        return self.draw.choice(self.replicas).snapshot

    def plan(self, planner: Callable[[Snapshot], Txn | None]) -> None:
        try:
            self.submit(planner(self.any()))
        except TrunklineError:
            return

    def create(self, name: str = "") -> None:
        name = name or self.draw.choice(list(NETWORKS))
        request = NetworkRequest(
            name,
            vlan=7 + list(NETWORKS).index(name),
            prefixes=tuple(Prefix(cidr) for cidr in NETWORKS[name]),
            rest_seconds=self.draw.choice((0, 30)),
            hold_seconds=self.draw.choice((0, 100)),
        )
        self.plan(lambda s: create_network(s, request, self.now).txn)
        self.follow_all()

    def select(self) -> None:
        selector = self.draw.choice(((), (), ("h[12]",)))
        change = NetworkUpdate(self.draw.choice(list(NETWORKS)), host_selector=selector)
        self.plan(lambda s: update_network(s, change).txn)

    def delete(self) -> None:
        self.plan(lambda s: delete_network(s, self.draw.choice(list(NETWORKS))).txn)

    def end_delete(self) -> None:
        for name in NETWORKS:
            self.submit(*(finish_delete(self.any(), name) or ()))

    def promise(self) -> None:
        network, owner = self.draw.choice(list(NETWORKS)), self.draw.choice(OWNERS)
        address = self.draw.choice(("", "", "20.0.0.3"))
        cursors = self.draw.choice(self.replicas).cursors
        self.plan(lambda s: reserve(s, network, owner, address if network == "red" else "", cursors, self.now).txn)

    def unpromise(self) -> None:
        network, owner = self.draw.choice(list(NETWORKS)), self.draw.choice(OWNERS)
        self.plan(lambda s: release(s, network, owner, self.now, self.lease(30)).txn)

    def attach(self) -> None:
        container = Target(TargetKind.CONTAINER, self.draw.choice(OWNERS))
        request = AttachmentRequest(self.draw.choice(HOSTS), self.draw.choice(list(NETWORKS)), container)
        cursors = self.draw.choice(self.replicas).cursors
        self.plan(lambda s: attach(s, request, cursors, self.draw.getrandbits(64), self.now).txn)

    def detach(self) -> None:
        host = self.draw.choice(HOSTS)
        names = list(self.any().attachments.get(host, ()))
        if names:
            self.plan(lambda s: detach(s, host, names[0]).txn)

    def drain(self) -> None:
        self.plan(lambda s: drain(s, self.draw.choice(HOSTS), self.draw.random() < 0.7).txn)

    def forget(self) -> None:
        name = self.draw.choice(HOSTS)
        snapshot = self.any()
        try:
            plan = forget(snapshot, name, self.now, self.lease(forget_seconds(snapshot, name)))
        except TrunklineError:
            return
        marks = not snapshot.hosts[name].value.forgetting

        def done() -> None:
            if marks:  # the operator's word that nothing of it is left
                self.hosts[name] = Host()

        if marks:
            self.submit(*plan.steps, done=done)
        else:
            self.submit(*plan.steps[: self.draw.choice((1, 99))])

    def stock(self) -> None:
        replica = self.draw.choice(self.replicas)
        host, network = self.draw.choice(HOSTS), self.draw.choice(list(NETWORKS))
        crowd = stocked_hosts(replica.snapshot, network)
        for txn in stock_steps(replica.snapshot, host, network, crowd, replica.cursors, self.now):
            self.submit(txn)

    # Hosts.

    def hello(self, name: str = "") -> None:
        name = name or self.draw.choice(HOSTS)
        host, number = self.hosts[name], self.draw.randrange(REPLICAS)
        facts = HostFacts(name, f"machine-{name}", docker="29.0.0", uplinks=UPLINKS)
        self.next_lease += 1
        try:
            txn = register(
                self.replicas[number].snapshot, facts, f"r{number}", SESSION_LEASES + self.next_lease, self.now
            ).txn
        except TrunklineError:
            return
        revision = self.commit(txn)
        if revision is not None:
            host.session, host.replica = revision, number
            host.down.clear()
            host.up.clear()
            host.pushed = 0
            self.follow_all()

    def cut(self, name: str = "") -> None:
        name = name or self.draw.choice(HOSTS)
        entry = self.store.entries.get(keys.session(name))
        if entry is not None:
            self.store.expire(entry.lease)
            self.see()

    def push(self, name: str) -> None:
        """The replica of the session builds a desired state; it is under way for a while."""
        host = self.hosts[name]
        snapshot = self.replicas[host.replica].snapshot
        if host.session and snapshot.revision >= max(host.session, host.pushed):
            told = desired(snapshot, name)
            host.pushed = told.revision
            host.down.append(told)

    def hear(self, name: str) -> None:
        """The host takes a desired state, maybe only the latest, and looks at what is over."""
        host = self.hosts[name]
        if not host.down:
            return
        if self.draw.random() < 0.3:
            while len(host.down) > 1:
                host.down.popleft()
        told = host.down.popleft()
        if host.told is None or told.revision >= host.told.revision:
            host.told = told
            host.ledger.told(told, self.now)

    def age(self, name: str) -> None:
        host = self.hosts[name]
        if host.told is not None:
            host.ledger.let_go(self.now)
            host.ledger.age(self.now, hold=self.draw.random() < 0.2)

    def look(self, name: str) -> None:
        """The host says what it sees; the message is under way for a while."""
        host = self.hosts[name]
        if host.session and host.told is not None:
            host.up.append(self.seen(host, self.draw.random() < 0.9))

    def seen(self, host: Host, complete: bool) -> Observation:
        assert host.told is not None
        told = host.told
        used = {entry.network for entry in host.ledger.entries.values()}
        networks = sorted({network.name for network in told.networks} | used)
        return Observation(
            "e1",
            told.revision,
            tuple(NetworkObservation(name, Phase.READY, docker="READY") for name in networks),
            tuple(
                AttachmentObservation(a.name, Phase.READY, addresses=a.addresses, present=True)
                for a in told.attachments
            ),
            UPLINKS,
            True,
            "29.0.0",
            session=host.session,
            endpoints=host.ledger.endpoints() if complete or self.draw.random() < 0.5 else (),
            endpoints_complete=complete and host.complete,
        )

    def settle(self, name: str) -> None:
        """The replica of the session settles an observation, maybe one it has settled, maybe only the latest. What it
        wrote before was committed by then."""
        host = self.hosts[name]
        while host.settling:
            self.commit(host.settling.popleft())
        if not host.up:
            return
        while len(host.up) > 1 and self.draw.random() < 0.5:
            host.up.popleft()
        observation = host.up[0] if self.draw.random() < 0.2 else host.up.popleft()
        snapshot = self.replicas[host.replica].snapshot
        try:
            found = settle(snapshot, name, observation.session, observation, self.now)
            if found.wanting:
                leases = {network: (self.lease(seconds), seconds) for network, seconds in found.wanting.items()}
                found = settle(snapshot, name, observation.session, observation, self.now, leases)
        except TrunklineError:
            return
        host.settling.extend(found.status)
        for one in found.detached:
            record = snapshot.attachments[name][one].value
            lease = self.lease(lease_seconds(snapshot, record))
            last = finish_detach(snapshot, name, one, self.now, lease, observation.revision)
            if last is not None:
                host.settling.append(last)

    def write(self, name: str) -> None:
        host = self.hosts[name]
        if host.settling:
            self.commit(host.settling.popleft())

    def turn(self, name: str) -> None:
        """A host that hears and is heard without delay."""
        self.follow_all()
        for step in (self.push, self.hear, self.age, self.look, self.settle, self.settle):
            step(name)

    # Containers.

    def start(self, name: str) -> None:
        """A container starts with what the host has for it, else the controller is asked."""
        host = self.hosts[name]
        if host.told is None:
            return
        network = self.draw.choice(list(NETWORKS))
        owner = self.draw.choice((*OWNERS, ""))
        at = host.ledger.free(network, owner)
        if at is not None and self.draw.random() < 0.8:
            self.use(host, at, owner)
            return
        address = self.draw.choice(("", "", "", "20.0.0.3" if network == "red" else "fd00::3"))
        version = 6 if network == "dual" and self.draw.random() < 0.5 else 4
        if (network, address) in host.ledger.entries:
            return
        ask = Ask(name, network, version, address, owner, owner == "shop", self.draw.random() < 0.2)
        host.calls.append(Asked(ask, self.draw.randrange(REPLICAS)))

    def use(self, host: Host, at: At, owner: str) -> None:
        host.containers += 1
        name = self.draw.choice(("", owner or "x", f"c{host.containers}"))
        host.ledger.start(
            at, name, owner, owner == "shop", mac=self.draw.choice(("", f"02:42:00:00:00:{len(owner):02x}"))
        )

    def call(self, name: str) -> None:
        """A call goes on: it is planned on some replica; what is to be awaited is planned again later."""
        host = self.hosts[name]
        if not host.calls:
            return
        call = self.draw.choice(host.calls)
        if call.answer is not None:
            return
        replica = self.replicas[call.replica]
        try:
            plan = grant(replica.snapshot, call.ask, replica.cursors, self.now, call.recalled)
        except TrunklineError:
            if self.draw.random() < 0.2:
                host.calls.remove(call)
            return
        if plan.address is None:
            call.recalled = plan.recalled
            self.submit(plan.txn)
        else:
            self.give(call, plan)

    def give(self, call: Asked, plan: GrantPlan) -> None:
        assert plan.txn is not None
        assert plan.address is not None
        revision = self.commit(plan.txn)
        if revision is not None:
            call.answer = (plan.address, revision)
        else:
            replica = self.replicas[call.replica]
            replica.cursors.jump(call.ask.network, self.draw.getrandbits(16))

    def answered(self, name: str) -> None:
        """An answer arrives, or is lost. One that is older than the desired state in force counts only if the host
        knows the address: it may have let it go since."""
        host = self.hosts[name]
        ready = [call for call in host.calls if call.answer is not None]
        if not ready:
            return
        call = ready[0]
        host.calls.remove(call)
        assert call.answer is not None
        at = (call.ask.network, str(call.answer[0]))
        known = host.ledger.entries.get(at)
        if self.draw.random() < 0.2 or (known is None and call.answer[1] <= host.ledger.floor):
            return
        if known is None or known.state is EndpointState.STOCK:
            self.granted += 1
            self.use(host, at, call.ask.owner)

    def show(self, name: str) -> None:
        """Docker shows who has an address; one container may have one of each family."""
        host = self.hosts[name]
        for at, entry in host.ledger.entries.items():
            if entry.state is EndpointState.USED and self.draw.random() < 0.5:
                container = entry.container or self.draw.choice(("a", "b", entry.owner or "c"))
                host.ledger.entries[at] = replace(
                    entry, present=True, container=container, container_id=f"id-{container}"
                )

    def stop(self, name: str) -> None:
        host = self.hosts[name]
        used = [at for at, entry in host.ledger.entries.items() if entry.state is EndpointState.USED]
        if used:
            host.ledger.stop(self.draw.choice(used), self.now)

    def lose(self, name: str) -> None:
        """The journal is lost: what Docker lists is found again, the rest is gone."""
        host = self.hosts[name]
        host.ledger.entries = {
            at: entry for at, entry in host.ledger.entries.items() if entry.state is EndpointState.USED
        }
        host.calls.clear()

    # What must hold in the world.

    def check(self) -> None:
        for held in self.truth.addresses.values():
            self.kinds.update((stored.value.kind, stored.value.promised) for stored in held.values())
        seen: dict[At, str] = {}
        for name, host in self.hosts.items():
            for at in host.ledger.entries:
                other = seen.setdefault(at, name)
                assert other == name, f"{at} is on {other} and {name}"
                stored = self.truth.addresses.get(at[0], {}).get(parse_address(at[1]))
                assert stored is not None, f"{name} has {at}, which has no record"
                record = stored.value
                on_account = record.kind in (AddressKind.STOCK, AddressKind.KEPT, AddressKind.ATTACHMENT)
                assert on_account, f"{name} has {at}, which is {record}"
                assert record.host == name, f"{name} has {at}, which is {record}"
                assert not stored.lease

    # An end at which all is done.

    def rest(self) -> None:
        """All that is under way arrives, containers stop, times pass, and hosts are told until nothing changes."""
        while self.pending:
            self.late()
        for name in HOSTS:
            self.finish_forgetting(name)
            self.cut(name)
            self.follow_all()
            self.hello(name)
            self.commit_all(drain(self.truth, name).txn)
            host = self.hosts[name]
            host.calls.clear()
            for at, entry in list(host.ledger.entries.items()):
                if entry.state is EndpointState.USED:
                    host.ledger.stop(at, self.now)
        self.now += 1_000_000
        for _ in range(12):
            before = self.store.revision
            for name in HOSTS:
                self.round(name)
            if self.store.revision == before:
                break
        else:
            raise AssertionError("it does not come to rest")

    def commit_all(self, *txns: Txn | None) -> None:
        for txn in txns:
            if txn is not None:
                assert self.commit(txn) is not None

    def finish_forgetting(self, name: str) -> None:
        while name in self.truth.hosts and self.truth.hosts[name].value.forgetting:
            plan = forget(self.truth, name, self.now, self.lease(forget_seconds(self.truth, name)))
            self.commit_all(*plan.steps)
            self.hosts[name] = Host()

    def round(self, name: str) -> None:
        self.follow_all()
        for network in NETWORKS:
            self.commit_all(*stock_steps(self.truth, name, network, 0, Cursors(), self.now))
            for txn in finish_delete(self.truth, network) or ():
                self.commit_all(txn)
        for one in list(self.truth.attachments.get(name, ())):
            if self.truth.attachments[name][one].value.origin == "trunkline":
                self.commit_all(detach(self.truth, name, one).txn)
        self.follow_all()
        host = self.hosts[name]
        fresh = desired(self.truth, name)
        if host.told is None or replace(fresh, revision=0) != replace(host.told, revision=0) or self.unsettled(name):
            host.down.append(fresh)
            while host.down:
                self.hear(name)
        host.ledger.let_go(self.now)
        host.ledger.age(self.now, hold=True)
        host.up.clear()
        host.up.append(self.seen(host, True))
        while host.up or host.settling:
            self.settle(name)
        self.follow_all()
        self.expire()

    def unsettled(self, name: str) -> bool:
        """Something of the host was written after what it was told."""
        host = self.hosts[name]
        assert host.told is not None
        given = [self.truth.addresses[at[0]][at[1]].mod_revision for at in self.truth.given.get(name, ())]
        held = [stored.mod_revision for stored in self.truth.attachments.get(name, {}).values()]
        gone = [network.mod_revision for network in self.truth.networks.values() if network.value.deleting]
        return any(revision > host.told.revision for revision in (*given, *held, *gone))


WEIGHTS = {
    **dict.fromkeys(("follow", "push", "hear", "look", "settle", "start", "call", "answered", "turn"), 24),
    **dict.fromkeys(("write", "age", "show", "stop", "stock", "late", "wait"), 12),
    **dict.fromkeys(("expire", "promise", "unpromise", "attach", "detach", "create", "end_delete", "hello"), 4),
    **dict.fromkeys(("cut", "drain", "lose", "select"), 2),
    **dict.fromkeys(("delete", "forget"), 1),
}
STEPS = tuple(name for name, weight in WEIGHTS.items() for _ in range(weight))
OF_A_HOST = {
    "turn",
    "push",
    "hear",
    "look",
    "settle",
    "write",
    "age",
    "start",
    "call",
    "answered",
    "show",
    "stop",
    "lose",
}


def live(seed: int, steps: int) -> World:
    world = World(seed)
    for _ in range(steps):
        name = world.draw.choice(STEPS)
        step = getattr(world, name)
        if name in OF_A_HOST:
            step(world.draw.choice(HOSTS))
        else:
            step()
        world.check()
    return world


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_plan_native_laws_hold_through_long_lives(seed: int) -> None:
    world = live(seed, 1000)
    world.rest()
    world.check()
    left = {
        (network, str(address)): stored.value
        for network, held in world.truth.addresses.items()
        for address, stored in held.items()
        if stored.value.kind is not AddressKind.RESERVED and not stored.lease
    }
    assert left == {}, "at rest nothing is anybody's but what is promised"
    assert all(not host.ledger.entries for host in world.hosts.values())


def test_plan_native_laws_are_about_something() -> None:
    """The lives do what they are meant to: most things happen in most of them."""
    kinds: set[tuple[AddressKind, bool]] = set()
    granted = 0
    for seed in range(10):
        world = live(seed, 1000)
        granted += world.granted
        kinds |= world.kinds
    assert granted > 20
    assert {kind for kind, _ in kinds} >= set(AddressKind) - {AddressKind.CONFLICT}
    assert any(promised for _, promised in kinds)
