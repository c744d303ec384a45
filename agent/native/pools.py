"""Addresses for Docker: pools and requests of the IPAM plugin, answered from what this host was given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final

from agent.docking import Engine, Granter, GrantRequest, Journal, PoolRequest
from agent.native.expected import Expected
from agent.native.holdings import Holdings, stock
from agent.native.identity import Identity
from agent.plan import choice, ledger, owners, pools
from agent.plan.choice import Ask, Question, Refuse, Take
from agent.plan.ledger import Entries, Entry, Listing
from agent.plan.owners import Asker, DockerNames
from trunkline import log
from trunkline.clock import Clock
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, EndpointObservation, EndpointState, HostNetwork, Problem

DEADLINE_SECONDS: Final = 2.8
"""For one request, all told. Docker itself waits for ever, under a lock of the network."""

GRANT_SECONDS: Final = 2.0
SPARE_SECONDS: Final = 0.4
"""Left of the deadline after the controller was asked, for deciding again and for the disk."""

ASKS: Final = 4
"""How often the controller is asked for one request: what it gave may be recalled before its answer comes."""

HALF_MS: Final = 5_000
"""Docker asks for the second address of a container as soon as it was given the first."""

GRACE_MS: Final = 15_000
"""Docker may have been given an address before this agent began, and not show it yet."""


@dataclass(frozen=True, slots=True)
class PoolPorts:
    """What the pools work through."""

    engine: Engine
    granter: Granter
    journal: Journal
    clock: Clock


class HostPools:
    """Implements `agent.docking.Pools`, and holds the ledger for the loop. `load` comes first.

    `ready` says what keeps a network's parent link from being used; `changed` is called when Docker was given an
    address or gave one back. `expected` are addresses of containers whose Docker network is being exchanged. `boots`:
    whether dockerd ended and was not seen to answer since."""

    def __init__(
        self,
        host: str,
        ports: PoolPorts,
        ready: Callable[[str], TrunklineError | None],
        changed: Callable[[], None],
        expected: Expected | None = None,
        boots: Callable[[], bool] = lambda: False,
    ) -> None:
        self._host = host
        self._expected = expected or Expected()
        self._granter = ports.granter
        self._clock = ports.clock
        self._ready = ready
        self._changed = changed
        self._identity = Identity(ports.engine, boots)
        self._holdings = Holdings(host, ports.journal)
        self._desired: Desired | None = None
        self._floor: tuple[str, int] | None = None
        self._wanted: dict[ledger.Key, int] = {}
        self._latest: dict[str, tuple[str, int]] = {}
        self._names = DockerNames()
        self._present: frozenset[ledger.Key] = frozenset()
        self._labels: tuple[Problem, ...] = ()
        self._complete = False
        self._complete_from_ms = 0
        self._fresh = False
        self._removals = False
        self._locks: dict[str, asyncio.Lock] = {}
        self._log = log.get("addresses")

    async def load(self, spooled: Desired | None) -> None:
        """Begin with the journal, and with the desired state that was in force when the agent last ran. Raises
        nothing."""
        known, self._complete = await self._holdings.load()
        self._desired, self._wanted = spooled, ledger.wanted_back(spooled)
        if spooled is not None:
            self._floor = (spooled.epoch, spooled.revision)
        self._fresh = spooled is None and not known
        self._complete_from_ms = 0 if self._fresh else self._clock.now_ms() + GRACE_MS

    # The loop's side

    async def desired(self, desired: Desired, removals: bool = True) -> None:
        """A desired state is in force: take what it grants, and let go of what is over if `removals` may be made.
        Raises nothing.

        Of the first state of another history nothing is taken: what it lists may have been let go of in the other one.
        """
        if _imported(desired) - _imported(self._desired):
            # What containers have on a network that was just imported is this host's; it is not in the ledger until
            # Docker was listed, and would be taken for let go.
            self._complete = False
            self._complete_from_ms = max(self._complete_from_ms, self._clock.now_ms() + 1)
        self._desired, self._removals, self._wanted = desired, removals, ledger.wanted_back(desired)
        if self._floor is None or self._floor[0] != desired.epoch:
            floor = 0 if self._floor is None and self._fresh else desired.revision
        else:
            floor = self._floor[1]
        self._floor = (desired.epoch, max(floor, desired.revision))
        await self._holdings.change(ledger.take(self._holdings.entries, desired, floor, self._clock.now_ms()))
        await self.tick()

    async def seen(self, listing: Listing) -> None:
        """Docker was listed: adopt, correct and find what was lost on the way. Raises nothing."""
        self._names = listing.names
        now_ms = self._clock.now_ms()
        self._present = frozenset(ledger.live(listing))
        changes = ledger.reconcile(self._holdings.entries, listing, now_ms, self._desired)
        # What is expected back is in use, though Docker lists nobody with it meanwhile.
        changes = {
            key: entry
            for key, entry in changes.items()
            if not self._expected.user(*key) or (entry is not None and entry.state is EndpointState.USED)
        }
        for key in self._holdings.gone_since(listing.began_ms):
            changes.pop(key, None)
        for key, entry in changes.items():
            if entry is not None and entry.state is EndpointState.KEPT and self._was_used(key):
                self._log.warning("address was lost by Docker", network=key[0], address=key[1], owner=entry.owner)
        await self._holdings.change(changes)
        self._labels = tuple(
            Problem("container", container.name, Reason.INVALID_NAME.name, wrong)
            for container in listing.containers
            if (wrong := owners.bad_label(container))
        )
        self._complete = self._complete or listing.began_ms >= self._complete_from_ms
        await self.tick()

    async def tick(self) -> bool:
        """Let go of what is over, and write what the disk did not take before; whether anything was let go of. Raises
        nothing."""
        await self._holdings.settle()
        if self._desired is None or not self._removals:
            return False
        return await self._holdings.let_go(self._desired, self._clock.now_ms())

    def entries(self) -> Entries:
        """The whole ledger."""
        return self._holdings.entries

    def endpoints(self) -> tuple[EndpointObservation, ...]:
        """The whole ledger, for the observation."""
        return self._holdings.observations(self._present)

    @property
    def complete(self) -> bool:
        """Whether an address that is not in the ledger is certainly not the host's."""
        return self._complete

    def problems(self) -> tuple[Problem, ...]:
        """What keeps the ledger from its work."""
        return (*self._holdings.problems(), *self._labels)

    # agent.docking.Pools

    async def check_pool(self, network: str, cidr: str, version: int, ip_range: str = "") -> tuple[str, str]:
        """See `agent.docking.Pools.check_pool`."""
        return pools.check(self._desired, self._host, pools.Asked(network, cidr, version, ip_range))

    async def request(self, request: PoolRequest) -> str:
        """See `agent.docking.Pools.request`."""
        deadline = self._clock.monotonic() + DEADLINE_SECONDS
        network, cidr = pools.of(self._desired, self._host, request.network, request.cidr)
        length = ip_network(cidr).prefixlen
        if request.gateway:
            return f"{pools.gateway(network, cidr, request.address)}/{length}"
        request = replace(request, cidr=cidr, address=pools.canonical(request.address))
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return f"{await self._request(request, network, deadline)}/{length}"
        except TrunklineError:
            await self._half_done(network.name, request.cidr)
            raise
        except TimeoutError:
            await self._half_done(network.name, request.cidr)
            raise TrunklineError(
                Reason.DEADLINE,
                f"{self._host} found no address of network {network.name} within {DEADLINE_SECONDS} s",
                "start the container again; see the agent's log if this stays so",
            ) from None

    async def release(self, network: str, cidr: str, address: str) -> None:
        """See `agent.docking.Pools.release`."""
        key = (network, ledger.plain(address))
        changes = ledger.release(self._holdings.entries, key, self._clock.now_ms())
        if not changes:
            return
        self._log.info("address given back", network=network, address=key[1])
        self._present -= {key}
        try:
            await self._holdings.change(changes)
        finally:
            self._changed()

    async def _half_done(self, network: str, cidr: str) -> None:
        """A start asks for an IPv4 address, then for an IPv6 one, and no other comes in between, since Docker locks the
        network. Refused the second, libnetwork up to Docker 28 at least does not give the first back."""
        address, ms = self._latest.pop(network, ("", 0))
        entry = self._holdings.entries.get((network, address))
        if entry is None or entry.mac or (":" in address) == (":" in cidr) or self._clock.now_ms() - ms > HALF_MS:
            return
        await self.release(network, "", address)

    async def _request(self, request: PoolRequest, network: HostNetwork, deadline: float) -> str:
        unready = self._ready(network.name)
        if unready is not None:
            raise unready
        async with self._locks.setdefault(network.name, asyncio.Lock()):
            question = Question(self._host, network, request.cidr, self._clock.now_ms(), request.address)
            entries = self._usable(network.name)
            question = await self._identity.complete(question, request, entries, self._names)
            question = self._expects(question, entries)
            address = await self._decide(question, deadline)
        self._changed()
        return address

    def _expects(self, question: Question, entries: Entries) -> Question:
        """The question with who asks, when a certain address is expected for the container that had it."""
        entry = entries.get((question.network.name, question.address))
        user = self._expected.user(question.network.name, question.address)
        if entry is None or not user or entry.container_id != user:
            return question
        return replace(question, askers=(Asker(entry.owner, entry.shared, user, entry.container),))

    async def _decide(self, question: Question, deadline: float) -> str:
        failed: TrunklineError | None = None
        while True:
            question = replace(question, now_ms=self._clock.now_ms())
            match choice.choose(self._usable(question.network.name), question, failed):
                case Take(address, entry):
                    return await self._hand_out(question, address, entry)
                case Refuse(refusal):
                    raise refusal
                case Ask(request):
                    try:
                        address, promise = await self._ask(request, deadline)
                    except TrunklineError as error:
                        failed = error
                        continue
                    return await self._hand_out(question, address, choice.granted(question, address, promise))

    async def _hand_out(self, question: Question, address: str, entry: Entry) -> str:
        name = question.network.name
        await self._holdings.hand_out((name, address), entry)
        self._latest[name] = (address, question.now_ms)
        self._log.info("address handed out", network=name, address=address, owner=entry.owner or "unknown")
        return address

    def _usable(self, network: str) -> Entries:
        """The ledger of a network, less what this host has and may not hand out."""
        return {
            key: entry
            for key, entry in self._holdings.free_of(network).items()
            if entry.state is EndpointState.USED or key not in self._wanted
        }

    async def _ask(self, request: GrantRequest, deadline: float) -> tuple[str, bool]:
        """An address from the controller, in the ledger as stock, and whether it is promised."""
        for _ in range(ASKS):
            epoch = self._floor[0] if self._floor else ""
            left = min(GRANT_SECONDS, deadline - self._clock.monotonic() - SPARE_SECONDS)
            if left <= 0:
                break
            answer = await self._granter.grant(request, left)
            key = (request.network, pools.canonical(answer.address))
            if self._is_news(key, answer.revision, epoch):
                self._wanted.pop(key, None)
                if key not in self._holdings.entries:
                    self._holdings.add(key, stock(request.owner, answer.promised, self._clock.now_ms()))
                return key[1], answer.promised
            self._log.info("answer came too late", network=key[0], address=key[1])
        raise TrunklineError(Reason.DEADLINE, "the controller gave no address that could still be used in time")

    def _is_news(self, key: ledger.Key, revision: int, epoch: str) -> bool:
        """Whether an address was given after all that is known of it: one that was taken back since may be another
        host's by now."""
        floor = self._floor or ("", 0)
        entry = self._holdings.entries.get(key)
        if entry is None:
            return floor[0] == epoch and revision > floor[1]
        free = entry.state is not EndpointState.USED and key in self._holdings.free_of(key[0])
        return free and (key not in self._wanted or (floor[0] == epoch and revision > self._wanted[key]))

    def _was_used(self, key: ledger.Key) -> bool:
        entry = self._holdings.entries.get(key)
        return entry is not None and entry.state is EndpointState.USED


def _imported(desired: Desired | None) -> set[str]:
    return {network.name for network in desired.networks if network.imported} if desired else set()
