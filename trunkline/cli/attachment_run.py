"""Asking for attachments, waiting for their host, and showing what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from trunkline import wire
from trunkline.cli import present, standing, words
from trunkline.cli.attachment_find import MADE_BY, find, find_all, full_name, target_of
from trunkline.cli.choices import Choices
from trunkline.cli.connect import Fabric
from trunkline.cli.plain import enum_text, plain
from trunkline.cli.screen import Column, Screen
from trunkline.cli.standing import Stands
from trunkline.cli.waiting import Waited, Wanted, wait, wait_gone
from trunkline.cli.words import ago, duration, moment, short_id
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.ids import check_attachment_name, check_ifname, check_mac, check_name, parse_address
from trunkline.v1 import attachment_pb2

Attachment = attachment_pb2.Attachment

_AWAY: Final = "its host has no live session: this is what was last known, and changes wait until it is back"
_PHASE: Final = attachment_pb2.AttachmentPhase.DESCRIPTOR


def spec(
    *,
    place: str,
    network: str,
    addresses: Sequence[str],
    mac: str,
    no_ip: bool,
    ifname: str,
    default_route: bool,
    accept_ra: bool,
    name: str,
    owner: str,
) -> attachment_pb2.AttachmentSpec:
    """The spec that the options ask for. Raises what `trunkline.ids` finds wrong with them."""
    host, rest = words.place(place)
    if no_ip and addresses:
        raise Refusal(Reason.INVALID_ARGUMENT, "--ip and --no-ip exclude each other", "leave one out")
    target = words.target(rest)
    return attachment_pb2.AttachmentSpec(
        host=check_name("host", host),
        name=check_attachment_name(name) if name else "",
        target=wire.target_to_pb(target),
        network=check_name("network", network),
        addresses=[str(parse_address(a)) for a in addresses],
        mac=check_mac(mac) if mac else "",
        no_ip=no_ip,
        ifname=check_ifname(ifname) if ifname else "",
        default_route=default_route,
        accept_ra=accept_ra,
        owner=owner,
    )


def attach(choices: Choices, wanted: attachment_pb2.AttachmentSpec) -> int:
    """Attach and wait until the interface was seen; withdraw it when it can never come."""
    with Fabric(choices) as fabric:
        request = attachment_pb2.AttachRequest(spec=wanted, check_target=True)
        answer = fabric.ask(fabric.attachments.Attach, request)
        for warning in answer.warnings:
            present.warn(warning)
        made, waited = answer.attachment, None
        if not choices.no_wait:
            waited = _settle(choices, fabric, made, answer.existed)
            made = _get(fabric, made.spec.host, made.spec.name) or made
    screen = Screen(choices)
    if choices.structured:
        data = {"attachment": plain(made), "existed": answer.existed, "warnings": list(answer.warnings)}
        screen.data(data, [full_name(made)])
    else:
        screen.print(_told(made, answer.existed, waited))
    return present.OK


def _told(made: Attachment, existed: bool, waited: Waited | None) -> str:
    addresses = ", ".join(made.addresses) or "no address"
    verb = "existed already" if existed else "attached"
    text = f"{full_name(made)} {verb}: {addresses}, MAC {made.mac}"
    if waited is None:
        return text
    inside = f" as {made.ifname}" if made.ifname else ""
    return f"{text}{inside}; ready in {duration(waited.seconds)}"


def _settle(choices: Choices, fabric: Fabric, made: Attachment, existed: bool) -> Waited:
    host, name = made.spec.host, made.spec.name
    wanted = Wanted(
        full_name(made),
        lambda: _watch(fabric, host, name, standing.attachment_made),
        lambda: _look(fabric, host, name, standing.attachment_made),
        lost=Reason.ATTACHMENT_NOT_FOUND,
    )
    try:
        return wait(fabric, choices, wanted)
    except TrunklineError as error:
        _explain(fabric, made, existed, error)
        raise


def _explain(fabric: Fabric, made: Attachment, existed: bool, error: TrunklineError) -> None:
    """Say what is left after a wait that failed; a new attachment that can never come is withdrawn."""
    command = f"trunkline detach {full_name(made)}"
    if error.reason is Reason.HOST_UNREACHABLE:
        error.remedy = f"the interface is made when the host is back; to withdraw it: {command}"
    elif error.retryable:
        error.remedy = f"it is still wanted, and the host goes on trying; to withdraw it: {command}"
    elif existed:
        error.remedy = f"mend it, or remove the attachment: {command}"
    else:
        error.remedy = _withdrawn(fabric, made, command)


def _withdrawn(fabric: Fabric, made: Attachment, command: str) -> str:
    request = attachment_pb2.DetachRequest(host=made.spec.host, name=made.spec.name)
    try:
        fabric.ask(fabric.attachments.Detach, request)
    except TrunklineError as error:
        return f"it could not be withdrawn ({error.message}): {command}"
    return "mend it and attach again; this attempt was withdrawn, its address is not kept"


def detach(choices: Choices, place: str, network: str) -> int:
    """Detach and wait until the host was seen without it."""
    with Fabric(choices) as fabric:
        found = find(fabric, place, network, asked_for=True)
        if found is None:
            return _nothing(choices, place)
        host, name = found.spec.host, found.spec.name
        answer = fabric.ask(fabric.attachments.Detach, attachment_pb2.DetachRequest(host=host, name=name))
        for warning in answer.warnings:
            present.warn(warning)
        gone, seconds = answer.gone, 0.0
        if not gone and not choices.no_wait:
            waited = _leave(choices, fabric, found)
            gone, seconds = waited.gone, waited.seconds
    screen = Screen(choices)
    if choices.structured:
        screen.data({"host": host, "name": name, "gone": gone}, [full_name(found)])
    elif gone:
        screen.print(f"{full_name(found)} detached in {duration(seconds)}")
    else:
        screen.print(f"{full_name(found)} is being detached")
    return present.OK


def _nothing(choices: Choices, place: str) -> int:
    if choices.structured:
        Screen(choices).data({"host": "", "name": place, "gone": True}, [])
    else:
        present.note(f"{place}: nothing is attached under that name")
    return present.OK


def _leave(choices: Choices, fabric: Fabric, found: Attachment) -> Waited:
    host, name = found.spec.host, found.spec.name
    wanted = Wanted(
        full_name(found),
        lambda: _watch(fabric, host, name, standing.attachment_removed),
        lambda: _look(fabric, host, name, standing.attachment_removed),
        ends_gone=True,
    )
    held = (
        "its address stays held until the host was seen without the interface, "
        f"or is forgotten: trunkline host forget {host}"
    )
    return wait_gone(fabric, choices, wanted, held)


def _watch(fabric: Fabric, host: str, name: str, stands: Callable[[Attachment], Stands]) -> Iterator[Stands | None]:
    request = attachment_pb2.WatchAttachmentsRequest(host=host, name=name)
    for change in fabric.follow(fabric.attachments.WatchAttachments, request):
        if (change.attachment.spec.host, change.attachment.spec.name) == (host, name):
            yield None if change.gone else stands(change.attachment)


def _look(fabric: Fabric, host: str, name: str, stands: Callable[[Attachment], Stands]) -> Stands | None:
    found = _get(fabric, host, name)
    return None if found is None else stands(found)


def _get(fabric: Fabric, host: str, name: str) -> Attachment | None:
    request = attachment_pb2.GetAttachmentRequest(host=host, name=name)
    try:
        return fabric.ask(fabric.attachments.GetAttachment, request).attachment
    except TrunklineError as error:
        if error.reason is Reason.ATTACHMENT_NOT_FOUND:
            return None
        raise


def _state(item: Attachment) -> str:
    word = enum_text(_PHASE, item.phase)
    return word if item.connected else f"away (was {word})"


_BY: Final = Column[Attachment]("BY", lambda a: MADE_BY.get(a.origin, ""))

_COLUMNS: Final = (
    Column[Attachment]("HOST", lambda a: a.spec.host),
    Column[Attachment]("TARGET", target_of),
    Column[Attachment]("NETWORK", lambda a: a.spec.network),
    Column[Attachment]("ADDRESS", lambda a: ", ".join(a.addresses) or "no IP"),
    Column[Attachment]("MAC", lambda a: a.mac, wide=True),
    Column[Attachment]("INTERFACE", lambda a: a.ifname or a.spec.ifname),
    Column[Attachment]("STATE", _state),
    _BY,
    Column[Attachment]("REASON", lambda a: a.reason, wide=True),
    Column[Attachment]("NAME", lambda a: a.spec.name, wide=True),
    Column[Attachment]("OWNER", lambda a: a.owner, wide=True),
    Column[Attachment]("CHANGED", lambda a: ago(a.observed_ms, _now()), wide=True),
)


def _now() -> int:
    return time.time_ns() // 1_000_000


def show_all(choices: Choices, host: str, network: str) -> None:
    """Print attachments, filtered."""
    with Fabric(choices) as fabric:
        found = find_all(fabric, host, network)
    empty = "no attachments; make one: trunkline attach HOST/CONTAINER --network NET"
    # Where nothing but `trunkline attach` is used, the column would say nothing.
    made = any(one.origin in MADE_BY for one in found)
    columns = [column for column in _COLUMNS if made or column is not _BY]
    Screen(choices).many(found, columns, full_name, empty)


def show_one(choices: Choices, place: str) -> None:
    """Print one attachment; raises ATTACHMENT_NOT_FOUND."""
    with Fabric(choices) as fabric:
        found = find(fabric, place, "")
    if found is None:
        raise TrunklineError(
            Reason.ATTACHMENT_NOT_FOUND, f"nothing is attached as {place}", "trunkline attachment list shows what is"
        )
    Screen(choices).one(found, full_name(found), lambda: _details(found))


def _details(item: Attachment) -> Sequence[tuple[str, str]]:
    flags = [
        word
        for word, on in (("default route", item.spec.default_route), ("router advertisements", item.spec.accept_ra))
        if on
    ]
    return (
        ("attachment", full_name(item)),
        ("state", _state(item)),
        ("reason", item.reason),
        ("detail", item.message),
        ("", "" if item.connected else f"{_AWAY}; see `trunkline host show {item.spec.host}`"),
        ("host", item.spec.host),
        ("target", target_of(item)),
        ("target id", short_id(item.target_id)),
        ("network", item.spec.network),
        ("addresses", ", ".join(item.addresses) or "none"),
        ("MAC", item.mac),
        ("interface", item.ifname or item.spec.ifname),
        ("with", ", ".join(flags)),
        ("made by", _made_by(item)),
        ("owner", item.owner or item.spec.owner),
        ("created", moment(item.created_ms)),
        ("last change", moment(item.observed_ms) or "never seen"),
    )


def _made_by(item: Attachment) -> str:
    match item.origin:
        case attachment_pb2.ORIGIN_DOCKER:
            return (
                f"Docker on {item.spec.host}; to end it there: docker network disconnect {item.spec.network} CONTAINER"
            )
        case attachment_pb2.ORIGIN_HOST:
            return f"host access; to end it: trunkline network update {item.spec.network} --no-host-access"
    return ""
