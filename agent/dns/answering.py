"""What is said to a query: an answer from the zone, or that others are to be asked. Pure."""

from __future__ import annotations

import random

from agent.dns import messages
from agent.dns.messages import Question, Reply
from agent.dns.zone import Zone, reverse_address


def reply(zone: Zone, asked: Question) -> Reply | None:
    """What the fabric says; None for a question that is not about it.

    A reverse question is the fabric's only when a container has the address: what else lives in a pool's network, such
    as its gateway, has its name elsewhere.
    """
    if not asked.internet:
        return Reply(messages.REFUSED) if zone.owns(asked.name) else None
    if zone.owns(asked.name):
        return _forward(zone, asked)
    address = reverse_address(asked.name)
    pointers = zone.names_of(address) if address is not None else []
    return Reply(pointers=pointers, zone=asked.name) if pointers else None


def _forward(zone: Zone, asked: Question) -> Reply:
    if messages.is_transfer(asked.kind):
        return Reply(messages.REFUSED)
    apex = asked.name == zone.domain
    found = zone.addresses(asked.name)
    if not found and not apex and not zone.known:
        # Said not to exist, it would be believed; so it is asked again.
        return Reply(messages.SERVFAIL)
    if found is None:
        return Reply(messages.NXDOMAIN, zone=zone.domain)
    if len(found) > 1:
        start = random.randrange(len(found))
        found = found[start:] + found[:start]
    return Reply(addresses=found, apex=apex, zone=zone.domain)
