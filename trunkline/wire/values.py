"""The small values that many messages carry."""

from __future__ import annotations

from typing import Final

from trunkline.errors import Reason, Refusal
from trunkline.model import (
    DockerMode,
    Event,
    HostUplink,
    Mode,
    Origin,
    Phase,
    Prefix,
    Problem,
    Target,
    TargetKind,
)
from trunkline.v1 import attachment_pb2, fabric_pb2, host_pb2, network_pb2

_MODES: Final = {
    Mode.BRIDGE: network_pb2.MACVLAN_MODE_BRIDGE,
    Mode.PRIVATE: network_pb2.MACVLAN_MODE_PRIVATE,
    Mode.VEPA: network_pb2.MACVLAN_MODE_VEPA,
}
_MODES_BACK: Final = {number: mode for mode, number in _MODES.items()} | {
    network_pb2.MACVLAN_MODE_UNSPECIFIED: Mode.BRIDGE
}
_DOCKER: Final = {
    DockerMode.LOCAL: network_pb2.DOCKER_MODE_LOCAL,
    DockerMode.SWARM: network_pb2.DOCKER_MODE_SWARM,
    DockerMode.NONE: network_pb2.DOCKER_MODE_NONE,
}
_DOCKER_BACK: Final = {number: mode for mode, number in _DOCKER.items()} | {
    network_pb2.DOCKER_MODE_UNSPECIFIED: DockerMode.LOCAL
}
_ORIGINS: Final = {
    Origin.TRUNKLINE: attachment_pb2.ORIGIN_TRUNKLINE,
    Origin.DOCKER: attachment_pb2.ORIGIN_DOCKER,
    Origin.HOST: attachment_pb2.ORIGIN_HOST,
}
_ORIGINS_BACK: Final = {number: origin for origin, number in _ORIGINS.items()}
_PHASES: Final = {
    Phase.PENDING: attachment_pb2.ATTACHMENT_PHASE_PENDING,
    Phase.READY: attachment_pb2.ATTACHMENT_PHASE_READY,
    Phase.WAITING: attachment_pb2.ATTACHMENT_PHASE_WAITING,
    Phase.FAILED: attachment_pb2.ATTACHMENT_PHASE_FAILED,
    Phase.DETACHING: attachment_pb2.ATTACHMENT_PHASE_DETACHING,
}
_PHASES_BACK: Final = {number: phase for phase, number in _PHASES.items()}


def prefix_to_pb(prefix: Prefix) -> network_pb2.Prefix:
    """A prefix as a message."""
    return network_pb2.Prefix(cidr=prefix.cidr, gateway=prefix.gateway, ranges=prefix.ranges, excludes=prefix.excludes)


def prefix_from_pb(pb: network_pb2.Prefix) -> Prefix:
    """A prefix as typed: not checked here."""
    return Prefix(cidr=pb.cidr, gateway=pb.gateway, ranges=tuple(pb.ranges), excludes=tuple(pb.excludes))


def target_to_pb(target: Target) -> attachment_pb2.Target:
    """A target as a message; raises INVALID_ARGUMENT for a pid that is not a number."""
    match target.kind:
        case TargetKind.CONTAINER:
            return attachment_pb2.Target(container=target.value)
        case TargetKind.NETNS:
            return attachment_pb2.Target(netns=target.value)
        case TargetKind.PID:
            return attachment_pb2.Target(pid=_pid(target.value))


