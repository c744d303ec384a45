"""Taking over hand-made Docker macvlan networks: what hosts have, as one fabric network, or why not. Pure.

What they have is written in one transaction where it fits. Where it does not, the network is written first with a
selector that no host can match, so that nothing on it can be attached, given to a host or kept in stock; then its
claims, in parts; at last the selector that was meant. Whoever is killed in between leaves a network that hands out
nothing and can be deleted, or finished by importing again. Claims first would not do: settling lets go of addresses
that a host does not list, and a host lists none of a network that it was not told of.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from controller.plan import netspec
from controller.plan.claims import check_overlap, check_uplink_mtu, choose_vlan
from controller.plan.desired import selected
from controller.plan.prefixes import pool
from controller.plan.requests import NetworkRequest
from controller.state import keys
from controller.state.records import NetworkRecord
from controller.state.snapshot import Snapshot
from trunkline.errors import Refusal
from trunkline.ids import IPAddress, check_name
from trunkline.model import DockerMode, Mode, Prefix

FENCE = ("-",)
"""A selector that matches no host: names begin with a letter or digit."""


@dataclass(frozen=True, slots=True)
class FoundNetwork:
    """A hand-made Docker network on one host. `uplink` "" when the agent's config maps none to its parent; ranges of
    `prefixes` are Docker's `--ip-range`, excludes its auxiliary addresses; `problem`: why it cannot be taken over."""

    host: str
    id: str
    parent: str
    uplink: str
    vlan: int
    prefixes: tuple[Prefix, ...] = ()
    mode: Mode = Mode.BRIDGE
    mtu: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FoundEndpoint:
    """A container on such a network; `addresses` with prefix length, those fixed for it while it does not run."""

    host: str
    container: str
    container_id: str
    addresses: tuple[str, ...] = ()
    mac: str = ""
    running: bool = True
    owner: str = ""
    shared: bool = False

    @property
    def plain(self) -> tuple[IPAddress, ...]:
        """Its addresses without prefix length; what cannot be read is left out."""
        return tuple(address for text in self.addresses if (address := _address(text)) is not None)

    def __str__(self) -> str:
        return f"container {self.container} on {self.host}"


@dataclass(frozen=True, slots=True)
class Found:
    """What all hosts that were asked have; `silent` says of each other one why it was not heard."""

    networks: tuple[FoundNetwork, ...] = ()
    endpoints: tuple[FoundEndpoint, ...] = ()
    silent: Mapping[str, str] = field(default_factory=dict)
    unasked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Preview:
    """What an import would make. `request` is None when hosts differ so much that it cannot be told."""

    request: NetworkRequest | None
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def preview(snapshot: Snapshot, name: str, found: Found) -> Preview:
    """What taking over the networks of this name means, every reason why it cannot be, and what to know before.
    Raises INVALID_NAME."""
    check_name("network", name)
    refusals = [*_unasked(found), *_existing(snapshot, name), *_networks(name, found), *_differences(snapshot, found)]
    warnings = [*_silent(found)]
    if not found.networks or refusals:
        request = _request(snapshot, name, found) if found.networks else None
        return Preview(request, (*refusals, *_duplicates(found)), tuple(warnings))
    request = _request(snapshot, name, found)
    try:
        record = netspec.checked(request)
        check_overlap(snapshot, _fresh(snapshot, record))
    except Refusal as error:
        refusals.append(error.text)
        return Preview(request, (*refusals, *_duplicates(found)), tuple(warnings))
    refusals += [*_claims(snapshot, record, warnings), *_duplicates(found), *_misplaced(record, found)]
    warnings += [*_carved(found), *_auxiliary(found, request), *_stopped(found), *_elsewhere(snapshot, record, found)]
    return Preview(request, tuple(refusals), tuple(warnings))


def pending(record: NetworkRecord) -> bool:
    """Whether an import of this network was begun and not finished."""
    return record.imported and record.host_selector == FENCE and not record.deleting


def _fresh(snapshot: Snapshot, record: NetworkRecord) -> NetworkRecord:
    """The record such that it does not overlap what an unfinished import has written of it."""
    stored = snapshot.networks.get(record.name)
    if stored is not None and pending(stored.value) and stored.value.prefixes == record.prefixes:
        return replace(record, prefixes=())
    return record


def _unasked(found: Found) -> Iterator[str]:
    for host, why in sorted(found.unasked.items()):
        yield f"host {host} could not be asked: {why}"


