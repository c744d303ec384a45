"""One exchange of a hand-made Docker network for ours.

What is meant is written down before the first container is cut off, and everything else is read off Docker: whoever is
killed at any point finishes, at the next start, whatever Docker shows to be missing. As long as the hand-made network
stands, what cannot go on is undone. Once it is gone the way is forward, and only if ours cannot be made is the
hand-made one made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Set
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from agent.docking import Engine, Handmade
from agent.native.expected import Expected
from agent.plan import dockernets, handmade, networks, uplinks
from agent.plan.docker import DockerNetwork
from agent.plan.handmade import Exchange, HandMade, Member
from agent.plan.networks import Parent
from agent.plan.state import HostConfig, Link, Observed
from agent.ports import Links
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.model import Desired, DockerMode, HostNetwork

T = TypeVar("T")
R = TypeVar("R")

TOGETHER: Final = 8
"""Containers that are cut off, or connected, at a time; Docker itself takes one after the other of a network."""

TRIES: Final = 3
PARENT_SECONDS: Final = 10.0
"""How long the sub-interface may take to be there again: Docker deletes one that it made itself with its network."""

_PAUSE: Final = 0.2


Tell = Callable[[str, str, int], Awaitable[None]]
"""Hears what was done: in words, to which container ("" for the host), and for how many milliseconds it was off."""


class Exchanges(Protocol):
    """Where exchanges are written down. Adapter: `spool`. Calls raise SPOOL_CORRUPT."""

    def exchanges(self) -> dict[str, Exchange]:
        """Those that were begun and not finished, by network."""
        ...

    def keep_exchanges(self, exchanges: dict[str, Exchange]) -> None:
        """Make them durable."""
        ...


@dataclass(frozen=True, slots=True)
class Bench:
    """What an exchange works with. `desired` is what is in force, None while that is not known; `held`
    tells a network's addresses that are in the ledger, once all that containers have now are; `look` wakes what makes
    sub-interfaces; `tell` hears each step."""

    engine: Engine
    handmade: Handmade
    links: Links
    spool: Exchanges
    expected: Expected
    config: Callable[[], HostConfig]
    desired: Callable[[], Desired | None]
    held: Callable[[str], Awaitable[Set[str]]]
    look: Callable[[], None]
    clock: Clock


class Work:
    """One pass of an exchange: from whatever Docker shows to the end, or to an error."""

    def __init__(
        self,
        bench: Bench,
        network: str,
        unfinished: dict[str, Exchange],
        tell: Tell,
    ) -> None:
        self._bench = bench
        self._name = network
        self._open = unfinished
        self._hear = tell
        self._off: dict[str, float] = {}
        self._host = bench.config().host

    async def _tell(self, message: str, container: str = "", off_ms: int = 0) -> None:
        await self._hear(message, container, off_ms)

    async def go(self) -> None:
        """Exchange; nothing to do is no error. Raises what stopped it, with the state that is left in the message."""
        found = await self._bench.handmade.named(self._name)
        old = self._only(handmade.foreign(found, self._name))
        if old is None and self._name not in self._open:
            await self._tell("nothing to exchange")
            return
        network = self._wanted()
        if network is None:
            await self._withdraw(old)
            return
        exchange = await self._write_down(old)
        if old is not None:
            await self._check(network, old, exchange)
            await self._tell(f"{len(exchange.members)} containers are on the hand-made network")
            exchange = await self._clear(old, exchange)
            await self._tell("the hand-made network is removed")
        ours = await self._ours(network, exchange)
        await self._connect_all(ours.id, exchange)
        await self._tell_macs(ours.id, exchange)
        await self._forget()
        await self._tell("the network is exchanged")

    def _wanted(self) -> HostNetwork | None:
        desired = self._bench.desired()
        if desired is None:
            raise TrunklineError(
                Reason.CONTROLLER_UNREACHABLE,
                f"{self._host} does not know yet what it is to have; nothing was changed",
                "try again when it is connected",
            )
        return next((network for network in desired.networks if network.name == self._name), None)

    def _only(self, found: list[HandMade]) -> HandMade | None:
        if len(found) > 1:
            raise Refusal(
                Reason.DOCKER_NETWORK_FOREIGN,
                f"{self._host} has {len(found)} Docker networks {self._name}; nothing was changed",
                "remove all but one",
            )
        return found[0] if found else None

    # What is meant

    async def _write_down(self, old: HandMade | None) -> Exchange:
        exchange = self._open.get(self._name) or Exchange(self._name, "")
        if old is not None:
            exchange = exchange.merged(await self._detailed(old), old.recipe)
        await self._keep(exchange)
        return exchange

    async def _detailed(self, old: HandMade) -> list[Member]:
        members = await self._bench.handmade.members(old)
        found = await _each(members, lambda member: self._bench.handmade.detailed(member, self._name))
        return [member for member in found if member is not None]

    async def _keep(self, exchange: Exchange) -> None:
        self._open[self._name] = exchange
        await asyncio.to_thread(self._bench.spool.keep_exchanges, dict(self._open))
        expect(self._bench.expected, exchange)

    async def _forget(self) -> None:
        self._open.pop(self._name, None)
        await asyncio.to_thread(self._bench.spool.keep_exchanges, dict(self._open))
        self._bench.expected.release(self._name)

    async def _check(self, network: HostNetwork, old: HandMade, exchange: Exchange) -> None:
        """Raise for what would only show once containers are off. Nothing was changed by then."""
        links = await self._bench.links.host_links()
        why = handmade.problem(old.network, links) or self._unfit(network, old, links)
        if not why and (bound := handmade.bound(exchange.members)):
            why = f"{', '.join(bound)} has the network by its id, which Docker cannot replace; make it anew by name"
        if not why and (outside := handmade.outside(exchange, network.prefixes)):
            why = f"{'; '.join(outside)}, outside network {self._name}"
        if not why:
            held = await self._bench.held(self._name)
            lacking = [
                f"{m.name} ({text})" for m in exchange.members if m.running for text in m.wanted if text not in held
            ]
            why = f"the addresses of {', '.join(lacking)} are not this host's in the ledger" if lacking else ""
        if why:
            raise await self._refused(old, exchange, why)

    async def _refused(self, old: HandMade, exchange: Exchange, why: str) -> TrunklineError:
        """Nobody is off unless an earlier life cut them off; either way nothing is left to go on with."""
        remedy = "mend that, then try again"
        there = {member.id for member in await self._bench.handmade.members(old)}
        if there >= {member.id for member in exchange.members}:
            await self._forget()
            return Refusal(Reason.IMPORT_REFUSED, f"{why}; nothing was changed on {self._host}", remedy)
        return await self._rolled_back(old.network.id, exchange, Refusal(Reason.IMPORT_REFUSED, why, remedy))

    def _unfit(self, network: HostNetwork, old: HandMade, links: list[Link]) -> str:
        if network.docker is not DockerMode.LOCAL:
            return f"network {self._name} is to have no Docker network of its own name ({network.docker})"
        if not network.imported:
            return f"network {self._name} was not imported"
        parent = self._parent_of(network, links)
        place = handmade.place(old.network.parent, self._bench.config(), links)
        if (place.uplink, place.vlan) != (network.uplink, network.vlan):
            return f"its parent {old.network.parent} is not VLAN {network.vlan} of uplink {network.uplink}"
        if parent is not None and parent.mtu != parent.link.mtu:
            return f"the network has MTU {parent.mtu}, but {parent.link.name} has {parent.link.mtu}"
        return ""

    # Away with the hand-made one

    async def _clear(self, old: HandMade, exchange: Exchange) -> Exchange:
        """Cut every container off and remove the network; undone when that cannot be."""
        try:
            for turn in range(TRIES):
                running = [member for member in exchange.members if member.running]
                await _each(running, lambda member: self._cut(old.network.id, member))
                try:
                    await self._bench.engine.remove_network(old.network.id)
                except TrunklineError as error:
                    if error.reason is not Reason.NETWORK_IN_USE or turn == TRIES - 1:
                        raise
                    # Somebody started a container on it meanwhile.
                    exchange = exchange.merged(await self._detailed(old), old.recipe)
                    await self._keep(exchange)
                else:
                    return exchange
        except TrunklineError as error:
            raise await self._rolled_back(old.network.id, exchange, error) from None
        raise AssertionError("a turn returns or raises")

    async def _cut(self, network_id: str, member: Member) -> None:
        self._off.setdefault(member.id, self._bench.clock.monotonic())
        await self._bench.engine.disconnect(network_id, member.id)

    async def _rolled_back(self, network_id: str, exchange: Exchange, cause: TrunklineError) -> TrunklineError:
        """Connect to the hand-made network again whoever is not; the error to raise."""
        failed = await self._connect_each(network_id, [one for one in exchange.members if one.running], back=True)
        if not failed:
            await self._forget()
            state = "every container is on the hand-made network again, with its address"
            return TrunklineError(cause.reason, f"{cause.message}; {state}", cause.remedy)
        return TrunklineError(cause.reason, f"{cause.message}; {_left(failed)}", "the agent goes on trying")

    async def _withdraw(self, old: HandMade | None) -> None:
        """The fabric does not want the network any more: an exchange that was begun is undone."""
        exchange = self._open.get(self._name)
        gone = TrunklineError(
            Reason.NETWORK_NOT_FOUND,
            f"{self._host} is not to have network {self._name}",
            "see `trunkline network list`",
        )
        if exchange is None:
            raise gone
        network_id = old.network.id if old else await self._bench.handmade.create(exchange.recipe)
        raise await self._rolled_back(network_id, exchange, gone)

    # Here is ours

    async def _ours(self, network: HostNetwork, exchange: Exchange) -> DockerNetwork:
        """Our Docker network, made if it is not there."""
        problem: TrunklineError | None = None
        for _ in range(TRIES):
            if (ours := handmade.owned_by_us(await self._bench.engine.networks(), self._name)) is not None:
                return ours
            try:
                parent = await self._parent(network)
                await self._bench.engine.create_network(dockernets.spec(network, parent.link.name))
            except TrunklineError as error:
                problem = error
                await self._bench.clock.sleep(_PAUSE)
        # The loop that makes our networks may have been first.
        if (ours := handmade.owned_by_us(await self._bench.engine.networks(), self._name)) is not None:
            return ours
        assert problem is not None
        raise await self._restored(exchange, problem)

    async def _parent(self, network: HostNetwork) -> Parent:
        end = self._bench.clock.monotonic() + PARENT_SECONDS
        while True:
            parent = self._parent_of(network, await self._bench.links.host_links())
            if parent is not None:
                return parent
            if self._bench.clock.monotonic() > end:
                raise TrunklineError(
                    Reason.UPLINK_MISSING,
                    f"{self._host} has no link for VLAN {network.vlan} on uplink {network.uplink}",
                    "see `trunkline host show`",
                )
            self._bench.look()
            await self._bench.clock.sleep(0.05)

    def _parent_of(self, network: HostNetwork, links: list[Link]) -> Parent | None:
        config = self._bench.config()
        shares = uplinks.shared(config.uplinks, links)
        return networks.plan_one(network, config, Observed(tuple(links)), shares).parent

    async def _restored(self, exchange: Exchange, cause: TrunklineError) -> TrunklineError:
        """Make the hand-made network again, since ours cannot be made; the error to raise."""
        try:
            network_id = await self._bench.handmade.create(exchange.recipe)
        except TrunklineError as error:
            off = ", ".join(member.name for member in exchange.members if member.running) or "none"
            return TrunklineError(
                cause.reason,
                f"{cause.message}; and the hand-made network cannot be made again: {error.message}; containers off "
                f"the network: {off}",
                "the agent goes on trying",
            )
        return await self._rolled_back(network_id, exchange, cause)

    async def _connect_all(self, network_id: str, exchange: Exchange) -> None:
        failed = await self._connect_each(network_id, exchange.members)
        if failed:
            first = next(iter(failed.values()))
            await self._keep(
                Exchange(self._name, exchange.recipe, tuple(m for m in exchange.members if m.id in failed))
            )
            raise TrunklineError(first.reason, _left(failed, exchange), "mend that; the agent goes on trying")

    async def _connect_each(
        self, network_id: str, members: Iterable[Member], back: bool = False
    ) -> dict[str, TrunklineError]:
        """Connect whoever is not connected, those that run first; why not, by container id."""
        there = await self._connected(network_id)
        failed: dict[str, TrunklineError] = {}

        async def connect(member: Member) -> None:
            try:
                if there.get(member.id) is None or not set(member.wanted) <= there[member.id]:
                    await self._connect(network_id, member)
                    await self._told(member, back)
            except TrunklineError as error:
                failed[member.id] = error

        await _each([member for member in members if member.running], connect)
        await _each([member for member in members if not member.running], connect)
        return failed

    async def _tell_macs(self, network_id: str, exchange: Exchange) -> None:
        """Docker 28 takes no MAC when it connects a container, 20.10 keeps it: what `--mac-address` asked for may be
        lost."""
        wanted = {member.id: mac for member in exchange.members if (mac := handmade.fixed_mac(member))}
        for container in await self._bench.engine.containers() if wanted else ():
            for endpoint in container.endpoints:
                mac = wanted.get(container.id, "")
                if endpoint.network_id == network_id and mac and endpoint.mac and endpoint.mac != mac:
                    why = f"Docker gave it MAC {endpoint.mac}, not {mac}: make the container anew to have that again"
                    await self._tell(why, container.name)

    async def _connected(self, network_id: str) -> dict[str, set[str]]:
        """Addresses, live or fixed, of each container that is set up with a network, by its id."""
        return {
            container.id: {text.partition("/")[0] for text in (*endpoint.addresses, *endpoint.requested)}
            for container in await self._bench.engine.containers()
            for endpoint in container.endpoints
            if endpoint.network_id == network_id
        }

    async def _connect(self, network_id: str, member: Member) -> None:
        backoff = Backoff(_PAUSE, 1.0, lambda: 1.0)
        for turn in range(TRIES):
            try:
                await self._bench.handmade.connect(network_id, member, member.wanted)
            except TrunklineError:
                if turn == TRIES - 1:
                    raise
                await self._bench.clock.sleep(backoff.next())
                there = await self._connected(network_id)
                if there.get(member.id) is not None and set(member.wanted) <= there[member.id]:
                    return
            else:
                return

    async def _told(self, member: Member, back: bool) -> None:
        since = self._off.get(member.id)
        off = 0 if since is None else round((self._bench.clock.monotonic() - since) * 1000)
        has = " ".join(member.wanted) or "no address of its own"
        where = "on the hand-made network again" if back else "connected" if member.running else "set up"
        await self._tell(f"{where} with {has}", member.name, off)


def _left(failed: dict[str, TrunklineError], exchange: Exchange | None = None) -> str:
    names = {member.id: member.name for member in (exchange.members if exchange else ())}
    told = "; ".join(f"{names.get(key, key[:12])}: {error.message}" for key, error in failed.items())
    return f"{len(failed)} containers are off the network: {told}"


async def _each(items: Iterable[T], act: Callable[[T], Awaitable[R]]) -> list[R]:
    """Act on all, a few at a time; what each gave, in order. Raises the first error once all have ended."""
    room = asyncio.Semaphore(TOGETHER)

    async def one(item: T) -> R:
        async with room:
            return await act(item)

    answers = await asyncio.gather(*map(one, items), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]


def expect(expected: Expected, exchange: Exchange) -> None:
    """Whoever is to be connected has its addresses until then."""
    for member in exchange.members:
        expected.hold(exchange.network, member.wanted, member.id)
