"""Open sessions of this replica: what goes down to each host, and who waits for what comes up.

A session never holds a queue of states: it remembers that its host is stale and builds the latest desired state
when the stream takes it, so a slow host costs memory to nobody and time to nobody else.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from trunkline import log
from trunkline.agent.v1 import session_pb2
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, HostNetwork, Target
from trunkline.wire import DesiredCoder, network_to_pb, target_to_pb

PACE = 0.02
"""Seconds between two desired states of one host: changes that come closer together are sent as one."""

LATEST = 1.0
"""Seconds a host waits at most for its next desired state, however busy this replica is with those of others."""

SHARE = 0.05
"""Part of the loop's time that repeated pushes may take together, so that hosts with thousands of attachments do
not slow down requests. The first push to a host after a quiet second is never put off."""

REMEMBER = 5.0
"""Seconds after a push for which its parts are kept for the next; a host at rest keeps none of this memory."""

_log = log.get("fleet")

Sink = Callable[[session_pb2.ProbeReport], None]

SILENCE = 60.0
"""Seconds a host that exchanges a Docker network may say nothing; each of its steps is one call of Docker's."""


@dataclass(frozen=True, slots=True)
class TargetAnswer:
    """What a host said of a target; `reason` is empty when it can be attached."""

    reason: str
    message: str
    name: str
    remedy: str = ""


