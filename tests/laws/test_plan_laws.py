"""Many planners on stale snapshots, hosts that work towards what they are told, and one store: the laws hold after
every commit, and no two hosts ever have one address in their kernels."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fakes.applier import Applier
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.plan.addresses import Cursors
from controller.plan.attachments import attach, detach, finish_detach, lease_seconds
from controller.plan.deletion import delete_network, finish_delete
from controller.plan.desired import Made, desired
from controller.plan.hosts import drain, forget, forget_seconds, register
from controller.plan.invariants import violations
from controller.plan.networks import create_network, update_network
from controller.plan.requests import AttachmentRequest, NetworkRequest, NetworkUpdate, PrefixChange
from controller.plan.settle import settle
from controller.plan.uplinks import set_uplink
from controller.state import codec, keys
from controller.state.entry import Entry
from controller.state.records import EpochRecord
from controller.state.snapshot import Snapshot
from controller.state.txn import Put, Txn
from trunkline.errors import Refusal
from trunkline.model import (
    AttachmentObservation,
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
NETWORKS = ("red", "green", "blue")
TARGETS = ("web", "db")
CIDRS = ("20.0.0.0/29", "20.0.0.4/30", "20.0.1.0/29", "fd00::/125", "fd00:1::/126")
REPLICAS = 3
SESSION_LEASES = 1_000_000

Entries = Mapping[str, Entry]

replicas = st.integers(0, REPLICAS - 1)
hosts = st.sampled_from(HOSTS)
networks = st.sampled_from(NETWORKS)
targets = st.sampled_from(TARGETS)


@dataclass
class Replica:
    snapshot: Snapshot = field(default_factory=Snapshot)
    cursors: Cursors = field(default_factory=Cursors)


@dataclass
class Agent:
    """A host's kernel, and what its agent was told last."""

    revision: int = 0
    session: int = 0
    replica: int = 0
    networks: set[str] = field(default_factory=set)
    attachments: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    """Attachments that were told of and whose container was not there."""
    destroyed: set[str] = field(default_factory=set)
    """Containers that do not exist, whatever the operator may think."""
    made: Made = field(default_factory=Made)


@dataclass
class Pending:
    txns: list[Txn]
    committed: Callable[[int], None] = lambda revision: None
    observed: int = 0
    session: int = 0


