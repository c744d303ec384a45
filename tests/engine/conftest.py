"""Fixtures of the floor with several real dockerds on one machine: real kernel, real Docker, no 802.1Q."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from engine.binaries import Binaries
from engine.commands import tail
from engine.fabric import Fabric
from engine.host import Host
from engine.wire import Wire

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here, and skip it where it cannot run."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.engine)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="network namespaces and dockerd need root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What failed on a fabric is told with the last words of its agents and its controller."""
    report = yield
    fabric = getattr(item, "funcargs", {}).get("fabric")
    if report.failed and isinstance(fabric, Fabric):
        logs = {f"agent of {name}": holder.log for name, holder in fabric.agents.items()}
        for name, log in {**logs, "controller": fabric.controller_log}.items():
            report.sections.append((name, tail(log, 3000)))
    return report


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """dockerd and its companions: those of DOCKERD, else 20.10 of the lab's root."""
    return Binaries.chosen()


@pytest.fixture(scope="session")
def docker_version(binaries: Binaries) -> tuple[int, ...]:
    """dockerd's version, such as (20, 10, 24)."""
    return binaries.version()


@pytest.fixture(scope="module")
def wire(binaries: Binaries) -> Iterator[Wire]:
    """A wire for the tests of a module, with nothing on it yet."""
    with Wire(binaries) as made:
        yield made


@pytest.fixture(scope="module")
def pair(wire: Wire) -> tuple[Host, Host]:
    """Two hosts `h1` and `h2` with dockerd running and the busybox image loaded; what tests leave there stays."""
    h1, h2 = wire.host("h1"), wire.host("h2")
    for host in (h1, h2):
        host.launch_docker()
    for host in (h1, h2):
        host.wait_docker()
        host.load_busybox()
    return h1, h2


@pytest.fixture(scope="module")
def fabric(wire: Wire, pair: tuple[Host, Host]) -> Fabric:
    """A controller, and an agent on both hosts, connected; the uplink's device is `enp7s0`, networks are `--vlan 0`."""
    return Fabric(wire, pair).up()
