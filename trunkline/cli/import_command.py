"""`trunkline network import`."""

from __future__ import annotations

import click

from trunkline.cli.choices import Choices, pass_choices, shared
from trunkline.cli.named import complete_hosts
from trunkline.ids import check_name


def _names(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for text in value for name in text.split(",") if name.strip()))


@click.command("import")
@click.argument("name", metavar="NAME")
@click.option("--replace", is_flag=True, help="Then exchange them for networks with the fabric's addresses.")
@click.option(
    "--hosts",
    metavar="HOST,…",
    multiple=True,
    callback=_names,
    shell_complete=complete_hosts,
    help="With --replace: only these hosts, in this order.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@shared
@pass_choices
def import_(choices: Choices, name: str, replace: bool, hosts: tuple[str, ...], yes: bool, dry_run: bool) -> int:
    """Take over Docker macvlan networks that were made by hand on the hosts.

    All connected hosts are asked for a Docker network called NAME. What they have is shown, and with it every reason
    why it cannot be taken over: hosts that differ, an address that two containers use. Then the fabric network NAME is
    made, and each address in use becomes its container's. Nothing changes on the hosts, and no container notices.

    From then on no host of the fabric gives such an address out again. Docker on the old hosts still does for its own
    new containers, so go on with --replace: one host after the other, its containers are taken off the old network, it
    is made anew with the fabric's addresses, and each container gets back on it with the address it had, a second or so
    later. The first host that fails ends it, with all its containers connected; repeated, it goes on from there. An
    address that Docker had chosen is fixed for its container by that, as with --ip.

    Without a terminal to ask on, nothing is done unless --yes is given: it shows what would be, and exits with 2. With
    --dry-run it exits with 4 when it could not be done.

    \b
    Examples:
      trunkline network import mynet2 --dry-run
      trunkline network import mynet2
      trunkline network import mynet2 --replace --hosts docker1
      trunkline network import mynet2 --replace --yes -o json
    """
    from trunkline.cli import import_run

    check_name("network", name)
    return import_run.run(choices, import_run.Wanted(name, replace, hosts, yes, dry_run))
