"""Hand-made Docker networks, and their containers with what connects them again.

Implements `agent.docking.Handmade`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from agent.engine import reading
from agent.engine.client import INSPECT_SECONDS, LIST_SECONDS, Answered, Client
from agent.engine.engine import CHANGE_SECONDS
from agent.plan.handmade import HandMade, Member
from trunkline.errors import Reason, TrunklineError

T = TypeVar("T")

_RECIPE: Final = (
    "Name",
    "Driver",
    "Internal",
    "Attachable",
    "Ingress",
    "IPAM",
    "Options",
    "Labels",
    "EnableIPv4",
    "EnableIPv6",
)
"""Fields that the request to make a network shares with the answer that describes it."""

_RUNS: Final = ("running", "paused", "restarting")

Json = Mapping[str, Any]


class DockerHandmade:
    """`socket` is the path of the engine's unix socket."""

    def __init__(self, socket: str, host: str) -> None:
        self._host = host
        self._client = Client(socket, host)

    async def named(self, name: str) -> list[HandMade]:
        """See `agent.docking.Handmade.named`."""
        filters = json.dumps({"name": [f"^{name}$"]})
        listed = await self._call("GET", "networks", LIST_SECONDS, {"filters": filters})
        return self._read(lambda: [handmade(one) for one in listed if one["Name"] == name])

    async def members(self, found: HandMade) -> list[Member]:
        """See `agent.docking.Handmade.members`."""
        listed = await self._call("GET", "containers/json", LIST_SECONDS, {"all": "1"})
        return self._read(lambda: [one for each in listed if (one := member(each, found)) is not None])

    async def detailed(self, member: Member, network: str) -> Member | None:
        """See `agent.docking.Handmade.detailed`."""
        answer = await self._call("GET", f"containers/{member.id}/json", INSPECT_SECONDS * 5)
        return None if answer is None else self._read(lambda: detailed(member, answer, network))

    async def create(self, recipe: str) -> str:
        """See `agent.docking.Handmade.create`."""
        made = await self._change("networks/create", json.loads(recipe), "the hand-made network cannot be made again")
        return self._read(lambda: str(made["Id"]))

    async def connect(self, network_id: str, member: Member, addresses: Sequence[str]) -> bool:
        """See `agent.docking.Handmade.connect`."""
        settings = json.loads(member.settings or "{}")
        if addresses:
            settings["IPAMConfig"] = {f"IPv{6 if ':' in text else 4}Address": text for text in addresses}
        data = {"Container": member.id, "EndpointConfig": settings}
        what = f"container {member.name} cannot be connected"
        return await self._change(f"networks/{network_id}/connect", data, what, gone=member.id) is not None

    async def close(self) -> None:
        """Release the connection. Idempotent."""
        await self._client.close()

    async def _change(self, path: str, data: object, what: str, gone: str = "") -> Any:
        try:
            return await self._client.call("POST", path, CHANGE_SECONDS, data=data) or {}
        except Answered as refused:
            if gone and refused.status == 404 and "container" in refused.message.lower():
                return None
            raise TrunklineError(
                Reason.DOCKER_NETWORK_FAILED, f"{what} on {self._host}: {refused.message}", "mend that, then try again"
            ) from None
        except TimeoutError:
            raise self._client.silent() from None

    async def _call(self, method: str, path: str, seconds: float, params: Mapping[str, str] | None = None) -> Any:
        try:
            return await self._client.call(method, path, seconds, params)
        except Answered as refused:
            if refused.status == 404:
                return None
            raise TrunklineError(
                Reason.DOCKER_UNAVAILABLE,
                f"the Docker Engine of {self._host} answers {refused.status}: {refused.message}",
                "see dockerd's log",
            ) from None
        except TimeoutError:
            raise self._client.silent() from None

    def _read(self, parse: Callable[[], T]) -> T:
        try:
            return parse()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrunklineError(
                Reason.DOCKER_UNAVAILABLE,
                f"the Docker Engine of {self._host} answers in a shape that is not known: {error!r}",
                "see whether its version is one of 20.10 to 29",
            ) from None


def handmade(listed: Json) -> HandMade:
    """One element of /networks."""
    recipe = {name: listed[name] for name in _RECIPE if listed.get(name) is not None}
    auxiliary: list[str] = []
    for config in (listed.get("IPAM") or {}).get("Config") or ():
        auxiliary += map(str, (config.get("AuxiliaryAddresses") or {}).values())
    text = json.dumps(recipe | {"CheckDuplicate": True}, sort_keys=True)
    return HandMade(reading.network(listed), tuple(sorted(set(auxiliary))), text)


def member(listed: Json, found: HandMade) -> Member | None:
    """One element of /containers/json, if it is set up with the network."""
    container = reading.container(listed)
    for endpoint in container.endpoints:
        if endpoint.network_id != found.network.id and (endpoint.network_id or endpoint.network != found.network.name):
            continue
        networks = (listed.get("NetworkSettings") or {}).get("Networks") or {}
        settings = networks.get(endpoint.network) or {}
        gateways = (settings.get("Gateway"), settings.get("IPv6Gateway"))
        return Member(
            id=container.id,
            name=container.name,
            running=container.state in _RUNS,
            addresses=endpoint.addresses,
            fixed=endpoint.requested,
            mac=endpoint.mac,
            gateways=tuple(str(gateway) for gateway in gateways if gateway),
            by_id=_by_id(container.network_mode, found),
            labels=container.labels,
        )
    return None


def _by_id(mode: str, found: HandMade) -> bool:
    return bool(mode) and mode != found.network.name and found.network.id.startswith(mode)


def detailed(member: Member, answer: Json, network: str) -> Member:
    """A listed container with what connects it again, from /containers/ID/json."""
    settings = reading.wishes(answer, network)
    settings.pop("IPAMConfig", None)
    return replace(member, settings=json.dumps(settings, sort_keys=True))
