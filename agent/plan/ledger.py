"""The ledger: every address this host was given and has not let go, and what became of it. Pure.

The host alone decides who on it uses such an address, so containers start with no controller in reach; it tells the
controller afterwards, in its observations. See docs/decisions/address-grants.md.

Each function says what is to change; the caller writes that to the journal. Times are Unix milliseconds.
"""

from __future__ import annotations

from collections.abc import Container as Holds
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from typing import Final

from agent.plan.docker import Container
from agent.plan.owners import Asker, DockerNames, asker
from trunkline.model import Desired, EndpointObservation, EndpointState, Grant, HostNetwork

Key = tuple[str, str]
"""Network and address, without prefix length, in canonical text."""

LEAK_MS: Final = 120_000
"""An address that Docker was given and still does not show after so long was lost on the way: dockerd was killed, or
the start failed between its request and the interface."""

STALE_MS: Final = 3_000
"""For so long after a container gave its address back, Docker may still list it as running with it (seen on 20.10 when
several are restarted at once)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One address (without prefix length) of a network. `owner` is whom a USED or KEPT address is for, "" when nobody
    could tell, or whom a STOCK address is meant for; `shared`: the owner is cluster-wide; `promised`: it is reserved
    for the owner. `container_id` and `container` are "" until they are known, and `mac` until Docker showed the
    interface. `since_ms` is when the state began. `destroyed`: the container of a KEPT address is gone for good.
    `fixed`: its user chose this address (`--ip`), so its container can start with no other."""

    state: EndpointState
    owner: str = ""
    shared: bool = False
    promised: bool = False
    container_id: str = ""
    container: str = ""
    mac: str = ""
    since_ms: int = 0
    destroyed: bool = False
    fixed: bool = False


Entries = Mapping[Key, Entry]
Changes = dict[Key, Entry | None]
"""What entries become; None: the address is let go."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All containers of a Docker Engine, asked for at `began_ms`, and what its networks are."""

    containers: Sequence[Container]
    names: DockerNames
    began_ms: int


@dataclass(frozen=True, slots=True)
class Live:
    """An address that a running container has now."""

    key: Key
    container: Container
    mac: str


def live(listing: Listing) -> dict[Key, Live]:
    """Every address of the fabric's networks that a running container has."""
    found: dict[Key, Live] = {}
    for container in listing.containers:
        for endpoint in container.endpoints if container.runs else ():
            network = listing.names.of(endpoint.network_id, endpoint.network)
            for address in endpoint.addresses if network else ():
                key = (network or "", plain(address))
                found[key] = Live(key, container, endpoint.mac)
    return found


def plain(address: str) -> str:
    """An address without its prefix length, in canonical text; as it is when it is none."""
    try:
        return str(ip_interface(address).ip)
    except ValueError:
        return address


def promised(network: HostNetwork | None, owner: str, address: str) -> bool:
    """Whether the address is reserved for the owner."""
    reserved = network.reserved if network else ()
    return bool(owner) and any(kept.owner == owner and kept.address == address for kept in reserved)


def networks(desired: Desired | None) -> dict[str, HostNetwork]:
    """The networks of a desired state, by name."""
    return {network.name: network for network in desired.networks} if desired else {}


def take(entries: Entries, desired: Desired, floor: int, now_ms: int) -> Changes:
    """Grants of a desired state that this host has not got yet: as stock.

    `floor` is the revision of the desired state that was in force before. A grant no newer than that was known then: it
    was let go since, and an observation that shows so may be freeing it for another host.
    """
    known = networks(desired)
    changes: Changes = {}
    for grant in desired.grants:
        key = (grant.network, plain(grant.address))
        if grant.recalled or grant.revision <= floor or key in entries or grant.network not in known:
            continue
        mine = promised(known[grant.network], grant.owner, key[1])
        changes[key] = Entry(EndpointState.STOCK, grant.owner, promised=mine, since_ms=now_ms)
    return changes


def used(asked: Asker | None, now_ms: int, promise: bool = False, fixed: bool = False) -> Entry:
    """The entry of an address that is handed out, to nobody knows whom without `asked`."""
    who = asked or Asker("")
    entry = Entry(EndpointState.USED, who.owner, who.shared, promise, who.container_id, who.container, "", now_ms)
    return replace(entry, fixed=fixed)


def release(entries: Entries, key: Key, now_ms: int) -> Changes:
    """Docker gave an address back. One that is not in use is left as it is: Docker may say so twice, and late."""
    entry = entries.get(key)
    if entry is None or entry.state is not EndpointState.USED:
        return {}
    return {key: replace(entry, state=EndpointState.KEPT, since_ms=now_ms, destroyed=False)}


