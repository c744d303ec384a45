"""One host's part in a check: what to send when, and what the frames that come back prove. No sockets, no clock.

Every subject (a peer's broadcast, a peer's echo, an address) yields exactly one result. An address is judged only a
moment after its first answer, so that a second holder of it is heard too. Silence is a result only of something that
was sent; the rest is unknown.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from agent.ports import ProbeAddress, ProbePlan, ProbeResult
from agent.probes import frames
from agent.probes.frames import Claim, Echo, EchoKind

START_SPREAD: Final = 0.02
"""Seconds over which the hosts of a check spread their first frames, since one message starts them all."""

ROUNDS: Final = (0.0, 0.05, 0.15, 0.4, 0.8)
"""Starts of the first rounds in seconds; then one every `LATER`. A host that starts late misses the first ones."""

LATER: Final = 0.6
SETTLE: Final = 0.1
"""Seconds to wait for a second answer to one address: two holders on one wire answer within milliseconds."""

BURST: Final = 40
TICK: Final = 0.01
"""At most `BURST` frames every `TICK` seconds: 4,000 a second, under what one peer answers."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame to send; `subject` is told back to `sent`."""

    subject: tuple[str, str]
    sequence: int
    frame: bytes


@dataclass(slots=True)
class _Subject:
    kind: str
    mac: str
    address: ProbeAddress | None = None
    tries: int = 0
    sent_at: float = 0.0
    rtt: float = 0.0
    answered_at: float | None = None
    answers: dict[str, None] = field(default_factory=dict)


