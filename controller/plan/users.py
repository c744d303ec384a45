"""Attachments of origin docker: made from what a host says of the addresses it was given. Pure.

One container on one network is one attachment, with an address of each family. Its name follows the container's:
until Docker has shown who it is, the address stands in for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from controller.plan.accounts import At
from controller.plan.prefixes import pool
from controller.state import keys
from controller.state.records import AttachmentRecord, AttachmentStatus, NetworkRecord
from controller.state.snapshot import Snapshot, Stored
from trunkline.errors import Reason, Refusal
from trunkline.ids import IPAddress, check_attachment_name
from trunkline.model import EndpointObservation, Origin, Phase, Problem, Target, TargetKind

Listed = tuple[IPAddress, EndpointObservation | None]
"""An address of an attachment with what the host says of it; None: nothing that counts."""


@dataclass(frozen=True, slots=True)
class User:
    """An attachment of Docker as it is to be stored. `status` None: nothing was said of it."""

    record: AttachmentRecord
    status: AttachmentStatus | None


def docker_attachments(snapshot: Snapshot, host: str) -> dict[str, Stored[AttachmentRecord]]:
    """Those of a host that Docker made."""
    here = snapshot.attachments.get(host, {})
    return {name: stored for name, stored in here.items() if stored.value.origin is Origin.DOCKER}


def grouped(
    snapshot: Snapshot, host: str, used: Mapping[At, EndpointObservation], staying: Mapping[At, str]
) -> dict[str, list[Listed]]:
    """Addresses by the name of the attachment that uses them. `staying` are addresses that nothing was said of, with
    the attachments that have them."""
    groups: dict[str, list[Listed]] = {}
    for (_, address), holder in staying.items():
        groups.setdefault(holder, []).append((address, None))
    best: dict[tuple[str, str, int], At] = {}
    for at, seen in used.items():
        if seen.container:
            place = (seen.network, seen.container, at[1].version)
            if place not in best or _rank(used[best[place]]) < _rank(seen):
                best[place] = at
    chosen = set(best.values())
    for at, seen in used.items():
        name = _name(snapshot, host, at, seen.container if at in chosen else "")
        groups.setdefault(name, []).append((at[1], seen))
    for group in groups.values():
        group.sort(key=lambda one: (one[0].version, int(one[0])))
    return groups


def _rank(seen: EndpointObservation) -> tuple[bool, bool]:
    """Of two addresses of one family and container, the one that Docker lists is its own, the other is left over."""
    return seen.present, bool(seen.container_id)


def _name(snapshot: Snapshot, host: str, at: At, container: str) -> str:
    network, address = at
    name = f"{container}/{network}" if container else f"docker:{address}/{network}"
    try:
        check_attachment_name(name)
    except Refusal:
        name = f"docker:{address}/{network}"
    key = keys.attachment(host, name)
    known = snapshot.attachment(host, name)
    others = known.value.origin is not Origin.DOCKER if known is not None else snapshot.exists(key)
    return f"{name}/docker" if others else name


def user(
    snapshot: Snapshot, host: str, name: str, group: Sequence[Listed], network: NetworkRecord, now_ms: int
) -> User:
    """The attachment that uses these addresses, which are in order of family."""
    old = snapshot.attachment(host, name)
    limits = {pool(prefix).net.version: pool(prefix).net.prefixlen for prefix in network.prefixes}
    addresses = tuple(f"{address}/{limits.get(address.version, address.max_prefixlen)}" for address, _ in group)
    seen = [one for _, one in group if one is not None]
    if not seen and old is not None:
        return User(replace(old.value, addresses=addresses), None)
    container = next((one.container for one in seen if one.container), "")
    record = AttachmentRecord(
        host=host,
        name=name,
        network=network.name,
        target=Target(TargetKind.CONTAINER, container or str(group[0][0])),
        mac=next((one.mac for one in seen if one.mac), ""),
        owner=next((one.owner for one in seen if one.owner), ""),
        addresses=addresses,
        created_ms=old.value.created_ms if old is not None else _since(snapshot, host, network.name, group, now_ms),
        origin=Origin.DOCKER,
    )
    return User(record, _status(record, group, seen))


def _since(snapshot: Snapshot, host: str, network: str, group: Sequence[Listed], now_ms: int) -> int:
    """An attachment that gets its container's name is as old as it was without."""
    held = snapshot.addresses.get(network, {})
    holders = [held[address].value.holder for address, _ in group if address in held]
    found = [stored.value for holder in holders if (stored := snapshot.attachment(host, holder)) is not None]
    return min((record.created_ms for record in found if record.origin is Origin.DOCKER), default=now_ms)


def _status(record: AttachmentRecord, group: Sequence[Listed], seen: Sequence[EndpointObservation]) -> AttachmentStatus:
    present = {str(address) for address, one in group if one is not None and one.present}
    return AttachmentStatus(
        phase=Phase.READY if all(one.present for one in seen) else Phase.PENDING,
        ifname=next((one.ifname for one in seen if one.ifname), ""),
        mac=record.mac if present else "",
        addresses=tuple(text for text in record.addresses if text.partition("/")[0] in present),
        target_id=next((one.container_id for one in seen if one.container_id), ""),
        present=bool(present),
    )


def mac_duplicates(snapshot: Snapshot, users: Iterable[User]) -> Iterator[Problem]:
    """A MAC that Docker drew, or a user fixed, and another attachment of the network has, too (law 7)."""
    mine = {user.record.name: user.record for user in users}
    for name, record in sorted(mine.items()):
        for host, other in sorted(snapshot.on_mac.get(record.mac, ())):
            known = snapshot.attachments[host][other].value
            # Of a host's own attachments, those that go with this observation are this one by another name.
            gone = host == record.host and known.origin is Origin.DOCKER and other not in mine
            if (host, other) == (record.host, name) or known.network != record.network or gone:
                continue
            if host == record.host and known.target == record.target:
                continue
            yield Problem(
                "attachment",
                f"{record.host}/{name}",
                Reason.MAC_DUPLICATE.name,
                f"MAC {record.mac} on network {record.network} is that of {record.target} on host {record.host} and of "
                f"{known.target} on host {host}; give one of them another MAC",
            )
