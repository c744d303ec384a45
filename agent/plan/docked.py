"""What the Docker side of the agent tells the main loop, and the other way round, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.plan.networks import NetworkPlan
from trunkline.model import Desired, EndpointObservation, Event, Problem


@dataclass(frozen=True, slots=True)
class Standing:
    """A network's place in Docker: `docker` and `message` as in `model.NetworkObservation`."""

    docker: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Docked:
    """What goes into the observation. `networks`: by network, wanted or not; one that is no longer wanted is in it as
    long as Docker has it. `parents`: names of the links that Docker networks of ours sit on, and why they stay, in
    words."""

    networks: Mapping[str, Standing] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    endpoints: tuple[EndpointObservation, ...] = ()
    endpoints_complete: bool = False
    events: tuple[Event, ...] = ()
    problems: tuple[Problem, ...] = ()

    def held(self, network: str) -> bool:
        """Whether Docker, or an address of it, is still there of a network."""
        return network in self.networks or any(endpoint.network == network for endpoint in self.endpoints)


@dataclass(frozen=True, slots=True)
class Ground:
    """What the main loop last saw, as far as Docker networks stand on it. `removals`: whether anything may be taken
    away. `plans`: the macvlan parent of each wanted network, or why there is none. `docker`: the engine's version."""

    desired: Desired
    removals: bool
    plans: Mapping[str, NetworkPlan] = field(default_factory=dict)
    docker: str = ""