class Exchange:
    """A run of `plan` that began at monotonic second `now`; `draw` returns a number in [0, 1).

    Raises INVALID_ARGUMENT for what is no address; `due` raises INVALID_MAC and INVALID_NAME for what cannot be put
    into frames.
    """

    def __init__(self, plan: ProbePlan, now: float, draw: Callable[[], float]) -> None:
        self._plan = plan
        self._mac = plan.mac.lower()
        self._draw = draw
        self._began = now
        self._ends = now + plan.timeout
        self._starts = self._schedule(now + draw() * START_SPREAD)
        self._round_at = next(self._starts)
        self._tick_at = 0.0
        self._queue: deque[tuple[str, str]] = deque()
        self._sequence = itertools.count(1)
        self._flying: dict[int, tuple[str, int, int]] = {}
        self._questions: dict[str, bytes] = {}
        self._peers = {peer.host: peer.mac.lower() for peer in plan.peers}
        self._open: dict[tuple[str, str], _Subject] = {}
        self._skipped: list[ProbeResult] = []
        self._fill()

    def _schedule(self, first: float) -> Iterator[float]:
        for offset in ROUNDS:
            yield first + offset
        at = first + ROUNDS[-1]
        while True:
            at += LATER * (0.8 + 0.4 * self._draw())
            yield at

    def _fill(self) -> None:
        for host, mac in self._peers.items():
            self._open["broadcast", host] = _Subject("broadcast", mac)
            self._open["unicast", host] = _Subject("unicast", mac)
        for item in self._plan.addresses:
            kind = "gateway" if item.gateway else "address"
            if self._plan.mode != "bridge" and item.host == self._plan.host:
                why = f"macvlan mode {self._plan.mode}: interfaces of one host do not hear each other; ask another host"
                self._skipped.append(self._about(item, "unknown", message=why))
                continue
            address = frames.canonical(item.address)
            self._open[kind, address] = _Subject(kind, item.mac.lower(), item)

    @property
    def complete(self) -> bool:
        """Whether everything is learnt; it stays useful to the others until the plan's time is over."""
        return not self._open

    @property
    def ends(self) -> float:
        """Monotonic second at which probing and listening end."""
        return self._ends

    def wake(self) -> float:
        """Monotonic second at which `due` or `settled` has something to do."""
        settling = (s.answered_at + SETTLE for s in self._open.values() if s.answered_at is not None)
        sending = self._tick_at if self._queue else max(self._tick_at, self._round_at)
        return min(self._ends, sending, *settling)

    def due(self, now: float) -> list[Shot]:
        """Frames to send at `now`, in bursts."""
        if now < self._tick_at:
            return []
        if not self._queue and now >= self._round_at:
            self._begin_round(now)
        shots = [
            shot for shot in (self._shot(self._queue.popleft()) for _ in range(min(BURST, len(self._queue)))) if shot
        ]
        self._tick_at = now + TICK
        return shots

    def _begin_round(self, now: float) -> None:
        while self._round_at <= now:
            self._round_at = next(self._starts)
        wanted = [key for key, subject in self._open.items() if key[0] != "broadcast" and subject.answered_at is None]
        # Each host begins elsewhere, or all would ask the same peer at the same moment.
        cut = int(self._draw() * len(wanted))
        self._queue.extend([("hello", ""), *wanted[cut:], *wanted[:cut]])

    def _shot(self, key: tuple[str, str]) -> Shot | None:
        kind, name = key
        if kind == "hello":
            return Shot(key, 0, self._echo(EchoKind.BROADCAST, 0, frames.BROADCAST))
        subject = self._open.get(key)
        if subject is None or subject.answered_at is not None:
            return None
        if kind == "unicast":
            sequence = next(self._sequence)
            return Shot(key, sequence, self._echo(EchoKind.REQUEST, sequence, subject.mac))
        # Made when first needed: a thousand of them take a quarter of a second, in which no peer would be answered.
        if name not in self._questions:
            self._questions[name] = frames.question(self._mac, name)
        return Shot(key, 0, self._questions[name])

    def _echo(self, kind: EchoKind, sequence: int, destination: str, asked: Echo | None = None) -> bytes:
        timestamp = asked.timestamp_ns if asked else 0
        padding = asked.padding if asked else 0
        return frames.echo(
            Echo(kind, self._plan.run, sequence, self._plan.host, timestamp, self._mac, destination, padding)
        )

    def sent(self, shot: Shot, monotonic_ns: int, wall_ns: int) -> None:
        """Say that a frame left at these times of the two clocks."""
        subject = self._open.get(shot.subject)
        if subject is None:
            return
        subject.tries += 1
        subject.sent_at = monotonic_ns / 1e9
        if shot.sequence:
            self._flying[shot.sequence] = (shot.subject[1], monotonic_ns, wall_ns)

    def receive(self, frame: bytes, monotonic_ns: int, wall_ns: int) -> tuple[bytes | None, list[ProbeResult]]:
        """Take a frame that came at these times (`wall_ns` by the kernel, 0 when unknown): an answer to send at
        once, and what was learnt. Frames of other runs, of strangers and of nobody count for nothing."""
        seen = frames.parse(frame)
        if isinstance(seen, Echo):
            return self._hear(seen, monotonic_ns, wall_ns)
        if isinstance(seen, Claim):
            self._weigh(seen, monotonic_ns / 1e9)
        return None, []

    def _hear(self, seen: Echo, monotonic_ns: int, wall_ns: int) -> tuple[bytes | None, list[ProbeResult]]:
        if seen.run != self._plan.run or self._peers.get(seen.host) != seen.source:
            return None, []
        if seen.kind is EchoKind.BROADCAST:
            if self._open.pop(("broadcast", seen.host), None) is None:
                return None, []
            return None, [self._between(seen.host, self._plan.host, "broadcast", "ok", mac=seen.source)]
        if seen.destination != self._mac:
            return None, []
        if seen.kind is EchoKind.REQUEST:
            return self._echo(EchoKind.REPLY, seen.sequence, seen.source, seen), []
        flight = self._flying.get(seen.sequence)
        if flight is None or flight[0] != seen.host or self._open.pop(("unicast", seen.host), None) is None:
            return None, []
        elapsed = monotonic_ns - flight[1]
        by_kernel = wall_ns - flight[2]
        # The kernel saw the frame before we did; anything else means that the wall clock was set in between.
        rtt = by_kernel if 0 < by_kernel <= elapsed else elapsed
        self._flying = {number: other for number, other in self._flying.items() if other[0] != seen.host}
        return None, [self._between(self._plan.host, seen.host, "unicast", "ok", rtt=rtt / 1e9, mac=seen.source)]

    def _weigh(self, seen: Claim, now: float) -> None:
        subject = self._open.get(("address", seen.address)) or self._open.get(("gateway", seen.address))
        if subject is None or self._mac in (seen.mac, seen.source):
            return
        # A frame to everybody from the right MAC is no answer to us, though one from a wrong MAC proves a conflict.
        if seen.destination == self._mac or (subject.mac and seen.mac != subject.mac):
            subject.answers.setdefault(seen.mac)
            if subject.answered_at is None:
                subject.answered_at = now
                subject.rtt = now - subject.sent_at if subject.tries and seen.destination == self._mac else 0.0

    def settled(self, now: float) -> list[ProbeResult]:
        """Results of the addresses whose answers are all in."""
        results = self._skipped
        self._skipped = []
        for key, subject in list(self._open.items()):
            if subject.answered_at is not None and now >= subject.answered_at + SETTLE:
                del self._open[key]
                results.append(self._judged(subject))
        return results

    def _judged(self, subject: _Subject) -> ProbeResult:
        item = subject.address
        assert item is not None
        macs = list(subject.answers)
        if len(macs) == 1 and (not subject.mac or macs[0] == subject.mac):
            return self._about(item, "ok", rtt=subject.rtt, mac=macs[0])
        foreign = next(mac for mac in macs if mac != subject.mac)
        expected = f"; expected {subject.mac}" if subject.mac else ""
        return self._about(
            item, "conflict", rtt=subject.rtt, mac=foreign, message=f"answered by {' and '.join(macs)}{expected}"
        )

    def finish(self, drops: int) -> list[ProbeResult]:
        """The rest, at the end: silent, or unknown when `drops` frames found no room or nothing could be sent."""
        results = self.settled(float("inf"))
        lost = f"{drops} frames found no room in the receive buffer of {self._plan.host}" if drops else ""
        for (kind, name), subject in self._open.items():
            tries = subject.tries
            outcome, message = "silent", f"no answer to {tries} frames in {self._plan.timeout:g} s"
            if kind == "broadcast":
                message = f"nothing heard in {self._plan.timeout:g} s"
            elif not tries:
                outcome, message = "unknown", "nothing could be sent"
            if lost:
                outcome, message = "unknown", lost
            if subject.address is not None:
                results.append(self._about(subject.address, outcome, message=message))
            elif kind == "broadcast":
                results.append(self._between(name, self._plan.host, kind, outcome, message=message))
            else:
                results.append(self._between(self._plan.host, name, kind, outcome, message=message))
        self._open.clear()
        return results

    def _between(
        self, sender: str, receiver: str, kind: str, outcome: str, *, rtt: float = 0.0, mac: str = "", message: str = ""
    ) -> ProbeResult:
        return ProbeResult(
            self._plan.run, self._plan.network, sender, receiver, kind, outcome, rtt=rtt, mac=mac, message=message
        )

    def _about(
        self, item: ProbeAddress, outcome: str, *, rtt: float = 0.0, mac: str = "", message: str = ""
    ) -> ProbeResult:
        kind = "gateway" if item.gateway else "address"
        fact = self._between(self._plan.host, item.host, kind, outcome, rtt=rtt, mac=mac, message=message)
        return replace(fact, address=item.address)
