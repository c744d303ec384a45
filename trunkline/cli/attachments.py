"""`trunkline attach`, `trunkline detach` and `trunkline attachment`."""

from __future__ import annotations

from typing import Any

import click

from trunkline.cli.choices import Choices, pass_choices, shared, waiting
from trunkline.cli.named import complete_attachments, complete_hosts, complete_networks


@click.command()
@click.argument("place", metavar="HOST/TARGET")
@click.option("--network", required=True, metavar="NET", shell_complete=complete_networks, help="Network to be on.")
@click.option("--ip", "addresses", metavar="ADDR", multiple=True, help="Address to have; one for each family.")
@click.option("--mac", metavar="MAC", default="", help="MAC to have; else one is built from the address.")
@click.option("--no-ip", is_flag=True, help="No address at all.")
@click.option("--ifname", metavar="NAME", default="", help="Interface name inside; else the first free tl<n>.")
@click.option("--default-route", is_flag=True, help="Put the default route on this interface.")
@click.option("--ra", "accept_ra", is_flag=True, help="Accept IPv6 router advertisements.")
@click.option("--name", metavar="NAME", default="", help="Name of the attachment; else TARGET/NET.")
@click.option("--owner", metavar="OWNER", default="", help="Whom the address is kept for; else the target's name.")
@waiting
@pass_choices
def attach(choices: Choices, /, **asked: Any) -> int | None:
    """Give a container, or any network namespace, one more interface.

    TARGET is a container's name or id, netns:/run/netns/NAME, or pid:1234. Repeating the same request changes
    nothing. A container that is not there, does not run or uses the host's network is refused.

    \b
    Examples:
      trunkline attach docker1/web1 --network mynet2
      trunkline attach docker2/db --network mynet2 --ip 20.0.0.50 --ifname eth1
      trunkline attach docker3/netns:/run/netns/blue --network mynet2
    """
    from trunkline.cli import attachment_run

    return attachment_run.attach(choices, attachment_run.spec(**asked))


@click.command()
@click.argument("place", metavar="HOST/TARGET[/NET]|NAME", shell_complete=complete_attachments)
@click.option("--network", metavar="NET", default="", shell_complete=complete_networks, help="Network to leave.")
@waiting
@pass_choices
def detach(choices: Choices, place: str, network: str) -> int | None:
    """Take an interface away. Its address is free for others when the host was seen without it.

    Names the container, the attachment, or the name that was given to it. Detaching what is not attached is no
    error. What Docker made is Docker's to end (docker network disconnect); a host's own interface goes with
    `trunkline network update NET --no-host-access`.

    \b
    Examples:
      trunkline detach docker1/web1/mynet2
      trunkline detach docker1/web1 --network mynet2
    """
    from trunkline.cli import attachment_run

    return attachment_run.detach(choices, place, network)


@click.group()
def attachment() -> None:
    """Show attachments: one container's interface on one network."""


@attachment.command("list")
@click.option("--host", metavar="HOST", default="", shell_complete=complete_hosts, help="Only on this host.")
@click.option("--network", metavar="NET", default="", shell_complete=complete_networks, help="Only on this network.")
@shared
@pass_choices
def list_(choices: Choices, host: str, network: str) -> None:
    """List attachments, all or filtered.

    BY says who made the interface, when it was not `trunkline attach`: docker, for a container on a Docker network of
    the fabric, or host, for a host's own access to a network.

    \b
    Example:
      trunkline attachment list --host docker1 -o wide
    """
    from trunkline.cli import attachment_run

    attachment_run.show_all(choices, host, network)


@attachment.command()
@click.argument("place", metavar="HOST/TARGET[/NET]|NAME", shell_complete=complete_attachments)
@shared
@pass_choices
def show(choices: Choices, place: str) -> None:
    """Show one attachment.

    \b
    Example:
      trunkline attachment show docker1/web1/mynet2
    """
    from trunkline.cli import attachment_run

    attachment_run.show_one(choices, place)