class Fabric(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = Applier()
        self.store.put(keys.EPOCH, codec.encode(EpochRecord("e1")))
        self.truth = Snapshot()
        self.truth.replace(self.store.listing())
        self.replicas = [Replica() for _ in range(REPLICAS)]
        for replica in self.replicas:
            replica.snapshot.replace(self.store.listing())
        self.agents = {host: Agent() for host in HOSTS}
        self.now = 1_700_000_000_000
        self.leases: dict[int, int] = {}
        self.next_lease = 1
        self.pending: list[Pending] = []

    # The store and time.

    def lease(self, seconds: int) -> int:
        self.next_lease += 1
        self.leases[self.next_lease] = self.now + seconds * 1000
        return self.next_lease

    def submit(self, pending: Pending, later: bool) -> None:
        if later:
            self.pending.append(pending)
        else:
            self.commit(pending)

    def commit(self, pending: Pending) -> None:
        for txn in pending.txns:
            before = dict(self.store.entries)
            revision = self.store.commit(txn)
            if revision is None:
                return
            self.truth.apply(self.store.changes(self.truth.revision))
            broken = violations(self.truth)
            assert not broken, broken
            for op in txn.ops:
                if isinstance(op, Put):
                    self.judge(op, before, pending)
            pending.committed(revision)

    def judge(self, op: Put, before: Entries, pending: Pending) -> None:
        value = json.loads(op.value)
        if op.key.startswith(keys.ADDRESSES) and value["kind"] == "attachment" and op.key in before:
            old = json.loads(before[op.key].value)
            assert old["kind"] == "resting", f"{op.key} was taken from {old}"
            same = (old["host"], old["owner"]) == (value["host"], value["owner"])
            assert same or old["rest_until_ms"] <= self.now, f"{op.key} was handed out while it rested"
        if op.key.startswith(keys.ADDRESSES) and value["kind"] == "resting":
            self.judge_rest(op.key, value, before)
        if op.key.startswith(keys.STATUS_ATTACHMENTS) and value["phase"] == "ready":
            _, _, host, name = op.key.split("/", 3)
            assert self.store.entries[keys.session(host)].mod_revision == pending.session
            assert self.store.entries[keys.attachment(host, name)].mod_revision <= pending.observed

    def judge_rest(self, key: str, value: dict[str, Any], before: Entries) -> None:
        """Held for an owner that may come back; not for one whose container was last seen to be destroyed."""
        old, network = json.loads(before[key].value), self.truth.networks[key.split("/")[1]].value
        seen = before.get(keys.attachment_status(old["host"], old["holder"]))
        destroyed = seen is not None and json.loads(seen.value).get("reason") == "CONTAINER_NOT_FOUND"
        held = network.rest_seconds if destroyed else max(network.rest_seconds, network.hold_seconds)
        assert value["rest_until_ms"] - value["since_ms"] == network.rest_seconds * 1000
        assert value["hold_until_ms"] - value["since_ms"] == held * 1000

    @rule(which=st.integers(0, 7))
    def late_commit(self, which: int) -> None:
        if self.pending:
            self.commit(self.pending.pop(which % len(self.pending)))

    @rule(replica=replicas, steps=st.integers(1, 40))
    def follow(self, replica: int, steps: int) -> None:
        snapshot = self.replicas[replica].snapshot
        snapshot.apply(self.store.changes(snapshot.revision, snapshot.revision + steps))

    @rule(seconds=st.sampled_from((1, 20, 200)))
    def wait(self, seconds: int) -> None:
        self.now += seconds * 1000

    @rule(which=st.integers(0, 50))
    def expire(self, which: int) -> None:
        due = [lease for lease, until in self.leases.items() if until < self.now]
        if due:
            self.store.expire(due[which % len(due)])
            self.truth.apply(self.store.changes(self.truth.revision))

    # What operators ask.

    @rule(replica=replicas, ranges=st.sampled_from((((100, 102),), ((100, 101), (300, 301)), ())), later=st.booleans())
    def set_uplink(self, replica: int, ranges: tuple[tuple[int, int], ...], later: bool) -> None:
        self.plan(lambda s: set_uplink(s, "default", ranges).txn, replica, later)

    @rule(
        replica=replicas,
        name=networks,
        vlan=st.sampled_from((None, None, 100, 101, 7)),
        cidrs=st.lists(st.sampled_from(CIDRS), max_size=2, unique=True),
        overlap=st.booleans(),
        rest=st.sampled_from((0, 30)),
        hold=st.sampled_from((0, 100)),
        selector=st.sampled_from(((), ("h[12]",))),
        later=st.booleans(),
    )
    def create(
        self,
        replica: int,
        name: str,
        vlan: int | None,
        cidrs: Sequence[str],
        overlap: bool,
        rest: int,
        hold: int,
        selector: tuple[str, ...],
        later: bool,
    ) -> None:
        request = NetworkRequest(
            name,
            vlan=vlan,
            prefixes=tuple(Prefix(cidr) for cidr in cidrs),
            overlap=overlap,
            rest_seconds=rest,
            hold_seconds=hold,
            host_selector=selector,
        )
        self.plan(lambda s: create_network(s, request, self.now).txn, replica, later)

    @rule(replica=replicas, name=networks, what=st.integers(0, 3), later=st.booleans())
    def update(self, replica: int, name: str, what: int, later: bool) -> None:
        stored = self.replicas[replica].snapshot.networks.get(name)
        if stored is None or not stored.value.prefixes:
            return
        cidr = stored.value.prefixes[0].cidr
        first = cidr.split("/")[0]
        last = first[:-1] + str(int(first[-1]) + 2) if first[-1].isdigit() else first + "2"
        changes = (
            NetworkUpdate(name, (PrefixChange(cidr, excludes=(last,)),)),
            NetworkUpdate(name, (PrefixChange(cidr, excludes=()),)),
            NetworkUpdate(name, (PrefixChange(cidr, gateway=last),)),
            NetworkUpdate(name, host_selector=("h1",)),
        )
        self.plan(lambda s: update_network(s, changes[what]).txn, replica, later)

    @rule(replica=replicas, name=networks, later=st.booleans())
    def delete(self, replica: int, name: str, later: bool) -> None:
        self.plan(lambda s: delete_network(s, name).txn, replica, later)

    @rule(replica=replicas, name=networks, later=st.booleans())
    def end_delete(self, replica: int, name: str, later: bool) -> None:
        txns = finish_delete(self.replicas[replica].snapshot, name)
        if txns is not None:
            self.submit(Pending(list(txns)), later)

    @rule(
        replica=replicas,
        host=hosts,
        network=networks,
        container=targets,
        static=st.sampled_from(("", "", "", "20.0.0.5", "fd00::1")),
        no_ip=st.booleans(),
        mac=st.sampled_from(("", "", "", "02:01:14:00:00:05", "02:01:14:00:00:01", "06:00:00:00:00:01")),
        owner=st.sampled_from(("", "", "shared")),
        draw=st.integers(0, 2**64 - 1),
        later=st.booleans(),
    )
    def attach(
        self,
        replica: int,
        host: str,
        network: str,
        container: str,
        static: str,
        no_ip: bool,
        mac: str,
        owner: str,
        draw: int,
        later: bool,
    ) -> None:
        request = AttachmentRequest(
            host,
            network,
            Target(TargetKind.CONTAINER, container),
            addresses=(static,) if static and not no_ip else (),
            no_ip=no_ip and not static,
            mac=mac,
            owner=owner,
        )
        cursors = self.replicas[replica].cursors
        self.plan(lambda s: attach(s, request, cursors, draw, self.now).txn, replica, later)

    @rule(replica=replicas, network=networks, draw=st.integers(0, 5000))
    def jump(self, replica: int, network: str, draw: int) -> None:
        self.replicas[replica].cursors.jump(network, draw)

    @rule(replica=replicas, host=hosts, which=st.integers(0, 5), later=st.booleans())
    def detach(self, replica: int, host: str, which: int, later: bool) -> None:
        names = sorted(self.replicas[replica].snapshot.attachments.get(host, ()))
        if names:
            self.plan(lambda s: detach(s, host, names[which % len(names)]).txn, replica, later)

    @rule(replica=replicas, host=hosts, undo=st.booleans(), later=st.booleans())
    def drain(self, replica: int, host: str, undo: bool, later: bool) -> None:
        self.plan(lambda s: drain(s, host, undo).txn, replica, later)

    @rule(replica=replicas, host=hosts, stop_after=st.integers(0, 9), later=st.booleans())
    def forget(self, replica: int, host: str, stop_after: int, later: bool) -> None:
        """Half way at times. That the operator forgets a host is the word that nothing of it is left."""
        snapshot = self.replicas[replica].snapshot
        lease = self.lease(forget_seconds(snapshot, host))
        try:
            plan = forget(snapshot, host, self.now, lease)
        except Refusal:
            return
        marks = not snapshot.hosts[host].value.forgetting

        def committed(_: int) -> None:
            if marks:
                self.agents[host] = Agent()

        self.submit(Pending(list(plan.steps[: stop_after + 1]), committed), later)

    def plan(self, planner: Callable[[Snapshot], Txn | None], replica: int, later: bool) -> None:
        try:
            txn = planner(self.replicas[replica].snapshot)
        except Refusal:
            return
        if txn is not None:
            self.submit(Pending([txn]), later)

    # Hosts.

    @rule(replica=replicas, host=hosts, later=st.booleans())
    def hello(self, replica: int, host: str, later: bool) -> None:
        facts = HostFacts(host, f"machine-{host}", uplinks=(HostUplink("default", "eth0", True, True, True, 1500),))
        lease = SESSION_LEASES + self.next_lease
        self.next_lease += 1
        try:
            txn = register(self.replicas[replica].snapshot, facts, f"r{replica}", lease, self.now).txn
        except Refusal:
            return

        def committed(revision: int) -> None:
            agent = self.agents[host]
            agent.session, agent.replica = revision, replica

        self.submit(Pending([txn], committed), later)

    @rule(host=hosts)
    def cut(self, host: str) -> None:
        entry = self.store.entries.get(keys.session(host))
        if entry is not None:
            self.store.expire(entry.lease)
            self.truth.apply(self.store.changes(self.truth.revision))

    @rule(host=hosts, lazy=st.booleans())
    def work(self, host: str, lazy: bool) -> None:
        """The agent hears from the replica that holds its session, from snapshots as new as that session; it may
        fail to remove things, but adds only what it is told."""
        agent = self.agents[host]
        snapshot = self.replicas[agent.replica].snapshot
        if not agent.session or snapshot.revision < max(agent.session, agent.revision):
            return
        told = desired(snapshot, host, agent.made)
        assert told == desired(snapshot, host), "what was made before stands for what it would be made as now"
        agent.revision = told.revision
        here = [a for a in told.attachments if a.target.value not in agent.destroyed]
        attachments = {a.name: (a.network, a.addresses) for a in here}
        agent.waiting = {a.name for a in told.attachments} - attachments.keys()
        nets = {network.name for network in told.networks}
        agent.attachments = {**agent.attachments, **attachments} if lazy else attachments
        agent.networks = agent.networks | nets if lazy else nets

    @rule(host=hosts, container=targets, exists=st.booleans())
    def docker(self, host: str, container: str, exists: bool) -> None:
        """A container is made or destroyed; its agent sees so at its next work."""
        if exists:
            self.agents[host].destroyed.discard(container)
        else:
            self.agents[host].destroyed.add(container)

    @rule(host=hosts, complete=st.booleans(), later=st.booleans())
    def observe(self, host: str, complete: bool, later: bool) -> None:
        agent = self.agents[host]
        if not agent.session:
            return
        # What is not complete says nothing by what it leaves out.
        observation = Observation(
            "e1",
            agent.revision,
            tuple(NetworkObservation(name, Phase.READY) for name in sorted(agent.networks) if complete),
            tuple(
                AttachmentObservation(name, Phase.READY, addresses=held[1], present=True)
                for name, held in sorted(agent.attachments.items())
                if complete
            )
            + tuple(
                AttachmentObservation(name, Phase.WAITING, "CONTAINER_NOT_FOUND")
                for name in sorted(agent.waiting - agent.attachments.keys())
            ),
            complete=complete,
        )
        snapshot = self.replicas[agent.replica].snapshot
        try:
            settlement = settle(snapshot, host, agent.session, observation, self.now)
        except Refusal:
            return
        for txn in settlement.status:
            self.submit(Pending([txn], observed=agent.revision, session=agent.session), later)
        for name in settlement.detached:
            record = snapshot.attachments[host][name].value
            lease = self.lease(lease_seconds(snapshot, record))
            last = finish_detach(snapshot, host, name, self.now, lease, agent.revision)
            assert last is not None
            self.submit(Pending([last]), later)

    # What must hold in the world, seen without our snapshot.

    @invariant()
    def no_address_twice_in_kernels(self) -> None:
        seen: dict[tuple[str, str], str] = {}
        for host, agent in self.agents.items():
            for name, (network, addresses) in agent.attachments.items():
                for address in addresses:
                    other = seen.setdefault((network, address), f"{host}/{name}")
                    assert other == f"{host}/{name}", f"{address} of {network} is on {other} and {host}/{name}"

    @invariant()
    def what_a_kernel_has_is_held_for_it(self) -> None:
        for host, agent in self.agents.items():
            for name, (network, addresses) in agent.attachments.items():
                for address in addresses:
                    entry = self.store.entries.get(keys.address(network, address.partition("/")[0]))
                    record = json.loads(entry.value) if entry is not None else {}
                    held = (record.get("kind"), record.get("host"), record.get("holder"))
                    assert held == ("attachment", host, name), f"{host}/{name} uses {address}, which is {record}"

    @invariant()
    def nothing_is_left_of_a_network_that_is_gone(self) -> None:
        for host, agent in self.agents.items():
            for network in agent.networks:
                assert keys.network(network) in self.store.entries, f"{host} still has {network}"

    @invariant()
    def a_replica_that_caught_up_equals_a_listing(self) -> None:
        fresh = Snapshot()
        fresh.replace(self.store.listing())
        for snapshot in (self.truth, *(r.snapshot for r in self.replicas if r.snapshot.revision == fresh.revision)):
            assert contents(snapshot) == contents(fresh)

    @initialize()
    def start(self) -> None:
        """Most runs need hosts and a network to become interesting."""
        for host in HOSTS[:2]:
            self.hello(0, host, later=False)
            self.follow(0, 100)
        self.set_uplink(0, ((100, 102),), later=False)
        self.follow(0, 100)
        for name, cidrs in zip(NETWORKS, (CIDRS[:1], CIDRS[2:4], ()), strict=True):
            self.create(0, name, None, cidrs, False, 30, 100, (), later=False)
            self.follow(0, 100)
        for replica in range(REPLICAS):
            self.follow(replica, 100)


def contents(snapshot: Snapshot) -> dict[str, Any]:
    """Every map and index, without the empty leftovers of what is gone."""
    names = (
        "revision epoch uplinks networks vlans numbers host_numbers addresses macs attachments attachment_status "
        "network_status hosts host_status sessions broken on_network on_target networks_seen given promises on_mac"
    )
    pools = {
        key: (+index.counts, +index.by_host, index.resting, index.given, index.owned, index.unreadable)
        for key, index in snapshot.pools.items()
        if +index.counts or index.unreadable
    }
    return {name: getattr(snapshot, name) for name in names.split()} | {"pools": pools}


Fabric.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFabric = Fabric.TestCase

STEPS: tuple[str, ...] = ("follow",) * 8 + ("work", "observe") * 6 + ("attach",) * 8 + ("detach", "late_commit") * 3
STEPS += ("create", "update", "delete", "end_delete", "forget", "hello", "wait", "expire") * 2
STEPS += ("cut", "drain", "jump", "set_uplink") + ("docker",) * 6


def walk(seed: int, steps: int) -> Fabric:
    """One long life of a fabric, drawn evenly: hypothesis alone seldom gets past the first attachment."""
    fabric, draw = Fabric(), Random(seed)
    fabric.start()
    for _ in range(steps):
        step(fabric, draw, draw.choice(STEPS))
        fabric.no_address_twice_in_kernels()
        fabric.what_a_kernel_has_is_held_for_it()
        fabric.nothing_is_left_of_a_network_that_is_gone()
    fabric.a_replica_that_caught_up_equals_a_listing()
    return fabric


def step(fabric: Fabric, draw: Random, name: str) -> None:
    replica, host, network = draw.randrange(REPLICAS), draw.choice(HOSTS), draw.choice(NETWORKS)
    later = draw.random() < 0.3
    number = draw.randrange(1000)
    steps: dict[str, Callable[[], None]] = {
        "follow": lambda: fabric.follow(replica, draw.choice((1, 3, 100, 100, 100))),
        "work": lambda: fabric.work(host, draw.random() < 0.2),
        "observe": lambda: fabric.observe(host, draw.random() < 0.8, later),
        "late_commit": lambda: fabric.late_commit(number),
        "wait": lambda: fabric.wait(draw.choice((1, 20, 200))),
        "expire": lambda: fabric.expire(number),
        "set_uplink": lambda: fabric.set_uplink(replica, draw.choice((((100, 102),), ((100, 101), (300, 301)))), later),
        "create": lambda: fabric.create(
            replica,
            network,
            draw.choice((None, None, 100, 101, 7)),
            draw.choice(((CIDRS[0],), (CIDRS[1],), (CIDRS[2], CIDRS[3]), (CIDRS[4],), ())),
            draw.random() < 0.5,
            draw.choice((0, 30)),
            draw.choice((0, 100)),
            draw.choice(((), ("h[12]",))),
            later,
        ),
        "update": lambda: fabric.update(replica, network, number % 4, later),
        "delete": lambda: fabric.delete(replica, network, later),
        "end_delete": lambda: fabric.end_delete(replica, network, later),
        "attach": lambda: fabric.attach(
            replica,
            host,
            network,
            draw.choice(("web", "db", "mail", "ns")),
            draw.choice(("", "", "", "20.0.0.5", "20.0.1.2", "fd00::1")),
            draw.random() < 0.15,
            draw.choice(
                ("",) * 8 + ("02:01:14:00:00:05", "02:02:14:00:01:02", "02:02:14:00:01:03", "06:00:00:00:00:01")
            ),
            draw.choice(("", "", "shared")),
            draw.getrandbits(64),
            later,
        ),
        "jump": lambda: fabric.jump(replica, network, number),
        "detach": lambda: fabric.detach(replica, host, number, later),
        "drain": lambda: fabric.drain(replica, host, draw.random() < 0.8, later),
        "forget": lambda: fabric.forget(replica, host, draw.choice((0, 1, 9)), later),
        "hello": lambda: fabric.hello(replica, host, later),
        "cut": lambda: fabric.cut(host),
        "docker": lambda: fabric.docker(host, draw.choice(("web", "db", "mail")), draw.random() < 0.6),
    }
    steps[name]()


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_plan_laws_hold_through_long_lives(seed: int) -> None:
    walk(seed, 600)
