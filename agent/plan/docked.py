"""What the Docker side of the agent tells the main loop, and the other way round, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.plan.networks import NetworkPlan
from trunkline.errors import Reason
from trunkline.model import Desired, EndpointObservation, Event, NetworkObservation, Observation, Phase, Problem


@dataclass(frozen=True, slots=True)
class Standing:
    """A network's place in Docker: `docker` and `message` as in `model.NetworkObservation`."""

    docker: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Docked:
    """What goes into the observation. `networks`: by network, wanted or not; one that is no longer wanted is in it as
    long as Docker has it. `parents`: names of the links that Docker networks of ours sit on, and why they stay, in
    words. `docker`: the engine's version, "" while it does not answer; None when nobody asked."""

    networks: Mapping[str, Standing] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    endpoints: tuple[EndpointObservation, ...] = ()
    endpoints_complete: bool = False
    events: tuple[Event, ...] = ()
    problems: tuple[Problem, ...] = ()
    docker: str | None = None


@dataclass(frozen=True, slots=True)
class Ground:
    """What the main loop last saw, as far as Docker networks stand on it. `removals`: whether anything may be taken
    away. `plans`: the macvlan parent of each wanted network, or why there is none."""

    desired: Desired
    removals: bool
    plans: Mapping[str, NetworkPlan] = field(default_factory=dict)


def merged(observation: Observation, docked: Docked) -> Observation:
    """An observation with what the Docker side has to tell. A network that is no longer wanted is in it as long as
    Docker, or an address, is left of it."""
    networks = [_with(network, docked.networks.get(network.name)) for network in observation.networks]
    listed = {network.name for network in networks}
    left = docked.networks.keys() | {endpoint.network for endpoint in docked.endpoints}
    for name in sorted(left - listed):
        what = docked.networks.get(name, Standing("", "addresses of it are still kept here"))
        pending = NetworkObservation(name, Phase.PENDING, Reason.NETWORK_IN_USE.name, what.message)
        networks.append(_with(pending, what))
    return replace(
        observation,
        networks=tuple(networks),
        docker=observation.docker if docked.docker is None else docked.docker,
        problems=(*observation.problems, *docked.problems),
        endpoints=docked.endpoints,
        endpoints_complete=docked.endpoints_complete,
        events=docked.events,
    )


def _with(network: NetworkObservation, standing: Standing | None) -> NetworkObservation:
    if standing is None:
        return network
    return replace(network, docker=standing.docker, docker_message=standing.message)


def local(docked: Docked) -> dict[str, list[str]]:
    """Addresses that containers of this host have by Docker's hand, by network."""
    found: dict[str, list[str]] = {}
    for endpoint in docked.endpoints:
        if endpoint.present:
            found.setdefault(endpoint.network, []).append(endpoint.address)
    return found
