"""`trunkline uplink`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from trunkline.cli import present, words
from trunkline.cli.choices import Choices, pass_choices, shared
from trunkline.ids import check_name

if TYPE_CHECKING:
    from trunkline.v1 import fabric_pb2


@click.group()
def uplink() -> None:
    """Set and show what the switches carry on an uplink label.

    A label, such as "default", is mapped to a device by each host's agent.
    """


@uplink.command("set")
@click.argument("label")
@click.option("--vlans", required=True, metavar="RANGES", help='VLAN ids that the trunks carry; "none" clears them.')
@shared
@pass_choices
def set_(choices: Choices, label: str, vlans: str) -> None:
    """Say which VLANs the trunks carry; `--vlan auto` chooses among these.

    \b
    Example:
      trunkline uplink set default --vlans 100-199,300
    """
    ranges = words.vlan_ranges(vlans)
    check_name("uplink", label)
    from trunkline.cli.connect import Fabric
    from trunkline.cli.screen import Screen
    from trunkline.v1 import fabric_pb2

    request = fabric_pb2.SetUplinkRequest(
        label=label, vlans=[fabric_pb2.VlanRange(first=low, last=high) for low, high in ranges]
    )
    with Fabric(choices) as fabric:
        answer = fabric.ask(fabric.fabric.SetUplink, request)
    for warning in answer.warnings:
        present.warn(warning)
    found = answer.uplink
    screen = Screen(choices)
    if choices.structured:
        screen.one(found, found.label, lambda: ())
    else:
        screen.print(f"uplink {found.label} carries VLANs {_vlans(found)}")


@uplink.command("list")
@shared
@pass_choices
def list_(choices: Choices) -> None:
    """List uplink labels with their VLANs and the devices behind them.

    \b
    Example:
      trunkline uplink list -o wide
    """
    from trunkline.cli.connect import Fabric
    from trunkline.cli.screen import Column, Screen
    from trunkline.v1 import fabric_pb2

    with Fabric(choices) as fabric:
        found = fabric.ask(fabric.fabric.ListUplinks, fabric_pb2.ListUplinksRequest()).uplinks
    columns = (
        Column[fabric_pb2.Uplink]("LABEL", lambda u: u.label),
        Column[fabric_pb2.Uplink]("VLANS", _vlans),
        Column[fabric_pb2.Uplink]("IN USE", lambda u: words.vlan_text(words.joined(u.vlans_in_use)) or "none"),
        Column[fabric_pb2.Uplink]("HOSTS", lambda u: str(len(u.hosts)), right=True),
        Column[fabric_pb2.Uplink](
            "PROBLEMS", lambda u: "; ".join(f"{h.host}: {h.problem}" for h in u.hosts if h.problem)
        ),
        Column[fabric_pb2.Uplink]("DEVICES", _devices, wide=True),
    )
    Screen(choices).many(
        found, columns, lambda u: u.label, "no uplinks yet; set one: trunkline uplink set default --vlans 100-199"
    )


def _vlans(found: fabric_pb2.Uplink) -> str:
    if not found.set:
        return "not set"
    return words.vlan_text([(r.first, r.last) for r in found.vlans]) or "none"


def _devices(found: fabric_pb2.Uplink) -> str:
    return ", ".join(f"{h.host}:{h.device}" for h in found.hosts)
