"""Changes to links of the host's namespace."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple

from agent.kernel import reading, sysctl
from agent.kernel.changes import Changes
from agent.kernel.channel import Channel
from agent.kernel.errors import Failure, Step, mtu_above_parent, refused
from agent.kernel.namespaces import Entrance
from agent.plan.state import Link
from trunkline import naming
from trunkline.errors import Reason, TrunklineError


class Home(NamedTuple):
    """The host's namespace, held open for one piece of work: read through `channel`, changed through `changes`."""

    entrance: Entrance
    channel: Channel
    changes: Changes


def kind_of(link: Link) -> str:
    """What sort of link it is, in words."""
    if link.vlan is not None:
        return f"VLAN {link.vlan} link on link {link.parent}"
    return f"{link.kind or 'physical'} link"


def _whose(link: Link) -> str:
    return f"alias {link.alias!r}" if link.alias else "no alias"


def add_vlan(home: Home, parent: int, name: str, vid: int, mtu: int, alias: str) -> int:
    """See `Links.add_vlan`."""
    wanted = {"mtu": mtu} if mtu else {}  # else the parent's
    try:
        home.changes.link("add", kind="vlan", ifname=name, link=parent, vlan_id=vid, **wanted)
    except Failure as failure:
        raise _why_no_vlan(home.channel, failure, parent, name, vid, mtu) from failure
    made = _find_made(home.channel, parent, name, vid)
    try:
        step = Step.MARK
        home.changes.link("set", index=made.index, ifalias=alias)
        with home.entrance.entered():
            sysctl.ignore_routers(name)
            sysctl.answer_for_itself(name)
        step = Step.UP
        home.changes.link("set", index=made.index, state="up")
    except Failure as failure:
        home.changes.take_back(made.index)
        raise refused(failure, step, f"{name} (VLAN {vid})") from failure
    except TrunklineError:
        home.changes.take_back(made.index)
        raise
    return made.index


def _find_made(channel: Channel, parent: int, name: str, vid: int) -> Link:
    """The link just made under `name`. The kernel tells nobody the index it chose (NLM_F_ECHO does since 6.2
    only); somebody may have renamed the link since, but no other one has this parent and id."""
    found = reading.link(channel, name=name)
    if found is not None and (found.parent, found.vlan) == (parent, vid):
        return found
    for seen in reading.links(channel, None):
        if (seen.link.parent, seen.link.vlan) == (parent, vid) and not seen.link.alias:
            return seen.link
    raise TrunklineError(Reason.VERIFY_FAILED, f"{name} vanished right after it was made", "it is tried again")


def _why_no_vlan(channel: Channel, failure: Failure, parent: int, name: str, vid: int, mtu: int) -> TrunklineError:
    found = {seen.link.index: seen.link for seen in reading.links(channel, None)}
    below = found.get(parent)
    if below is None:
        return TrunklineError(
            Reason.UPLINK_MISSING, f"no link {parent} to put {name} on", "check that the uplink's device exists"
        )
    if failure.code == errno.EEXIST:
        return _clash(list(found.values()), below, name, vid)
    if failure.code in (errno.EINVAL, errno.ERANGE) and mtu > below.mtu:
        return mtu_above_parent(name, mtu, below.name, below.mtu)
    return refused(failure, Step.VLAN, f"{name} (VLAN {vid}) on {below.name}")


def _clash(links: list[Link], below: Link, name: str, vid: int) -> TrunklineError:
    for link in links:
        if link.name == name:
            return TrunklineError(
                Reason.LINK_CLASH,
                f"{name} exists: {kind_of(link)} with {_whose(link)}; VLAN {vid} on {below.name} needs the name",
                f"rename or delete it: ip link delete {name}",
                ifname=name,
            )
    for link in links:
        if link.parent == below.index and link.vlan == vid:
            return TrunklineError(
                Reason.LINK_CLASH,
                f"VLAN {vid} on {below.name} is {link.name} already, with {_whose(link)}",
                "it can be used as it is; look again",
                ifname=link.name,
            )
    return TrunklineError(Reason.KERNEL_REFUSED, f"{name} existed a moment ago", "it is tried again")


def delete_if_marked(channel: Channel, index: int, alias: str, where: str, delete: Callable[[], None]) -> None:
    """`delete` the link if it carries exactly this alias, read right before; quiet when it is gone, LINK_CLASH when
    it carries another."""
    try:
        found = reading.link(channel, index)
        if found is None:
            return
        if found.alias != alias or not (alias or naming.is_temporary(found.name)):
            raise TrunklineError(
                Reason.LINK_CLASH,
                f"link {index} ({found.name}) {where} carries {_whose(found)} instead of {alias!r}; it was left alone",
                "somebody changed the mark, or the link is somebody else's; look again",
                ifname=found.name,
            )
        delete()
    except Failure as failure:
        if not failure.is_gone:
            raise refused(failure, Step.DELETE, f"{index} {where}") from failure


def delete_link(home: Home, index: int, alias: str) -> None:
    """See `Links.delete_link`."""

    def delete() -> None:
        if not alias.startswith(naming.SHIM_MARK):  # its addresses are ours
            _check_unused(home.channel, index)
        home.changes.link("del", index=index)

    delete_if_marked(home.channel, index, alias, "of the host", delete)


def _check_unused(channel: Channel, index: int) -> None:
    """What was decided on was read a while ago, on a crowded host a second: an address that came since stays."""
    for seen in reading.links(channel, None):
        link = seen.link
        if link.index == index and (link.host_addresses or link.master):
            what = (
                ", ".join(f"address {address}" for address in link.host_addresses) or f"link {link.master}, its master"
            )
            raise TrunklineError(
                Reason.SUBINTERFACE_IN_USE,
                f"{link.name} carries {what}, so it was left alone",
                "move that elsewhere and it goes by itself",
                ifname=link.name,
            )


def change(home: Home, index: int, step: Step, **what: object) -> None:
    """One change of one link, in pyroute2's words; UPLINK_MISSING when the link is gone."""
    try:
        home.changes.link("set", index=index, **what)
    except Failure as failure:
        if failure.is_gone:
            raise TrunklineError(
                Reason.UPLINK_MISSING, f"cannot {step.value}: link {index} does not exist", "look again"
            ) from failure
        found = reading.link(home.channel, index)
        raise refused(failure, step, f"on {found.name if found else index}") from failure


def set_mtu(home: Home, index: int, mtu: int) -> None:
    """See `Links.set_mtu`. UPLINK_MTU when it is above the parent's."""
    try:
        change(home, index, Step.MTU, mtu=mtu)
    except TrunklineError as error:
        link = reading.link(home.channel, index)
        below = reading.link(home.channel, link.parent) if link and link.parent and link.parent_on_host else None
        if link is not None and below is not None and mtu > below.mtu:
            raise mtu_above_parent(link.name, mtu, below.name, below.mtu) from error
        if link is not None and error.reason is Reason.KERNEL_REFUSED:
            raise TrunklineError(Reason.UPLINK_MTU, error.message, f"give an MTU that {link.name} takes") from error
        raise