def reconcile(entries: Entries, listing: Listing, now_ms: int, desired: Desired | None = None) -> Changes:
    """What a listing of Docker teaches: who uses what, what was lost on the way, whose container is gone.

    What began while or after the listing was made is not judged by it.
    """
    running = live(listing)
    known = networks(desired)
    existing = _Existing(listing.containers)
    changes: Changes = {}
    for key, seen in running.items():
        entry = entries.get(key)
        if entry is None or entry.state is EndpointState.USED or _judged(entry, seen, listing.began_ms):
            changes[key] = _in_use(entry, seen, known.get(key[0]), now_ms)
    for key, entry in entries.items():
        if key in running or entry.since_ms >= listing.began_ms:
            continue
        if entry.state is EndpointState.USED and _leaked(entry, existing, now_ms):
            entry = replace(entry, state=EndpointState.KEPT, since_ms=now_ms)
        if entry.state is EndpointState.KEPT:
            entry = replace(entry, destroyed=existing.destroyed(entry))
        changes[key] = entry
    return {key: entry for key, entry in changes.items() if entries.get(key) != entry}


class _Existing:
    """The containers that exist, running or not."""

    def __init__(self, containers: Iterable[Container]) -> None:
        self.running: set[str] = set()
        self._ids: set[str] = set()
        self._owners: set[str] = set()
        for container in containers:
            self._ids.add(container.id)
            self._owners.add(asker(container).owner)
            if container.runs:
                self.running.add(container.id)

    def destroyed(self, entry: Entry) -> bool:
        """Whether it is certain that neither the container nor another of the same owner exists."""
        if not entry.owner and not entry.container_id:
            return False
        return entry.container_id not in self._ids and entry.owner not in self._owners


def _judged(entry: Entry, seen: Live, began_ms: int) -> bool:
    """Whether a listing is right about an address that the ledger says nobody uses."""
    stale = entry.state is EndpointState.KEPT and entry.container_id in ("", seen.container.id)
    return entry.since_ms + (STALE_MS if stale else 0) < began_ms


def _in_use(entry: Entry | None, seen: Live, network: HostNetwork | None, now_ms: int) -> Entry:
    who = asker(seen.container)
    promise = promised(network, who.owner, seen.key[1])
    if entry is not None and entry.owner == who.owner:
        promise = promise or entry.promised
    since = entry.since_ms if entry is not None and entry.state is EndpointState.USED else now_ms
    entry = Entry(EndpointState.USED, who.owner, who.shared, promise, who.container_id, who.container, seen.mac, since)
    return replace(entry, fixed=any(seen.key[1] in map(plain, one.requested) for one in seen.container.endpoints))


def _leaked(entry: Entry, existing: _Existing, now_ms: int) -> bool:
    """Whether a USED address that no running container has was lost: it was seen in use, and its container runs no
    more; or it was not seen for so long that Docker cannot still be starting its container."""
    if entry.mac and entry.container_id and entry.container_id not in existing.running:
        return True
    return now_ms - entry.since_ms > LEAK_MS


def rested(entry: Entry, network: HostNetwork | None, now_ms: int) -> bool:
    """Whether a KEPT address is past its rest."""
    return now_ms - entry.since_ms >= (network.rest_seconds if network else 0) * 1000


def over(entries: Entries, desired: Desired, now_ms: int) -> Changes:
    """What the host lets go of: what is KEPT, rested, and its container destroyed, its owner unknown or its hold over;
    what is recalled and unused and has rested, or is promised to the owner who wants it elsewhere; stock that is none
    of this host's by now, as when it was forgotten; and all that nobody uses of a network that the host is no longer
    to have."""
    known = networks(desired)
    given = {(grant.network, plain(grant.address)): grant for grant in desired.grants}
    return {
        key: None
        for key, entry in entries.items()
        if entry.state is not EndpointState.USED and _is_over(entry, known.get(key[0]), given.get(key), now_ms)
    }


def wanted_back(desired: Desired | None) -> dict[Key, int]:
    """What is recalled, and since which revision. It may be another host's by now, so this one hands it out no more,
    though it keeps it while it may not let go."""
    grants = desired.grants if desired else ()
    return {(grant.network, plain(grant.address)): grant.revision for grant in grants if grant.recalled}


def _is_over(entry: Entry, network: HostNetwork | None, given: Grant | None, now_ms: int) -> bool:
    if network is None:
        return True
    if entry.state is EndpointState.STOCK:
        # A desired state lists all stock of the host. What an answer gave after it was made comes again in the next.
        return given is None or given.recalled
    recalled = given if given is not None and given.recalled else None
    if recalled is not None and recalled.owner and recalled.owner == entry.owner and (entry.promised or entry.shared):
        return True
    if not rested(entry, network, now_ms):
        return False
    held = now_ms - entry.since_ms < network.hold_seconds * 1000 and (entry.owner or entry.container_id)
    return recalled is not None or entry.destroyed or not held


def observations(entries: Entries, present: Holds[Key] = frozenset()) -> tuple[EndpointObservation, ...]:
    """The whole ledger for the controller, sorted; `present` are the addresses that running containers have."""
    return tuple(
        EndpointObservation(
            network=key[0],
            address=key[1],
            state=entry.state,
            owner=entry.owner,
            shared=entry.shared,
            container_id=entry.container_id,
            container=entry.container,
            mac=entry.mac,
            present=entry.state is EndpointState.USED and key in present,
            released_ms=entry.since_ms if entry.state is EndpointState.KEPT else 0,
        )
        for key, entry in sorted(entries.items())
    )
