"""Docker's IPAM plugin protocol, version 1, over a unix socket (docs.docker.com: "Docker plugin API", and libnetwork's
docs/ipam.md): what dockerd asks when networks are made and containers start and stop.

Docker waits for an answer under a lock of the network, for ever, so every request is answered within 3 s; errors go in
{"Error": "trunkline: …"} with status 200, which dockerd shows as they are. The plugin itself keeps nothing: a PoolID
says all, since dockerd asks for a pool once and never again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from agent.docking import PoolRequest, Pools
from trunkline import log
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.naming import DOCKER_DRIVER

T = TypeVar("T")

ANSWER_SECONDS: Final = 2.9
BODY_LIMIT: Final = 1 << 20
CONTENT_TYPE: Final = "application/vnd.docker.plugins.v1.1+json"

_POOL: Final = f"{DOCKER_DRIVER}/1"
_KIND: Final = "RequestAddressType"
_GATEWAY: Final = "com.docker.network.gateway"
_ENDPOINT: Final = "com.docker.network.endpoint.name"
_MAC: Final = "com.docker.network.endpoint.macaddress"


class _RequestPool(msgspec.Struct, rename="pascal"):
    address_space: str = ""
    pool: str = ""
    sub_pool: str = ""
    options: dict[str, str] | None = None
    v6: bool = msgspec.field(default=False, name="V6")


class _ReleasePool(msgspec.Struct):
    pool_id: str = msgspec.field(default="", name="PoolID")


class _RequestAddress(msgspec.Struct):
    pool_id: str = msgspec.field(default="", name="PoolID")
    address: str = msgspec.field(default="", name="Address")
    options: dict[str, str] | None = msgspec.field(default=None, name="Options")


class _ReleaseAddress(msgspec.Struct):
    pool_id: str = msgspec.field(default="", name="PoolID")
    address: str = msgspec.field(default="", name="Address")


Answer = dict[str, Any]


class Plugin:
    """Serves the protocol for `pools`."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._runner: web.AppRunner | None = None
        self._releases: set[asyncio.Task[None]] = set()
        self._log = log.get("plugin")

    async def start(self, where: socket.socket | Path) -> None:
        """Listen on a bound unix socket, or on a path that gets mode 0600. Raises LISTEN_FAILED."""
        app = web.Application(client_max_size=BODY_LIMIT)
        app.router.add_route("*", "/{method:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=ANSWER_SECONDS)
        await self._runner.setup()
        try:
            own = where if isinstance(where, socket.socket) else _listen(where)
            await web.SockSite(self._runner, own).start()
        except OSError as error:
            await self.close()
            raise TrunklineError(
                Reason.LISTEN_FAILED,
                f"Docker's plugin socket {where} cannot be had: {error.strerror or error}",
                "see who holds it, or mend [docker] in the agent's config",
            ) from None

    async def close(self) -> None:
        """Finish what is being answered, and stop. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        if self._releases:
            _, hanging = await asyncio.wait(self._releases, timeout=ANSWER_SECONDS)
            for task in hanging:
                task.cancel()

    async def _serve(self, request: web.Request) -> web.Response:
        method, began = request.match_info["method"], time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._answer(method, await _body(request))
        except TrunklineError as error:
            self._log.warning("docker was refused", method=method, reason=error.reason.name, why=error.text)
            answer = _err(error)
        except TimeoutError:
            self._log.warning("docker was answered too late to help", method=method)
            answer = _err(TrunklineError(Reason.DEADLINE, "no answer was found in time", "try again"))
        except Exception as bug:
            self._log.error("plugin call failed", method=method, exc_info=bug)
            answer = _err(TrunklineError(Reason.INTERNAL, "the agent failed; its log has the traceback"))
        self._log.debug("docker was answered", method=method, seconds=round(time.monotonic() - began, 3))
        return web.Response(body=msgspec.json.encode(answer), content_type=CONTENT_TYPE)

    async def _answer(self, method: str, body: bytes) -> Answer:
        handler = self._handlers().get(method)
        if handler is None:
            raise Refusal(Reason.INVALID_ARGUMENT, f"{method!r} is no call of an IPAM driver")
        return await handler(body)

    def _handlers(self) -> dict[str, Callable[[bytes], Awaitable[Answer]]]:
        return {
            "Plugin.Activate": _constant({"Implements": ["IpamDriver"]}),
            # A MAC asked for here would be random at each start, on 20.10 too, where it follows from the address else.
            "IpamDriver.GetCapabilities": _constant({"RequiresMACAddress": False, "RequiresRequestReplay": False}),
            "IpamDriver.GetDefaultAddressSpaces": _constant(
                {
                    "LocalDefaultAddressSpace": f"{DOCKER_DRIVER}-local",
                    "GlobalDefaultAddressSpace": f"{DOCKER_DRIVER}-global",
                }
            ),
            "IpamDriver.RequestPool": self._request_pool,
            "IpamDriver.ReleasePool": self._release_pool,
            "IpamDriver.RequestAddress": self._request_address,
            "IpamDriver.ReleaseAddress": self._release_address,
        }

    async def _request_pool(self, body: bytes) -> Answer:
        asked = _parse(body, _RequestPool)
        name = (asked.options or {}).get("network", "")
        version = 6 if asked.v6 or ":" in asked.pool else 4
        network, cidr = await self._pools.check_pool(name, asked.pool, version, asked.sub_pool)
        return {"PoolID": pool_id(network, cidr), "Pool": cidr, "Data": {}}

    async def _release_pool(self, body: bytes) -> Answer:
        _parse(body, _ReleasePool)
        return {}

    async def _request_address(self, body: bytes) -> Answer:
        asked = _parse(body, _RequestAddress)
        network, cidr = _pool(asked.pool_id)
        options = asked.options or {}
        request = PoolRequest(
            network,
            cidr,
            asked.address,
            options.get(_ENDPOINT, ""),
            options.get(_MAC, ""),
            options.get(_KIND) == _GATEWAY,
            options,
        )
        return {"Address": await self._pools.request(request), "Data": {}}

    async def _release_address(self, body: bytes) -> Answer:
        """Always a success: dockerd forgets the address, whatever it hears, and does not say so again."""
        asked = _parse(body, _ReleaseAddress)
        try:
            network, cidr = _pool(asked.pool_id)
        except Refusal as refusal:
            self._log.warning("docker gave back what is not ours", address=asked.address, why=refusal.text)
            return {}
        task = asyncio.create_task(self._pools.release(network, cidr, asked.address))
        self._releases.add(task)
        task.add_done_callback(self._released)
        await asyncio.wait([task], timeout=ANSWER_SECONDS - 0.4)
        return {}

    def _released(self, task: asyncio.Task[None]) -> None:
        self._releases.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._log.error("release failed", exc_info=bug)


def pool_id(network: str, cidr: str) -> str:
    """All that a later call needs to know."""
    return f"{_POOL}|{network}|{cidr}"


def _pool(text: str) -> tuple[str, str]:
    parts = text.split("|")
    if len(parts) != 3 or parts[0] != _POOL or not all(parts):
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"{text[:200]!r} is no pool of this driver",
            "make the Docker network anew; this agent may be older than the one that made it",
        )
    return parts[1], parts[2]


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(Reason.INVALID_ARGUMENT, f"the request is over {BODY_LIMIT} bytes") from None
    except (ValueError, OSError, web.HTTPException) as error:
        raise Refusal(Reason.INVALID_ARGUMENT, f"the request cannot be read: {error}") from None


def _parse(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refusal(Reason.INVALID_ARGUMENT, f"the request is not what Docker sends: {error}") from None


def _constant(answer: Answer) -> Callable[[bytes], Awaitable[Answer]]:
    async def given(_: bytes) -> Answer:
        return answer

    return given


def _err(error: TrunklineError) -> Answer:
    text = f"{DOCKER_DRIVER}: {error.text}"
    # libnetwork reads "Error" (its ipams/remote/api); "Err" is what plugins in general answer.
    return {"Error": text, "Err": text}


def _listen(path: Path) -> socket.socket:
    """A listening socket in the place of one that nobody listens on."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        made.bind(str(beside))
        beside.chmod(0o600)
        made.listen(128)
        # dockerd, which looks whenever it likes, finds either socket and never none.
        beside.replace(path)
    except OSError:
        made.close()
        raise
    return made
