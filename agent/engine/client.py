"""The few calls of the Docker Engine API that the agent makes (Docker 20.10 to 29; the version is negotiated)."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiodocker
import aiohttp

from agent.docking import DockerAbsent
from trunkline.errors import Reason, TrunklineError

LIST_SECONDS: Final = 5.0
INSPECT_SECONDS: Final = 2.0
"""Inspecting a container blocks while dockerd starts it (seen on 28 and 29); the start's event wakes us later."""

EVENTS: Final = ("create", "start", "die", "destroy", "rename", "restart", "unpause")
"""Events of containers that can change a target; health checks' exec events, most of all by number, cannot."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A container as the list shows it. `state` is Docker's ("running", "exited", …)."""

    id: str
    names: tuple[str, ...]
    state: str
    network_mode: str


@dataclass(frozen=True, slots=True)
class Running:
    """A running container's process, and when it was started (Docker's timestamp)."""

    pid: int
    started_at: str


class Answered(Exception):
    """Docker answered with an error: its HTTP status and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Client:
    """One Docker Engine behind a unix socket. Every call raises DOCKER_UNAVAILABLE when the engine does not answer
    as it should; the connection and the API version are then made anew for the next."""

    def __init__(self, socket: str, host: str) -> None:
        self._socket = socket
        self._host = host
        self._docker: aiodocker.Docker | None = None

    def _engine(self) -> aiodocker.Docker:
        if self._docker is None:
            timeout = aiohttp.ClientTimeout(sock_connect=2)
            self._docker = aiodocker.Docker(url=f"unix://{self._socket}", timeout=timeout)
        return self._docker

    async def close(self) -> None:
        """Release the connection. Idempotent."""
        docker, self._docker = self._docker, None
        if docker is not None:
            await docker.close()

    async def _failed(self, error: BaseException) -> TrunklineError:
        await self.close()
        return self._unavailable(error)

    def _unavailable(self, error: BaseException) -> TrunklineError:
        cause = _os_error(error)
        what = os.strerror(cause.errno) if cause and cause.errno else str(error) or "no answer in time"
        kind = DockerAbsent if cause and cause.errno in (errno.ENOENT, errno.ECONNREFUSED) else TrunklineError
        return kind(
            Reason.DOCKER_UNAVAILABLE,
            f"the Docker Engine of {self._host} does not answer on {self._socket}: {what}",
            "start Docker, or mend [docker] socket in the agent's config",
        )

    async def version(self) -> str:
        """The engine's version, such as "20.10.24"."""
        try:
            async with asyncio.timeout(LIST_SECONDS):
                answer = await self._engine().version()
            return str(answer["Version"])
        except _FAILURES as error:
            raise await self._failed(error) from error

    async def containers(self) -> list[Summary]:
        """All containers, running or not, in one call."""
        try:
            async with asyncio.timeout(LIST_SECONDS):
                listed = await self._engine().containers.list(all=1)
            return [_summary(container._container) for container in listed]
        except _FAILURES as error:
            raise await self._failed(error) from error

    async def inspect(self, container_id: str) -> Running | None:
        """Its process; None when it does not run, is gone, or is being started."""
        try:
            async with asyncio.timeout(INSPECT_SECONDS):
                container = await self._engine().containers.get(container_id)
            return _running(container._container)
        except TimeoutError:
            return None
        except aiodocker.DockerError as error:
            if error.status == 404:
                return None
            raise await self._failed(error) from error
        except _FAILURES as error:
            raise await self._failed(error) from error

    async def call(
        self, method: str, path: str, seconds: float, params: Mapping[str, str] | None = None, data: object = None
    ) -> Any:
        """One request; its decoded answer, None when it has no body. Raises `Answered` when Docker refuses,
        TimeoutError after so many seconds, DOCKER_UNAVAILABLE when no Docker answers as it should."""
        body = None if data is None else json.dumps(data)
        try:
            async with asyncio.timeout(seconds):
                query = self._engine()._query(path, method, params=dict(params or {}), data=body)
                async with query as response:
                    answer = await response.read()
            return json.loads(answer) if answer.strip() else None
        except aiodocker.DockerError as error:
            if error.status < _NO_ENGINE:
                raise Answered(error.status, error.message) from None
            raise await self._failed(error) from error
        except TimeoutError:
            raise
        except _FAILURES as error:
            raise await self._failed(error) from error

    def silent(self) -> TrunklineError:
        """What to raise when the engine took longer than it may."""
        return self._unavailable(TimeoutError())

    async def events(
        self, kinds: Sequence[str] = ("container",), names: Sequence[str] = EVENTS
    ) -> AsyncGenerator[None]:
        """Yields once when subscribed and then for each event or several. Ends or raises DOCKER_UNAVAILABLE when the
        stream is cut. Consumers only set a flag: a reader that lags loses events silently and slows dockerd down."""
        timeout = aiohttp.ClientTimeout(sock_connect=2)
        docker = aiodocker.Docker(url=f"unix://{self._socket}", timeout=timeout)
        params = {"filters": json.dumps({"type": list(kinds), "event": list(names)})}
        try:
            # dockerd sends the headers once it listens, so a list made after the first yield misses nothing.
            async with docker._query("events", params=params, timeout=timeout) as response:
                yield
                async for _ in response.content.iter_any():
                    yield
        except _FAILURES as error:
            raise self._unavailable(error) from error
        finally:
            await docker.close()


_NO_ENGINE: Final = 600
"""From here on aiodocker's statuses mean that nobody answered."""

_FAILURES: Final = (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError)
"""What a missing, hanging or broken engine shows itself as; answers are untrusted input, so wrong shapes count."""


def _os_error(error: BaseException) -> OSError | None:
    """The operating system's word, where there is one under what the client libraries wrapped around it."""
    cause: BaseException | None = error
    while cause is not None:
        wrapped = getattr(cause, "os_error", cause)
        if isinstance(wrapped, OSError) and wrapped.errno:
            return wrapped
        cause = cause.__cause__ or cause.__context__
    return None


def _summary(listed: Mapping[str, Any]) -> Summary:
    names = tuple(str(name) for name in listed.get("Names") or ())
    mode = (listed.get("HostConfig") or {}).get("NetworkMode", "")
    return Summary(str(listed["Id"]), names, str(listed.get("State", "")), str(mode))


def _running(inspected: Mapping[str, Any]) -> Running | None:
    state = inspected["State"]
    pid = int(state.get("Pid") or 0)
    if pid <= 0 or not state.get("Running"):
        return None
    return Running(pid, str(state.get("StartedAt", "")))
