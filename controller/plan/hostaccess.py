"""The hosts' own interfaces on networks with host access: attachments that nobody asks for by name. Pure.

They are made and marked for removal by what the records of network and host say, whoever looks first: each guards
both records as read, and its own key. Removal then goes the way of every attachment (law 6).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from controller.plan.addresses import Cursors
from controller.plan.attachments import claim
from controller.plan.desired import selected
from controller.plan.requests import AttachmentRequest
from controller.state import codec, keys
from controller.state.records import AttachmentRecord, HostRecord, NetworkRecord
from controller.state.snapshot import Snapshot, Stored
from controller.state.txn import Put, Txn, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.model import Origin, Target, TargetKind

OWNER: Final = "host"
"""Whom the addresses rest and are held for."""

_TARGET: Final = Target(TargetKind.PID, "1")
"""Says nothing to the agent, which goes by the origin; a process that is in the host's own namespace."""


@dataclass(frozen=True, slots=True)
class AccessStep:
    """One host's access to one network is to be made, or taken away."""

    host: str
    network: str
    give: bool


def names(network: str) -> tuple[str, str]:
    """Names a host's own attachment may have: the second where a container of that name took the first."""
    return f"host/{network}", f"host/{network}/access"


def network_named(name: str) -> str:
    """The network whose host access may be concerned when an attachment of this name changed; "" for none."""
    first, _, rest = name.partition("/")
    return rest.partition("/")[0] if first == "host" else ""


def access(snapshot: Snapshot, host: str, network: str) -> Stored[AttachmentRecord] | None:
    """The host's own attachment on a network, wanted or not."""
    for name in names(network):
        stored = snapshot.attachment(host, name)
        if stored is not None and stored.value.origin is Origin.HOST and stored.value.network == network:
            return stored
    return None


def _wants(host: HostRecord, network: NetworkRecord) -> bool:
    return network.host_access and not network.deleting and selected(host, network)


def access_steps(snapshot: Snapshot, network: str) -> tuple[AccessStep, ...]:
    """What is to be done for one network, in order of host. A host that is being forgotten is left to that; a host or
    network that cannot be read keeps what it has."""
    stored = snapshot.networks.get(network)
    if stored is None:
        return ()
    steps = []
    for name, host in sorted(snapshot.hosts.items(), key=lambda item: item[0]):
        if host.value.forgetting:
            continue
        have = access(snapshot, name, network)
        want = _wants(host.value, stored.value)
        if want and have is None:
            steps.append(AccessStep(name, network, True))
        elif not want and have is not None and not have.value.detaching:
            steps.append(AccessStep(name, network, False))
    return tuple(steps)


def access_txn(snapshot: Snapshot, step: AccessStep, cursors: Cursors, draw: int, now_ms: int) -> Txn | None:
    """The transaction of a step, on a snapshot that may be newer than the one it was found on; None when there is
    nothing to do any more. `draw` is 64 random bits.

    Raises POOL_EXHAUSTED, MAC_TAKEN, ATTACHMENT_EXISTS."""
    host, network = snapshot.hosts.get(step.host), snapshot.networks.get(step.network)
    if host is None or network is None or step not in access_steps(snapshot, step.network):
        return None
    if step.give:
        return _given(snapshot, host, network, cursors, draw, now_ms)
    return _taken(snapshot, host, network)


def _given(
    snapshot: Snapshot,
    host: Stored[HostRecord],
    network: Stored[NetworkRecord],
    cursors: Cursors,
    draw: int,
    now_ms: int,
) -> Txn | None:
    where = host.value.name
    free = [name for name in names(network.value.name) if not snapshot.exists(keys.attachment(where, name))]
    if not free:
        both = " and ".join(names(network.value.name))
        raise Refusal(
            Reason.ATTACHMENT_EXISTS,
            f"host {where} has no access to network {network.value.name}: attachments {both} are somebody else's",
            "detach one of them, or give it another --name",
            host=where,
            network=network.value.name,
        )
    request = AttachmentRequest(where, network.value.name, _TARGET, free[0], owner=OWNER)
    return claim(snapshot, request, host, network, cursors, draw, now_ms, Origin.HOST).txn


def _taken(snapshot: Snapshot, host: Stored[HostRecord], network: Stored[NetworkRecord]) -> Txn | None:
    stored = access(snapshot, host.value.name, network.value.name)
    if stored is None:
        return None
    key = keys.attachment(stored.value.host, stored.value.name)
    facts = (
        Unchanged(key, stored.mod_revision),
        Unchanged(keys.network(network.value.name), network.mod_revision),
        Unchanged(keys.host(host.value.name), host.mod_revision),
    )
    return Txn(facts, (Put(key, codec.encode(replace(stored.value, detaching=True))),))
