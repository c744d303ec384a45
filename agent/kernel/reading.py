"""Whole namespaces as values."""

from __future__ import annotations

import errno
from dataclasses import replace

from agent.kernel import dump, messages
from agent.kernel.channel import Channel
from agent.kernel.errors import Failure
from agent.plan.state import Interface, Link, ShimRoute


def nsid(channel: Channel, descriptor: int) -> int:
    """The number by which the channel's namespace knows another, -1 when it knows it not. Raises Failure."""
    return dump.nsid(channel.get(messages.number_of(descriptor)))


def host_nsid(channel: Channel, host: int) -> int:
    """The number by which the channel's namespace knows the host's (descriptor `host`), -1 when it knows it not.

    The kernel numbers a namespace when a link of it first refers to another one, so an unnumbered host is one that
    no link here sits on.
    """
    return nsid(channel, host)


def links(channel: Channel, host_nsid: int | None) -> list[dump.SeenLink]:
    """All links of a namespace; `host_nsid` as in `dump.link`. The host's come with its addresses. Raises Failure."""
    seen = [dump.link(body, host_nsid) for body in channel.dump(messages.all_links())]
    if host_nsid is not None:
        return seen
    addresses: dict[int, list[str]] = {}
    for body in channel.dump(messages.all_addresses()):
        if found := dump.host_address(body):
            addresses.setdefault(found[0], []).append(found[1])
    return [_with_addresses(one, addresses.get(one.link.index)) for one in seen]


def _with_addresses(seen: dump.SeenLink, addresses: list[str] | None) -> dump.SeenLink:
    return seen._replace(link=replace(seen.link, host_addresses=tuple(addresses))) if addresses else seen


def indexes(channel: Channel) -> dict[str, int]:
    """Index of each link of a namespace by name. Raises Failure."""
    found = [dump.index_and_name(body) for body in channel.dump(messages.all_links())]
    return {name: index for index, name in found}


def routes(channel: Channel) -> list[dump.Default]:
    """All default routes of a namespace. Raises Failure."""
    return [found for body in channel.dump(messages.all_routes()) for found in dump.defaults(body)]


def our_routes(channel: Channel) -> list[ShimRoute]:
    """Routes of ours in the main table of a namespace. Raises Failure."""
    found: list[ShimRoute] = []
    for version in (4, 6):
        try:
            bodies = channel.dump(messages.our_routes(version))
        except Failure as failure:
            # No table yet, or no such IP version at all.
            if failure.code not in (errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
                raise
            continue
        found += [route for body in bodies if (route := dump.our_route(body))]
    return found


def interfaces(channel: Channel, host: int) -> list[Interface]:
    """All interfaces of a namespace with addresses and default gateways. Raises Failure."""
    seen = links(channel, host_nsid(channel, host))
    return dump.interfaces(seen, channel.dump(messages.all_addresses()), routes(channel))


def link(channel: Channel, index: int = 0, name: str = "", host_nsid: int | None = None) -> Link | None:
    """One link by index or name; None when there is none. Raises Failure."""
    try:
        return dump.link(channel.get(messages.get_link(index, name)), host_nsid).link
    except Failure as failure:
        if failure.is_gone:
            return None
        raise
