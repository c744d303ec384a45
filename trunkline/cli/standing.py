"""Where the hosts stand on the way to what was asked for, and whether waiting on makes sense. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.errors import Reason, TrunklineError
from trunkline.v1 import attachment_pb2, network_pb2

OTHERS_SECONDS: Final = 2.0
"""After the first failure that no waiting mends, the other hosts get this long to finish."""

AWAY_SECONDS: Final = 3.0
"""A host out of reach gets this long to come back: an agent whose controller restarted is back sooner."""


class Stand(enum.Enum):
    """How one host stands."""

    DONE = "done"
    PENDING = "pending"
    FAILED = "failed"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class HostStand:
    """One line of the progress: `state` is the word to show, `reason` and `message` say what is in the way."""

    host: str
    stand: Stand
    state: str
    reason: str = ""
    message: str = ""


Stands = tuple[HostStand, ...]


def _failed(reason: str) -> Stand:
    known = Reason.__members__.get(reason)
    return Stand.PENDING if known is None or known.retryable else Stand.FAILED


def network_made(network: network_pb2.Network) -> Stands:
    """A network on its way to every selected host."""
    return tuple(_made(h) for h in network.hosts)


def _made(host: network_pb2.HostNetworkStatus) -> HostStand:
    if not host.connected:
        return HostStand(host.host, Stand.AWAY, "out of reach", Reason.HOST_UNREACHABLE.name, "it has no live session")
    match host.phase.upper():
        case "READY" if host.docker.upper() == "PENDING":
            return HostStand(host.host, Stand.PENDING, "Docker pending", message=host.docker_message)
        case "READY":
            return HostStand(host.host, Stand.DONE, "ready")
        case "FAILED":
            return HostStand(host.host, _failed(host.reason), "failed", host.reason, host.message)
    return HostStand(host.host, Stand.PENDING, "pending", host.reason, host.message)


def network_removed(network: network_pb2.Network) -> Stands:
    """A network on its way off the hosts; gone altogether is the caller's to see."""
    stands = []
    for host in network.hosts:
        if host.phase.upper() == "CLEAN":
            stands.append(HostStand(host.host, Stand.DONE, "clean"))
        elif not host.connected:
            stands.append(HostStand(host.host, Stand.AWAY, "out of reach", Reason.HOST_UNREACHABLE.name))
        elif host.reason == Reason.SUBINTERFACE_IN_USE.name:  # other failures are those of making it
            stands.append(HostStand(host.host, Stand.FAILED, "in use", host.reason, host.message))
        else:
            stands.append(HostStand(host.host, Stand.PENDING, "removing", host.reason, host.message))
    return tuple(stands)


def attachment_made(attachment: attachment_pb2.Attachment) -> Stands:
    """An attachment on its way to READY."""
    host, reason, message = attachment.spec.host, attachment.reason, attachment.message
    if attachment.phase == attachment_pb2.ATTACHMENT_PHASE_READY and attachment.connected:
        return (HostStand(host, Stand.DONE, "ready"),)
    if not attachment.connected:
        return (HostStand(host, Stand.AWAY, "out of reach", Reason.HOST_UNREACHABLE.name, "it has no live session"),)
    match attachment.phase:
        case attachment_pb2.ATTACHMENT_PHASE_FAILED:
            return (HostStand(host, _failed(reason), "failed", reason, message),)
        case attachment_pb2.ATTACHMENT_PHASE_WAITING:
            return (HostStand(host, Stand.PENDING, "waiting", reason, message),)
        case attachment_pb2.ATTACHMENT_PHASE_DETACHING:
            reason = Reason.ATTACHMENT_NOT_FOUND.name
            return (HostStand(host, Stand.FAILED, "detaching", reason, "it is being detached by somebody else"),)
    return (HostStand(host, Stand.PENDING, "pending", reason, message),)


def attachment_removed(attachment: attachment_pb2.Attachment) -> Stands:
    """An attachment on its way off its host."""
    host = attachment.spec.host
    if not attachment.connected:
        return (HostStand(host, Stand.AWAY, "out of reach", Reason.HOST_UNREACHABLE.name, "it has no live session"),)
    return (HostStand(host, Stand.PENDING, "detaching", attachment.reason, attachment.message),)


def enough(stands: Stands, away_is_done: bool, since_failure: float | None, since_away: float) -> bool:
    """Whether waiting is over: all is done, or what is left will not come by itself.

    `since_failure`: seconds since the first failure; `since_away`: seconds that nothing but hosts out of reach has
    been waited for. `away_is_done`: hosts out of reach are not waited for at all.
    """
    kinds = {s.stand for s in stands}
    if Stand.PENDING in kinds:
        return since_failure is not None and since_failure >= OTHERS_SECONDS
    if Stand.FAILED in kinds or not kinds & {Stand.AWAY}:
        return True
    return away_is_done or since_away >= AWAY_SECONDS


def failure(stands: Stands, what: str) -> TrunklineError | None:
    """The error of the hosts that failed for good; its reason is the first one's."""
    failed = [s for s in stands if s.stand is Stand.FAILED]
    if not failed:
        return None
    reason = Reason.__members__.get(failed[0].reason, Reason.INTERNAL)
    return TrunklineError(reason, f"{what} failed on {_told(failed)}", host=failed[0].host)


def missing(stands: Stands, what: str, seconds: float) -> TrunklineError:
    """The error of a deadline that passed, with what each host still lacks. Hosts out of reach are named only when
    it was they who were waited for."""
    left = [s for s in stands if s.stand in (Stand.PENDING, Stand.FAILED)] or [
        s for s in stands if s.stand is Stand.AWAY
    ]
    told = _told(left) if left else "the controller has not said so yet"
    return TrunklineError(Reason.DEADLINE, f"{what} is not done after {seconds:g} s: {told}")


def away(stands: Stands, what: str) -> TrunklineError | None:
    """The error of waiting for hosts that are all out of reach."""
    left = [s for s in stands if s.stand is Stand.AWAY]
    if not left:
        return None
    return TrunklineError(Reason.HOST_UNREACHABLE, f"{what}: {names(left)} out of reach", host=left[0].host)


def names(stands: Sequence[HostStand]) -> str:
    """Hosts by name, with the right verb: "docker3 is", "docker2, docker3 are"."""
    listed = ", ".join(s.host for s in stands)
    return f"{listed} {'is' if len(stands) == 1 else 'are'}"


def _told(stands: Sequence[HostStand]) -> str:
    lines = [f"{s.host}: {s.message or s.state}" for s in stands]
    return lines[0] if len(lines) == 1 else "\n" + "\n".join(lines)