def _pid(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 32:
        return int(text)
    raise Refusal(Reason.INVALID_ARGUMENT, f"{text!r} is not a process id", "write the target as pid:1234")


def target_from_pb(pb: attachment_pb2.Target) -> Target:
    """A target; raises INVALID_ARGUMENT when none is set, or when it is empty."""
    match pb.WhichOneof("kind"):
        case "container" if pb.container:
            return Target(TargetKind.CONTAINER, pb.container)
        case "netns" if pb.netns:
            return Target(TargetKind.NETNS, pb.netns)
        case "pid" if pb.pid:
            return Target(TargetKind.PID, str(pb.pid))
    raise Refusal(
        Reason.INVALID_ARGUMENT, "no target is named", "name a container, a network namespace's path, or a process id"
    )


def mode_to_pb(mode: Mode) -> network_pb2.MacvlanMode.ValueType:
    """A mode as its number."""
    return _MODES[mode]


def mode_from_pb(pb: network_pb2.MacvlanMode.ValueType) -> Mode:
    """A mode; unspecified is bridge. Raises MODE_REFUSED for a number that is not known."""
    try:
        return _MODES_BACK[pb]
    except KeyError:
        raise Refusal(
            Reason.MODE_REFUSED, f"macvlan mode number {pb} is not on offer", "use bridge, private or vepa"
        ) from None


def docker_to_pb(mode: DockerMode) -> network_pb2.DockerMode.ValueType:
    """A Docker mode as its number."""
    return _DOCKER[mode]


def docker_from_pb(pb: network_pb2.DockerMode.ValueType) -> DockerMode:
    """A Docker mode; unspecified is local. Raises INVALID_ARGUMENT for a number that is not known."""
    try:
        return _DOCKER_BACK[pb]
    except KeyError:
        raise Refusal(
            Reason.INVALID_ARGUMENT, f"Docker mode number {pb} is not known", "use local, swarm or none"
        ) from None


def origin_to_pb(origin: Origin) -> attachment_pb2.Origin.ValueType:
    """An origin as its number."""
    return _ORIGINS[origin]


def origin_from_pb(pb: attachment_pb2.Origin.ValueType) -> Origin:
    """An origin; one that is not said or not known is TRUNKLINE."""
    return _ORIGINS_BACK.get(pb, Origin.TRUNKLINE)


def event_to_pb(event: Event) -> host_pb2.HostEvent:
    """An event as a message."""
    return host_pb2.HostEvent(at_ms=event.at_ms, object=event.object, message=event.message)


def event_from_pb(pb: host_pb2.HostEvent) -> Event:
    """An event."""
    return Event(at_ms=pb.at_ms, object=pb.object, message=pb.message)


def phase_to_pb(phase: Phase) -> attachment_pb2.AttachmentPhase.ValueType:
    """The phase of an attachment as its number."""
    return _PHASES[phase]


def phase_from_pb(pb: attachment_pb2.AttachmentPhase.ValueType) -> Phase:
    """The phase of an attachment; one that is not known, such as a newer peer's, is PENDING: never taken for READY."""
    return _PHASES_BACK.get(pb, Phase.PENDING)


def phase_to_text(phase: Phase) -> str:
    """The phase of a network on one host, as messages carry it."""
    return phase.name


def phase_from_text(text: str) -> Phase:
    """The phase of a network on one host; one that is not known is PENDING."""
    return Phase.__members__.get(text, Phase.PENDING)


def uplink_to_pb(uplink: HostUplink) -> fabric_pb2.HostUplink:
    """An uplink of the sending host as a message."""
    return fabric_pb2.HostUplink(
        label=uplink.label,
        device=uplink.device,
        present=uplink.present,
        up=uplink.up,
        carrier=uplink.carrier,
        mtu=uplink.mtu,
        mac=uplink.mac,
        problem=uplink.problem,
    )


def uplink_from_pb(pb: fabric_pb2.HostUplink) -> HostUplink:
    """An uplink of one host; the host is known from the session, not from the message."""
    return HostUplink(
        label=pb.label,
        device=pb.device,
        present=pb.present,
        up=pb.up,
        carrier=pb.carrier,
        mtu=pb.mtu,
        mac=pb.mac,
        problem=pb.problem,
    )


def problem_to_pb(problem: Problem) -> fabric_pb2.Problem:
    """A problem as a message."""
    return fabric_pb2.Problem(kind=problem.kind, object=problem.object, reason=problem.reason, message=problem.message)


def problem_from_pb(pb: fabric_pb2.Problem) -> Problem:
    """A problem."""
    return Problem(kind=pb.kind, object=pb.object, reason=pb.reason, message=pb.message)
