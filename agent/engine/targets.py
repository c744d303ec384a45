"""Targets: containers of the Docker Engine, and namespaces by path or process. Implements `agent.ports.Targets`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

from agent.engine import namespaces
from agent.engine.client import Client, Summary
from agent.plan.state import Namespace, ResolvedTarget
from trunkline import log
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.model import Target, TargetKind

LOOK_SECONDS: Final = 2.0
"""How often namespaces that are wanted by path or pid are looked at."""

_RETRY_SECONDS: Final = 2.0
_INSPECTIONS: Final = 8

Resolved = ResolvedTarget | TrunklineError


@dataclass(frozen=True, slots=True)
class _Known:
    """A container's process as inspected: valid while a process of this pid with this start time lives."""

    pid: int
    started: str
    namespace: Namespace


class DockerTargets:
    """`socket` is the path of the engine's unix socket; empty: this host has no Docker."""

    def __init__(self, socket: str, host: str) -> None:
        self._host = host
        self._client = Client(socket, host) if socket else None
        self._known: dict[str, _Known] = {}
        self._last: dict[str, tuple[str, ResolvedTarget]] = {}
        self._watched = namespaces.Watched()
        self._inspections = asyncio.Semaphore(_INSPECTIONS)
        self._log = log.get("engine")

    async def resolve(self, targets: Sequence[Target]) -> list[Resolved]:
        """See `agent.ports.Targets.resolve`."""
        paths = {_path(target) for target in targets if target.kind is not TargetKind.CONTAINER}
        self._watched.expect(paths)
        containers = [target for target in targets if target.kind is TargetKind.CONTAINER]
        found = dict(zip(containers, await self._containers(containers), strict=True)) if containers else {}
        return [found[target] if target.kind is TargetKind.CONTAINER else self._namespace(target) for target in targets]

    def _namespace(self, target: Target) -> Resolved:
        try:
            if target.kind is TargetKind.NETNS:
                namespace = namespaces.by_path(target.value, self._host)
                return ResolvedTarget(namespace, namespace.identity, str(target))
            namespace = namespaces.by_pid(target.value, self._host)
            return ResolvedTarget(namespace, namespace.identity, str(target), namespaces.birth(target.value))
        except TrunklineError as error:
            return error

    async def _containers(self, targets: Sequence[Target]) -> list[Resolved]:
        if self._client is None:
            return [self._no_docker(target) for target in targets]
        try:
            listed = await self._client.containers()
        except TrunklineError as error:
            return [self._unseen(target, error) for target in targets]
        index = _Index(listed)
        self._known = {key: known for key, known in self._known.items() if key in index.by_id}
        answers = list(await asyncio.gather(*(self._container(target, index) for target in targets)))
        for target, answer in zip(targets, answers, strict=True):
            if isinstance(answer, ResolvedTarget):
                self._last[target.value] = (index.network_holder(target.value), answer)
            else:
                self._last.pop(target.value, None)
        return answers

    def _no_docker(self, target: Target) -> TrunklineError:
        return TrunklineError(
            Reason.DOCKER_UNAVAILABLE,
            f"container {target} was named, but the agent of {self._host} knows no Docker Engine",
            "set [docker] socket in its config",
        )

    def _unseen(self, target: Target, error: TrunklineError) -> Resolved:
        """What is known of a container while the engine is away: with live-restore it keeps running, and as long as
        its very process lives it is where it was."""
        holder, answer = self._last.get(target.value, ("", error))
        known = self._known.get(holder)
        return answer if known is not None and known.started == namespaces.started(known.pid) else error

    async def _container(self, target: Target, index: _Index) -> Resolved:
        try:
            asked = index.find(target.value, self._host)
            holder = index.follow(asked, self._host)
            _refuse_stopped(holder, target.value, self._host)
            known = await self._process(holder)
        except TrunklineError as error:
            return error
        return ResolvedTarget(known.namespace, asked.id, _name(asked))

    async def _process(self, summary: Summary) -> _Known:
        known = self._known.get(summary.id)
        if known is not None and known.started == namespaces.started(known.pid):
            return known
        async with self._inspections:
            known = await self._inspect(summary)
        self._known[summary.id] = known
        return known

    async def _inspect(self, summary: Summary) -> _Known:
        """Pid and namespace of one life of the container: that the second look shows the same life as the first
        proves that the pid was not another's in between."""
        assert self._client is not None
        first = await self._client.inspect(summary.id)
        if first is not None:
            started = namespaces.started(first.pid)
            try:
                namespace = namespaces.by_pid(str(first.pid), self._host)
            except Refusal:
                raise _on_host_network(_name(summary), self._host) from None
            except TrunklineError:
                namespace = None
            if namespace and started and await self._client.inspect(summary.id) == first:
                return _Known(first.pid, started, namespace)
        raise TrunklineError(
            Reason.CONTAINER_NOT_RUNNING,
            f"container {_name(summary)} on {self._host} is just starting or stopping",
            "it is attached when it runs",
        )

    async def namespaces(self) -> list[Namespace]:
        """See `agent.ports.Targets.namespaces`."""
        return await asyncio.to_thread(namespaces.everywhere)

    async def version(self) -> str:
        """See `agent.ports.Targets.version`."""
        if self._client is None:
            return ""
        try:
            return await self._client.version()
        except TrunklineError:
            return ""

    async def events(self) -> AsyncGenerator[None]:
        """See `agent.ports.Targets.events`. Containers wake by Docker's event stream, namespaces within
        LOOK_SECONDS."""
        wake = asyncio.Event()
        tasks = [asyncio.create_task(self._look_at_namespaces(wake))]
        if self._client is not None:
            tasks.append(asyncio.create_task(self._listen_to_docker(self._client, wake)))
        try:
            for task in tasks:
                task.add_done_callback(lambda _: wake.set())
            while True:
                await wake.wait()
                wake.clear()
                for task in tasks:
                    if task.done():
                        task.result()  # it ends only by failing, and then nobody listens any more
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_at_namespaces(self, wake: asyncio.Event) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._watched.changed():
                wake.set()

    async def _listen_to_docker(self, client: Client, wake: asyncio.Event) -> None:
        answers: bool | None = None
        while True:
            why = "the stream ended"
            try:
                async with contextlib.aclosing(client.events()) as events:
                    async for _ in events:
                        if answers is not True:
                            self._log.info("docker answers")
                        answers = True
                        wake.set()
            except TrunklineError as error:
                why = error.text
            if answers is not False:
                self._log.warning("docker does not answer", reason=Reason.DOCKER_UNAVAILABLE.name, why=why)
                wake.set()
            answers = False
            await asyncio.sleep(_RETRY_SECONDS)

    async def close(self) -> None:
        """See `agent.ports.Targets.close`."""
        if self._client is not None:
            await self._client.close()


