"""The `Prober` port: checks, conflict probes and announcements, done by a child that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from agent.ports import Announcement, ConflictProbe, ProbePlan, ProbeResult
from agent.probes import messages
from agent.probes.siblings import SiblingFactory, Siblings
from agent.probes.supervisor import COMMAND, Call, Supervisor, failed
from trunkline.backoff import Backoff
from trunkline.errors import TrunklineError

GRACE: Final = 5.0
"""Seconds beyond its own time after which a child counts as hung."""

EACH: Final = 0.01
"""Seconds more for each address of a request."""


class ChildProber:
    """Adapter of `agent.ports.Prober`. Nothing here imports scapy: the child does, once, when it starts.

    `siblings` makes the interface a check is made from. `command` starts the child; the number of its socket is
    appended. A child that is silent `grace` seconds past its time is killed. `start` may be called ahead, so that the
    first probe does not wait for the child to load.
    """

    def __init__(
        self,
        siblings: SiblingFactory,
        command: Sequence[str] = COMMAND,
        backoff: Backoff | None = None,
        grace: float = GRACE,
    ) -> None:
        self._siblings = Siblings(siblings)
        self._supervisor = Supervisor(command, backoff)
        self._grace = grace
        self._lingering: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """Process id of the child; None while there is none."""
        return self._supervisor.pid

    async def start(self) -> None:
        """Start the child, without waiting for it. Idempotent."""
        self._supervisor.start()

    async def wait_ready(self) -> None:
        """Until the child can probe; raises PROBE_FAILED when it does not get there."""
        await self._supervisor.wait_ready()

    async def run(self, plan: ProbePlan) -> AsyncIterator[ProbeResult]:
        """Take part in a check. Ends when everything is learnt or the plan's time is over; in the first case the host
        goes on answering the others in the background until then. Leaving early ends its part at once.

        Raises PROBE_FAILED when it cannot take part, at the start or in the middle.
        """
        async with contextlib.AsyncExitStack() as stack:
            call = await self._join(plan, stack)
            while True:
                report = await call.next()
                if isinstance(report, messages.Learnt):
                    for result in report.results:
                        yield result
                    if report.complete:
                        self._linger(call, stack.pop_all())
                        return
                if isinstance(report, messages.Finished):
                    if report.error:
                        raise failed(f"network {plan.network} could not be probed from {plan.host}: {report.error}")
                    return

    async def _join(self, plan: ProbePlan, stack: contextlib.AsyncExitStack) -> Call:
        """Sibling and call of a run; leaving the stack stops the run, then removes the sibling."""
        await self._supervisor.wait_ready()
        try:
            index = await self._siblings.take(plan)
        except TrunklineError as error:
            raise failed(
                f"no interface to probe network {plan.network} from on {plan.host}: {error.message}", error.remedy
            ) from error
        stack.push_async_callback(self._siblings.give_back, plan)
        limit = plan.timeout + self._grace + EACH * (len(plan.addresses) + len(plan.peers))
        call = await stack.enter_async_context(
            self._supervisor.call(lambda number: messages.Run(number, plan, index), limit)
        )
        stack.callback(self._supervisor.stop, call)
        return call

    def _linger(self, call: Call, stack: contextlib.AsyncExitStack) -> None:
        task = asyncio.create_task(self._answer_others(call, stack), name="probe run")
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)

    async def _answer_others(self, call: Call, stack: contextlib.AsyncExitStack) -> None:
        # What it had to say is said; that the link or the child goes away now concerns nobody.
        with contextlib.suppress(TrunklineError):
            async with stack:
                while not isinstance(await call.next(), messages.Finished):
                    pass

    async def conflicts(self, probes: Sequence[ConflictProbe]) -> list[str | TrunklineError]:
        """For each address: "" when nobody answered, the MAC that did, or PROBE_FAILED. Takes 0.36 s, less when all
        are answered; see `agent.probes.conflict` for who is heard."""
        outcomes = await self._judge(lambda number: messages.Conflicts(number, list(probes)), len(probes))
        return [
            outcome
            if isinstance(outcome, TrunklineError)
            else failed(f"{probe.address} could not be probed on link {probe.parent_index}: {outcome.error}")
            if outcome.error
            else outcome.mac
            for probe, outcome in zip(probes, outcomes, strict=True)
        ]

    async def announce(self, announcements: Sequence[Announcement]) -> list[TrunklineError | None]:
        """Announce at once and, in the background, a moment later; None where the first time was sent."""
        outcomes = await self._judge(lambda number: messages.Announce(number, list(announcements)), len(announcements))
        return [
            outcome
            if isinstance(outcome, TrunklineError)
            else failed(f"{', '.join(wanted.addresses)} could not be announced: {outcome.error}")
            if outcome.error
            else None
            for wanted, outcome in zip(announcements, outcomes, strict=True)
        ]

    async def _judge(
        self, make: Callable[[int], messages.Request], count: int
    ) -> Sequence[messages.Verdict | TrunklineError]:
        if not count:
            return []
        try:
            async with self._supervisor.call(make, self._grace + EACH * count) as call:
                report = await call.next()
        except TrunklineError as error:
            return [error] * count
        if not isinstance(report, messages.Judged) or len(report.verdicts) != count:
            return [failed("the probe child answered something else")] * count
        return report.verdicts

    async def close(self) -> None:
        """End the child; runs in progress fail, their siblings are removed. Idempotent."""
        await self._supervisor.close()
        await asyncio.gather(*self._lingering, return_exceptions=True)
