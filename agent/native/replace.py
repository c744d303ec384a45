"""Exchanges of hand-made Docker networks for ours: asked for by a controller, or left by an earlier life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from agent.native.exchange import Bench, Work, expect
from agent.plan.handmade import Exchange, Step
from trunkline import log
from trunkline.backoff import Backoff
from trunkline.errors import Reason, TrunklineError

_FIRST_SECONDS: Final = 0.5
_LIMIT_SECONDS: Final = 15.0


@dataclass
class _Run:
    """One exchange as it goes; whoever asks meanwhile hears all of it."""

    steps: list[Step] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    over: bool = False
    error: TrunklineError | None = None

    async def tell(self, message: str, container: str, off_ms: int) -> None:
        async with self.news:
            self.steps.append(Step(message, container, off_ms))
            self.news.notify_all()

    async def end(self, error: TrunklineError | None) -> None:
        async with self.news:
            self.over, self.error = True, error
            self.news.notify_all()

    async def follow(self) -> AsyncIterator[Step]:
        seen = 0
        while not self.over or seen < len(self.steps):
            async with self.news:
                while not self.over and seen == len(self.steps):
                    await self.news.wait()
            for step in self.steps[seen:]:
                seen += 1
                yield step
        if self.error is not None:
            raise self.error


class Replacer:
    """Exchanges of this host, at most one at a time."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._lock = asyncio.Lock()
        self._runs: dict[str, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: dict[str, Exchange] = {}
        self._unfinished = asyncio.Event()
        self._log = log.get("replace")

    async def run(self) -> None:
        """Finish what an earlier life began, and what failed, until cancelled."""
        try:
            self._open.update(await asyncio.to_thread(self._bench.spool.exchanges))
        except TrunklineError as error:
            self._log.error("exchanges unreadable", reason=error.reason.name, why=error.text)
        for exchange in self._open.values():
            expect(self._bench.expected, exchange)
        try:
            await self._finish_all()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _finish_all(self) -> None:
        backoff = Backoff(_FIRST_SECONDS, _LIMIT_SECONDS, lambda: 1.0)
        while True:
            for network in sorted(self._open):
                await self._finish(network)
            self._unfinished.clear()
            if self._open:
                await self._bench.clock.sleep(backoff.next())
            else:
                backoff.reset()
                await self._unfinished.wait()

    async def _finish(self, network: str) -> None:
        try:
            async for step in self.replace(network):
                self._log.info("exchange", network=network, container=step.container, done=step.message)
        except TrunklineError as error:
            self._log.warning("exchange goes on later", network=network, reason=error.reason.name, why=error.text)

    async def replace(self, network: str) -> AsyncIterator[Step]:
        """Exchange, and tell each step; join an exchange that is under way. Nothing to do is no error. Going away
        does not end it. Raises what stopped it, with what state is left in the message."""
        run = self._runs.get(network)
        if run is None:
            run = self._runs[network] = _Run()
            task = asyncio.create_task(self._begin(network, run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        async for step in run.follow():
            yield step

    async def _begin(self, network: str, run: _Run) -> None:
        error: TrunklineError | None = None
        try:
            async with self._lock:
                await Work(self._bench, network, self._open, run.tell).go()
        except TrunklineError as known:
            error = known
        except Exception as bug:
            self._log.error("exchange failed", network=network, exc_info=bug)
            error = TrunklineError(Reason.INTERNAL, "the exchange failed; the agent's log has the traceback")
        finally:
            del self._runs[network]
            if network in self._open:
                self._unfinished.set()
            await run.end(error)
