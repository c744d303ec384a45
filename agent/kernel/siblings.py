"""Mute macvlans beside the containers' interfaces, in the host's namespace: what checks are made from."""

from __future__ import annotations

import errno

from agent.kernel import host, reading, sysctl
from agent.kernel.errors import Failure, Step, refused
from agent.kernel.host import Home
from agent.kernel.links import KernelLinks
from trunkline.errors import Reason, TrunklineError


class KernelSiblings:
    """`agent.probes.siblings.SiblingFactory` through an adapter of the same kernel."""

    def __init__(self, links: KernelLinks) -> None:
        self._links = links

    async def open(self, parent_index: int, name: str, mac: str, alias: str) -> int:
        """See `SiblingFactory.open`."""
        return await self._links._singly(lambda home: _open(home, parent_index, name, mac, alias))

    async def close(self, ifindex: int, alias: str) -> None:
        """See `SiblingFactory.close`."""
        await self._links.delete_link(ifindex, alias)


def _open(home: Home, parent: int, name: str, mac: str, alias: str) -> int:
    _clear(home, name, alias)
    _do(home, Step.MACVLAN, name, "add", kind="macvlan", ifname=name, link=parent, address=mac, macvlan_mode="bridge")
    made = reading.link(home.channel, name=name)
    if made is None or made.parent != parent:
        raise TrunklineError(Reason.VERIFY_FAILED, f"{name} vanished right after it was made", "it is tried again")
    try:
        _do(home, Step.MARK, name, "set", index=made.index, ifalias=alias)
        with home.entrance.entered():
            sysctl.mute(name)
        _do(home, Step.UP, name, "set", index=made.index, state="up")
    except BaseException:
        home.changes.take_back(made.index)
        raise
    return made.index


def _clear(home: Home, name: str, alias: str) -> None:
    """Remove what a killed run left; refuse anything else of that name."""
    found = reading.link(home.channel, name=name)
    if found is not None:
        host.delete_link(home, found.index, alias)


def _do(home: Home, step: Step, name: str, command: str, **what: object) -> None:
    try:
        home.changes.link(command, **what)
    except Failure as failure:
        if failure.code == errno.EEXIST:
            raise TrunklineError(
                Reason.LINK_CLASH, f"{name} exists and is not ours", "rename or remove it"
            ) from failure
        raise refused(failure, step, name) from failure
