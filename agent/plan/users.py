"""Who uses a sub-interface of ours: deleting it would take their links, and the host's addresses on it, along. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent.plan.state import Link, Observed
from trunkline import naming

_PEERED: Final = frozenset({"veth", "netkit", "vxcan"})
"""Kinds whose IFLA_LINK is their peer; that of every other kind is the link it sits on."""


@dataclass(frozen=True, slots=True)
class Users:
    """`fabric`: interfaces of ours on the link, by name and place. `others`: everything else that uses it, in words;
    what is there may neither be deleted nor have its MTU changed. Links in other namespaces, which are not all looked
    at each time, are named only when nothing of the host's own is: else each sweep would tell another story."""

    fabric: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def sits_on(upper: Link, lower: Link) -> bool:
    """Whether one link goes when the other does."""
    return upper.parent == lower.index and upper.parent_on_host and upper.kind not in _PEERED


def of(link: Link, observed: Observed) -> Users:
    """Who uses a link of the host. Links in a namespace that `observed` lacks are unknown to it."""
    here = [f"address {address}" for address in link.host_addresses]
    if master := observed.link(link.master):
        here.append(f"{master.kind or 'link'} {master.name} (as a port of it)")
    here += [_named(upper, "") for upper in observed.links if sits_on(upper, link) and not _ours(upper)]
    inside = [(upper, place) for upper, place in _inside(observed) if sits_on(upper, link)]
    fabric = [upper.name for upper in observed.links if sits_on(upper, link) and _ours(upper)]
    fabric += [f"{upper.name}{place}" for upper, place in inside if _ours(upper)]
    elsewhere = [_named(upper, place) for upper, place in inside if not _ours(upper)]
    return Users(tuple(fabric), tuple(here or elsewhere))


def _ours(link: Link) -> bool:
    return naming.is_ours(link.alias) or (not link.alias and naming.is_temporary(link.name))


def _inside(observed: Observed) -> Iterator[tuple[Link, str]]:
    for view in observed.views.values():
        for interface in view.interfaces:
            yield interface.link, f" in {view.namespace.path}"


def _named(link: Link, place: str) -> str:
    return f"{link.kind} link {link.name}{place}"


def few(names: tuple[str, ...]) -> str:
    """The first five of them, and how many more there are."""
    return ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
