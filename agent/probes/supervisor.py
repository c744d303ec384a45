"""Keeps one probe child alive: started ahead, ended on demand or when it hangs, started again with back-off."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import msgspec

from agent.probes import messages
from trunkline.backoff import Backoff
from trunkline.errors import Reason, TrunklineError
from trunkline.log import get

START_LIMIT: Final = 15.0
"""Seconds for a child to get ready: loading scapy takes 0.3 to 1.1 s, and hosts at boot are slow."""

SETTLED: Final = 10.0
"""Seconds a child must live before the next start is not held up for the last death."""

END_LIMIT: Final = 1.0

COMMAND: Final = (sys.executable, "-P", "-m", "agent.probes")
"""-P: nothing is imported from whatever directory the agent was started in."""

_log = get("agent.probes")


def failed(message: str, remedy: str = "") -> TrunklineError:
    """PROBE_FAILED with what was seen."""
    return TrunklineError(Reason.PROBE_FAILED, message, remedy)


class Call:
    """One request and what comes back for it."""

    def __init__(self, number: int, deadline: float) -> None:
        self.number = number
        self.deadline = deadline
        self._reports: asyncio.Queue[messages.Report | TrunklineError] = asyncio.Queue()

    def put(self, report: messages.Report | TrunklineError) -> None:
        """Hand a report, or the end of the child, to whoever waits."""
        self._reports.put_nowait(report)

    async def next(self) -> messages.Report:
        """The next report. Raises TimeoutError at the deadline, PROBE_FAILED when the child died."""
        async with asyncio.timeout(max(0.0, self.deadline - time.monotonic())):
            report = await self._reports.get()
        if isinstance(report, TrunklineError):
            raise report
        return report


class Supervisor:
    """The child and the calls that are open in it."""

    def __init__(self, command: Sequence[str] = COMMAND, backoff: Backoff | None = None) -> None:
        self._command = tuple(command)
        self._backoff = backoff or Backoff(0.2, 30.0)
        self._numbers = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._ready = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the child; None while there is none."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Begin to keep a child. Idempotent; a call does it too."""
        if self._closed:
            raise failed("the prober is closed")
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name="probe child")

    async def wait_ready(self) -> None:
        """Until a child is ready. Raises PROBE_FAILED when none is within its limit."""
        self.start()
        try:
            await asyncio.wait_for(self._ready.wait(), START_LIMIT)
        except TimeoutError:
            raise failed(
                f"the probe child did not get ready within {START_LIMIT:g} s", "see the agent's log for why it ended"
            ) from None

    @contextlib.asynccontextmanager
    async def call(self, make: Callable[[int], messages.Request], limit: float) -> AsyncIterator[Call]:
        """Send a request; what it brings is read from the call. A child that is silent past `limit` seconds hangs
        and is killed with all that it had open. Raises PROBE_FAILED."""
        await self.wait_ready()
        call = Call(next(self._numbers), time.monotonic() + limit)
        self._calls[call.number] = call
        try:
            self._send(make(call.number))
            yield call
        except TimeoutError:
            self._kill()
            raise failed(f"the probe child did not answer within {limit:g} s and was killed") from None
        finally:
            self._calls.pop(call.number, None)

    def stop(self, call: Call) -> None:
        """Tell the child that nobody waits for this call any more."""
        if call.number in self._calls and self._ready.is_set():
            self._send(messages.Stop(call.number))

    def _send(self, request: messages.Request) -> None:
        if self._writer is None:
            raise failed("the probe child has ended")
        self._writer.write(messages.pack(request))

    async def close(self) -> None:
        """End the child and fail what is open. Idempotent."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _keep(self) -> None:
        while True:
            began = time.monotonic()
            why = await self._one_life()
            if time.monotonic() - began > SETTLED:
                self._backoff.reset()
            wait = self._backoff.next()
            _log.warning("probe child ended", why=why, restart_in_s=round(wait, 3))
            await asyncio.sleep(wait)

    async def _one_life(self) -> str:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    # A session of its own: an interrupt at the terminal is the agent's to handle.
                    start_new_session=True,
                )
            reader, self._writer = await asyncio.open_connection(sock=ours)
            why = await self._listen(reader)
        except OSError as error:
            why = f"it could not be started: {error}"
        finally:
            self._ready.clear()
            if self._writer is None:
                ours.close()
            else:
                self._writer.transport.abort()
                self._writer = None
            self._fail_all()
            await self._reap()
        return why

    async def _listen(self, reader: asyncio.StreamReader) -> str:
        try:
            async with asyncio.timeout(START_LIMIT):
                first = await messages.read_report(reader)
            if not isinstance(first, messages.Ready):
                return "it did not begin with Ready"
            self._ready.set()
            while True:
                report = await messages.read_report(reader)
                if not isinstance(report, messages.Ready) and (call := self._calls.get(report.call)) is not None:
                    call.put(report)
        except TimeoutError:
            return f"it was not ready within {START_LIMIT:g} s"
        except (asyncio.IncompleteReadError, ConnectionError):
            return "it closed its end"
        except msgspec.DecodeError as error:
            return f"it sent nonsense: {error}"

    def _fail_all(self) -> None:
        for call in self._calls.values():
            call.put(failed("the probe child ended in the middle of its work", "it is started again; repeat the check"))

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _reap(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            # Our end of the pair is closed: a child that works leaves by itself.
            await asyncio.wait_for(process.wait(), END_LIMIT)
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
