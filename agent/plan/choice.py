"""Which address a container gets: one decision from the ledger, who asks, and what the controller said. Pure.

What the owner had comes first; then what is promised to it; then stock; then the controller's; and at last what the
host keeps for others: of destroyed containers, past their rest, and resting. See docs/decisions/address-grants.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from agent.plan import ledger, users
from agent.plan.ledger import LEAK_MS, Entries, Entry
from agent.plan.owners import Asker
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.model import EndpointState, HostNetwork

FINAL: Final = frozenset(
    {
        Reason.NETWORK_NOT_FOUND,
        Reason.NETWORK_DELETING,
        Reason.HOST_DRAINED,
        Reason.HOST_NOT_SELECTED,
        Reason.HOST_NOT_FOUND,
        Reason.HOST_FORGETTING,
        Reason.HOST_IDENTITY,
        Reason.OWNER_ELSEWHERE,
    }
)
"""What the controller refuses for good: the host does not get round it with what it keeps for others."""

UNREACHED: Final = frozenset({Reason.CONTROLLER_UNREACHABLE, Reason.STORE_UNAVAILABLE, Reason.DEADLINE})
"""Nobody could say."""


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """One more address for this host: a certain one, or any of IP version `version`. `owner` "" when nobody could
    tell; `shared`: cluster-wide; `spare`: we could serve from what we keep, so do not ask other hosts to let go."""

    network: str
    version: int
    address: str = ""
    owner: str = ""
    shared: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for: any address of a prefix (`cidr`), or `address`. `askers` are all who could be asking, so one
    is certain; () when it is none of the containers that are set up with the network, None when it could not be looked
    up. `live` are the addresses that running containers have, and their names; None when that is not known. `boots`:
    dockerd is starting its containers, and answers nobody meanwhile."""

    host: str
    network: HostNetwork
    cidr: str
    now_ms: int
    address: str = ""
    askers: tuple[Asker, ...] | None = None
    live: Mapping[str, str] | None = None
    boots: bool = False


