"""The `Links` port on the kernel: blocking netlink work in a few threads of its own, asyncio in front."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from agent.kernel import events, hearing, host, messages, namespaces, reading, shims, uapi
from agent.kernel.channel import Channel
from agent.kernel.errors import Failure, Step, refused
from agent.kernel.hearing import Hearing
from agent.kernel.host import Home
from agent.kernel.macvlans import Batch
from agent.kernel.namespaces import Entrance
from agent.kernel.repair import Repair
from agent.plan.state import Interface, Link, MacvlanSpec, Namespace, ShimRoute, ShimSpec
from trunkline.errors import Reason, TrunklineError

T = TypeVar("T")

THREADS: Final = 64
"""Deleting a link waits for the kernel's grace periods, outside its lock: deletions took 18 ms each with one thread,
9 with 4, 2.9 with 16, 0.8 with 64. So callers issue theirs together. Threads are started as they are needed."""

OWN_NAMESPACE: Final = "/proc/self/ns/net"


class KernelLinks:
    """`agent.ports.Links` on the kernel of this machine.

    `host_netns` is the namespace taken for the host's, by default this process's own. Every call opens its sockets
    and closes them: nothing of ours keeps a namespace alive between calls. A cancelled call is carried out to its
    end all the same; what it did is seen by the next observation.
    """

    def __init__(self, host_netns: str | None = None) -> None:
        self._host = namespaces.describe(host_netns or OWN_NAMESPACE)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="netlink")
        self._wakes: set[events.Wakes] = set()
        self._hearing = Hearing()
        self._closed = False

    async def host_links(self) -> list[Link]:
        """See `Links.host_links`."""
        return await self._on_host(lambda home, _: [seen.link for seen in reading.links(home, None)])

    async def interfaces(self, namespaces_: Sequence[Namespace]) -> list[list[Interface] | TrunklineError]:
        """See `Links.interfaces`."""
        wanted = list(namespaces_)

        def work(home: Channel, entrance: Entrance) -> list[list[Interface] | TrunklineError]:
            return [_told(lambda one=one: self._read(home, entrance, one)) for one in wanted]  # type: ignore[misc]

        return await self._on_host(work)

    async def add_vlan(self, parent: int, name: str, vid: int, mtu: int, alias: str) -> int:
        """See `Links.add_vlan`."""
        return await self._singly(lambda home: host.add_vlan(home, parent, name, vid, mtu, alias))

    async def delete_link(self, index: int, alias: str) -> None:
        """See `Links.delete_link`."""
        await self._singly(lambda home: host.delete_link(home, index, alias))

    async def set_up(self, index: int) -> None:
        """See `Links.set_up`."""
        await self._change(index, Step.UP, state="up")

    async def set_down(self, index: int) -> None:
        """See `Links.set_down`."""
        await self._change(index, Step.DOWN, state="down")

    async def set_mtu(self, index: int, mtu: int) -> None:
        """See `Links.set_mtu`."""
        await self._singly(lambda home: host.set_mtu(home, index, mtu))

    async def set_promiscuous(self, index: int, on: bool) -> None:
        """See `Links.set_promiscuous`."""
        flags = uapi.IFF_PROMISC if on else 0
        await self._change(index, Step.PROMISCUOUS, flags=flags, change=uapi.IFF_PROMISC)

    async def set_alias(self, index: int, alias: str) -> None:
        """See `Links.set_alias`."""
        await self._change(index, Step.MARK, ifalias=alias)

    async def add_macvlans(self, work: Sequence[tuple[Namespace, MacvlanSpec]]) -> list[Interface | TrunklineError]:
        """See `Links.add_macvlans`."""
        wanted = list(work)
        by_namespace: dict[Namespace, list[int]] = {}
        for position, (namespace, _) in enumerate(wanted):
            by_namespace.setdefault(namespace, []).append(position)

        def make(home: Channel, entrance: Entrance) -> list[Interface | TrunklineError]:
            results: dict[int, Interface | TrunklineError] = {}
            for namespace, positions in by_namespace.items():
                specs = [wanted[position][1] for position in positions]
                results.update(zip(positions, self._make(home, entrance, namespace, specs), strict=True))
            return [results[position] for position in range(len(wanted))]

        return await self._on_host(make)

    def _make(
        self, home: Channel, entrance: Entrance, namespace: Namespace, specs: Sequence[MacvlanSpec]
    ) -> Sequence[Interface | TrunklineError]:
        def work() -> list[Interface | TrunklineError]:
            with namespaces.entrance(namespace) as inside:
                if inside.namespace.identity == entrance.namespace.identity:
                    raise TrunklineError(
                        Reason.NETNS_IS_HOST,
                        f"{namespace.path} is the host's own network namespace",
                        "attach a container, or a namespace of its own",
                    )
                with inside.channel() as target:
                    made = Batch(home, entrance.descriptor, target, inside, specs).run()
                    self._hear(home, inside)
                    return made

        made = _told(work)
        return [made] * len(specs) if isinstance(made, TrunklineError) else made

    def _read(self, home: Channel, entrance: Entrance, namespace: Namespace) -> list[Interface]:
        with namespaces.entrance(namespace) as inside, inside.channel() as channel:
            found = reading.interfaces(channel, entrance.descriptor)
            if hearing.concerns(found) and self._hear(home, inside):
                return reading.interfaces(channel, entrance.descriptor)  # what happened before that was not heard
            return found

    def _hear(self, home: Channel, inside: Entrance) -> bool:
        return bool(self._wakes) and self._hearing.include(home, inside)

    async def configure(self, namespace: Namespace, index: int, spec: MacvlanSpec) -> Interface:
        """See `Links.configure`."""

        def work(home: Channel, entrance: Entrance) -> Interface:
            with namespaces.entrance(namespace) as inside, inside.channel() as target:
                return Repair(home, entrance.descriptor, target, inside, index, spec).run()

        return await self._on_host(work)

    async def shim_routes(self) -> list[ShimRoute]:
        """See `Links.shim_routes`."""
        return await self._on_host(lambda home, _: reading.our_routes(home))

    async def add_shim(self, spec: ShimSpec) -> int:
        """See `Links.add_shim`."""
        return await self._on_host(lambda home, entrance: shims.add(home, entrance, spec))

    async def configure_shim(self, index: int, spec: ShimSpec) -> None:
        """See `Links.configure_shim`."""
        await self._on_host(lambda home, entrance: shims.configure(home, entrance, index, spec))

    async def delete_interface(self, namespace: Namespace, index: int, alias: str) -> None:
        """See `Links.delete_interface`. A namespace that is gone took its interfaces along."""

        def work() -> None:
            try:
                with namespaces.entrance(namespace) as inside, inside.channel() as target:
                    delete = messages.delete_link(index)
                    host.delete_if_marked(target, index, alias, f"in {namespace.path}", lambda: target.ask(delete))
            except TrunklineError as error:
                if error.reason is not Reason.NETNS_NOT_FOUND:
                    raise

        await self._in_thread(work)

    async def events(self) -> AsyncIterator[frozenset[str]]:
        """See `Links.events`. The first wake comes as soon as changes are heard: what happened before was missed."""
        wakes = events.Wakes(await self._in_thread(self._subscribe), self._hearing)
        self._wakes.add(wakes)
        try:
            yield frozenset()
            while (places := await wakes.wait()) is not None:
                yield places
        finally:
            self._wakes.discard(wakes)
            wakes.close()

    def _subscribe(self) -> Any:
        with namespaces.entrance(self._host) as home, home.entered():
            return events.subscribe()

    async def close(self) -> None:
        """See `Links.close`. Waits for work that runs; ends every `events`."""
        self._closed = True
        for wakes in list(self._wakes):
            wakes.close()
        await asyncio.to_thread(self._threads.shutdown)

    async def _on_host(self, work: Callable[[Channel, Entrance], T]) -> T:
        """Do `work` in a thread, with a socket of the host's namespace and the namespace itself."""

        def run() -> T:
            with namespaces.entrance(self._host) as home, home.channel() as channel:
                return work(channel, home)

        return await self._in_thread(run)

    async def _singly(self, work: Callable[[Home], T]) -> T:
        """Do `work`, which changes one link, in a thread, in the host's namespace."""

        def run() -> T:
            with namespaces.entrance(self._host) as home, home.channel() as channel, home.changes() as changes:
                return work(Home(home, channel, changes))

        return await self._in_thread(run)

    async def _change(self, index: int, step: Step, **what: object) -> None:
        await self._singly(lambda home: host.change(home, index, step, **what))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise TrunklineError(Reason.INTERNAL, "the kernel adapter was closed")

        def run() -> T:
            try:
                with _told_errors():
                    return work()
            finally:
                if getattr(namespaces.stranded, "yes", False):
                    self._replace_threads()

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    def _replace_threads(self) -> None:
        """A thread could not leave a foreign namespace: no work is given to it, or to its siblings, any more."""
        stale, self._threads = self._threads, ThreadPoolExecutor(THREADS, thread_name_prefix="netlink")
        stale.shutdown(wait=False)


@contextlib.contextmanager
def _told_errors() -> Iterator[None]:
    """Only our errors leave the adapter."""
    try:
        yield
    except Failure as failure:
        raise refused(failure, Step.READ, "links") from failure
    except OSError as error:
        raise TrunklineError(Reason.KERNEL_REFUSED, f"netlink failed: {error}", "it is tried again") from error


def _told(work: Callable[[], T]) -> T | TrunklineError:
    try:
        with _told_errors():
            return work()
    except TrunklineError as error:
        return error
