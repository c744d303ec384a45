"""Containers and networks of the Docker Engine. Implements `agent.docking.Engine`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from agent.engine import namespaces, reading
from agent.engine.client import LIST_SECONDS, Answered, Client
from agent.plan.docker import Container, DockerNetwork, DockerNetworkSpec
from agent.plan.state import Namespace
from trunkline.errors import Reason, TrunklineError

T = TypeVar("T")

CHANGE_SECONDS: Final = 30.0
"""Docker asks our plugin in the middle of most changes, and each of up to four questions may take 3 s."""

_CONTAINER_EVENTS: Final = ("create", "start", "die", "stop", "destroy", "rename", "restart", "pause", "unpause")
_NETWORK_EVENTS: Final = ("create", "connect", "disconnect", "destroy", "remove", "update")


class DockerEngine:
    """`socket` is the path of the engine's unix socket."""

    def __init__(self, socket: str, host: str) -> None:
        self._host = host
        self._client = Client(socket, host)

    async def version(self) -> str:
        """See `agent.docking.Engine.version`."""
        return await self._client.version()

    async def containers(self) -> list[Container]:
        """See `agent.docking.Engine.containers`."""
        return self._read(reading.containers, await self._get("containers/json", {"all": "1"}))

    async def named(self, name: str) -> Container | None:
        """See `agent.docking.Engine.named`."""
        filters = json.dumps({"name": [f"^/{name}$"]})
        listed = await self._get("containers/json", {"all": "1", "filters": filters})
        found = self._read(reading.containers, listed)
        return next((container for container in found if container.name == name), None)

    async def inspected(self, container: Container, seconds: float) -> Container | None:
        """See `agent.docking.Engine.inspected`."""
        try:
            answer = await self._client.call("GET", f"containers/{container.id}/json", seconds)
        except TimeoutError:
            return None
        except Answered as refused:
            if refused.status == 404:
                return None
            raise self._failed(refused) from None
        return self._read(lambda found: reading.inspected(container, found), answer)

    async def blocked(self, container_ids: Sequence[str], seconds: float) -> list[str]:
        """See `agent.docking.Engine.blocked`."""

        async def blocks(container_id: str) -> bool:
            try:
                await self._client.call("GET", f"containers/{container_id}/json", seconds)
            except TimeoutError:
                return True
            except Answered:
                pass
            return False

        found = await asyncio.gather(*map(blocks, container_ids))
        return [container_id for container_id, hangs in zip(container_ids, found, strict=True) if hangs]

    async def networks(self) -> list[DockerNetwork]:
        """See `agent.docking.Engine.networks`."""
        return self._read(reading.networks, await self._get("networks"))

    async def create_network(self, spec: DockerNetworkSpec) -> str:
        """See `agent.docking.Engine.create_network`."""
        try:
            answer = await self._client.call("POST", "networks/create", CHANGE_SECONDS, data=reading.creation(spec))
        except Answered as refused:
            raise self._refused(f"Docker network {spec.name} cannot be made", refused) from None
        except TimeoutError:
            raise self._client.silent() from None
        return self._read(lambda made: str(made["Id"]), answer)

    async def remove_network(self, network_id: str) -> None:
        """See `agent.docking.Engine.remove_network`."""
        try:
            await self._client.call("DELETE", f"networks/{network_id}", CHANGE_SECONDS)
        except Answered as refused:
            if refused.status == 404:
                return
            error = self._refused(f"Docker network {network_id[:12]} cannot be removed", refused)
            if "active endpoints" in refused.message:
                error = TrunklineError(Reason.NETWORK_IN_USE, error.message, "stop or disconnect its containers")
            raise error from None
        except TimeoutError:
            raise self._client.silent() from None

    async def connect(
        self, network_id: str, container_id: str, addresses: Sequence[str], aliases: Sequence[str] = ()
    ) -> None:
        """See `agent.docking.Engine.connect`."""
        asked = {f"IPv{6 if ':' in address else 4}Address": address for address in addresses}
        await self._connect(network_id, container_id, {"IPAMConfig": asked, "Aliases": list(aliases)})

    async def _connect(self, network_id: str, container_id: str, settings: Mapping[str, object]) -> None:
        data = {"Container": container_id, "EndpointConfig": settings}
        try:
            await self._client.call("POST", f"networks/{network_id}/connect", CHANGE_SECONDS, data=data)
        except Answered as refused:
            raise self._refused(f"container {container_id[:12]} cannot be connected", refused) from None
        except TimeoutError:
            raise self._client.silent() from None

    async def disconnect(self, network_id: str, container_id: str) -> None:
        """See `agent.docking.Engine.disconnect`."""
        data = {"Container": container_id, "Force": True}
        try:
            await self._client.call("POST", f"networks/{network_id}/disconnect", CHANGE_SECONDS, data=data)
        except Answered as refused:
            if refused.status == 404 or "is not connected" in refused.message:
                return
            raise self._refused(f"container {container_id[:12]} cannot be disconnected", refused) from None
        except TimeoutError:
            raise self._client.silent() from None

    async def rebind(self, network_id: str, container_id: str) -> None:
        """See `agent.docking.Engine.rebind`."""
        name = self._read(lambda found: str(found["Name"]), await self._get(f"networks/{network_id}"))
        answer = await self._get(f"containers/{container_id}/json")
        settings = self._read(lambda found: reading.wishes(found, name), answer)
        await self._connect(network_id, container_id, settings)

    async def start(self, container_id: str) -> None:
        """See `agent.docking.Engine.start`."""
        try:
            await self._client.call("POST", f"containers/{container_id}/start", CHANGE_SECONDS)
        except Answered as refused:
            raise TrunklineError(
                Reason.CONTAINER_NOT_STARTED,
                f"container {container_id[:12]} of {self._host} cannot start: {refused.message}",
                "mend that, or start it yourself",
            ) from None
        except TimeoutError:
            raise self._client.silent() from None

    async def namespace(self, container_id: str) -> Namespace | None:
        """See `agent.docking.Engine.namespace`."""
        # That the second look shows the same life proves that the pid was not another's in between.
        first = await self._client.inspect(container_id)
        if first is None:
            return None
        try:
            found = namespaces.by_pid(str(first.pid), self._host)
        except TrunklineError:
            return None
        return found if await self._client.inspect(container_id) == first else None

    async def events(self) -> AsyncGenerator[None]:
        """See `agent.docking.Engine.events`. The stream is read by a task that does nothing else: a reader that lags
        loses events, and each later one costs dockerd about 100 ms. Raises DOCKER_UNAVAILABLE when it is cut."""
        wake = asyncio.Event()
        reader = asyncio.create_task(self._read_events(wake))
        reader.add_done_callback(lambda _: wake.set())
        try:
            while True:
                await wake.wait()
                wake.clear()
                if reader.done():
                    reader.result()
                    raise self._client.silent()
                yield
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read_events(self, wake: asyncio.Event) -> None:
        names = (*_CONTAINER_EVENTS, *_NETWORK_EVENTS)
        async with contextlib.aclosing(self._client.events(("container", "network"), names)) as events:
            async for _ in events:
                wake.set()

    async def close(self) -> None:
        """See `agent.docking.Engine.close`."""
        await self._client.close()

    async def _get(self, path: str, params: dict[str, str] | None = None) -> Any:
        try:
            return await self._client.call("GET", path, LIST_SECONDS, params)
        except Answered as refused:
            raise self._failed(refused) from None
        except TimeoutError:
            raise self._client.silent() from None

    def _read(self, parse: Callable[[Any], T], answer: Any) -> T:
        try:
            return parse(answer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrunklineError(
                Reason.DOCKER_UNAVAILABLE,
                f"the Docker Engine of {self._host} answers in a shape that is not known: {error!r}",
                "see whether its version is one of 20.10 to 29",
            ) from None

    def _failed(self, refused: Answered) -> TrunklineError:
        return TrunklineError(
            Reason.DOCKER_UNAVAILABLE,
            f"the Docker Engine of {self._host} answers {refused.status}: {refused.message}",
            "see dockerd's log",
        )

    def _refused(self, what: str, refused: Answered) -> TrunklineError:
        return TrunklineError(
            Reason.DOCKER_NETWORK_FAILED, f"{what} on {self._host}: {refused.message}", "mend that; it is tried again"
        )
