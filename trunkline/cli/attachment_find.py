"""Which attachment a person means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from trunkline.cli.connect import Fabric
from trunkline.errors import Reason, Refusal
from trunkline.v1 import attachment_pb2, host_pb2

Attachment = attachment_pb2.Attachment

MADE_BY: Final = {attachment_pb2.ORIGIN_DOCKER: "docker", attachment_pb2.ORIGIN_HOST: "host"}
"""Origins of attachments that nobody asked for by `trunkline attach`, in a word."""

_ID: Final = re.compile(r"[0-9a-f]{6,64}")


def target_of(item: Attachment) -> str:
    """The target as typed: "web1", "netns:/run/netns/x", "pid:12"; "the host" for a host's own attachment."""
    if item.origin == attachment_pb2.ORIGIN_HOST:
        return "the host"
    target = item.spec.target
    kind = target.WhichOneof("kind")
    if kind is None:
        return ""
    value = str(getattr(target, kind))
    return value if kind == "container" else f"{kind}:{value}"


def full_name(item: Attachment) -> str:
    """ "<host>/<name>"."""
    return f"{item.spec.host}/{item.spec.name}"


def find_all(fabric: Fabric, host: str, network: str) -> Sequence[Attachment]:
    """Attachments, filtered by the controller."""
    request = attachment_pb2.ListAttachmentsRequest(host=host, network=network)
    return fabric.ask(fabric.attachments.ListAttachments, request).attachments


def find(fabric: Fabric, place: str, network: str, asked_for: bool = False) -> Attachment | None:
    """The one attachment that `place` names, on `network` if given; None when there is none. `asked_for`: of several,
    the one that was asked for by `trunkline attach`.

    Raises HOST_NOT_FOUND for a host that is not known, and INVALID_ARGUMENT naming them when several are meant.
    """
    found = pick(find_all(fabric, "", network), place)
    if asked_for and len(found) > 1:
        found = [a for a in found if a.origin not in MADE_BY] or found
    if len(found) > 1:
        listed = ", ".join(full_name(a) for a in found)
        raise Refusal(Reason.INVALID_ARGUMENT, f"{place} could be any of {listed}", "name the network as well")
    if not found and "/" in place:
        # A mistyped host must not look like "nothing is attached".
        fabric.ask(fabric.hosts.GetHost, host_pb2.GetHostRequest(name=place.partition("/")[0]))
    return found[0] if found else None


def pick(items: Sequence[Attachment], place: str) -> list[Attachment]:
    """Those that `place` names; a whole name wins over a target, a target over the beginning of an id."""
    for means in (_by_name, _by_target, _by_id):
        found = [a for a in items if means(a, place)]
        if found:
            return found
    return []


def _by_name(item: Attachment, place: str) -> bool:
    return place in (full_name(item), item.spec.name)


def _by_target(item: Attachment, place: str) -> bool:
    base = f"{item.spec.host}/{target_of(item)}"
    return place in (base, f"{base}/{item.spec.network}")


def _by_id(item: Attachment, place: str) -> bool:
    host, _, rest = place.partition("/")
    start, _, network = rest.partition("/")
    if host != item.spec.host or network not in ("", item.spec.network):
        return False
    return bool(_ID.fullmatch(start)) and item.target_id.startswith(start)
