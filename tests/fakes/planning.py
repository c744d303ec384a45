"""A fabric to plan in: one up-to-date snapshot over the applier, each plan committed at once."""

from __future__ import annotations

from typing import Any

from fakes.applier import Applier

from controller.plan.addresses import Cursors
from controller.plan.attachments import AttachPlan, DetachPlan, attach, detach, finish_detach, lease_seconds
from controller.plan.deletion import DeletePlan, delete_network, finish_delete
from controller.plan.desired import desired
from controller.plan.hosts import ForgetPlan, HostPlan, RegisterPlan, drain, forget, register
from controller.plan.invariants import violations
from controller.plan.networks import NetworkPlan, create_network, update_network
from controller.plan.requests import AttachmentRequest, NetworkRequest, NetworkUpdate
from controller.plan.settle import Settlement, settle
from controller.plan.uplinks import UplinkPlan, set_uplink
from controller.state import codec, keys
from controller.state.records import EpochRecord
from controller.state.snapshot import Dirty, Snapshot
from controller.state.txn import Txn
from trunkline.model import (
    AttachmentObservation,
    Desired,
    HostFacts,
    HostUplink,
    NetworkObservation,
    Observation,
    Phase,
    Prefix,
    Target,
    TargetKind,
)

NOW = 1_700_000_000_000
"""2023-11-14 22:13:20 UTC, in milliseconds."""

UPLINKS = (HostUplink("default", "eth0", True, True, True, 1500),)


def container(name: str) -> Target:
    return Target(TargetKind.CONTAINER, name)


class Room:
    """Store, snapshot and clock. Every method plans on the newest snapshot and commits."""

    def __init__(self) -> None:
        self.store = Applier()
        self.snapshot = Snapshot()
        self.cursors = Cursors()
        self.now = NOW
        self.lease = 100
        self.dirty = Dirty()
        self.put(keys.EPOCH, codec.encode(EpochRecord("e1")))

    def put(self, key: str, value: bytes, lease: int = 0) -> None:
        self.store.put(key, value, lease)
        self.follow()

    def follow(self) -> None:
        self.dirty = self.snapshot.apply(self.store.changes(self.snapshot.revision))

    def commit(self, *txns: Txn | None) -> None:
        for txn in txns:
            if txn is not None:
                assert self.store.commit(txn) is not None
                self.follow()
        assert violations(self.snapshot) == []

    def next_lease(self) -> int:
        self.lease += 1
        return self.lease

    def uplink(self, ranges: tuple[tuple[int, int], ...], label: str = "default") -> UplinkPlan:
        plan = set_uplink(self.snapshot, label, ranges)
        self.commit(plan.txn)
        return plan

    def create(self, request: NetworkRequest) -> NetworkPlan:
        plan = create_network(self.snapshot, request, self.now)
        self.commit(plan.txn)
        return plan

    def network(self, name: str, *cidrs: str, gateway: str = "", **fields: Any) -> NetworkPlan:
        prefixes = tuple(Prefix(cidr, gateway if n == 0 else "") for n, cidr in enumerate(cidrs))
        return self.create(NetworkRequest(name, prefixes=prefixes, **fields))

    def update(self, change: NetworkUpdate) -> NetworkPlan:
        plan = update_network(self.snapshot, change)
        self.commit(plan.txn)
        return plan

    def delete(self, name: str) -> DeletePlan:
        plan = delete_network(self.snapshot, name)
        self.commit(plan.txn)
        return plan

    def end_delete(self, name: str) -> bool:
        txns = finish_delete(self.snapshot, name)
        self.commit(*(txns or ()))
        return txns is not None

    def host(self, name: str, uplinks: tuple[HostUplink, ...] = UPLINKS, **labels: str) -> RegisterPlan:
        return self.register(HostFacts(name, f"machine-{name}", labels=labels, uplinks=uplinks))

    def register(self, facts: HostFacts) -> RegisterPlan:
        plan = register(self.snapshot, facts, "r1", self.next_lease(), self.now)
        self.commit(plan.txn)
        return plan

    def drain(self, name: str, undo: bool = False) -> HostPlan:
        plan = drain(self.snapshot, name, undo)
        self.commit(plan.txn)
        return plan

    def cut(self, name: str) -> None:
        self.store.expire(self.store.entries[keys.session(name)].lease)
        self.follow()

    def forget_step(self, name: str) -> ForgetPlan:
        plan = forget(self.snapshot, name, self.now, self.next_lease())
        self.commit(*plan.steps)
        return plan

    def ask(self, request: AttachmentRequest, draw: int = 0x123456789ABCDEF0) -> AttachPlan:
        plan = attach(self.snapshot, request, self.cursors, draw, self.now)
        self.commit(plan.txn)
        return plan

    def attach(self, host: str, network: str, name: str, attachment: str = "", **fields: Any) -> AttachPlan:
        return self.ask(AttachmentRequest(host, network, container(name), attachment, **fields))

    def detach(self, host: str, name: str) -> DetachPlan:
        plan = detach(self.snapshot, host, name)
        self.commit(plan.txn)
        return plan

    def release(self, host: str, name: str) -> None:
        """Detach, and be seen gone."""
        self.detach(host, name)
        stored = self.snapshot.attachment(host, name)
        assert stored is not None
        lease = self.next_lease() if lease_seconds(self.snapshot, stored.value) else 0
        self.commit(finish_detach(self.snapshot, host, name, self.now, lease, self.snapshot.revision))

    def desired(self, host: str) -> Desired:
        return desired(self.snapshot, host)

    def observation(self, host: str, **fields: Any) -> Observation:
        """What a host sees that has exactly what it is told, at the newest revision."""
        told = self.desired(host)
        seen: dict[str, Any] = {
            "epoch": told.epoch,
            "revision": told.revision,
            "networks": tuple(NetworkObservation(network.name, Phase.READY) for network in told.networks),
            "attachments": tuple(
                AttachmentObservation(a.name, Phase.READY, mac=a.mac, addresses=a.addresses, present=True)
                for a in told.attachments
            ),
            "uplinks": UPLINKS,
            "complete": True,
        }
        return Observation(**{**seen, **fields})

    def settle(self, host: str, session: int, observation: Observation) -> Settlement:
        settlement = settle(self.snapshot, host, session, observation, self.now)
        self.commit(*settlement.status)
        return settlement

    def observe(self, host: str, **fields: Any) -> Settlement:
        """Settle what the host sees in its live session."""
        session = self.snapshot.sessions[host].mod_revision
        return self.settle(host, session, self.observation(host, **fields))