class Budget:
    """Time that may be spent on pushes: earned at SHARE of real time, kept for at most a tenth of a second's work."""

    def __init__(self) -> None:
        self._left = 0.0
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until something may be spent again."""
        self._earn(now)
        return max(0.0, -self._left / SHARE)

    def spend(self, seconds: float, now: float) -> None:
        """Note what a push took."""
        self._earn(now)
        self._left -= seconds

    def _earn(self, now: float) -> None:
        self._left = min(0.1, self._left + (now - self._at) * SHARE)
        self._at = now


class Session:
    """One host's stream. `number` is the revision that wrote its record; `build` makes the host's desired state, and
    `forget` is called when it need not keep for the next one what it made this one from."""

    def __init__(
        self,
        host: str,
        number: int,
        build: Callable[[], Desired],
        budget: Budget,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        self.host = host
        self.number = number
        self._build = build
        self._budget = budget
        self._forget = forget
        self._coder = DesiredCoder()
        self._remembers = False
        self._pushed = float("-inf")
        self._observed = time.monotonic()
        self._stale = True
        self._wake = asyncio.Event()
        self._ended: TrunklineError | None = None
        self._ids = itertools.count(1)
        self._questions: dict[int, session_pb2.ConnectResponse] = {}
        self._inspections: dict[int, asyncio.Future[TargetAnswer]] = {}
        self._surveys: dict[int, asyncio.Future[session_pb2.DockerSurvey]] = {}
        self._exchanges: dict[int, asyncio.Queue[session_pb2.ReplaceReport | TrunklineError]] = {}
        self._runs: dict[int, Sink] = {}

    def observed(self) -> None:
        """An observation came."""
        self._observed = time.monotonic()

    def mute(self, now: float) -> float:
        """Seconds at `now`, of the monotonic clock, since the last observation or else since the session began."""
        return now - self._observed

    @property
    def ended(self) -> TrunklineError | None:
        """Why the session is over; None while it lives."""
        return self._ended

    def poke(self) -> None:
        """The host's desired state may have changed."""
        if not self._stale:
            self._stale = True
            self._wake.set()

    def end(self, error: TrunklineError) -> None:
        """End the session; whoever waits for an answer is told at once. The first reason stays."""
        if self._ended is not None:
            return
        self._ended = error
        self._wake.set()
        for waiting in (self._inspections, self._surveys):
            _fail(waiting.values(), _lost(self.host, error))
        for reports in self._exchanges.values():
            reports.put_nowait(_lost(self.host, error))
        for number, sink in list(self._runs.items()):
            sink(session_pb2.ProbeReport(id=number, done=True, error=f"the session ended: {error.text}"))
        self._runs.clear()

    async def outgoing(self) -> AsyncIterator[session_pb2.ConnectResponse]:
        """Messages for the host, questions before states, until the session ends by raising its error."""
        while self._ended is None:
            if self._questions:
                yield self._questions.pop(next(iter(self._questions)))
                continue
            if not self._stale:
                await self._woken(self._rest())
            elif (wait := self._put_off()) > 0:
                await self._woken(wait)
            elif (message := self._push()) is not None:
                yield message
        raise self._ended

    def _rest(self) -> float | None:
        """Seconds until what the last push was made from is forgotten; None when nothing is kept of it."""
        left = self._pushed + REMEMBER - asyncio.get_running_loop().time()
        if left > 0 and self._remembers:
            return left
        self._remembers = False
        self._coder.forget()
        self._forget()
        return None

    def _put_off(self) -> float:
        """Seconds until the next push is due."""
        now = asyncio.get_running_loop().time()
        since = now - self._pushed
        return min(LATEST - since, max(PACE - since, self._budget.wait(now)))

    def _push(self) -> session_pb2.ConnectResponse | None:
        loop = asyncio.get_running_loop()
        self._stale = False
        started = loop.time()
        message = self._state()
        self._pushed = loop.time()
        self._budget.spend(self._pushed - started, self._pushed)
        return message

    def _state(self) -> session_pb2.ConnectResponse | None:
        """The desired state; None while it cannot be told, and the host then keeps what it has."""
        self._remembers = True
        try:
            message = session_pb2.ConnectResponse()
            self._coder.write(self._build(), message.desired)
            return message
        except TrunklineError as error:
            _log.warning("no desired state", host=self.host, reason=error.reason.name, problem=error.message)
            return None

    async def _woken(self, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def inspect(self, target: Target, network: HostNetwork, ifname: str, timeout: float) -> TargetAnswer:
        """Ask the host about a target. HOST_UNREACHABLE when no answer comes within `timeout` seconds or the
        session ends meanwhile."""
        if self._ended is not None:
            raise _lost(self.host, self._ended)
        number = next(self._ids)
        future: asyncio.Future[TargetAnswer] = asyncio.get_running_loop().create_future()
        self._inspections[number] = future
        question = session_pb2.InspectTarget(
            id=number, target=target_to_pb(target), network=network_to_pb(network), ifname=ifname
        )
        self._ask(number, session_pb2.ConnectResponse(inspect=question))
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise _mute(self.host, f"about {target}", timeout) from None
        finally:
            del self._inspections[number]
            self._questions.pop(number, None)

    async def survey(self, name: str, timeout: float) -> session_pb2.DockerSurvey:
        """Ask the host for its hand-made Docker macvlan networks of a name. HOST_UNREACHABLE when no answer comes
        within `timeout` seconds or the session ends meanwhile; what the host could not do is in the answer."""
        if self._ended is not None:
            raise _lost(self.host, self._ended)
        number = next(self._ids)
        future: asyncio.Future[session_pb2.DockerSurvey] = asyncio.get_running_loop().create_future()
        self._surveys[number] = future
        self._ask(number, session_pb2.ConnectResponse(survey=session_pb2.SurveyDocker(id=number, name=name)))
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            raise _mute(self.host, f"about its Docker networks {name}", timeout) from None
        finally:
            del self._surveys[number]
            self._questions.pop(number, None)

    async def replace(self, network: str) -> AsyncIterator[session_pb2.ReplaceReport]:
        """Ask the host to exchange a hand-made Docker network; its reports, the last with a reason or a step that is
        `done`. HOST_UNREACHABLE when the session ends meanwhile or nothing comes for `SILENCE` seconds: the host goes
        on by itself all the same, and asking again joins it."""
        if self._ended is not None:
            raise _lost(self.host, self._ended)
        number = next(self._ids)
        reports: asyncio.Queue[session_pb2.ReplaceReport | TrunklineError] = asyncio.Queue()
        self._exchanges[number] = reports
        self._ask(number, session_pb2.ConnectResponse(replace=session_pb2.ReplaceDocker(id=number, network=network)))
        try:
            while True:
                report = await self._next_report(reports, network)
                yield report
                if report.reason or report.step.done:
                    return
        finally:
            del self._exchanges[number]
            self._questions.pop(number, None)

    async def _next_report(
        self, reports: asyncio.Queue[session_pb2.ReplaceReport | TrunklineError], network: str
    ) -> session_pb2.ReplaceReport:
        try:
            async with asyncio.timeout(SILENCE):
                report = await reports.get()
        except TimeoutError:
            raise _mute(self.host, f"about the exchange of Docker network {network}", SILENCE) from None
        if isinstance(report, TrunklineError):
            raise report
        return report

    def surveyed(self, report: session_pb2.DockerSurvey) -> None:
        """What the host has came; an answer that nobody waits for any more is dropped."""
        future = self._surveys.get(report.id)
        if future is not None and not future.done():
            future.set_result(report)

    def replaced(self, report: session_pb2.ReplaceReport) -> None:
        """A step of an exchange came; one that nobody waits for any more is dropped."""
        if (reports := self._exchanges.get(report.id)) is not None:
            reports.put_nowait(report)

    def probe(self, run: session_pb2.ProbeRun, sink: Sink) -> Callable[[], None]:
        """Ask the host to take part in a check; `sink` gets its reports, the last with `done`. Returns what ends
        the interest in them. `run.id` goes into the frames: the same on all hosts of one run, and no other run's."""
        number = run.id
        if self._ended is not None:
            sink(session_pb2.ProbeReport(id=number, done=True, error=f"the session ended: {self._ended.text}"))
            return lambda: None
        self._runs[number] = sink
        self._ask(number, session_pb2.ConnectResponse(probe=run))

        def forget() -> None:
            self._runs.pop(number, None)
            self._questions.pop(number, None)

        return forget

    def _ask(self, number: int, question: session_pb2.ConnectResponse) -> None:
        self._questions[number] = question
        self._wake.set()

    def answered(self, report: session_pb2.TargetReport) -> None:
        """An answer about a target came; one that nobody waits for any more is dropped."""
        future = self._inspections.get(report.id)
        if future is not None and not future.done():
            future.set_result(TargetAnswer(report.reason, report.message, report.name, report.remedy))

    def reported(self, report: session_pb2.ProbeReport) -> None:
        """A part of a check came; one that nobody waits for any more is dropped."""
        sink = self._runs.pop(report.id, None) if report.done else self._runs.get(report.id)
        if sink is not None:
            sink(report)


def _fail(futures: Iterable[asyncio.Future[Any]], error: TrunklineError) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


def _mute(host: str, what: str, seconds: float) -> TrunklineError:
    return TrunklineError(
        Reason.HOST_UNREACHABLE,
        f"host {host} did not answer {what} within {seconds:g} s",
        f"look at the agent on {host}",
        host=host,
    )


def _lost(host: str, cause: TrunklineError) -> TrunklineError:
    return TrunklineError(
        Reason.HOST_UNREACHABLE, f"the session of host {host} ended: {cause.message}", "try again", host=host
    )


class Fleet:
    """The sessions this replica holds, at most one per host: the one with the greatest number."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self.budget = Budget()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, host: str) -> Session | None:
        """The live session of a host here."""
        return self._sessions.get(host)

    def hosts(self) -> list[str]:
        """Hosts with a session here, in order."""
        return sorted(self._sessions)

    def open(self, session: Session) -> None:
        """Take a session in; of two of one host the older ends with SESSION_SUPERSEDED."""
        known = self._sessions.get(session.host)
        if known is not None and known.number > session.number:
            session.end(superseded(session.host, "this replica"))
            return
        self._sessions[session.host] = session
        if known is not None:
            known.end(superseded(session.host, "this replica"))

    def close(self, session: Session) -> None:
        """Let a session go, if it is still the host's."""
        if self._sessions.get(session.host) is session:
            del self._sessions[session.host]
        session.end(TrunklineError(Reason.HOST_UNREACHABLE, f"the stream of host {session.host} was closed"))

    def poke(self, hosts: Iterable[str]) -> None:
        """The desired states of these hosts may have changed."""
        for host in hosts:
            if (session := self._sessions.get(host)) is not None:
                session.poke()

    def end_all(self, error: TrunklineError) -> None:
        """End every session; the agents come back by themselves."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        for session in sessions:
            session.end(error)


def superseded(host: str, where: str) -> TrunklineError:
    """The error that ends an older session."""
    return TrunklineError(
        Reason.SESSION_SUPERSEDED,
        f"a newer session of host {host} was opened at {where}",
        "make sure only one agent runs under this host name",
        host=host,
    )
