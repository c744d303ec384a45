"""Whatever comes to the plugin's socket, a JSON answer goes back, and errors are ours."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fakes.docked_agent import DockedAgent
from fakes.docker import FakeDocker
from fakes.granting import FakeFabric
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.docking import PoolRequest
from agent.engine.plugin import Plugin, pool_id
from trunkline.errors import Reason, Refusal
from trunkline.model import HostNetwork, Prefix

NETWORK = HostNetwork("blue", 1, "default", 10, prefixes=(Prefix("10.9.0.0/24", "10.9.0.1"), Prefix("fd00:9::/64")))
METHODS = (
    "Plugin.Activate",
    "IpamDriver.GetCapabilities",
    "IpamDriver.GetDefaultAddressSpaces",
    "IpamDriver.RequestPool",
    "IpamDriver.ReleasePool",
    "IpamDriver.RequestAddress",
    "IpamDriver.ReleaseAddress",
)
FIELDS = ("AddressSpace", "Pool", "SubPool", "Options", "V6", "PoolID", "Address", "Other")

plausible = st.sampled_from(
    [
        "",
        "blue",
        "10.9.0.0/24",
        "10.9.0.7",
        "10.9.0.1",
        "10.9.0.7/33",
        "fd00:9::7",
        "::ffff:10.9.0.7",
        "fe80::1%eth0",
        "0.0.0.0/0",
        pool_id("blue", "10.9.0.0/24"),
        pool_id("blue", "fd00:9::/64"),
        pool_id("blue", "10.9.0.0/25"),
        pool_id("blue", "x"),
        pool_id("x", "10.9.0.0/24"),
        "trunkline/2|blue|10.9.0.0/24",
        "|||",
    ]
)
options = st.dictionaries(
    st.sampled_from(["network", "RequestAddressType", "com.docker.network.endpoint.name", "x"]),
    plausible | st.just("com.docker.network.gateway") | st.text(max_size=5),
)
scalars = (
    plausible
    | options
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
objects = st.dictionaries(st.sampled_from(FIELDS), scalars, max_size=6) | st.dictionaries(
    st.sampled_from(FIELDS), values, max_size=4
)
bodies = st.one_of(
    objects.map(lambda body: json.dumps(body).encode()),
    values.map(lambda body: json.dumps(body).encode()),
    st.binary(max_size=64),
    st.sampled_from(
        [
            b"",
            b"[" * 100_000,
            b'{"Address":"\xed\xa0\x80"}',
            b'{"Address":"\\ud800","PoolID":"\\udfff"}',
            b'{"Pool":' + b"9" * 5000 + b"}",
        ]
    ),
)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[asyncio.Runner, DockedAgent]]:
    with tempfile.TemporaryDirectory() as directory, asyncio.Runner() as runner:
        agent = DockedAgent(Path(directory), FakeFabric((NETWORK,)), FakeDocker())

        async def begin() -> None:
            await agent.start()
            await agent.listen()
            await agent.told()

        runner.run(begin())
        yield runner, agent
        runner.run(agent.stop())


@given(method=st.sampled_from(METHODS), body=bodies)
@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_body_gets_a_json_answer(served: tuple[asyncio.Runner, DockedAgent], method: str, body: bytes) -> None:
    runner, agent = served
    answer = runner.run(agent.call(method, body))
    if "Err" in answer:
        assert answer["Error"] == answer["Err"]
        assert answer["Err"].startswith("trunkline: ")
        assert "the agent failed" not in answer["Err"]
    elif method == "IpamDriver.RequestAddress":
        assert answer["Address"].endswith(("/24", "/64"))


@given(pool=plausible | st.text(), address=plausible | st.text())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_release_always_succeeds(served: tuple[asyncio.Runner, DockedAgent], pool: str, address: str) -> None:
    runner, agent = served
    assert runner.run(agent.call("IpamDriver.ReleaseAddress", {"PoolID": pool, "Address": address})) == {}


async def _exchange(path: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    answer = await reader.read(1 << 16)
    writer.close()
    return answer


def test_what_is_no_call_gets_an_error(served: tuple[asyncio.Runner, DockedAgent]) -> None:
    runner, agent = served
    for method in ("", "IpamDriver.Nothing", "NetworkDriver.Join", "..%2f..%2fetc", "a/b", "%ff%fe", "%ed%a0%80"):
        assert runner.run(agent.call(method))["Err"].startswith("trunkline: ")
    large = runner.run(agent.call("IpamDriver.RequestPool", b'{"Pool":"' + b"1" * (2 << 20) + b'"}'))
    assert large["Err"].startswith("trunkline: the request is over")
    assert runner.run(_exchange(agent.socket, b"\x00\xff nonsense\r\n\r\n")).startswith(b"HTTP/1.")
    assert runner.run(agent.call("Plugin.Activate")) == {"Implements": ["IpamDriver"]}


class Odd:
    """Pools that misbehave in the ways that pools should not."""

    def __init__(self) -> None:
        self.released: list[str] = []

    async def check_pool(self, network: str, cidr: str, version: int, ip_range: str = "") -> tuple[str, str]:
        raise ZeroDivisionError("a secret of the house")

    async def request(self, request: PoolRequest) -> str:
        if request.endpoint == "hangs":
            await asyncio.sleep(60)
        raise Refusal(Reason.POOL_EXHAUSTED, "none is left", "remove a container")

    async def release(self, network: str, cidr: str, address: str) -> None:
        await asyncio.sleep(0 if address == "10.9.0.7" else 60)
        self.released.append(address)


@pytest.fixture
async def odd(tmp_path: Path) -> Any:
    plugin = Plugin(Odd())
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(str(tmp_path / "s"))
    bound.listen()
    await plugin.start(bound)
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(tmp_path / "s"))) as client:

        async def call(method: str, body: dict[str, Any]) -> Any:
            async with client.post(f"http://x/IpamDriver.{method}", json=body) as response:
                return json.loads(await response.read())

        yield call
    await plugin.close()


async def test_a_bug_is_not_shown_and_an_error_says_what_to_do(odd: Any) -> None:
    assert "secret" not in (await odd("RequestPool", {}))["Err"]
    refused = await odd("RequestAddress", {"PoolID": pool_id("blue", "10.9.0.0/24")})
    assert refused["Error"] == "trunkline: none is left; remove a container"


async def test_every_answer_comes_within_three_seconds(odd: Any) -> None:
    pool = pool_id("blue", "10.9.0.0/24")
    began = asyncio.get_running_loop().time()
    hung, released = await asyncio.gather(
        odd("RequestAddress", {"PoolID": pool, "Options": {"com.docker.network.endpoint.name": "hangs"}}),
        odd("ReleaseAddress", {"PoolID": pool, "Address": "10.9.0.8"}),
    )
    assert asyncio.get_running_loop().time() - began < 3
    assert hung["Error"].startswith("trunkline: no answer was found in time")
    assert released == {}
