"""What every `Targets` promises of namespaces by path: the simulated one and the real one, on real namespaces.

Containers need a real dockerd: tests/lab/test_engine_docker.py.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.links import FakeKernel
from fakes.targets import FakeTargets
from netns.places import Place, Places

from agent.engine import DockerTargets, targets
from agent.ports import ResolvedTarget, Targets
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Target, TargetKind


class Ground(ABC):
    """Somewhere to make namespaces."""

    targets: Targets
    host: str

    @abstractmethod
    def make(self, name: str) -> str:
        """A namespace; its path."""

    @abstractmethod
    def remove(self, path: str) -> None:
        """It is gone."""


class SimulatedGround(Ground):
    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.fake = FakeTargets(self.kernel)
        self.targets = self.fake
        self.host = self.kernel.host.path

    def make(self, name: str) -> str:
        path = self.kernel.add_namespace(f"/run/netns/{name}").path
        self.fake.woken.set()
        return path

    def remove(self, path: str) -> None:
        self.kernel.remove_namespace(self.kernel.spaces[path].namespace)
        self.fake.woken.set()


class RealGround(Ground):
    def __init__(self, places: Places) -> None:
        self.places = places
        self.targets = DockerTargets("", "h1")
        self.host = "/proc/self/ns/net"
        self.made: dict[str, Place] = {}

    def make(self, name: str) -> str:
        place = self.places.new(f"tlc{os.getpid()}{name}")
        self.made[place.path] = place
        return place.path

    def remove(self, path: str) -> None:
        self.places.remove(self.made.pop(path))


@pytest.fixture(params=["simulated", "real"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    if request.param == "simulated":
        yield SimulatedGround()
        return
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    places = Places()
    try:
        yield RealGround(places)
    finally:
        places.remove_all()


def by_path(path: str) -> Target:
    return Target(TargetKind.NETNS, path)


async def resolve(ground: Ground, *targets: Target) -> list[ResolvedTarget | TrunklineError]:
    return await ground.targets.resolve(targets)


async def test_answers_come_in_the_order_asked_for(ground: Ground) -> None:
    a, b = ground.make("a"), ground.make("b")
    answers = await resolve(ground, by_path(b), by_path("/run/netns/absent"), by_path(a))
    first, absent, second = answers
    assert isinstance(first, ResolvedTarget)
    assert isinstance(second, ResolvedTarget)
    assert isinstance(absent, TrunklineError)
    assert (first.namespace.path, second.namespace.path) == (b, a)
    assert first.namespace.identity != second.namespace.identity
    assert first.target_id == first.namespace.identity
    assert absent.reason is Reason.NETNS_NOT_FOUND
    assert absent.remedy or absent.message


async def test_the_hosts_own_is_refused(ground: Ground) -> None:
    (answer,) = await resolve(ground, by_path(ground.host))
    assert isinstance(answer, TrunklineError)
    assert answer.reason is Reason.NETNS_IS_HOST


async def test_one_made_anew_is_another(ground: Ground) -> None:
    path = ground.make("a")
    keeper = ground.make("keeper")
    (before,) = await resolve(ground, by_path(path))
    ground.remove(path)
    (gone,) = await resolve(ground, by_path(path))
    assert isinstance(gone, TrunklineError)
    again = ground.make("a")
    (after, kept) = await resolve(ground, by_path(again), by_path(keeper))
    assert isinstance(before, ResolvedTarget)
    assert isinstance(after, ResolvedTarget)
    assert isinstance(kept, ResolvedTarget)
    assert after.namespace.path == before.namespace.path
    assert after.namespace.identity != kept.namespace.identity


async def test_all_are_listed_but_the_hosts_own(ground: Ground) -> None:
    made = {ground.make("a"), ground.make("b")}
    answers = await resolve(ground, *map(by_path, made))
    wanted = {answer.namespace.identity for answer in answers if isinstance(answer, ResolvedTarget)}
    listed = {namespace.identity for namespace in await ground.targets.namespaces()}
    assert wanted <= listed
    host = os.stat(ground.host) if isinstance(ground, RealGround) else None
    own = f"{host.st_dev}:{host.st_ino}" if host else "4:4026532000"
    assert own not in listed


async def test_coming_and_going_wakes(ground: Ground) -> None:
    path = ground.make("a")
    await resolve(ground, by_path(path))
    events = ground.targets.events()
    ground.remove(path)
    async with asyncio.timeout(10):
        await anext(events)
    await events.aclose()  # type: ignore[attr-defined]


async def test_without_docker_containers_say_so(ground: Ground) -> None:
    (answer,) = await resolve(ground, Target(TargetKind.CONTAINER, "web"))
    assert isinstance(answer, TrunklineError)
    assert answer.reason is Reason.DOCKER_UNAVAILABLE
    assert await ground.targets.version() == ""


# The real one only


async def test_what_is_no_network_namespace(tmp_path: Path) -> None:
    targets = DockerTargets("", "h1")
    (tmp_path / "file").write_text("")
    for path in (str(tmp_path / "file"), str(tmp_path), "/proc/self/ns/mnt"):
        (answer,) = await targets.resolve([by_path(path)])
        assert isinstance(answer, TrunklineError)
        assert answer.reason is Reason.NETNS_NOT_FOUND
        assert "is not a network namespace" in answer.message


async def test_a_process_is_a_target() -> None:
    targets = DockerTargets("", "h1")
    own, nobody = await targets.resolve(
        [Target(TargetKind.PID, str(os.getpid())), Target(TargetKind.PID, "4194304999")]
    )
    assert isinstance(own, TrunklineError)
    assert own.reason is Reason.NETNS_IS_HOST
    assert isinstance(nobody, TrunklineError)
    assert nobody.reason is Reason.NETNS_NOT_FOUND


async def test_a_bug_in_looking_ends_the_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever listens begins again; a stream that says nothing any more would never be noticed."""

    def broken(_: object) -> bool:
        raise ZeroDivisionError

    real = DockerTargets("", "h1")
    monkeypatch.setattr(targets, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(type(real._watched), "changed", broken)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(anext(real.events()), 5)
    await real.close()
