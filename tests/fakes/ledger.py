"""What a host does with the addresses it was given, as a model: no journal, no Docker, time as told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from trunkline.model import Desired, EndpointObservation, EndpointState, HostNetwork

At = tuple[str, str]


@dataclass
class Ledger:
    """Addresses by (network, address)."""

    entries: dict[At, EndpointObservation] = field(default_factory=dict)
    networks: dict[str, HostNetwork] = field(default_factory=dict)
    recalls: dict[At, str] = field(default_factory=dict)
    """What is wanted back, and for which owner it may go at once."""
    floor: int = 0
    """Revision of the desired state in force: what that gave out and is not known was let go."""

    def told(self, desired: Desired, now_ms: int) -> None:
        """Take what is given, let go of what is wanted back or of a network that is no longer told of."""
        self.networks = {network.name: network for network in desired.networks}
        floor, self.floor = self.floor, max(self.floor, desired.revision)
        self.recalls = {(one.network, one.address): one.owner for one in desired.grants if one.recalled}
        for grant in desired.grants:
            if not grant.recalled and grant.revision > floor:
                self.take(grant.network, grant.address, grant.owner)
        self.let_go(now_ms)

    def let_go(self, now_ms: int) -> None:
        """Let go of what is wanted back and not in use, once it may."""
        for at, owner in self.recalls.items():
            if at in self.entries and self._may_go(self.entries[at], owner, now_ms):
                del self.entries[at]
        for at, entry in list(self.entries.items()):
            if entry.state is not EndpointState.USED and entry.network not in self.networks:
                del self.entries[at]

    def _may_go(self, entry: EndpointObservation, owner: str, now_ms: int) -> bool:
        if entry.state is EndpointState.USED:
            return False
        if entry.state is EndpointState.STOCK or (owner and owner == entry.owner):
            return True
        return self._rested(entry, now_ms)

    def _rested(self, entry: EndpointObservation, now_ms: int) -> bool:
        network = self.networks.get(entry.network)
        return network is None or entry.released_ms + network.rest_seconds * 1000 <= now_ms

    def take(self, network: str, address: str, owner: str = "", shared: bool = False) -> None:
        """An address was given to the host; one it has is not touched."""
        new = EndpointObservation(network, address, EndpointState.STOCK, owner=owner, shared=shared)
        self.entries.setdefault((network, address), new)

    def start(self, at: At, container: str, owner: str = "", shared: bool = False, mac: str = "") -> None:
        """Docker is given the address; it has not shown the container yet."""
        used = EndpointObservation(*at, EndpointState.USED, owner=owner or container, shared=shared)
        self.entries[at] = replace(used, container_id=f"id-{container}", container=container, mac=mac)

    def show(self, at: At) -> None:
        """Docker lists the container with it."""
        self.entries[at] = replace(self.entries[at], present=True, ifname="eth0")

    def stop(self, at: At, now_ms: int) -> None:
        """Docker gives it back."""
        entry = self.entries[at]
        self.entries[at] = replace(
            entry, state=EndpointState.KEPT, present=False, released_ms=now_ms, container_id="", ifname=""
        )

    def drop(self, at: At) -> None:
        """The host lets it go."""
        del self.entries[at]

    def age(self, now_ms: int, hold: bool = False) -> None:
        """Let go of what has rested, all of it with `hold` over."""
        for at, entry in list(self.entries.items()):
            if hold and entry.state is EndpointState.KEPT and self._rested(entry, now_ms):
                del self.entries[at]

    def free(self, network: str, owner: str = "") -> At | None:
        """What the host would hand out next without asking: kept for the owner, else stock."""
        kept = [at for at, e in self.entries.items() if e.state is EndpointState.KEPT and at[0] == network]
        mine = [at for at in kept if self.entries[at].owner == owner]
        stock = [at for at, e in self.entries.items() if e.state is EndpointState.STOCK and at[0] == network]
        fitting = [at for at in stock if self.entries[at].owner in ("", owner)]
        return next(iter([*mine, *fitting]), None)

    def endpoints(self) -> tuple[EndpointObservation, ...]:
        """All of it, as observed."""
        return tuple(self.entries[at] for at in sorted(self.entries))
