"""The closed set of changes an agent makes to its host, each with its inverse. Pure.

A step names links by index and carries the mark that the link must still bear, so that a step that comes late
meets nothing of somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from agent.plan.state import MacvlanSpec, Namespace, ShimSpec


@dataclass(frozen=True, slots=True)
class RaiseLink:
    """Set an uplink, or a sub-interface of ours, up."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class LowerLink:
    """Set a link down that `RaiseLink` found down; only ever its inverse."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class SetPromiscuous:
    """Set or clear the promiscuous flag of an uplink."""

    index: int
    device: str
    on: bool


@dataclass(frozen=True, slots=True)
class AddVlan:
    """Make a sub-interface, marked and up."""

    parent: int
    name: str
    vid: int
    mtu: int
    alias: str


@dataclass(frozen=True, slots=True)
class MarkLink:
    """Mark a sub-interface that Docker made in the place of ours."""

    index: int
    name: str
    alias: str


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """Delete a marked link of the host's namespace."""

    index: int
    name: str
    alias: str


@dataclass(frozen=True, slots=True)
class SetMtu:
    """Change the MTU of a sub-interface of ours, which has `was` now."""

    index: int
    name: str
    mtu: int
    was: int


@dataclass(frozen=True, slots=True)
class AddMacvlan:
    """Make an attachment's interface inside its target."""

    namespace: Namespace
    spec: MacvlanSpec


@dataclass(frozen=True, slots=True)
class ConfigureInterface:
    """Bring an attachment's interface back to what it should be."""

    namespace: Namespace
    index: int
    spec: MacvlanSpec
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeleteInterface:
    """Delete a marked interface inside a target."""

    namespace: Namespace
    index: int
    name: str
    alias: str


@dataclass(frozen=True, slots=True)
class AddShim:
    """Make the host's own interface on a network, with its routes."""

    spec: ShimSpec


@dataclass(frozen=True, slots=True)
class ConfigureShim:
    """Bring the host's own interface on a network, and its routes, back to what they should be."""

    index: int
    spec: ShimSpec
    differences: tuple[str, ...]


Step = (
    RaiseLink
    | LowerLink
    | SetPromiscuous
    | AddVlan
    | MarkLink
    | DeleteLink
    | SetMtu
    | AddMacvlan
    | ConfigureInterface
    | DeleteInterface
    | AddShim
    | ConfigureShim
)


def inverse(step: Step, made: int = 0) -> Step | None:
    """What takes `step` back; `made` is the index of the link it made. None for a deletion, which is always the
    last step of its job, and for a repair, whose starting point was nobody's wish."""
    match step:
        case RaiseLink(index, name):
            return LowerLink(index, name)
        case LowerLink(index, name):
            return RaiseLink(index, name)
        case SetPromiscuous(on=on):
            return replace(step, on=not on)
        case AddVlan(name=name, alias=alias):
            return DeleteLink(made, name, alias)
        case SetMtu(index, name, mtu, was):
            return SetMtu(index, name, mtu=was, was=mtu)
        case AddMacvlan(namespace, spec):
            return DeleteInterface(namespace, made, spec.name, spec.alias)
        case AddShim(spec):
            return DeleteLink(made, spec.interface.name, spec.interface.alias)
        case MarkLink(index, name):
            return MarkLink(index, name, "")
        case DeleteLink() | ConfigureInterface() | DeleteInterface() | ConfigureShim():
            return None
        case _:
            assert_never(step)


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What a job is for: kind "uplink", "network", "attachment" or "link", and its name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Job:
    """Steps that are done together or not at all."""

    subject: Subject
    steps: tuple[Step, ...]