def _existing(snapshot: Snapshot, name: str) -> Iterator[str]:
    stored = snapshot.networks.get(name)
    if stored is None or pending(stored.value):
        if keys.network(name) in snapshot.broken:
            yield f"the record of network {name} in the store cannot be read; look at it with etcdctl"
        return
    if stored.value.deleting:
        yield f"network {name} is being deleted; wait until it is gone"
    elif stored.value.imported:
        yield (
            f"network {name} was imported before; exchange what is left on hosts with "
            f"`trunkline network import {name} --replace`"
        )
    else:
        yield f"the fabric has a network {name}; delete it, or make the Docker networks anew under another name"


def _networks(name: str, found: Found) -> Iterator[str]:
    """What is wrong with a host's network by itself."""
    if not found.networks:
        yield f"no host that was asked has a hand-made Docker macvlan network {name}"
    seen: dict[str, FoundNetwork] = {}
    for network in found.networks:
        if seen.setdefault(network.host, network) is not network:
            yield f"host {network.host} has more than one Docker network {name}; remove all but one"
        elif network.problem:
            yield f"host {network.host}: {network.problem}"
        elif not network.uplink:
            yield (
                f"host {network.host}: the parent {network.parent} of Docker network {name} belongs to no uplink; map "
                "its device in the agent's config, such as [uplinks.default]"
            )


def _differences(snapshot: Snapshot, found: Found) -> Iterator[str]:
    """Fields in which hosts differ, each with who has what."""
    usable = _usable(found)

    def cidrs(network: FoundNetwork) -> str:
        return " ".join(sorted(prefix.cidr for prefix in network.prefixes)) or "none"

    fields = (
        ("uplink", [(n.host, n.uplink) for n in usable if n.uplink]),
        ("VLAN", [(n.host, str(n.vlan) if n.vlan else "untagged") for n in usable]),
        ("subnet", [(n.host, cidrs(n)) for n in usable]),
        # A gateway that is not named is Docker's choice, which is not known while no container runs there.
        ("gateway", [(n.host, f"{p.gateway} of {p.cidr}") for n in usable for p in n.prefixes if p.gateway]),
        ("mode", [(n.host, n.mode.value) for n in usable]),
        ("MTU", [(n.host, str(mtu)) for n in usable if (mtu := _own_mtu(snapshot, n))]),
    )
    for what, values in fields:
        groups: dict[str, list[str]] = {}
        for host, value in values:
            groups.setdefault(value, []).append(host)
        if what == "gateway":
            groups = _contested(groups)
        if len(groups) > 1:
            told = "; ".join(f"{value} on {', '.join(hosts)}" for value, hosts in sorted(groups.items()))
            yield f"hosts differ in {what}: {told}"


def _contested(groups: dict[str, list[str]]) -> dict[str, list[str]]:
    """Gateways of the prefixes that have more than one."""
    by_prefix: dict[str, list[str]] = {}
    for text in groups:
        by_prefix.setdefault(text.partition(" of ")[2], []).append(text)
    return {text: groups[text] for texts in by_prefix.values() if len(texts) > 1 for text in texts}


def _usable(found: Found) -> list[FoundNetwork]:
    return [network for network in found.networks if not network.problem]


def _own_mtu(snapshot: Snapshot, network: FoundNetwork) -> int:
    """The MTU of a parent, 0 when it is only the uplink's."""
    status = snapshot.host_status.get(network.host)
    uplinks = status.value.uplinks if status is not None else ()
    of_uplink = next((uplink.mtu for uplink in uplinks if uplink.label == network.uplink), 0)
    return 0 if network.mtu == of_uplink else network.mtu


def _request(snapshot: Snapshot, name: str, found: Found) -> NetworkRequest:
    """The network that would be made; of hosts that differ the first one's."""
    first = next(iter(_usable(found) or found.networks))
    prefixes = tuple(_prefix(prefix, found) for prefix in first.prefixes)
    mtu = next((mtu for network in _usable(found) if (mtu := _own_mtu(snapshot, network))), 0)
    return NetworkRequest(
        name=name,
        uplink=first.uplink or "default",
        vlan=first.vlan,
        prefixes=prefixes,
        mtu=mtu,
        mode=first.mode,
        docker=DockerMode.LOCAL,
    )


