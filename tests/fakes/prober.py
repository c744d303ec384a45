"""A wire in memory and probers on it: who is plugged in hears who is plugged in, holders answer for their addresses.

It keeps the promises of `agent.ports.Prober` without frames: `contract/prober_suite.py` runs against it and against
the real one.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from agent.ports import Announcement, ConflictProbe, ProbeAddress, ProbePlan, ProbeResult
from trunkline.errors import Reason, TrunklineError

RTT = 0.0001


def _failed(message: str) -> TrunklineError:
    return TrunklineError(Reason.PROBE_FAILED, message)


@dataclass
class FakeWire:
    """One segment. `parents` are the (host, link index) that reach it; None lets every link reach it."""

    parents: set[tuple[str, int]] | None = None
    holders: dict[str, dict[str, str]] = field(default_factory=dict)
    neighbours: dict[str, dict[str, str]] = field(default_factory=dict)
    unplugged: set[str] = field(default_factory=set)
    parts: dict[tuple[str, int], dict[str, ProbePlan]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def hold(self, host: str, address: str, mac: str) -> None:
        """Somebody at `host` ("" for a stranger on the wire) answers for the address with this MAC."""
        self.holders.setdefault(str(ipaddress.ip_address(address)), {})[mac] = host
        self.wake()

    def release(self, address: str, mac: str) -> None:
        """It answers no more."""
        self.holders.get(str(ipaddress.ip_address(address)), {}).pop(mac, None)

    def cut(self, host: str) -> None:
        """Pull the host's cable: nobody hears it, it hears nobody, and its links lose their carrier."""
        self.unplugged.add(host)

    def mend(self, host: str) -> None:
        """Plug it in again."""
        self.unplugged.discard(host)
        self.wake()

    def wake(self) -> None:
        """Let all who wait look again."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def check_link(self, host: str, index: int) -> None:
        """Raise PROBE_FAILED unless the host can send on this link."""
        if self.parents is not None and (host, index) not in self.parents:
            raise _failed(f"{host} has no link {index}")
        if host in self.unplugged:
            raise _failed(f"link {index} of {host} has no carrier")

    def answers(self, host: str, address: str, mode: str = "bridge") -> list[str]:
        """MACs that answer `host` for an address."""
        found = self.holders.get(str(ipaddress.ip_address(address)), {})
        return [
            mac
            for mac, holder in found.items()
            if holder not in self.unplugged - {host} and (holder != host or mode == "bridge")
        ]


class FakeProber:
    """A host's prober on a wire. `announced` keeps what was announced; `failing`, when set, is why nothing works."""

    def __init__(self, wire: FakeWire, host: str) -> None:
        self.wire = wire
        self.host = host
        self.announced: list[Announcement] = []
        self.failing = ""
        self._closed = False

    def _check(self) -> None:
        if self._closed:
            raise _failed("the prober is closed")
        if self.failing:
            raise _failed(self.failing)

    async def run(self, plan: ProbePlan) -> AsyncIterator[ProbeResult]:
        """See `agent.ports.Prober`."""
        self._check()
        self.wire.check_link(self.host, plan.parent_index)
        loop = asyncio.get_running_loop()
        ends = loop.time() + plan.timeout
        parts = self.wire.parts.setdefault((plan.network, plan.run), {})
        parts[self.host] = plan
        self.wire.wake()
        learnt: set[tuple[str, str]] = set()
        complete = False
        try:
            for result in self._skipped(plan):
                learnt.add((result.kind, result.address))
                yield result
            while loop.time() < ends:
                changed = self.wire.changed
                for result in list(self._facts(plan, parts, learnt)):
                    yield result
                if complete := len(learnt) == 2 * len(plan.peers) + len(plan.addresses):
                    return
                await self._wait(changed, ends - loop.time())
                self._check()
            for result in self._silent(plan, learnt):
                yield result
        finally:
            # It answers the others until its time is over, as long as nobody left in the middle.
            if complete:
                loop.call_at(ends, parts.pop, self.host, None)
            else:
                parts.pop(self.host, None)

    @staticmethod
    async def _wait(changed: asyncio.Event, limit: float) -> None:
        try:
            await asyncio.wait_for(changed.wait(), max(0.0, limit))
        except TimeoutError:
            pass

    def _facts(
        self, plan: ProbePlan, parts: dict[str, ProbePlan], learnt: set[tuple[str, str]]
    ) -> Iterator[ProbeResult]:
        for peer in plan.peers:
            other = parts.get(peer.host)
            reached = other is not None and not {self.host, peer.host} & self.wire.unplugged
            for kind in ("broadcast", "unicast"):
                if reached and (kind, peer.host) not in learnt:
                    learnt.add((kind, peer.host))
                    yield self._pair(plan, peer.host, kind, "ok", peer.mac)
        for item in plan.addresses:
            macs = self.wire.answers(self.host, item.address, plan.mode)
            key = ("gateway" if item.gateway else "address", item.address)
            if macs and key not in learnt and self.host not in self.wire.unplugged:
                learnt.add(key)
                yield self._judged(plan, item, macs)

    def _pair(self, plan: ProbePlan, peer: str, kind: str, outcome: str, mac: str = "") -> ProbeResult:
        sender, receiver = (peer, self.host) if kind == "broadcast" else (self.host, peer)
        rtt = RTT if outcome == "ok" and kind == "unicast" else 0.0
        return ProbeResult(plan.run, plan.network, sender, receiver, kind, outcome, rtt, mac=mac)

    def _about(self, plan: ProbePlan, item: ProbeAddress, outcome: str) -> ProbeResult:
        kind = "gateway" if item.gateway else "address"
        return ProbeResult(plan.run, plan.network, self.host, item.host, kind, outcome, address=item.address)

    def _judged(self, plan: ProbePlan, item: ProbeAddress, macs: list[str]) -> ProbeResult:
        foreign = [mac for mac in macs if mac != (item.mac or macs[0])]
        outcome = "conflict" if foreign else "ok"
        message = f"answered by {' and '.join(macs)}" if foreign else ""
        return replace(self._about(plan, item, outcome), rtt=RTT, mac=(foreign or macs)[0], message=message)

    def _skipped(self, plan: ProbePlan) -> list[ProbeResult]:
        own = [item for item in plan.addresses if plan.mode != "bridge" and item.host == self.host]
        return [replace(self._about(plan, item, "unknown"), message=f"macvlan mode {plan.mode}") for item in own]

    def _silent(self, plan: ProbePlan, learnt: set[tuple[str, str]]) -> Iterator[ProbeResult]:
        for peer in plan.peers:
            for kind in ("broadcast", "unicast"):
                if (kind, peer.host) not in learnt:
                    yield self._pair(plan, peer.host, kind, "silent")
        for item in plan.addresses:
            if ("gateway" if item.gateway else "address", item.address) not in learnt:
                yield self._about(plan, item, "silent")

    async def conflicts(self, probes: Sequence[ConflictProbe]) -> list[str | TrunklineError]:
        """See `agent.ports.Prober`. Like the real one it does not hear the host's own interfaces."""
        return [self._conflict(probe) for probe in probes]

    def _conflict(self, probe: ConflictProbe) -> str | TrunklineError:
        try:
            self._check()
            self.wire.check_link(self.host, probe.parent_index)
        except TrunklineError as error:
            return error
        heard = self.wire.answers(self.host, probe.address, mode="private")
        return next((mac for mac in heard if mac not in probe.own_macs), "")

    async def announce(self, announcements: Sequence[Announcement]) -> list[TrunklineError | None]:
        """See `agent.ports.Prober`."""
        return [self._announce(announcement) for announcement in announcements]

    def _announce(self, announcement: Announcement) -> TrunklineError | None:
        try:
            self._check()
            if self.host in self.wire.unplugged:
                raise _failed(f"{announcement.ifname} has no carrier")
            known = [self.wire.holders.get(a.partition("/")[0], {}) for a in announcement.addresses]
            if any(announcement.mac not in macs for macs in known):
                raise _failed(f"{announcement.ifname} does not have MAC {announcement.mac}")
        except TrunklineError as error:
            return error
        self.announced.append(announcement)
        for cache in self.wire.neighbours.values():
            for address in announcement.addresses:
                # A neighbour learns of what it knows already, as kernels do.
                if address.partition("/")[0] in cache:
                    cache[address.partition("/")[0]] = announcement.mac
        return None

    async def close(self) -> None:
        """See `agent.ports.Prober`."""
        self._closed = True
        self.wire.wake()
