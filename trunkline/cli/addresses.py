"""`trunkline who` and `trunkline address`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from trunkline.cli import present
from trunkline.cli.choices import Choices, pass_choices, shared
from trunkline.cli.named import complete_hosts, complete_networks, complete_owners
from trunkline.cli.words import ago, moment, short_id
from trunkline.ids import check_name, parse_address

if TYPE_CHECKING:
    from trunkline.cli.screen import Column
    from trunkline.v1.address_pb2 import Holding

_KINDS: Final = {"stock": "in stock", "reserved": "promised"}
"""Kinds in the words of people, where those differ."""

KINDS: Final = ("attachment", "stock", "kept", "resting", "reserved", "conflict")


@click.command()
@click.argument("query", metavar="ADDRESS|MAC|CONTAINER")
@shared
@pass_choices
def who(choices: Choices, query: str) -> None:
    """Tell who holds an address or MAC, or everything that a container holds.

    \b
    Examples:
      trunkline who 20.0.0.17
      trunkline who 02:01:14:00:00:11
      trunkline who docker1/web1
    """
    from trunkline.cli.connect import Fabric
    from trunkline.cli.screen import Screen
    from trunkline.v1 import address_pb2

    with Fabric(choices) as fabric:
        found = fabric.ask(fabric.addresses.Who, address_pb2.WhoRequest(query=query)).holdings
    screen = Screen(choices)
    if len(found) == 1 and choices.output == "table":
        screen.pairs(_details(found[0]))
        return
    screen.many(found, _columns(), lambda h: h.address or h.mac, f"nobody holds {query}")


@click.group()
def address() -> None:
    """Promise addresses to owners, take promises back, list who has what."""


@address.command()
@click.argument("network", metavar="NETWORK", shell_complete=complete_networks)
@click.argument("owner", metavar="OWNER", shell_complete=complete_owners)
@click.option(
    "--address", "wanted", metavar="ADDR", default="", help="The address; else the owner's, or the next free."
)
@shared
@pass_choices
def reserve(choices: Choices, network: str, owner: str, wanted: str) -> int:
    """Promise an address to an owner, on whatever host that starts.

    OWNER is a container's name; with Compose PROJECT/SERVICE/NUMBER; with a swarm SERVICE.SLOT; or what the container's
    label io.trunkline.owner says. An address that the owner uses already becomes the promised one. Repeating the same
    request changes nothing.

    \b
    Examples:
      trunkline address reserve mynet2 web1
      trunkline address reserve mynet2 shop/db/1 --address 20.0.0.50
    """
    from trunkline.cli.connect import Fabric
    from trunkline.cli.plain import plain
    from trunkline.cli.screen import Screen
    from trunkline.v1 import address_pb2

    request = address_pb2.ReserveRequest(
        network=check_name("network", network), owner=owner, address=str(parse_address(wanted)) if wanted else ""
    )
    with Fabric(choices) as fabric:
        answer = fabric.ask(fabric.addresses.Reserve, request)
    screen = Screen(choices)
    if choices.structured:
        data = {"addresses": [plain(one) for one in answer.holdings], "existed": answer.existed}
        screen.data(data, [one.address for one in answer.holdings])
        return present.OK
    verb = "was promised already" if answer.existed else "promised"
    for one in answer.holdings:
        use = (
            f", in use on host {one.host}"
            if one.kind == "attachment"
            else f", with host {one.host}"
            if one.host
            else ""
        )
        screen.print(f"{one.address} of network {network} {verb} to {owner}{use}")
    return present.OK


@address.command()
@click.argument("network", metavar="NETWORK", shell_complete=complete_networks)
@click.argument("owner", metavar="OWNER|ADDRESS", shell_complete=complete_owners)
@shared
@pass_choices
def release(choices: Choices, network: str, owner: str) -> int:
    """Take a promise back: all of an owner on a network, or that of one address.

    An address in use stays with its user until it is let go. Taking back what is not promised is no error.

    \b
    Examples:
      trunkline address release mynet2 web1
      trunkline address release mynet2 20.0.0.50
    """
    from trunkline.cli.connect import Fabric
    from trunkline.cli.screen import Screen
    from trunkline.v1 import address_pb2

    request = address_pb2.ReleaseRequest(network=check_name("network", network), owner=owner)
    with Fabric(choices) as fabric:
        found = list(fabric.ask(fabric.addresses.Release, request).addresses)
    screen = Screen(choices)
    if choices.structured:
        screen.data({"addresses": found}, found)
    elif found:
        screen.print(f"{', '.join(found)} of network {network} no longer promised")
    else:
        present.note(f"nothing is promised to {owner} on network {network}")
    return present.OK


@address.command("list")
@click.option("--network", metavar="NET", default="", shell_complete=complete_networks, help="Only of this network.")
@click.option("--host", metavar="HOST", default="", shell_complete=complete_hosts, help="Only what this host has.")
@click.option("--owner", metavar="OWNER", default="", shell_complete=complete_owners, help="Only this owner's.")
@click.option(
    "--kind", type=click.Choice(KINDS), metavar="KIND", default=None, help=f"Only of one kind: {', '.join(KINDS)}."
)
@shared
@pass_choices
def list_(choices: Choices, network: str, host: str, owner: str, kind: str | None) -> None:
    """List addresses that are in use or spoken for, all or filtered.

    attachment: an interface has it. stock: a host has it ready for the next container. kept: Docker gave it back, its
    host keeps it for the owner. resting: it was used a short while ago, or is held for its last owner. reserved: it is
    promised and nobody uses it. conflict: a stranger answers for it on the wire.

    \b
    Examples:
      trunkline address list --network mynet2
      trunkline address list --host docker1 --kind kept -o json
    """
    from trunkline.cli.connect import Fabric
    from trunkline.cli.screen import Screen
    from trunkline.v1 import address_pb2

    request = address_pb2.ListAddressesRequest(network=network, host=host, owner=owner, kind=kind or "")
    with Fabric(choices) as fabric:
        found = fabric.ask(fabric.addresses.ListAddresses, request).holdings
    empty = "no such address" if network or host or owner or kind else "no address is in use or spoken for yet"
    Screen(choices).many(found, _columns(owner_first=True), lambda h: h.address, empty)


def _columns(owner_first: bool = False) -> Sequence[Column[Holding]]:
    from trunkline.cli.screen import Column

    now = time.time_ns() // 1_000_000
    return (
        Column("NETWORK", lambda h: h.network),
        Column("ADDRESS", lambda h: h.address or "no IP"),
        Column("IS", _is),
        Column("HOST", lambda h: h.host),
        Column("OWNER", lambda h: h.owner, wide=not owner_first),
        Column("TARGET", lambda h: short_id(h.target), wide=owner_first),
        Column("MAC", lambda h: h.mac, wide=True),
        Column("SINCE", lambda h: ago(h.since_ms, now) if h.since_ms else ""),
        Column("UNTIL", lambda h: moment(h.until_ms), wide=True),
        Column("SEEN", _seen, wide=owner_first),
        Column("ATTACHMENT", lambda h: h.attachment, wide=True),
    )


def _is(holding: Holding) -> str:
    promised = holding.promised and holding.kind != "reserved"
    return f"{_state(holding)}, promised" if promised else _state(holding)


def _state(holding: Holding) -> str:
    word = holding.phase or _KINDS.get(holding.kind, holding.kind)
    return word if holding.connected or not _lives(holding) else f"away (was {word})"


def _lives(holding: Holding) -> bool:
    return holding.kind in ("attachment", "stock", "kept")


def _seen(holding: Holding) -> str:
    if holding.kind != "attachment":
        return ""
    return "yes" if holding.observed else "no"


def _seen_when(holding: Holding) -> str:
    if not holding.observed or not holding.observed_ms:
        return _seen(holding)
    if holding.connected:
        return f"yes, since {moment(holding.observed_ms)}"
    return f"was, {moment(holding.observed_ms)}; its host is away now, nobody can see it"


def _in_words(holding: Holding) -> str:
    """What it is, for somebody who sees the word for the first time."""
    owner = holding.owner or "its last user"
    match holding.kind:
        case "stock":
            whom = f", for {holding.owner} only" if holding.owner else ""
            text = f"in stock: host {holding.host} gives it to a container that starts{whom}"
        case "kept":
            text = f"kept by host {holding.host}, which gives it to {owner} when that starts again"
        case "reserved":
            return f"promised to {holding.owner}, wherever it starts; nobody uses it now"
        case _ if holding.phase:
            text = f"{holding.kind}, {_state(holding)}"
        case _:
            text = holding.kind
    if holding.kind in ("stock", "kept") and not holding.connected:
        text += " (the host is away)"
    return f"{text}; promised to {holding.owner} wherever it starts" if holding.promised else text


def _details(holding: Holding) -> Sequence[tuple[str, str]]:
    return (
        ("address", holding.address),
        ("MAC", holding.mac),
        ("network", holding.network),
        ("is", _in_words(holding)),
        ("host", holding.host),
        ("target", short_id(holding.target)),
        ("target id", short_id(holding.target_id)),
        ("attachment", holding.attachment),
        ("owner", holding.owner),
        ("since", moment(holding.since_ms)),
        ("until", moment(holding.until_ms)),
        ("seen on host", _seen_when(holding)),
    )