def _prefix(prefix: Prefix, found: Found) -> Prefix:
    """A prefix as the fabric has it: no ranges, which were carved by hand so that hosts keep apart; excludes are the
    auxiliary addresses of all hosts, less what containers use."""
    same = [other for network in _usable(found) for other in network.prefixes if other.cidr == prefix.cidr]
    gateway = next((other.gateway for other in same if other.gateway), "")
    used = {str(address) for endpoint in found.endpoints for address in endpoint.plain} | {gateway}
    excludes = sorted({text for other in same for text in other.excludes} - used, key=_order)
    return Prefix(prefix.cidr, gateway, (), tuple(excludes))


def _order(text: str) -> tuple[int, int, str]:
    address = _address(text)
    return (address.version, int(address), "") if address is not None else (0, 0, text)


def _claims(snapshot: Snapshot, record: NetworkRecord, warnings: list[str]) -> Iterator[str]:
    """What another network of the fabric has of it."""
    stored = snapshot.networks.get(record.name)
    mine = stored is not None and (stored.value.uplink, stored.value.vlan) == (record.uplink, record.vlan)
    if not mine:
        try:
            warnings += choose_vlan(snapshot, record)[1]
        except Refusal as error:
            yield error.message
    try:
        check_uplink_mtu(snapshot, record)
    except Refusal as error:
        yield error.text


def _duplicates(found: Found) -> Iterator[str]:
    users: dict[IPAddress, list[FoundEndpoint]] = {}
    for endpoint in found.endpoints:
        for address in endpoint.plain:
            users.setdefault(address, []).append(endpoint)
    for address in sorted(users, key=lambda address: (address.version, int(address))):
        if len(users[address]) > 1:
            told = " and ".join(f"{user}{'' if user.running else ' (stopped)'}" for user in users[address])
            yield f"address {address} is used by {told}; give one of them another address"


def _misplaced(record: NetworkRecord, found: Found) -> Iterator[str]:
    for endpoint in found.endpoints:
        for text in endpoint.addresses:
            if _address(text) is None:
                yield f"{endpoint} has {text!r}, which is no address"
        for address in endpoint.plain:
            limits = next((pool(prefix) for prefix in record.prefixes if address in pool(prefix).net), None)
            if limits is None:
                cidrs = ", ".join(prefix.cidr for prefix in record.prefixes) or "no prefix"
                yield f"{endpoint} has {address}, which lies outside the network ({cidrs})"
            elif int(address) == limits.gateway:
                yield f"{endpoint} has {address}, which is the gateway; give it another address"
            elif not limits.is_host(int(address)):
                yield f"{endpoint} has {address}, which is no host address of {limits.net}"


def _silent(found: Found) -> Iterator[str]:
    for host, why in sorted(found.silent.items()):
        yield (
            f"host {host} was not heard: {why}; addresses that containers use there are not claimed until it is back, "
            "and may be given to others by then"
        )


def _carved(found: Found) -> Iterator[str]:
    for network in found.networks:
        ranges = [text for prefix in network.prefixes for text in prefix.ranges]
        if ranges:
            yield (
                f"host {network.host} hands out from {', '.join(ranges)} only; the fabric needs no ranges and drops "
                "that. Until --replace, Docker there goes on by itself: start nothing new on the old network"
            )


def _auxiliary(found: Found, request: NetworkRequest) -> Iterator[str]:
    kept = {text for prefix in request.prefixes for text in prefix.excludes}
    if kept:
        yield f"auxiliary addresses become excludes: {', '.join(sorted(kept, key=_order))}"
    used = {str(address): endpoint for endpoint in found.endpoints for address in endpoint.plain}
    every = {text for network in found.networks for prefix in network.prefixes for text in prefix.excludes}
    for text in sorted((every - kept) & set(used), key=_order):
        yield f"auxiliary address {text} is not excluded, since {used[text]} uses it"


def _stopped(found: Found) -> Iterator[str]:
    for endpoint in found.endpoints:
        if not endpoint.running and endpoint.addresses:
            fixed = " ".join(map(str, endpoint.plain))
            owner = endpoint.owner or endpoint.container
            yield (
                f"{endpoint} does not run; its fixed address {fixed} is reserved for owner {owner} until `trunkline "
                "address release`"
            )


def _elsewhere(snapshot: Snapshot, record: NetworkRecord, found: Found) -> Iterator[str]:
    have = {network.host for network in found.networks}
    hosts = [n for n, stored in snapshot.hosts.items() if n not in have and selected(stored.value, record)]
    hosts = sorted(set(hosts) - set(found.silent) - set(found.unasked))
    if hosts:
        yield f"the network is made on {', '.join(hosts)}, too; narrow it later with `trunkline network update --host`"


def _address(text: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        return None
