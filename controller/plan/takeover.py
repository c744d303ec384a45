"""The transactions of an import: the network, and each address that a container has for that container. Pure.

See `imports` for why the order is what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from controller.plan import netspec
from controller.plan.claims import check_overlap, check_uplink_mtu, choose_vlan, free_number, uplink_guard
from controller.plan.imports import FENCE, FoundEndpoint, pending
from controller.plan.placement import readable
from controller.plan.requests import NetworkRequest
from controller.state import codec, keys
from controller.state.records import AddressKind, AddressRecord, AttachmentRecord, Claim, NetworkRecord
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import MAX_OPS, Absent, Guard, NoneNewer, Op, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.model import Origin, Target, TargetKind

OVERHEAD = 8
"""Guards and writes of a transaction that are not claims: network, VLAN id, number, uplink, other networks."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction of an import; None when all is written. `done`: nothing is left to do after it."""

    txn: Txn | None
    done: bool


def step(snapshot: Snapshot, request: NetworkRequest, endpoints: Sequence[FoundEndpoint], now_ms: int) -> Step:
    """The next transaction that makes the network with its claims; to be asked again until `done`. Asking again with
    the same arguments after any lost answer goes on where the store stands.

    Raises NETWORK_EXISTS, NETWORK_DELETING, PREFIX_OVERLAP, VLAN_TAKEN, NUMBERS_EXHAUSTED, UPLINK_MTU, ADDRESS_TAKEN,
    HOST_NOT_FOUND, STORE_CORRUPT, INVALID_*.

    Guards: of the first transaction those of `networks.create_network`; of each the hosts as read and the absence of
    every key that is claimed; of later ones the network as read.
    """
    asked = replace(netspec.checked(request), imported=True)
    key = keys.network(asked.name)
    readable(snapshot, key, keys.uplink(asked.uplink))
    stored = snapshot.networks.get(asked.name)
    if stored is None:
        return _first(snapshot, asked, endpoints, now_ms)
    _same(stored.value, asked)
    guard = Unchanged(key, stored.mod_revision)
    left = _unclaimed(snapshot, asked.name, endpoints)
    part = _fitting(left)
    guards, ops = _claims(snapshot, asked.name, part, now_ms)
    if len(part) < len(left):
        return Step(Txn((guard, *guards), ops), False)
    if not pending(stored.value):
        return Step(Txn((guard, *guards), ops) if ops else None, True)
    opened = replace(stored.value, host_selector=asked.host_selector, generation=stored.value.generation + 1)
    return Step(Txn((guard, *guards), (Put(key, codec.encode(opened)), *ops)), True)


def _first(snapshot: Snapshot, asked: NetworkRecord, endpoints: Sequence[FoundEndpoint], now_ms: int) -> Step:
    check_overlap(snapshot, asked)
    check_uplink_mtu(snapshot, asked)
    vid, _ = choose_vlan(snapshot, asked)
    left = _unclaimed(snapshot, asked.name, endpoints)
    part = _fitting(left)
    done = len(part) == len(left)
    record = replace(asked, vlan=vid, number=free_number(snapshot), created_ms=now_ms)
    if not done:
        record = replace(record, host_selector=FENCE)
    claim = codec.encode(Claim(record.name))
    made = (keys.network(record.name), keys.vlan(record.uplink, vid), keys.number(record.number))
    values = (codec.encode(record), claim, claim)
    guards, ops = _claims(snapshot, record.name, part, now_ms)
    facts: list[Guard] = [*map(Absent, made), uplink_guard(snapshot, record.uplink)]
    # Two new networks that overlap would each write keys of its own (law 2).
    facts.append(NoneNewer(keys.NETWORKS, snapshot.revision))
    return Step(Txn((*facts, *guards), (*map(Put, made, values), *ops)), done)


def _same(have: NetworkRecord, asked: NetworkRecord) -> None:
    """Raise unless the network is what this import has begun or made."""
    if have.deleting:
        raise Refusal(
            Reason.NETWORK_DELETING, f"network {have.name} is being deleted", "wait until it is gone", network=have.name
        )
    differs = netspec.differences(replace(have, host_selector=asked.host_selector), asked)
    if not have.imported or differs:
        what = "; ".join(differs) or "it was not imported"
        raise Refusal(
            Reason.NETWORK_EXISTS,
            f"the fabric has a network {have.name} that is not this one: {what}",
            f"delete it first: trunkline network delete {have.name}",
            network=have.name,
        )


