"""`trunkline status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from trunkline.cli.choices import Choices, pass_choices, shared

if TYPE_CHECKING:
    from trunkline.v1.fabric_pb2 import GetStatusResponse, StoreMember


@click.command()
@shared
@pass_choices
def status(choices: Choices) -> None:
    """Tell how the whole fabric is: store, hosts, networks, and what is not well, worst first.

    \b
    Example:
      trunkline status
    """
    from trunkline.cli.connect import Fabric
    from trunkline.cli.screen import Screen, grid
    from trunkline.v1 import fabric_pb2

    with Fabric(choices) as fabric:
        found = fabric.ask(fabric.fabric.GetStatus, fabric_pb2.GetStatusRequest())
        endpoint = fabric.endpoint
    screen = Screen(choices)
    if not screen.one(found, found.replica, lambda: _details(found, endpoint)):
        return
    screen.print()
    screen.print(
        grid([("STORE", False), ("STATE", False), ("ETCD", False), ("SIZE", True), ("", False)], _store(found))
    )
    screen.print()
    if found.problems:
        rows = [[p.reason, f"{p.kind} {p.object}", p.message] for p in found.problems]
        screen.print(grid([("PROBLEM", False), ("OBJECT", False), ("WHAT AND WHAT NEXT", False)], rows))
    elif found.attachments_ready + found.attachments_away < found.attachments:
        screen.print("Nothing is known to be wrong; not every attachment is ready yet: trunkline attachment list")
    else:
        screen.print("All is well.")


def _details(found: GetStatusResponse, endpoint: str) -> Sequence[tuple[str, str]]:
    return (
        ("controller", f"{found.replica} at {endpoint}, version {found.version}"),
        ("hosts", f"{found.hosts_connected} connected of {found.hosts}"),
        ("networks", str(found.networks)),
        ("attachments", _attachments(found)),
        ("addresses", _addresses(found)),
        ("history", f"{found.epoch}, revision {found.revision}"),
    )


def _attachments(found: GetStatusResponse) -> str:
    text = f"{found.attachments_ready} ready of {found.attachments}"
    parts = ((found.attachments_docker, "made by Docker"), (found.attachments_host, "hosts' own"))
    text += "".join(f", {count} {what}" for count, what in parts if count)
    return f"{text}, {found.attachments_away} on hosts that are away" if found.attachments_away else text


def _addresses(found: GetStatusResponse) -> str:
    parts = (
        (found.addresses_stock, "in the stock of hosts"),
        (found.addresses_kept, "kept for their last owner"),
        (found.addresses_promised, "promised"),
    )
    told = ", ".join(f"{count} {what}" for count, what in parts if count)
    return f"{found.addresses} held, resting or reserved" + (f"; {told}" if told else "")


def _store(found: GetStatusResponse) -> list[list[str]]:
    return [[m.endpoint, "ok" if m.healthy else "down", m.version, _size(m), m.problem] for m in found.store]


def _size(member: StoreMember) -> str:
    return f"{member.db_size / 1_048_576:.1f} MiB" if member.db_size else ""
