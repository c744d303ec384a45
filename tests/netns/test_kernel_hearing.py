"""What is done to our interfaces inside targets wakes us at once, and listening holds on to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from netns.places import Place, Places
from oracle import links as oracle

from agent.kernel.links import KernelLinks
from agent.plan.state import Interface, MacvlanSpec, Namespace
from trunkline import naming

Events = AsyncIterator[frozenset[str]]


def namespace(place: Place) -> Namespace:
    return Namespace(place.path, place.identity)


async def attach(links: KernelLinks, host: Place, target: Place, number: int = 1) -> Interface:
    """An interface of ours inside a target."""
    spec = MacvlanSpec(
        parent_index=oracle.links(host.name)["up0"].index,
        temporary_name=f"tl~{number:03}",
        name="tl0",
        alias=naming.attachment_mark(f"web{number}/blue"),
        mac=f"02:11:14:00:01:{number:02x}",
        mode="bridge",
        mtu=0,
        addresses=(f"20.0.0.{number}/24", f"fd00:20::{number:x}/64"),
    )
    (made,) = await links.add_macvlans([(namespace(target), spec)])
    assert isinstance(made, Interface), made
    return made


async def first(events: Events) -> None:
    """The first wake, which says that changes are heard from now on."""
    assert await asyncio.wait_for(anext(events), 5) == frozenset()


class Listener:
    """Hears all along, as the agent's loop does; an iterator that waits must not be cancelled."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.heard: list[frozenset[str]] = []
        self._new = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for places in self._events:
            self.heard.append(places)
            self._new.set()

    async def settle(self, seconds: float = 0.5) -> None:
        """Until nothing was heard for so long: what was done here echoes for a while, link states for up to a second
        (linkwatch). Forget it."""
        while True:
            self._new.clear()
            try:
                await asyncio.wait_for(self._new.wait(), seconds)
            except TimeoutError:
                self.heard.clear()
                return

    async def hears(self, identity: str, timeout: float = 5) -> None:
        """Until a look there is asked for, by name or because the host's own links changed along."""
        async with asyncio.timeout(timeout):
            while not any(identity in places or not places for places in self.heard):
                self._new.clear()
                await self._new.wait()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.mark.parametrize(
    "damage",
    [
        ["link", "set", "tl0", "down"],
        ["link", "set", "tl0", "mtu", "1400"],
        ["address", "del", "20.0.0.1/24", "dev", "tl0"],
        ["address", "add", "fd00:20::99/64", "dev", "tl0"],
        ["link", "delete", "tl0"],
    ],
)
async def test_a_change_inside_a_target_is_heard(
    links: KernelLinks, host: Place, target: Place, damage: list[str]
) -> None:
    await first(events := links.events())
    await attach(links, host, target)
    listener = Listener(events)
    await listener.settle()
    target.ip(*damage)
    await listener.hears(target.identity)
    await listener.stop()


async def test_an_interface_of_an_earlier_life_is_heard_once_it_was_read(host: Place, target: Place) -> None:
    before, after = KernelLinks(host.path), KernelLinks(host.path)
    try:
        await attach(before, host, target)
        await before.close()
        await first(events := after.events())
        await after.interfaces([namespace(target)])
        listener = Listener(events)
        await listener.settle()
        target.ip("link", "set", "tl0", "down")
        await listener.hears(target.identity)
        await listener.stop()
    finally:
        await before.close()
        await after.close()


async def test_what_others_do_in_their_namespaces_is_not_heard(
    links: KernelLinks, host: Place, target: Place, places: Places
) -> None:
    """Numbered or not: a container that makes and breaks links all day costs nothing."""
    stranger = places.new()
    host.ip("link", "add", "theirs", "type", "veth", "peer", "name", "eth0", "netns", stranger.name)
    oracle.links(host.name)  # showing a link whose peer is elsewhere numbers its place
    await first(events := links.events())
    await attach(links, host, target)
    await links.interfaces([namespace(stranger)])
    listener = Listener(events)
    while "tentative" in host.ip("-6", "address", "show"):  # that an address has stood its test is an event, too
        await asyncio.sleep(0.05)
    await listener.settle(1.2)
    for _ in range(5):
        stranger.ip("link", "add", "br0", "type", "bridge")
        stranger.ip("link", "delete", "br0")
    target.ip("address", "add", "20.0.0.77/24", "dev", "tl0")  # of which no link of the host takes notice
    await listener.hears(target.identity)
    assert set(listener.heard) == {frozenset({target.identity})}
    await listener.stop()


async def test_listening_keeps_no_namespace_alive_and_no_number_taken(
    links: KernelLinks, host: Place, places: Places
) -> None:
    watcher = places.new()
    await first(events := links.events())
    listener = Listener(events)
    for round_ in range(3):
        crowd = [places.new() for _ in range(4)]
        for number, place in enumerate(crowd):
            await attach(links, host, place, round_ * 4 + number + 1)
            peer = f"p{round_}{number}"
            watcher.ip("link", "add", peer, "type", "veth", "peer", "name", "far", "netns", place.name)
        assert len(numbers(host)) == 4
        for place in crowd:
            places.remove(place)
        async with asyncio.timeout(10):  # its half of a pair goes when nothing holds the other's namespace
            while any(name.startswith("p") for name in oracle.links(watcher.name)) or numbers(host):
                await asyncio.sleep(0.02)
    await listener.stop()


def numbers(host: Place) -> list[str]:
    """Namespaces that the host has numbered."""
    return host.ip("netns", "list-id").split("nsid")[1:]


async def test_a_silent_adapter_numbers_nobody(links: KernelLinks, host: Place, target: Place) -> None:
    """A command that listens to nothing leaves nothing behind."""
    await attach(links, host, target)
    await links.interfaces([namespace(target)])
    assert numbers(host) == []
