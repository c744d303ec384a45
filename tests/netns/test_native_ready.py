"""A host that boots: Docker is not up yet and waits for the agent, and no controller is in sight."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from netns.agents import CHECKOUT
from netns.places import Place

from agent.spool import Spool
from trunkline.model import Desired, HostNetwork, Prefix

NET = HostNetwork("mynet2", 1, "default", 0, prefixes=(Prefix("20.0.0.0/24", "20.0.0.1"),))


class Booting:
    """The agent with a Docker that accepts and says nothing, and a service manager that listens."""

    def __init__(self, place: Place, directory: Path) -> None:
        self.place = place
        self.directory = directory
        self.plugin = directory / "plugins/trunkline.sock"
        self.docker = socket.socket(socket.AF_UNIX)
        self.docker.bind(str(directory / "docker.sock"))
        self.docker.listen(64)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(directory / "notify"))
        self.manager.setblocking(False)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        config = self.directory / "agent.toml"
        (self.directory / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        config.write_text(
            f'[agent]\nhost = "h1"\ncontrollers = ["unix:{self.directory}/nobody.sock"]\n'
            f'state_dir = "{self.directory}/state"\nmachine_id_file = "{self.directory}/machine-id"\n'
            f'[docker]\nsocket = "{self.directory}/docker.sock"\nplugin_socket = "{self.plugin}"\n'
            '[dns]\nlisten = ""\n[uplinks.default]\ndevice = "up0"\n'
        )
        argv = ["ip", "netns", "exec", self.place.name, sys.executable, "-m", "agent", "--config", str(config)]
        with (self.directory / "agent.log").open("ab") as log:
            env = os.environ | {"NOTIFY_SOCKET": str(self.directory / "notify")}
            self.process = await asyncio.create_subprocess_exec(*argv, cwd=CHECKOUT, stdout=log, stderr=log, env=env)

    async def told(self, timeout: float = 10) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.manager, 256), timeout)

    async def ask(self, method: str, **body: object) -> dict[str, object]:
        reader, writer = await asyncio.open_unix_connection(self.plugin)
        data = json.dumps(body).encode()
        head = f"POST /{method} HTTP/1.1\r\nHost: plugin\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + data)
        answer = await reader.read()
        writer.close()
        found: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return found

    async def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            await asyncio.wait_for(self.process.wait(), 10)
        self.docker.close()
        self.manager.close()


@pytest.fixture
async def booting(host: Place, tmp_path: Path) -> AsyncIterator[Booting]:
    made = Booting(host, tmp_path)
    yield made
    await made.stop()


async def test_ready_waits_for_neither_docker_nor_a_controller(booting: Booting) -> None:
    spool = Spool(booting.directory / "state")
    spool.prepare()
    spool.keep_desired(Desired("e1", 5, (NET,)))
    await booting.start()
    began = time.monotonic()
    assert b"READY=1" in await booting.told()
    # Python and its libraries take most of it; a question that Docker leaves unanswered takes 5 s.
    assert time.monotonic() - began < 4


async def test_docker_is_answered_before_it_is_up_and_before_any_controller_was_seen(booting: Booting) -> None:
    await booting.start()
    await booting.told()
    async with asyncio.timeout(10):
        while not booting.plugin.exists():
            await asyncio.sleep(0.02)
    assert await booting.ask("Plugin.Activate") == {"Implements": ["IpamDriver"]}
    began = time.monotonic()
    refused = await booting.ask("IpamDriver.RequestAddress", PoolID="trunkline/1|mynet2|20.0.0.0/24", Address="")
    assert str(refused["Error"]).startswith("trunkline: ")
    assert time.monotonic() - began < 3
    assert (
        await booting.ask("IpamDriver.ReleaseAddress", PoolID="trunkline/1|mynet2|20.0.0.0/24", Address="20.0.0.2")
        == {}
    )
