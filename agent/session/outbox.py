"""What waits to go up: the latest observation, and answers in order."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

from trunkline.agent.v1 import session_pb2
from trunkline.model import Observation
from trunkline.wire import observation_to_pb


class Outbox:
    """Outlives sessions: each new one is told the latest observation again. Answers are of one session only."""

    def __init__(self) -> None:
        self._latest: Observation | None = None
        self._stale = False
        self._answers: deque[session_pb2.ConnectRequest] = deque()
        self._filled = asyncio.Event()

    def report(self, observation: Observation) -> None:
        """Send `observation` instead of any that was not sent yet."""
        self._latest = observation
        self._stale = True
        self._filled.set()

    def answer(self, message: session_pb2.ConnectRequest) -> None:
        """Send an answer to a question of this session."""
        self._answers.append(message)
        self._filled.set()

    def begin(self) -> None:
        """A session opened: the controller knows nothing of what was sent in an earlier one."""
        self._answers.clear()
        self._stale = self._latest is not None
        self._filled.set()

    async def take(self, session: int) -> session_pb2.ConnectRequest:
        """The next message, answers first; waits for one."""
        while True:
            if self._answers:
                return self._answers.popleft()
            if self._stale and self._latest is not None:
                self._stale = False
                observation = replace(self._latest, session=session)
                return session_pb2.ConnectRequest(observation=observation_to_pb(observation))
            self._filled.clear()
            await self._filled.wait()
