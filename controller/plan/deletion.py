"""Delete networks (law 3 of docs/architecture.md). Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.plan.desired import selected
from controller.plan.networks import in_use_guards
from controller.plan.placement import readable
from controller.state import codec, keys
from controller.state.records import AddressKind, Claim, HostRecord, NetworkRecord
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import MAX_OPS, Delete, NoneNewer, Op, Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.model import Origin


@dataclass(frozen=True, slots=True)
class DeletePlan:
    """`gone`: there is no such network. `txn` is None when it is gone or being deleted already."""

    txn: Txn | None
    record: NetworkRecord | None
    gone: bool = False


def delete_network(snapshot: Snapshot, name: str) -> DeletePlan:
    """Plan to mark a network `deleting`; no attach can follow, since each guards the network as read. Raises
    NETWORK_IN_USE naming holders, STORE_CORRUPT.

    Guards: the network as read, and no attachment added since the snapshot.
    """
    key = keys.network(name)
    readable(snapshot, key)
    stored = snapshot.networks.get(name)
    if stored is None:
        return DeletePlan(None, None, True)
    if stored.value.deleting:
        return DeletePlan(None, stored.value)
    holders = _holders(snapshot, name, own=False)
    if holders:
        more = f" and {len(holders) - 10} more" if len(holders) > 10 else ""
        raise Refusal(
            Reason.NETWORK_IN_USE,
            f"network {name} is in use by {', '.join(holders[:10])}{more}",
            "detach them, or end what Docker runs there, and wait until they are gone; see `trunkline attachment list`",
            network=name,
        )
    record = replace(stored.value, deleting=True, generation=stored.value.generation + 1)
    guards = (Unchanged(key, stored.mod_revision), *in_use_guards(snapshot, name))
    return DeletePlan(Txn(guards, (Put(key, codec.encode(record)),)), record)


def _holders(snapshot: Snapshot, name: str, own: bool = True) -> list[str]:
    """Attachments, and addresses that are in use without one. What hosts have and do not use they let go once they are
    not told of the network any more; a promise goes with it. `own`: and hosts' own interfaces, which are taken away
    when the network is being deleted."""
    held = ((one, snapshot.attachments[one[0]][one[1]].value) for one in snapshot.on_network.get(name, ()))
    holders = [f"{host}/{named}" for (host, named), record in held if own or record.origin is not Origin.HOST]
    for address, stored in snapshot.addresses.get(name, {}).items():
        record = stored.value
        if record.kind is AddressKind.ATTACHMENT and snapshot.attachment(record.host, record.holder) is None:
            holders.append(f"{address} ({record.kind} {record.owner or record.holder})")
    prefix = keys.addresses(name)
    holders += [f"the unreadable key {key!r}" for key in snapshot.broken if key.startswith(prefix)]
    return sorted(holders)


def uncertain_hosts(snapshot: Snapshot, name: str) -> list[str]:
    """Hosts on which a network being deleted may still have links, in order of name (law 3).

    A host is certain when it was observed, all links read, after working towards a revision at which the network
    was being deleted, and showed nothing of it; or when it never can have been told of the network: it registered
    after the deletion began, or the selector never took it, neither selector nor host having changed since the
    network was made. A host that was told and crashed before it reported is thus waited for; forgetting it is the
    operator's word that nothing of it is left.
    """
    stored = snapshot.networks[name]
    return [
        host
        for host, known in sorted(snapshot.hosts.items(), key=lambda item: item[0])
        if _uncertain(snapshot, stored, host, known)
    ]


def _uncertain(snapshot: Snapshot, network: Stored[NetworkRecord], host: str, known: Stored[HostRecord]) -> bool:
    name, since = network.value.name, network.mod_revision
    status = snapshot.host_status.get(host)
    if (host, name) in snapshot.network_status or (status is not None and name in status.value.networks):
        return True
    if known.create_revision > since or (status is not None and status.value.observed_revision >= since):
        return False
    unchanged = network.value.generation <= 2 and known.mod_revision < network.create_revision
    return selected(known.value, network.value) or not unchanged


def finish_delete(snapshot: Snapshot, name: str) -> tuple[Txn, ...] | None:
    """Transactions that remove a network being deleted, to be committed in order, stopping at the first conflict
    (then plan again); None while there is nothing to finish or some host is uncertain.

    Races, one by one. *Attach*: it guards the network's mod-revision from before the deletion began, so it fails,
    now and if its answer was lost and it arrives late; a network made anew has another revision. So does a grant.
    *Resting keys*: only what is let go becomes one, and all of it has been. A lease may delete one at any time;
    deleting it again is no error. *An address key this snapshot has not seen*: the last transaction demands that
    nothing under the network's addresses is newer than the snapshot, so what it leaves is known. *Status*: written
    under a guard on the network's revision, so none appears after it is gone; a host that reports the network again
    before that fails the last transaction, which demands that no network status is newer. *The same plan twice*:
    every transaction guards the network's mod-revision, which no key ever has again.
    """
    stored = snapshot.networks.get(name)
    if stored is None or not stored.value.deleting or uncertain_hosts(snapshot, name) or _holders(snapshot, name):
        return None
    if any(snapshot.pool(name, version).given for version in (4, 6)):
        return None  # some host has addresses of it yet, and may give them to a container
    guard = Unchanged(keys.network(name), stored.mod_revision)
    left = [keys.address(name, address) for address in snapshot.addresses.get(name, {})]
    room = MAX_OPS - 4
    steps = [Txn((guard,), tuple(Delete(key) for key in left[i : i + room])) for i in range(0, len(left) - room, room)]
    record = stored.value
    rest: list[Op] = [Delete(key) for key in left[len(steps) * room :]]
    rest += [
        Delete(keys.network(name)),
        *_own_claim(keys.vlan(record.uplink, record.vlan), snapshot.vlans.get((record.uplink, record.vlan)), name),
        *_own_claim(keys.number(record.number), snapshot.numbers.get(record.number), name),
    ]
    guards = (
        guard,
        NoneNewer(keys.addresses(name), snapshot.revision),
        NoneNewer(keys.STATUS_NETWORKS, snapshot.revision),
    )
    return (*steps, Txn(guards, tuple(rest)))


def _own_claim(key: str, claim: Stored[Claim] | None, name: str) -> tuple[Op, ...]:
    return (Delete(key),) if claim is not None and claim.value.holder == name else ()
