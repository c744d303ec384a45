"""The controller's side of addresses, for hosts in one process: who has which address, at which revision, and how an
observation gives them back. Follows docs/decisions/address-grants.md."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from itertools import islice

from agent.docking import Granted, GrantRequest
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.model import Desired, EndpointObservation, EndpointState, Grant, HostNetwork


@dataclass(frozen=True)
class Held:
    """An address that a host was given. `state` as the host last told, STOCK at first."""

    host: str
    revision: int
    state: EndpointState = EndpointState.STOCK
    owner: str = ""
    recalled: bool = False


@dataclass
class FakeFabric:
    """Addresses of networks; `held` by (network, address)."""

    networks: tuple[HostNetwork, ...]
    epoch: str = "e1"
    revision: int = 1
    held: dict[tuple[str, str], Held] = field(default_factory=dict)
    error: TrunklineError | None = None

    def desired(self, host: str) -> Desired:
        grants = tuple(
            Grant(network, address, held.owner, held.recalled, held.revision)
            for (network, address), held in sorted(self.held.items())
            if held.host == host and (held.recalled or held.state is EndpointState.STOCK)
        )
        return Desired(self.epoch, self.revision, self.networks, grants=grants)

    def give(self, host: str, request: GrantRequest) -> Granted:
        if self.error is not None:
            raise self.error
        reserved = {(one.name, kept.address): kept.owner for one in self.networks for kept in one.reserved}
        mine = [key[1] for key, owner in reserved.items() if key[0] == request.network and owner == request.owner]
        pool = [*mine, *self.pool(request.network, request.version)]
        for address in [request.address] if request.address else pool:
            key = (request.network, address)
            owner = reserved.get(key, "")
            promised = bool(owner) and owner == request.owner
            if owner and not promised:
                if request.address:
                    raise Refusal(Reason.ADDRESS_RESERVED, f"{address} is promised to {owner}")
            elif key not in self.held:
                self.revision += 1
                self.held[key] = Held(host, self.revision, owner=request.owner if promised else "")
                return Granted(address, promised, self.revision)
            elif request.address:
                raise Refusal(Reason.ADDRESS_TAKEN, f"{address} is held by {self.held[key].host}")
        raise Refusal(Reason.POOL_EXHAUSTED, f"all addresses of network {request.network} are in use", "remove some")

    def pool(self, network: str, version: int) -> list[str]:
        found = next(one for one in self.networks if one.name == network)
        gateways = {prefix.gateway for prefix in found.prefixes}
        return [
            str(address)
            for prefix in found.prefixes
            for address in islice(ip_network(prefix.cidr).hosts(), 64)
            if address.version == version and str(address) not in gateways
        ]

    def recall(self, network: str, address: str, owner: str = "") -> None:
        held = self.held[network, address]
        self.revision += 1
        self.held[network, address] = replace(held, recalled=True, owner=owner or held.owner, revision=self.revision)

    def settle(self, host: str, revision: int, told: tuple[EndpointObservation, ...], complete: bool) -> None:
        """What an observation of a host at this revision changes."""
        listed = {(one.network, one.address): one for one in told}
        for key, held in list(self.held.items()):
            if held.host != host or held.revision > revision:
                continue
            if key not in listed:
                if complete:
                    self.revision += 1
                    del self.held[key]
            elif listed[key].state is not held.state:
                self.revision += 1
                self.held[key] = replace(held, state=listed[key].state, revision=self.revision)
        for key in listed.keys() - self.held.keys():
            self.revision += 1
            self.held[key] = Held(host, self.revision, listed[key].state, listed[key].owner)


class FakeGranter:
    """Implements `agent.docking.Granter` for a host of a FakeFabric."""

    def __init__(self, fabric: FakeFabric, host: str) -> None:
        self._fabric = fabric
        self._host = host
        self.asked: list[GrantRequest] = []

    async def grant(self, request: GrantRequest, seconds: float) -> Granted:
        self.asked.append(request)
        return self._fabric.give(self._host, request)
