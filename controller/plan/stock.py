"""Addresses given to hosts ahead of use, so that containers start with no controller in reach. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from controller.plan.addresses import Choice, Cursors, next_free
from controller.plan.desired import selected
from controller.plan.grants import recall_guard, recall_op
from controller.plan.prefixes import pool
from controller.state import codec, keys
from controller.state.records import AddressKind, AddressRecord, HostRecord, NetworkRecord
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import Guard, Op, Put, Txn, Unchanged
from trunkline.ids import IPAddress
from trunkline.model import DockerMode, Prefix

STOCK = 2
"""Addresses of a prefix that a host has in stock for anybody."""

SURPLUS_SECONDS = 60
"""How long stock above that is left to a host; it comes from answers that were lost or not used."""

OWNED_SECONDS = 600
"""How long stock for one owner is left to a host that does not use it."""

READY = "READY"
"""State of a Docker network in which containers can be started on it."""

_Held = tuple[IPAddress, Stored[AddressRecord]]


def stocked_hosts(snapshot: Snapshot, network: str) -> int:
    """Hosts that are to have stock of a network: addresses are kept free for as many others."""
    stored = snapshot.networks.get(network)
    if stored is None:
        return 0
    hosts = [host.value for host in snapshot.hosts.values()]
    return sum(_has_docker(snapshot, host.name) and _entitled(host, stored.value) for host in hosts)


def _entitled(host: HostRecord, network: NetworkRecord) -> bool:
    if network.deleting or network.docker is DockerMode.NONE or host.drained or host.forgetting:
        return False
    return selected(host, network)


def _has_docker(snapshot: Snapshot, host: str) -> bool:
    status = snapshot.host_status.get(host)
    return status is not None and bool(status.value.docker)


def stock_steps(
    snapshot: Snapshot, host: str, network: str, hosts: int, cursors: Cursors, now_ms: int
) -> tuple[Txn, ...]:
    """Independent transactions that bring a host's stock of a network to what it is to be; () when it is. `hosts` is
    `stocked_hosts`: with less than two free addresses for each, nobody gets more.

    A host gets stock while it is connected, not drained, and its Docker network is ready; when it is drained, or not
    to have the network any more, what it does not use is recalled; so is what was excluded meanwhile. While its Docker
    is down it keeps what it has: containers start with that once it is back."""
    known, stored = snapshot.hosts.get(host), snapshot.networks.get(network)
    if known is None or stored is None or stored.value.deleting or known.value.forgetting:
        return ()
    entitled = _entitled(known.value, stored.value)
    status = snapshot.network_status.get((host, network))
    ready = status is not None and status.value.docker == READY and host in snapshot.sessions
    ready = ready and _has_docker(snapshot, host)
    found: list[Txn] = []
    for prefix in stored.value.prefixes:
        limits = pool(prefix)
        given = snapshot.pool(network, limits.net.version).given.get(host, {})
        held_here = [(a, snapshot.addresses[network][a]) for a in given]
        # Excluded after it was given: it is not to be used, and nobody uses it now.
        excluded = [one for one in held_here if limits.is_excluded(int(one[0])) and not one[1].value.promised]
        found += _recalled(network, [one for one in excluded if not one[1].value.recalled])
        mine = [one for one in held_here if one[1].value.kind is AddressKind.STOCK and one not in excluded]
        found += _recalls(network, [one for one in mine if not one[1].value.recalled], entitled, now_ms)
        held = sum(not one[1].value.owner for one in mine)
        if entitled and ready and held < STOCK and _free(snapshot, network, prefix) >= 2 * hosts:
            found += _top_up(snapshot, known, stored, prefix, STOCK - held, cursors, now_ms)
    return tuple(found)


def _free(snapshot: Snapshot, network: str, prefix: Prefix) -> int:
    limits = pool(prefix)
    index = snapshot.pool(network, limits.net.version)
    return limits.size - sum(index.counts.values()) - index.unreadable


def _recalls(network: str, mine: list[_Held], entitled: bool, now_ms: int) -> Iterator[Txn]:
    if not entitled:
        unwanted = mine
    else:
        old = sorted(mine, key=lambda one: (one[1].value.since_ms, int(one[0])))
        spare = [one for one in old if not one[1].value.owner]
        spare = [one for one in spare[: max(0, len(spare) - STOCK)] if _since(one, SURPLUS_SECONDS, now_ms)]
        unwanted = [*spare, *(one for one in old if one[1].value.owner and _since(one, OWNED_SECONDS, now_ms))]
    yield from _recalled(network, unwanted)


def _recalled(network: str, unwanted: list[_Held]) -> Iterator[Txn]:
    for address, stored in unwanted:
        yield Txn((recall_guard(network, address, stored),), (recall_op(network, address, stored),))


def _since(one: _Held, seconds: int, now_ms: int) -> bool:
    return one[1].value.since_ms + seconds * 1000 <= now_ms


def _top_up(
    snapshot: Snapshot,
    host: Stored[HostRecord],
    network: Stored[NetworkRecord],
    prefix: Prefix,
    wanted: int,
    cursors: Cursors,
    now_ms: int,
) -> Iterator[Txn]:
    name = network.value.name
    cursor = cursors.of(name, pool(prefix).net.version)
    choices: dict[IPAddress, Choice] = {}
    for _ in range(wanted):
        choice = next_free(snapshot, name, prefix, cursor)
        if choice is not None:
            choices[choice.address] = choice
    if not choices:
        return
    guards: list[Guard] = [
        Unchanged(keys.network(name), network.mod_revision),
        Unchanged(keys.host(host.value.name), host.mod_revision),
    ]
    ops: list[Op] = []
    for address, choice in choices.items():
        record = AddressRecord(AddressKind.STOCK, "", host.value.name, since_ms=now_ms)
        guards.append(choice.guard)
        path = codec.Path(keys.ADDRESSES, (name, address))
        ops.append(Put(choice.guard.key, codec.encode(record), known=(path, record)))
    yield Txn(tuple(guards), tuple(ops))
