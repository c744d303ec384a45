"""Addresses that were somebody's while this host was away: asked for on the wire before they come up.

After a start from the spool nobody has vouched for the addresses in it, so each interface that is to be made is held
back until its addresses were probed for (RFC 5227). What somebody else answers for stays down, is reported with the
MAC that answered, and is asked for again. A probe that could not be sent or judged is neither "taken" nor "free": it
is tried again, and after TRIES failures the interface comes up all the same and says so, because addresses are unique
by construction and a container cut off for want of a probe would be the likelier harm. Without carrier nothing is
judged at all: silence on a dead wire proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.plan.state import Link, MacvlanSpec
from agent.plan.steps import AddMacvlan, AddShim, Job
from agent.ports import ConflictProbe, Prober
from trunkline import log
from trunkline.backoff import Backoff
from trunkline.clock import Clock
from trunkline.errors import Reason, TrunklineError

TRIES: Final = 3
_FIRST_SECONDS: Final = 2.0
_LIMIT_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Suspect:
    backoff: Backoff
    due: float = 0.0
    tries: int = 0
    probing: bool = False
    error: TrunklineError | None = None


class Quarantine:
    """Which attachments are suspect, and what is known of them. `wake` is called when a verdict is in."""

    def __init__(self, prober: Prober, clock: Clock, draw: Callable[[], float], wake: Callable[[], None]) -> None:
        self._prober = prober
        self._clock = clock
        self._draw = draw
        self._wake = wake
        self._suspects: dict[str, _Suspect] = {}
        self._doubtful: dict[str, TrunklineError] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._screened = clock.monotonic()
        self._log = log.get("quarantine")

    def suspect(self, names: Iterable[str]) -> None:
        """Interfaces of these attachments are probed for before they are made."""
        for name in names:
            self._suspects.setdefault(name, _Suspect(Backoff(_FIRST_SECONDS, _LIMIT_SECONDS, self._draw)))

    def vouch(self) -> None:
        """A controller has vouched for the state in force: only what was found in conflict stays suspect."""
        self._suspects = {
            name: suspect
            for name, suspect in self._suspects.items()
            if suspect.error is not None and suspect.error.reason is Reason.ADDRESS_CONFLICT
        }

    def keep_only(self, wanted: Collection[str], there: Collection[str]) -> None:
        """Attachments that are no longer wanted, or are there already, are nobody's suspects."""
        self._suspects = {
            name: suspect for name, suspect in self._suspects.items() if name in wanted and name not in there
        }
        self._doubtful = {name: error for name, error in self._doubtful.items() if name in wanted}

    def errors(self) -> dict[str, TrunklineError]:
        """Why suspects are held back: a conflict, or a probe that failed."""
        return {name: suspect.error for name, suspect in self._suspects.items() if suspect.error is not None}

    def doubtful(self) -> dict[str, TrunklineError]:
        """Attachments that came up although no probe could be judged, or before its verdict came."""
        return dict(self._doubtful)

    def due(self) -> float | None:
        """Monotonic time of the next probe to come, which may be over already; None when none is waiting."""
        # What came due since the jobs were screened was not probed for then, and nothing else would wake the loop.
        return min((suspect.due for suspect in self._suspects.values() if suspect.due > self._screened), default=None)

    def screen(self, jobs: Sequence[Job], links: Sequence[Link]) -> list[Job]:
        """The jobs that may be done now. Probes for the others begin here, and end by `wake`."""
        self._screened = self._clock.monotonic()
        by_index = {link.index: link for link in links}
        allowed: list[Job] = []
        probes: dict[str, list[ConflictProbe]] = {}
        for job in jobs:
            spec = _to_come(job)
            suspect = self._suspects.get(job.subject.name)
            if spec is None or suspect is None or not spec.addresses:
                allowed.append(job)
            elif self._may_probe(suspect) and not self._silent(suspect, by_index.get(spec.parent_index), spec):
                probes[job.subject.name] = _probes(spec)
        if probes:
            for name in probes:
                self._suspects[name].probing = True
            task = asyncio.create_task(self._probe(probes))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return allowed

    def _may_probe(self, suspect: _Suspect) -> bool:
        return not suspect.probing and suspect.due <= self._screened

    def _silent(self, suspect: _Suspect, parent: Link | None, spec: MacvlanSpec) -> bool:
        if parent is None or parent.carrier:
            return False
        suspect.error = TrunklineError(
            Reason.UPLINK_DOWN,
            f"{parent.name} has no carrier, so nobody can be asked whether {', '.join(spec.addresses)} is free",
            "check the cable or the switch port",
        )
        suspect.due = self._clock.monotonic() + suspect.backoff.next()
        return True

    async def _probe(self, probes: Mapping[str, Sequence[ConflictProbe]]) -> None:
        flat = [(name, probe) for name, of_one in probes.items() for probe in of_one]
        answers: Sequence[str | TrunklineError]
        try:
            answers = await self._prober.conflicts([probe for _, probe in flat])
        except TrunklineError as error:
            answers = [error] * len(flat)
        except Exception as error:
            # Without a verdict the interface would stay down for good, and nobody would be told.
            self._log.error("probe failed", exc_info=error)
            bug = TrunklineError(Reason.INTERNAL, "the agent failed to probe; its log has the traceback")
            answers = [bug] * len(flat)
        verdicts: dict[str, list[tuple[str, str | TrunklineError]]] = {}
        for (name, probe), answer in zip(flat, answers, strict=True):
            verdicts.setdefault(name, []).append((probe.address, answer))
        for name, of_one in verdicts.items():
            self._judge(name, of_one)
        self._wake()

    def _judge(self, name: str, answers: Sequence[tuple[str, str | TrunklineError]]) -> None:
        suspect = self._suspects.get(name)
        conflicts = [f"{address} ({mac})" for address, mac in answers if isinstance(mac, str) and mac]
        if suspect is None:
            # A controller vouched for it while the probe was under way, so it is up; what was heard is told.
            if conflicts:
                self._doubt(name, _conflict(conflicts, f"the interface of {name} is up on a controller's word"))
            return
        suspect.probing = False
        errors = [answer for _, answer in answers if isinstance(answer, TrunklineError)]
        if conflicts:
            self._hold(name, suspect, _conflict(conflicts, f"the interface of {name} stays down"))
        elif not errors:
            del self._suspects[name]
        elif suspect.tries + 1 < TRIES:
            suspect.tries += 1
            self._hold(name, suspect, errors[0])
        else:
            del self._suspects[name]
            self._doubt(name, errors[0])

    def _doubt(self, name: str, error: TrunklineError) -> None:
        self._doubtful[name] = error
        self._log.warning("brought up all the same", attachment=name, reason=error.reason.name, why=error.text)

    def _hold(self, name: str, suspect: _Suspect, error: TrunklineError) -> None:
        if suspect.error is None or suspect.error.message != error.message:
            self._log.warning("held back", attachment=name, reason=error.reason.name, why=error.text)
        suspect.error = error
        suspect.due = self._clock.monotonic() + suspect.backoff.next()

    async def close(self) -> None:
        """End probes under way. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _to_come(job: Job) -> MacvlanSpec | None:
    """The interface that a job makes."""
    for step in job.steps:
        if isinstance(step, AddMacvlan):
            return step.spec
        if isinstance(step, AddShim):
            return step.spec.interface
    return None


def _probes(spec: MacvlanSpec) -> list[ConflictProbe]:
    return [
        ConflictProbe(spec.parent_index, address.partition("/")[0], own_macs=(spec.mac,)) for address in spec.addresses
    ]


def _conflict(who: Sequence[str], so: str) -> TrunklineError:
    return TrunklineError(
        Reason.ADDRESS_CONFLICT,
        f"somebody else answers for {', '.join(who)}; {so}",
        "find the machine with that MAC and give it another address",
    )
