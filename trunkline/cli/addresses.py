"""`trunkline who`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from trunkline.cli.choices import Choices, pass_choices, shared
from trunkline.cli.words import ago, moment, short_id

if TYPE_CHECKING:
    from trunkline.v1.address_pb2 import Holding


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
    from trunkline.cli.screen import Column, Screen
    from trunkline.v1 import address_pb2

    with Fabric(choices) as fabric:
        found = fabric.ask(fabric.addresses.Who, address_pb2.WhoRequest(query=query)).holdings
    screen = Screen(choices)
    if len(found) == 1 and choices.output == "table":
        screen.pairs(_details(found[0]))
        return
    now = time.time_ns() // 1_000_000
    columns = (
        Column[address_pb2.Holding]("NETWORK", lambda h: h.network),
        Column[address_pb2.Holding]("ADDRESS", lambda h: h.address or "no IP"),
        Column[address_pb2.Holding]("IS", _is),
        Column[address_pb2.Holding]("HOST", lambda h: h.host),
        Column[address_pb2.Holding]("TARGET", lambda h: short_id(h.target)),
        Column[address_pb2.Holding]("MAC", lambda h: h.mac, wide=True),
        Column[address_pb2.Holding]("SINCE", lambda h: ago(h.since_ms, now) if h.since_ms else ""),
        Column[address_pb2.Holding]("UNTIL", lambda h: moment(h.until_ms), wide=True),
        Column[address_pb2.Holding]("SEEN", _seen),
        Column[address_pb2.Holding]("OWNER", lambda h: h.owner, wide=True),
        Column[address_pb2.Holding]("ATTACHMENT", lambda h: h.attachment, wide=True),
    )
    screen.many(found, columns, lambda h: h.address or h.mac, f"nobody holds {query}")


def _is(holding: Holding) -> str:
    word = holding.phase or holding.kind
    return word if holding.connected or not _lives(holding) else f"away (was {word})"


def _lives(holding: Holding) -> bool:
    return holding.kind in ("attachment", "stock")


def _seen(holding: Holding) -> str:
    if not _lives(holding):
        return ""
    return "yes" if holding.observed else "no"


def _seen_when(holding: Holding) -> str:
    if not holding.observed or not holding.observed_ms:
        return _seen(holding)
    if holding.connected:
        return f"yes, since {moment(holding.observed_ms)}"
    return f"was, {moment(holding.observed_ms)}; its host is away now, nobody can see it"


def _details(holding: Holding) -> Sequence[tuple[str, str]]:
    return (
        ("address", holding.address),
        ("MAC", holding.mac),
        ("network", holding.network),
        ("is", f"{holding.kind}, {_is(holding)}" if holding.phase else holding.kind),
        ("host", holding.host),
        ("target", short_id(holding.target)),
        ("target id", short_id(holding.target_id)),
        ("attachment", holding.attachment),
        ("owner", holding.owner),
        ("since", moment(holding.since_ms)),
        ("until", moment(holding.until_ms)),
        ("seen on host", _seen_when(holding)),
    )
