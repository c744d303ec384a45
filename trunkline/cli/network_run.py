"""Asking for networks, waiting for the hosts, and showing what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from trunkline.cli import network_access, present, standing
from trunkline.cli.choices import Choices
from trunkline.cli.connect import Fabric
from trunkline.cli.plain import enum_text, plain
from trunkline.cli.screen import Column, Screen, grid
from trunkline.cli.standing import Stands
from trunkline.cli.waiting import Waited, Wanted, wait, wait_gone
from trunkline.cli.words import duration
from trunkline.errors import Reason, TrunklineError
from trunkline.naming import docker_config_name
from trunkline.v1 import network_pb2

Network = network_pb2.Network

_PHASE: Final = network_pb2.NetworkPhase.DESCRIPTOR
_MODE: Final = network_pb2.MacvlanMode.DESCRIPTOR
_DOCKER: Final = network_pb2.DockerMode.DESCRIPTOR


def _vlan(network: Network) -> str:
    return str(network.spec.vlan) if network.spec.vlan else "untagged"


def _ready(network: Network) -> str:
    ready = sum(h.phase.upper() == "READY" and h.connected for h in network.hosts)
    return f"{ready}/{len(network.hosts)}"


def _state(network: Network) -> str:
    word = enum_text(_PHASE, network.phase)
    away = sum(not h.connected for h in network.hosts)
    return f"{word}, {away} host{'' if away == 1 else 's'} away" if away else word


def _use(network: Network) -> str:
    return ", ".join(f"{p.used}/{_count(p.size)}" for p in network.pools)


def _count(size: int) -> str:
    return str(size) if size < 10_000_000 else f"2^{math.log2(size):.0f}"


_COLUMNS: Final = (
    Column[Network]("NAME", lambda n: n.spec.name),
    Column[Network]("VLAN", _vlan, right=True),
    Column[Network]("UPLINK", lambda n: n.spec.uplink or "default"),
    Column[Network]("SUBNET", lambda n: ", ".join(p.cidr for p in n.spec.prefixes) or "no IP"),
    Column[Network]("GATEWAY", lambda n: ", ".join(p.gateway or "none" for p in n.spec.prefixes), wide=True),
    Column[Network]("MODE", lambda n: enum_text(_MODE, n.spec.mode), wide=True),
    Column[Network]("MTU", lambda n: str(n.spec.mtu or "uplink's"), wide=True, right=True),
    Column[Network]("DOCKER", lambda n: enum_text(_DOCKER, n.spec.docker), wide=True),
    Column[Network]("HOSTS", _ready, right=True),
    Column[Network]("USED", _use, right=True),
    Column[Network]("ATTACHED", lambda n: str(n.attachments), wide=True, right=True),
    Column[Network]("STATE", _state),
)


def show_all(choices: Choices, fabric: Fabric) -> None:
    """Print all networks."""
    networks = fabric.ask(fabric.networks.ListNetworks, network_pb2.ListNetworksRequest()).networks
    empty = "no networks yet; make one: trunkline network create NAME --subnet CIDR --gateway ADDR"
    Screen(choices).many(networks, _COLUMNS, lambda n: n.spec.name, empty)


def show_one(choices: Choices, network: Network) -> None:
    """Print one network with its hosts and pools."""
    screen = Screen(choices)
    if not screen.one(network, network.spec.name, lambda: _details(network)):
        return
    if network.pools:
        screen.print()
        titles = [("PREFIX", False), ("GATEWAY", False), ("SIZE", True), ("USED", True), ("RESTING", True)]
        screen.print(grid([*titles, ("RESERVED", True), ("STOCK", True)], _pools(network)))
    if network.hosts:
        screen.print()
        rows = [_host(h) for h in network.hosts]
        titles = [("HOST", False), ("STATE", False), ("PARENT", False), ("DOCKER", False), ("DETAIL", False)]
        screen.print(grid(titles, rows))


def _details(network: Network) -> Sequence[tuple[str, str]]:
    spec = network.spec
    return (
        ("network", spec.name),
        ("state", _state(network)),
        ("uplink", spec.uplink or "default"),
        ("VLAN", _vlan(network) + (" (chosen by the controller)" if spec.vlan_auto else "")),
        ("mode", enum_text(_MODE, spec.mode)),
        ("MTU", str(spec.mtu) if spec.mtu else "the uplink's"),
        ("selector", ", ".join(spec.host_selector) or "all hosts"),
        ("ranges", ", ".join(r for p in spec.prefixes for r in p.ranges)),
        ("excludes", ", ".join(r for p in spec.prefixes for r in p.excludes)),
        ("rest, hold", f"{_seconds(spec, 'rest_seconds', 300)}, {_seconds(spec, 'hold_seconds', 86_400)}"),
        ("overlap", "allowed" if spec.overlap else ""),
        ("Docker", _docker(spec) + (", taken over from hand-made networks" if network.imported else "")),
        ("host access", "each host has an interface of its own on it" if spec.host_access else ""),
        ("attachments", str(network.attachments)),
    )


def _docker(spec: network_pb2.NetworkSpec) -> str:
    match spec.docker:
        case network_pb2.DOCKER_MODE_SWARM:
            return f"config-only network {docker_config_name(spec.name)} on each host, for swarm networks"
        case network_pb2.DOCKER_MODE_NONE:
            return "no network in Docker; `trunkline attach` only"
    return "a network of this name on each host"


def _seconds(spec: network_pb2.NetworkSpec, field: str, default: int) -> str:
    value = getattr(spec, field) if spec.HasField(field) else default  # type: ignore[arg-type]
    return duration(value).replace(".0 ", "")


def _pools(network: Network) -> list[list[str]]:
    gateways = {p.cidr: p.gateway for p in network.spec.prefixes}
    return [
        [p.cidr, gateways.get(p.cidr) or "none", _count(p.size), *map(str, (p.used, p.resting, p.reserved, p.stock))]
        for p in network.pools
    ]


def _host(host: network_pb2.HostNetworkStatus) -> list[str]:
    word = host.phase.lower() or "pending"
    state = word if host.connected else f"away (was {word})"
    link = f"{host.link}{'' if host.owned or not host.link else ' (not ours)'}"
    docker = host.docker.lower()
    if docker and not host.connected:
        docker = f"was {docker}"
    detail = "; ".join(text for text in (host.message, host.docker_message) if text)
    return [host.host, state, link, docker or "none", detail]


def _watch(fabric: Fabric, name: str, stands: Callable[[Network], Stands]) -> Iterator[Stands | None]:
    for change in fabric.follow(fabric.networks.WatchNetworks, network_pb2.WatchNetworksRequest(names=[name])):
        if change.network.spec.name == name:
            yield None if change.gone else stands(change.network)


def _look(fabric: Fabric, name: str, stands: Callable[[Network], Stands]) -> Stands | None:
    found = _find(fabric, name)
    return None if found is None else stands(found)


def _find(fabric: Fabric, name: str) -> Network | None:
    try:
        return fabric.ask(fabric.networks.GetNetwork, network_pb2.GetNetworkRequest(name=name)).network
    except TrunklineError as error:
        if error.reason is Reason.NETWORK_NOT_FOUND:
            return None
        raise


def _settle(choices: Choices, fabric: Fabric, name: str) -> Waited:
    wanted = Wanted(
        f"network {name}",
        lambda: _watch(fabric, name, standing.network_made),
        lambda: _look(fabric, name, standing.network_made),
        away_is_done=True,
    )
    try:
        return wait(fabric, choices, wanted)
    except TrunklineError as error:
        error.remedy = error.remedy or f"the network stands, and hosts go on trying: trunkline network show {name}"
        raise


def _told(network: Network, verb: str, waited: Waited | None) -> str:
    spec = network.spec
    vlan = f"VLAN {spec.vlan}" if spec.vlan else "untagged"
    prefixes = ", ".join(p.cidr for p in spec.prefixes) or "no IP"
    text = f"network {spec.name} {verb}: {vlan} on uplink {spec.uplink or 'default'}, {prefixes}"
    if waited is None:
        return text
    done = sum(s.stand is standing.Stand.DONE for s in waited.stands)
    if not waited.stands:
        return f"{text}; no host is selected yet"
    if not done:
        return f"{text}; no host has it yet"
    hosts = f"{done} host{'' if done == 1 else 's'}"
    return f"{text}; ready on {hosts} in {duration(waited.seconds)}"


def _note_docker(network: Network) -> None:
    """What keeps the Docker network from being on a host is no failure of the network itself."""
    for host in network.hosts:
        if host.connected and host.docker.upper() in ("FAILED", "FOREIGN"):
            present.warn(f"no Docker network on {host.host}: {host.docker_message or host.docker.lower()}")


def _note_away(waited: Waited) -> None:
    if waited.away:
        away = standing.names([s for s in waited.stands if s.host in waited.away])
        present.warn(f"{away} out of reach and will have it when back")


def create(choices: Choices, spec: network_pb2.NetworkSpec) -> int:
    """Create and wait until every connected host has it."""
    with Fabric(choices) as fabric:
        answer = fabric.ask(fabric.networks.CreateNetwork, network_pb2.CreateNetworkRequest(spec=spec))
        for warning in answer.warnings:
            present.warn(warning)
        network, waited = answer.network, None
        if not choices.no_wait:
            waited = _settle(choices, fabric, spec.name)
            if spec.host_access:
                network_access.settle(choices, fabric, spec.name, given=True)
            network = _find(fabric, spec.name) or network
    screen = Screen(choices)
    if choices.structured:
        data = {"network": plain(network), "existed": answer.existed, "warnings": list(answer.warnings)}
        screen.data(data, [spec.name])
    else:
        screen.print(_told(network, "existed already" if answer.existed else "created", waited))
    if waited:
        _note_docker(network)
        _note_away(waited)
    return present.OK


def update(choices: Choices, fabric: Fabric, request: network_pb2.UpdateNetworkRequest) -> int:
    """Change and wait until every connected host has it."""
    answer = fabric.ask(fabric.networks.UpdateNetwork, request)
    for warning in answer.warnings:
        present.warn(warning)
    network, waited = answer.network, None
    if not choices.no_wait:
        waited = _settle(choices, fabric, request.name)
        if request.HasField("host_access") or (network.spec.host_access and request.set_host_selector):
            network_access.settle(choices, fabric, request.name, given=network.spec.host_access)
        network = _find(fabric, request.name) or network
    screen = Screen(choices)
    if choices.structured:
        screen.data(plain(network), [request.name])
    else:
        screen.print(_told(network, "changed", waited))
    if waited:
        _note_docker(network)
        _note_away(waited)
    return present.OK


def delete(choices: Choices, name: str) -> int:
    """Delete and wait until every host was seen without it."""
    with Fabric(choices) as fabric:
        answer = fabric.ask(fabric.networks.DeleteNetwork, network_pb2.DeleteNetworkRequest(name=name))
        gone = answer.gone
        if not gone and not choices.no_wait:
            gone = _removed(choices, fabric, name).gone
    screen = Screen(choices)
    if choices.structured:
        screen.data({"network": name, "gone": gone}, [name])
    else:
        screen.print(f"network {name} {'deleted' if gone else 'is being deleted'}")
    return present.OK


def _removed(choices: Choices, fabric: Fabric, name: str) -> Waited:
    wanted = Wanted(
        f"deletion of network {name}",
        lambda: _watch(fabric, name, standing.network_removed),
        lambda: _look(fabric, name, standing.network_removed),
        ends_gone=True,
    )
    held = (
        "its VLAN id and prefixes stay claimed until those hosts were seen without it, or are forgotten "
        f"(trunkline host forget HOST): trunkline network show {name}"
    )
    return wait_gone(fabric, choices, wanted, held)
