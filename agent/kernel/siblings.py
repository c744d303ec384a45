"""Mute macvlans beside the containers' interfaces, in the host's namespace: what checks are made from."""

from __future__ import annotations

import errno

from agent.kernel import host, messages, reading, sysctl, uapi
from agent.kernel.channel import Channel
from agent.kernel.codec import string
from agent.kernel.errors import Failure, Step, refused
from agent.kernel.links import KernelLinks
from agent.kernel.namespaces import Entrance
from trunkline.errors import Reason, TrunklineError


class KernelSiblings:
    """`agent.probes.siblings.SiblingFactory` through an adapter of the same kernel."""

    def __init__(self, links: KernelLinks) -> None:
        self._links = links

    async def open(self, parent_index: int, name: str, mac: str, alias: str) -> int:
        """See `SiblingFactory.open`."""
        return await self._links._on_host(lambda home, entrance: _open(home, entrance, parent_index, name, mac, alias))

    async def close(self, ifindex: int, alias: str) -> None:
        """See `SiblingFactory.close`."""
        await self._links.delete_link(ifindex, alias)


def _open(home: Channel, entrance: Entrance, parent: int, name: str, mac: str, alias: str) -> int:
    _clear(home, name, alias)
    _ask(home, Step.MACVLAN, messages.add_macvlan(parent, entrance.descriptor, name, mac, "bridge", 0), name)
    made = reading.link(home, name=name)
    if made is None or made.parent != parent:
        raise TrunklineError(Reason.VERIFY_FAILED, f"{name} vanished right after it was made", "it is tried again")
    try:
        _ask(home, Step.MARK, messages.change_link(made.index, string(uapi.IFLA_IFALIAS, alias)), name)
        with entrance.entered():
            sysctl.mute(name)
        _ask(home, Step.UP, messages.raise_link(made.index), name)
    except BaseException:
        home.transact([messages.delete_link(made.index)])
        raise
    return made.index


def _clear(home: Channel, name: str, alias: str) -> None:
    """Remove what a killed run left; refuse anything else of that name."""
    found = reading.link(home, name=name)
    if found is not None:
        host.delete_if_marked(home, found.index, alias, "of the host")


def _ask(home: Channel, step: Step, request: messages.Request, what: str) -> None:
    try:
        home.ask(request)
    except Failure as failure:
        if failure.code == errno.EEXIST:
            raise TrunklineError(
                Reason.LINK_CLASH, f"{what} exists and is not ours", "rename or remove it"
            ) from failure
        raise refused(failure, step, what) from failure