def _path(target: Target) -> str:
    return f"/proc/{target.value}/ns/net" if target.kind is TargetKind.PID else target.value


def _name(summary: Summary) -> str:
    # Legacy links show up as "/other/alias"; a container's own name has one slash.
    own = [name for name in summary.names if name.count("/") == 1]
    return own[0].removeprefix("/") if own else summary.id[:12]


class _Index:
    """One listing of all containers, by id and by name."""

    def __init__(self, listed: Sequence[Summary]) -> None:
        self.by_id = {summary.id: summary for summary in listed}
        self.by_name = {_name(summary): summary for summary in listed}

    def find(self, value: str, host: str) -> Summary:
        """By whole id, name, or unique beginning of an id, in Docker's order; raises CONTAINER_NOT_FOUND."""
        found = self.by_id.get(value) or self.by_name.get(value)
        if found is not None:
            return found
        matches = [summary for key, summary in self.by_id.items() if key.startswith(value)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(sorted(_name(summary) for summary in matches)[:5])
            message, remedy = f"{value} on {host} could be any of {names}", "give more of the id"
        else:
            message, remedy = f"{host} has no container {value}", f"see `docker ps --all` on {host}"
        raise TrunklineError(Reason.CONTAINER_NOT_FOUND, message, remedy, container=value, host=host)

    def follow(self, summary: Summary, host: str) -> Summary:
        """The container whose network this one uses: itself, or that of `--network container:X`."""
        seen: set[str] = set()
        while summary.network_mode.startswith("container:") and summary.id not in seen:
            seen.add(summary.id)
            summary = self.find(summary.network_mode.removeprefix("container:"), host)
        if summary.network_mode == "host":
            raise _on_host_network(_name(summary), host)
        return summary

    def network_holder(self, value: str) -> str:
        """Id of the container whose network the named one uses; empty when it cannot be told."""
        try:
            return self.follow(self.find(value, ""), "").id
        except TrunklineError:
            return ""


def _on_host_network(name: str, host: str) -> Refusal:
    return Refusal(
        Reason.CONTAINER_HOST_NETWORK,
        f"container {name} uses the network of {host} itself (--network host)",
        "run it with --network none or a network of its own",
    )


def _refuse_stopped(summary: Summary, asked: str, host: str) -> None:
    if summary.state in ("running", "paused"):
        return
    name = _name(summary)
    whose = "" if name == asked or summary.id.startswith(asked) else f", whose network {asked} uses,"
    raise TrunklineError(
        Reason.CONTAINER_NOT_RUNNING,
        f"container {name}{whose} on {host} does not run ({summary.state or 'unknown state'})",
        f"it is attached when it runs: docker start {name}",
        container=name,
        host=host,
    )
