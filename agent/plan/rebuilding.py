"""Interfaces of running containers that went with the link under them. Pure.

A macvlan dies with its parent, and Docker hears nothing of it: the container runs on with an endpoint in Docker's books
and no interface. It gets the same one again, with the name, MAC and addresses that Docker knows, so that Docker finds
it where it put it when the container ends or is disconnected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from agent.plan import announcing
from agent.plan.announcing import Due
from agent.plan.docked import Ground
from agent.plan.docker import Container, DockerNetwork
from agent.plan.networks import Parent
from agent.plan.state import Interface, MacvlanSpec
from trunkline import naming
from trunkline.model import HostNetwork

_MAC: Final = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Suspect:
    """An endpoint that is to have an interface on `parent`, and was not seen with one. `addresses` with prefix length;
    `known` is the interface as it was last seen, None when this agent never saw it."""

    due: Due
    addresses: tuple[str, ...]
    network: HostNetwork
    parent: Parent
    internal: bool
    known: Interface | None


def suspects(
    containers: Iterable[Container], found: Sequence[DockerNetwork], ground: Ground, seen: Mapping[str, Interface]
) -> list[Suspect]:
    """Endpoints of running containers on Docker networks of ours whose interface was not seen (`seen`, by endpoint id),
    or was seen on a link that is no longer the network's."""
    networks = {network.name: network for network in ground.desired.networks}
    by_id = {one.id: one for one in found}
    listed = list(containers)
    endpoints = {endpoint.id: endpoint for container in listed for endpoint in container.endpoints}
    suspected = []
    for due in announcing.due(listed, found, ground.desired, ()):
        planned = ground.plans.get(due.network)
        parent = planned.parent if planned else None
        known = seen.get(due.id)
        if parent is None or due.network not in networks or not _MAC.fullmatch(due.mac):
            continue
        if known is None or known.link.parent != parent.link.index:
            endpoint = endpoints[due.id]
            internal = by_id[endpoint.network_id].internal
            suspected.append(Suspect(due, endpoint.addresses, networks[due.network], parent, internal, known))
    return suspected


def lost(suspect: Suspect, inside: Iterable[Interface]) -> bool:
    """Whether nothing in the container's namespace can be the interface: none has its MAC or one of its addresses, and
    no macvlan that Docker made sits on the parent. One that somebody gave other addresses is the container's affair."""
    addresses = {address.partition("/")[0] for address in suspect.addresses}
    return not any(
        one.link.mac == suspect.due.mac
        or addresses & {address.partition("/")[0] for address in one.addresses}
        or (_on(one, suspect.parent) and not one.link.alias)
        for one in inside
    )


def _on(interface: Interface, parent: Parent) -> bool:
    return interface.link.parent_on_host and interface.link.parent == parent.link.index


def spec(suspect: Suspect, inside: Sequence[Interface]) -> MacvlanSpec:
    """The interface to make. What only its former self could tell is guessed the way Docker chooses: the first free
    ethN, and the default route where the container has none."""
    known = suspect.known
    return MacvlanSpec(
        parent_index=suspect.parent.link.index,
        temporary_name=naming.temporary(suspect.due.id),
        name=_name(known, {one.link.name for one in inside}),
        alias=naming.native_mark(suspect.due.id),
        mac=suspect.due.mac,
        mode=suspect.network.mode.value,
        mtu=suspect.parent.mtu,
        addresses=suspect.addresses,
        gateways=known.gateways if known else _gateways(suspect, inside),
        accept_ra=known.accept_ra if known else True,
    )


def _name(known: Interface | None, taken: set[str]) -> str:
    if known is not None and known.link.name not in taken:
        return known.link.name
    return next(name for number in count() if (name := f"eth{number}") not in taken)


def _gateways(suspect: Suspect, inside: Iterable[Interface]) -> tuple[str, ...]:
    if suspect.internal:
        return ()
    routed = {":" in gateway for one in inside for gateway in one.gateways}
    have = {":" in address for address in suspect.addresses}
    return tuple(
        gateway for gateway in suspect.due.gateways if (":" in gateway) in have and (":" in gateway) not in routed
    )


def still(suspect: Suspect, containers: Iterable[Container]) -> bool:
    """Whether Docker still has the container run with this endpoint, and these addresses."""
    return any(
        endpoint.id == suspect.due.id and endpoint.addresses == suspect.addresses
        for container in containers
        if container.runs and container.id == suspect.due.container_id
        for endpoint in container.endpoints
    )
