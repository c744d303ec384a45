"""A planning room with hosts that run containers of their own: a ledger for each."""

from __future__ import annotations

from typing import Any

from fakes.ledger import At, Ledger
from fakes.planning import Room

from controller.plan.grants import Ask, GrantPlan, grant
from controller.plan.settle import Settlement, settle
from controller.plan.stock import stock_steps, stocked_hosts
from controller.state.records import AddressRecord
from trunkline.ids import IPAddress, parse_address
from trunkline.model import HostFacts, NetworkObservation, Observation, Phase


class Docked(Room):
    """Every method works on the newest snapshot; what hosts say arrives at once, unless it is built by hand."""

    def __init__(self) -> None:
        self.ledgers: dict[str, Ledger] = {}
        self.stale: set[str] = set()
        self.revisions: dict[str, int] = {}
        super().__init__()

    def follow(self) -> None:
        super().follow()
        self.stale |= self.dirty.desired

    def docker_host(self, name: str, **labels: str) -> Ledger:
        self.register(HostFacts(name, f"machine-{name}", docker="29.0.0", labels=labels))
        return self.ledgers.setdefault(name, Ledger())

    def seen(self, host: str, **fields: Any) -> Observation:
        """What the host sees, its ledger included."""
        told = self.desired(host)
        networks = tuple(NetworkObservation(one.name, Phase.READY, docker="READY") for one in told.networks)
        ledger = {"endpoints": self.ledgers[host].endpoints(), "endpoints_complete": True, "docker": "29.0.0"}
        return self.observation(host, **{"networks": networks, **ledger, **fields})

    def report(self, host: str, observation: Observation | None = None, **fields: Any) -> Settlement:
        """Settle what the host sees, with leases for what has to rest."""
        seen = observation or self.seen(host, **fields)
        session = self.snapshot.sessions[host].mod_revision
        settlement = settle(self.snapshot, host, session, seen, self.now)
        if settlement.wanting:
            leases = {name: (self.next_lease(), seconds) for name, seconds in settlement.wanting.items()}
            settlement = settle(self.snapshot, host, session, seen, self.now, leases)
        self.commit(*settlement.status)
        return settlement

    def sync(self, *hosts: str) -> None:
        """Tell hosts what is desired, and settle what they then see, until nothing changes."""
        for _ in range(10):
            before = self.store.revision
            for host in hosts or tuple(self.ledgers):
                if host in self.stale:
                    self.stale.discard(host)
                    told = self.desired(host)
                    self.revisions[host] = told.revision
                    self.ledgers[host].told(told, self.now)
                self.ledgers[host].let_go(self.now)
                self.report(host, revision=self.revisions[host])
            if self.store.revision == before:
                return
        raise AssertionError("it does not come to rest")

    def plan_grant(self, host: str, network: str = "red", **fields: Any) -> GrantPlan:
        recalled = fields.pop("recalled", frozenset())
        return grant(self.snapshot, Ask(host, network, **{"version": 4, **fields}), self.cursors, self.now, recalled)

    def grant(self, host: str, network: str = "red", **fields: Any) -> str:
        """An address that is given at once."""
        plan = self.plan_grant(host, network, **fields)
        assert plan.address is not None, plan
        self.commit(plan.txn)
        self.ledgers[host].take(network, str(plan.address), fields.get("owner", ""), fields.get("shared", False))
        return str(plan.address)

    def stock(self, host: str, network: str = "red") -> list[str]:
        """Top up or recall, and what is in stock then."""
        crowd = stocked_hosts(self.snapshot, network)
        self.commit(*stock_steps(self.snapshot, host, network, crowd, self.cursors, self.now))
        given = self.snapshot.pool(network, 4).given.get(host, {})
        return [str(address) for address, record in given.items() if record.kind == "stock"]

    def run(self, host: str, container: str, network: str = "red", **fields: Any) -> str:
        """A container starts with an address that the host has or is granted, and is shown."""
        ledger = self.ledgers[host]
        asked = {name: value for name, value in fields.items() if name != "mac"}
        at: At = ledger.free(network, fields.get("owner", container)) or (network, self.grant(host, network, **asked))
        ledger.start(at, container, **fields)
        ledger.show(at)
        self.sync(host)
        return at[1]

    def record(self, address: str, network: str = "red") -> AddressRecord:
        return self.snapshot.addresses[network][parse_address(address)].value

    def records(self, network: str = "red") -> dict[IPAddress, AddressRecord]:
        return {address: stored.value for address, stored in self.snapshot.addresses.get(network, {}).items()}
