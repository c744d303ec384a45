"""What dockerd 20.10, 28 and 29 were seen to call, in their order and with their bodies, against the real plugin, pools
and journal over a real unix socket; Docker's containers and the controller are simulated.

The files `calls_*.json` hold scenes of steps: a `call` of dockerd with the `answer` it must get, what happens in
`docker` meanwhile, when the `agent` looks, restarts or waits, and what becomes of the `fabric`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fakes.docked_agent import DockedAgent
from fakes.docker import FakeDocker
from fakes.granting import FakeFabric

from trunkline.errors import Reason, TrunklineError
from trunkline.model import EndpointState, HostNetwork, Prefix

NETWORKS = (
    HostNetwork("mynet2", 1, "default", 10, prefixes=(Prefix("10.9.0.0/24", "10.9.0.1"),)),
    HostNetwork(
        "dual", 2, "default", 11, prefixes=(Prefix("10.10.0.0/24", "10.10.0.1"), Prefix("fd00:10::/64", "fd00:10::1"))
    ),
    HostNetwork("nogw", 3, "default", 12, prefixes=(Prefix("10.11.0.0/24"),)),
    HostNetwork("sw", 4, "default", 13, prefixes=(Prefix("10.12.0.0/24", "10.12.0.1"),)),
)


def scenes() -> list[Any]:
    found = []
    for path in sorted(Path(__file__).parent.glob("calls_*.json")):
        recorded = json.loads(path.read_text())
        found += [
            pytest.param(scene["steps"], id=f"{recorded['docker']}: {scene['scene']}") for scene in recorded["scenes"]
        ]
    return found


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[DockedAgent]:
    made = DockedAgent(tmp_path, FakeFabric(NETWORKS), FakeDocker())
    await made.start()
    await made.listen()
    await made.told()
    yield made
    await made.stop()


@pytest.mark.parametrize("steps", scenes())
async def test_recorded_calls(agent: DockedAgent, steps: list[dict[str, Any]]) -> None:
    ids: dict[str, str] = {}
    for number, step in enumerate(steps):
        match step:
            case {"call": method, "body": body, "answer": answer}:
                assert await agent.call(method, body) == answer, f"step {number}: {method} {body}"
            case {"docker": [what, *arguments]}:
                happens(agent.docker, ids, what, arguments, step.get("labels", {}))
            case {"agent": what}:
                await does(agent, what, step.get("seconds", 0))
            case {"fabric": [what, *arguments]}:
                await becomes(agent, what, arguments)
            case _:
                pytest.fail(f"step {number}: {step}")
        assert_nothing_twice(agent, looked=step.get("agent") == "looks")


def happens(docker: FakeDocker, ids: dict[str, str], what: str, arguments: list[str], labels: dict[str, str]) -> None:
    match what, arguments:
        case "network", [name, *cidrs]:
            fabric = "" if "/" in cidrs[-1] else cidrs.pop()
            docker.network(name, *cidrs, fabric=fabric)
        case "create", [name, network, *ip]:
            found = next(one for one in docker.docker_networks.values() if one.name == network)
            ids[name] = docker.create(name, found, ip="".join(ip), labels=labels)
        case "down" | "up", []:
            docker.down = what == "down"
        case _, [name, *rest]:
            getattr(docker, what)(ids[name], *rest)


async def does(agent: DockedAgent, what: str, seconds: int) -> None:
    match what:
        case "looks":
            await agent.seen()
            agent.observe()
            await agent.told()
        case "restarts":
            await agent.restart()
            await agent.told()
        case "waits":
            agent.clock.ms += seconds * 1000


async def becomes(agent: DockedAgent, what: str, arguments: list[str]) -> None:
    fabric = agent.fabric
    match what:
        case "delete":
            fabric.networks = tuple(one for one in fabric.networks if one.name not in arguments)
            fabric.revision += 1
            await agent.told()
        case "unreachable":
            fabric.error = TrunklineError(Reason.CONTROLLER_UNREACHABLE, "there is no session")


def assert_nothing_twice(agent: DockedAgent, looked: bool) -> None:
    """No two containers run with one address; once the agent has looked, it knows that each is used."""
    seen = [
        address.partition("/")[0]
        for container in agent.docker.all.values()
        if container.runs
        for endpoint in container.endpoints
        for address in endpoint.addresses
    ]
    assert len(seen) == len(set(seen))
    entries = {key[1]: entry for key, entry in agent.pools.entries().items()}
    assert not looked or all(entries[address].state is EndpointState.USED for address in seen)
