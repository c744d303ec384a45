"""Asks the agent's adapter for Docker about targets, in a guest; answers as JSON lines.

Arguments: targets as container names or ids. With "--events SECONDS" first: says "woken" for each wake in that time.
"""

import asyncio
import json
import sys

from agent.engine import DockerTargets
from trunkline.errors import TrunklineError
from trunkline.model import Target, TargetKind

SOCKET = "/var/run/docker.sock"


async def resolve(names: list[str]) -> None:
    targets = DockerTargets(SOCKET, "h1")
    try:
        wanted = [Target(TargetKind.CONTAINER, name) for name in names]
        for name, answer in zip(names, await targets.resolve(wanted), strict=True):
            if isinstance(answer, TrunklineError):
                told = {"asked": name, "reason": answer.reason.name, "message": answer.text}
            else:
                place = answer.namespace
                told = {"asked": name, "id": answer.target_id, "name": answer.name, "path": place.path,
                        "identity": place.identity}  # fmt: skip
            print(json.dumps(told), flush=True)
        print(json.dumps({"version": await targets.version()}), flush=True)
    finally:
        await targets.close()


async def listen(seconds: float) -> None:
    targets = DockerTargets(SOCKET, "h1")
    try:
        async with asyncio.timeout(seconds):
            async for _ in targets.events():
                print("woken", flush=True)
    except TimeoutError:
        pass
    finally:
        await targets.close()


if sys.argv[1] == "--events":
    asyncio.run(listen(float(sys.argv[2])))
else:
    asyncio.run(resolve(sys.argv[1:]))
