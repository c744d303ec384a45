"""Targets whose changes are heard: those that the host's namespace has numbered.

A socket with NETLINK_LISTEN_ALL_NSID hears of other namespaces as far as its own has a number (nsid) for them
(netlink(7)). Numbering keeps nothing alive: the kernel takes the number back when the namespace goes (unhash_nsid).
"""

from __future__ import annotations

from agent.kernel import messages, reading
from agent.kernel.channel import Channel
from agent.kernel.errors import Failure
from agent.kernel.namespaces import Entrance
from agent.plan.state import Interface
from trunkline import naming


def concerns(interfaces: list[Interface]) -> bool:
    """Whether changes there are ours to hear of."""
    return any(naming.is_ours(interface.link.alias) for interface in interfaces)


class Hearing:
    """Numbers of targets, with their identities. Used by several threads; each call is one change of a dict."""

    def __init__(self) -> None:
        self._identities: dict[int, str] = {}

    def include(self, home: Channel, inside: Entrance) -> bool:
        """Hear of a namespace from now on; whether it was not heard before. Where that cannot be had, its changes
        are found by the tick."""
        try:
            number = reading.nsid(home, inside.descriptor)
            if number < 0:
                home.transact([messages.give_number(inside.descriptor)])  # EEXIST: another one has just done so
                number = reading.nsid(home, inside.descriptor)
        except Failure:
            return False
        identity = inside.namespace.identity
        if number < 0 or self._identities.get(number) == identity:
            return False
        self._identities[number] = identity
        return True

    def identity(self, number: int) -> str:
        """Identity of a namespace by its number; empty when nothing there concerns us."""
        return self._identities.get(number, "")
