"""Dual stack: one family is to be had, the other not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from engine.containers import FOREVER, NETWORK, address, agreed, create, holdings, refused, remove, run, there
from engine.fabric import Fabric
from engine.host import Host
from engine.wire import Wire
from lab.docker import IMAGE
from lab.waiting import until


@pytest.fixture(scope="module")
def fabric(wire: Wire, pair: tuple[Host, Host]) -> Fabric:
    return Fabric(wire, pair).up()


@pytest.fixture
def net(fabric: Fabric) -> Iterator[str]:
    both = ("--subnet", "20.0.0.0/29", "--gateway", "20.0.0.1", "--subnet", "fd00:20::/126", "--gateway", "fd00:20::1")
    create(fabric, *both)
    yield NETWORK
    for host in fabric.hosts.values():
        remove(host)
    agreed(fabric)
    fabric.ok("network", "delete", NETWORK)
    until(lambda: not any(there(host) for host in fabric.hosts.values()), "the Docker networks to go")


def test_a_start_that_finds_no_ipv6_address_costs_no_ipv4_address(
    fabric: Fabric, pair: tuple[Host, Host], net: str
) -> None:
    h1, _ = pair
    given = {run(h1, f"a{number}", net) for number in range(2)}
    for number in range(5):
        said = refused(h1, "run", "-d", "--name", f"late{number}", "--network", net, IMAGE, *FOREVER)
        assert "fd00:20::/126" in said, said
    used = {of for of, one in holdings(fabric, "attachment").items() if ":" not in of}
    assert used == given
    h1.docker("rm", "-f", "a0")
    h1.docker("start", "late4")
    assert address(h1, "late4")
