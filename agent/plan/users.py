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
    what is there may neither be deleted nor have its MTU changed."""

    fabric: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def sits_on(upper: Link, lower: Link) -> bool:
    """Whether one link goes when the other does."""
    return upper.parent == lower.index and upper.parent_on_host and upper.kind not in _PEERED


def of(link: Link, observed: Observed) -> Users:
    """Who uses a link of the host. Links in a namespace that `observed` lacks are unknown to it."""
    fabric: list[str] = []
    others = [f"address {address}" for address in link.host_addresses]
    if master := observed.link(link.master):
        others.append(f"{master.kind or 'link'} {master.name} (as a port of it)")
    for upper, place in _all(observed):
        if sits_on(upper, link):
            ours = naming.is_ours(upper.alias) or (not upper.alias and naming.is_temporary(upper.name))
            (fabric if ours else others).append(f"{upper.name}{place}" if ours else _stranger(upper, place))
    return Users(tuple(fabric), tuple(dict.fromkeys(others)))


def _all(observed: Observed) -> Iterator[tuple[Link, str]]:
    for link in observed.links:
        yield link, ""
    for view in observed.views.values():
        for interface in view.interfaces:
            yield interface.link, f" in {view.namespace.path}"


def _stranger(link: Link, place: str) -> str:
    return f"{link.kind} link {link.name}{place}"


def few(names: tuple[str, ...]) -> str:
    """The first five of them, and how many more there are."""
    return ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