@dataclass(frozen=True, slots=True)
class Take:
    """Hand this address out, and it is what the ledger says of it from now on."""

    address: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the controller, then hand out what it gives, or decide again with its error."""

    request: GrantRequest


@dataclass(frozen=True, slots=True)
class Refuse:
    """Say no."""

    refusal: Refusal


Choice = Take | Ask | Refuse


def choose(entries: Entries, question: Question, failed: TrunklineError | None = None) -> Choice:
    """What to do about a request; `failed` is what became of an earlier `Ask`."""
    chooser = _Chooser(entries, question, failed)
    return chooser.certain() if question.address else chooser.any()


def granted(question: Question, address: str, promise: bool) -> Entry:
    """The entry of an address that the controller gave for a question."""
    who = _only(question)
    promise = promise or ledger.promised(question.network, _name(who), address)
    return ledger.used(who, question.now_ms, promise, bool(question.address))


def looks_for(entries: Entries, question: Question) -> bool:
    """Whether it matters which one of several who could be asking it is: something is kept, meant or reserved for one
    of them, or one is cluster-wide. Docker is not asked when it does not."""
    askers = question.askers or ()
    if any(one.shared or _has_promise(question, one) for one in askers):
        return True
    here = _here(entries, question)
    if question.address:
        asked = here.get(question.address)
        return asked is not None and bool(asked.owner or asked.container_id)
    return any(_has_idle(here, one) for one in askers)


def concerns(entries: Entries, question: Question, who: Asker) -> bool:
    """Whether it would matter that it is this one who asks."""
    return who.shared or _has_promise(question, who) or _has_idle(_here(entries, question), who)


def _has_promise(question: Question, who: Asker) -> bool:
    return any(kept.owner == who.owner for kept in question.network.reserved)


def _has_idle(here: Mapping[str, Entry], who: Asker) -> bool:
    return any(_idle(entry) and _mine(entry, who) for entry in here.values())


class _Chooser:
    def __init__(self, entries: Entries, question: Question, failed: TrunklineError | None) -> None:
        self._question = question
        self._network = question.network
        self._failed = failed
        self._here = _here(entries, question)
        self._who = _only(question)

    def any(self) -> Choice:
        """Any address of the prefix."""
        who, failed = self._who, self._failed
        own = self._own()
        if who is not None and self._asks_first(who, own):
            if failed is None:
                return self._ask()
            if failed.reason in UNREACHED and own is not None:
                return self._take(own)
            if failed.reason is not Reason.POOL_EXHAUSTED:
                return Refuse(self._unasked(who, failed))
        if own is not None:
            return self._take(own)
        if stock := self._oldest(lambda entry: entry.state is EndpointState.STOCK and not entry.owner):
            return self._take(stock)
        if failed is None:
            return self._ask()
        if failed.reason in FINAL:
            return Refuse(_refusal(failed))
        for spare in self._spares():
            return self._take(spare)
        return Refuse(self._exhausted(failed))

    def certain(self) -> Choice:
        """The address that the user asked for."""
        address = self._question.address
        entry = self._here.get(address)
        if refusal := self._unusable(address):
            return Refuse(refusal)
        if entry is None:
            return self._ask() if self._failed is None else Refuse(self._ungiven(address, self._failed))
        if refusal := self._held(address, entry):
            return Refuse(refusal)
        return self._take(address)

    def _asks_first(self, who: Asker, own: str | None) -> bool:
        """Whether only the controller knows: a reserved address is not here, or the owner may be live elsewhere."""
        if own is not None and self._here[own].promised:
            return False
        return self._reserved(who) or (who.shared and own is None)

    def _reserved(self, who: Asker) -> bool:
        version = _version(self._question.cidr)
        return any(kept.owner == who.owner and _version(kept.address) == version for kept in self._network.reserved)

    def _own(self) -> str | None:
        """What is here for the one who asks: promised before other, stock that is meant for it before kept, and what it
        had last. Of several who could be asking, what was given back first, and nothing that is promised to one."""
        if self._who is not None:
            who = self._who
            mine = [address for address, entry in self._here.items() if _idle(entry) and _mine(entry, who)]
            return max(mine, key=self._nearness, default=None)
        if self._question.askers is None:
            return self._latest() if self._question.boots else None
        askers = self._question.askers
        return self._oldest(
            lambda entry: (
                entry.state is EndpointState.KEPT
                and not (entry.promised or entry.shared or entry.fixed)
                and _anyone(entry, askers) is not None
            )
        )

    def _latest(self) -> str | None:
        """What was given back last: a dockerd that boots starts those that ran when it ended."""
        kept = [
            address
            for address, entry in self._here.items()
            if entry.state is EndpointState.KEPT and not (entry.promised or entry.shared)
            if not (entry.destroyed or entry.fixed)
        ]
        return max(kept, key=lambda address: (self._here[address].since_ms, -int(ip_address(address))), default=None)

    def _nearness(self, address: str) -> tuple[bool, bool, int, int]:
        entry = self._here[address]
        mine = entry.promised or ledger.promised(self._network, entry.owner, address)
        return mine, entry.state is EndpointState.STOCK, entry.since_ms, -int(ip_address(address))

    def _oldest(self, fits: Callable[[Entry], bool]) -> str | None:
        fitting = [address for address, entry in self._here.items() if fits(entry)]
        return min(fitting, key=lambda address: (self._here[address].since_ms, ip_address(address)), default=None)

    def _spares(self) -> list[str]:
        """What is kept for others, and may be given up: of destroyed containers, past its rest, resting; each oldest
        first; last what a container can start with alone. Nothing that is promised, and nothing that rests for such a
        container or for a cluster-wide owner."""
        ranked = []
        for address, entry in self._here.items():
            rank = self._rank(entry)
            bound = entry.promised or ((entry.shared or entry.fixed) and rank == 2)
            if entry.state is EndpointState.KEPT and not bound:
                needed = entry.fixed and not entry.destroyed
                ranked.append((needed, rank, entry.since_ms, int(ip_address(address)), address))
        return [address for *_, address in sorted(ranked)]

    def _rank(self, entry: Entry) -> int:
        if entry.destroyed:
            return 0
        return 1 if ledger.rested(entry, self._network, self._question.now_ms) else 2

    def _ask(self) -> Ask:
        who = self._who or Asker("")
        # Others are spared as long as something here has rested, or nobody can tell whom a resting one is kept from.
        spare = any(self._who is None or self._rank(self._here[address]) < 2 for address in self._spares())
        question = self._question
        version = _version(question.cidr)
        return Ask(GrantRequest(self._network.name, version, question.address, who.owner, who.shared, spare))

    def _take(self, address: str) -> Take:
        entry = self._here[address]
        who = self._who
        if who is None and entry.state is EndpointState.KEPT:
            who = _anyone(entry, self._question.askers or ())
        promise = ledger.promised(self._network, _name(who), address)
        promise = promise or (entry.promised and entry.owner == _name(who))
        return Take(address, ledger.used(who, self._question.now_ms, promise, bool(self._question.address)))

    def _unusable(self, address: str) -> Refusal | None:
        name, cidr = self._network.name, self._question.cidr
        if ip_address(address) not in ip_network(cidr):
            return Refusal(
                Reason.ADDRESS_OUTSIDE, f"{address} is not in {cidr} of network {name}", f"ask for one in {cidr}"
            )
        if any(prefix.gateway == address for prefix in self._network.prefixes):
            return Refusal(
                Reason.ADDRESS_RESERVED, f"{address} is the gateway of network {name}", "ask for another address"
            )
        return None

    def _held(self, address: str, entry: Entry) -> Refusal | None:
        """Why an address of the ledger cannot be given to the one who asks for it."""
        question, host, who = self._question, self._question.host, self._who
        if entry.state is EndpointState.USED:
            return self._in_use(address, entry)
        askers = question.askers
        if _anyone(entry, askers or ()) is not None or not (entry.owner or entry.container_id):
            return None
        if askers is None or (entry.destroyed and not entry.promised):
            return None
        kept = f"{address} of network {self._network.name} is {'promised to' if entry.promised else 'kept for'}"
        holder = entry.container or entry.owner
        return Refusal(
            Reason.ADDRESS_RESERVED if entry.promised else Reason.ADDRESS_RESTING,
            f"{kept} {holder} of {host}{f', not for {who.container}' if who and who.container else ''}",
            f"leave out --ip, ask for another address, or remove container {holder} first",
            network=self._network.name,
            address=address,
        )

    def _in_use(self, address: str, entry: Entry) -> Refusal | None:
        """Docker lets one container start once at a time, so one that asks again does not have what it was given."""
        live, now_ms = self._question.live, self._question.now_ms
        holder = (live or {}).get(address) or entry.container or entry.owner or "a container that is being started"
        if live is not None and address not in live:
            again = self._who is not None and bool(self._who.container_id) and _mine(entry, self._who)
            if again or now_ms - entry.since_ms > LEAK_MS:
                return None
        return Refusal(
            Reason.ADDRESS_TAKEN,
            f"{address} of network {self._network.name} is in use by {holder} on {self._question.host}",
            f"leave out --ip, ask for another address, or stop {holder} first",
            network=self._network.name,
            address=address,
        )

    def _ungiven(self, address: str, failed: TrunklineError) -> Refusal:
        if failed.reason not in UNREACHED:
            return _refusal(failed)
        name, host = self._network.name, self._question.host
        return Refusal(
            failed.reason,
            f"{host} does not hold {address} of network {name}, and no controller says whether it is free: "
            f"{failed.message}",
            "start it again when a controller is back, or leave out --ip",
        )

    def _unasked(self, who: Asker, failed: TrunklineError) -> Refusal:
        if failed.reason not in UNREACHED:
            return _refusal(failed)
        why = "has a reserved address" if self._reserved(who) else "is cluster-wide and may be live on another host"
        return Refusal(
            failed.reason,
            f"owner {who.owner} {why} in network {self._network.name}, and no controller can be asked from "
            f"{self._question.host}: {failed.message}",
            "start it again when a controller is back",
        )

    def _exhausted(self, failed: TrunklineError) -> Refusal:
        states = list(self._here.values())
        used = sorted(entry.container or entry.owner or "?" for entry in states if entry.state is EndpointState.USED)
        kept = sorted(entry.owner or entry.container or "?" for entry in states if entry.state is EndpointState.KEPT)
        here = f"{self._question.host} uses {len(used)}" + (f" ({users.few(tuple(used))})" if used else "")
        here += f" and keeps {len(kept)}" + (f" ({users.few(tuple(kept))})" if kept else "")
        if failed.reason is Reason.POOL_EXHAUSTED:
            return Refusal(failed.reason, f"{failed.message}; {here}", failed.remedy, **failed.facts)
        return Refusal(
            failed.reason,
            f"no address of {self._question.cidr} of network {self._network.name} is left here, {here}, and the "
            f"controller gave none: {failed.message}",
            failed.remedy or "start it again when a controller is back, or remove a container that is not needed",
        )


def _here(entries: Entries, question: Question) -> dict[str, Entry]:
    """The entries of the network that are of the prefix asked for, by address."""
    version, name = _version(question.cidr), question.network.name
    return {
        address: entry
        for (network, address), entry in entries.items()
        if network == name and _version(address) == version
    }


def _version(text: str) -> int:
    return 6 if ":" in text else 4


def _only(question: Question) -> Asker | None:
    """Who asks, when that is certain."""
    return question.askers[0] if question.askers and len(question.askers) == 1 else None


def _name(who: Asker | None) -> str:
    return who.owner if who else ""


def _idle(entry: Entry) -> bool:
    return entry.state is not EndpointState.USED


def _mine(entry: Entry, who: Asker) -> bool:
    """Whether an entry is for an asker. What is promised or meant for an owner is so by name; else cluster-wide owners
    and containers of this host may have the same name without being the same. A container that was renamed while it was
    stopped is still the one that had the address."""
    same = bool(entry.container_id) and entry.container_id == who.container_id
    if not entry.owner:
        return same
    by_name = entry.promised or entry.state is EndpointState.STOCK or entry.shared == who.shared
    return (entry.owner == who.owner and by_name) or (same and not entry.promised)


def _anyone(entry: Entry, askers: tuple[Asker, ...]) -> Asker | None:
    return next((who for who in askers if _mine(entry, who)), None)


def _refusal(failed: TrunklineError) -> Refusal:
    return (
        failed if isinstance(failed, Refusal) else Refusal(failed.reason, failed.message, failed.remedy, **failed.facts)
    )