def _unclaimed(snapshot: Snapshot, network: str, endpoints: Sequence[FoundEndpoint]) -> list[FoundEndpoint]:
    """Those of which an address has no record yet. Raises ADDRESS_TAKEN for one that somebody else has by now."""
    held = snapshot.addresses.get(network, {})
    left = []
    for endpoint in endpoints:
        found = [held.get(address) for address in endpoint.plain]
        for address, stored in zip(endpoint.plain, found, strict=True):
            if stored is not None and not belongs(stored.value, endpoint):
                raise _taken(network, str(address), endpoint, stored)
        if not all(found):
            left.append(endpoint)
    return left


def belongs(record: AddressRecord, endpoint: FoundEndpoint) -> bool:
    """Whether a record is the container's: on its host, or promised to its owner."""
    if record.kind is AddressKind.RESERVED:
        return record.owner == _owner(endpoint)
    return record.host == endpoint.host


def _owner(endpoint: FoundEndpoint) -> str:
    return endpoint.owner or endpoint.container


def _taken(network: str, address: str, endpoint: FoundEndpoint, stored: Stored[AddressRecord]) -> Refusal:
    record = stored.value
    whose = f"{record.host}/{record.holder}" if record.holder else record.owner or record.host or "nobody"
    return Refusal(
        Reason.ADDRESS_TAKEN,
        f"{endpoint} has address {address} of network {network}, which is {record.kind} for {whose}",
        "give the container another address, then import again",
        network=network,
        address=address,
    )


def _fitting(endpoints: Sequence[FoundEndpoint]) -> Sequence[FoundEndpoint]:
    """The first of them whose claims fit into one transaction."""
    hosts: set[str] = set()
    cost = OVERHEAD
    for index, endpoint in enumerate(endpoints):
        cost += 1 + len(endpoint.plain) + (endpoint.host not in hosts)
        hosts.add(endpoint.host)
        if cost > MAX_OPS:
            return endpoints[:index]
    return endpoints


def _claims(
    snapshot: Snapshot, network: str, endpoints: Sequence[FoundEndpoint], now_ms: int
) -> tuple[tuple[Guard, ...], tuple[Op, ...]]:
    """Claims of each container's addresses: of one that runs for its attachment, of one that does not as promised to
    its owner, since nothing on its host shows that it is still wanted."""
    guards: dict[str, Guard] = {}
    ops: list[Op] = []
    held = snapshot.addresses.get(network, {})
    for endpoint in endpoints:
        host = snapshot.hosts.get(endpoint.host)
        if host is None:
            raise Refusal(
                Reason.HOST_NOT_FOUND,
                f"host {endpoint.host} was forgotten meanwhile",
                "import again",
                host=endpoint.host,
            )
        guards.setdefault(keys.host(endpoint.host), Unchanged(keys.host(endpoint.host), host.mod_revision))
        holder = _holder(snapshot, endpoint, network) if endpoint.running else ""
        if holder:
            key = keys.attachment(endpoint.host, holder)
            guards[key] = Unchanged(key, snapshot.mod_revision(key)) if snapshot.exists(key) else Absent(key)
            ops.append(Put(key, codec.encode(_attachment(endpoint, network, holder, now_ms))))
        value = codec.encode(_address(endpoint, holder, now_ms))
        for address in endpoint.plain:
            key = keys.address(network, address)
            stored = held.get(address)
            guards[key] = Absent(key) if stored is None else Unchanged(key, stored.mod_revision)
            ops.append(Put(key, value))
    return tuple(guards.values()), tuple(ops)


def _holder(snapshot: Snapshot, endpoint: FoundEndpoint, network: str) -> str:
    """Name of the attachment: "<container>/<network>", or, where an operator's attachment has that, one more part."""
    name = f"{endpoint.container}/{network}"
    stored = snapshot.attachment(endpoint.host, name)
    if stored is not None:  # the host may have shown it by itself while a long import went on
        return name if stored.value.origin is Origin.DOCKER else f"{name}/docker"
    return f"{name}/docker" if snapshot.exists(keys.attachment(endpoint.host, name)) else name


def _attachment(endpoint: FoundEndpoint, network: str, holder: str, now_ms: int) -> AttachmentRecord:
    return AttachmentRecord(
        host=endpoint.host,
        name=holder,
        network=network,
        target=Target(TargetKind.CONTAINER, endpoint.container),
        mac=endpoint.mac,
        owner=_owner(endpoint),
        addresses=endpoint.addresses,
        created_ms=now_ms,
        origin=Origin.DOCKER,
    )


def _address(endpoint: FoundEndpoint, holder: str, now_ms: int) -> AddressRecord:
    if not holder:
        return AddressRecord(AddressKind.RESERVED, _owner(endpoint), since_ms=now_ms)
    return AddressRecord(
        kind=AddressKind.ATTACHMENT,
        owner=_owner(endpoint),
        host=endpoint.host,
        holder=holder,
        since_ms=now_ms,
        shared=endpoint.shared,
    )
