"""`trunkline check` and `trunkline probe`."""

from __future__ import annotations

import click

from trunkline.cli.choices import Choices, pass_choices, shared
from trunkline.cli.named import complete_hosts, complete_networks

_timeout = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 30),
    default=3.0,
    show_default=True,
    help="How long hosts probe and listen.",
)


@click.command()
@click.argument("networks", metavar="[NETWORK]...", nargs=-1, shell_complete=complete_networks)
@click.option("--host", "hosts", metavar="HOST", multiple=True, shell_complete=complete_hosts, help="Only these hosts.")
@click.option("--now", is_flag=True, help="Probe now; the default in this release.")
@_timeout
@shared
@pass_choices
def check(choices: Choices, networks: tuple[str, ...], hosts: tuple[str, ...], now: bool, timeout: float) -> int:
    """Prove on the wire that hosts reach each other on their networks.

    Each host sends frames to every other, by broadcast and by unicast, from a macvlan interface beside those of the
    containers, and asks for gateways and attached addresses. Rows send, columns receive; a number is the round-trip
    time in milliseconds. Exit code 9 when something is bad; a host out of reach is unknown, not bad.

    \b
    Examples:
      trunkline check
      trunkline check mynet2 --host docker1 --host docker2 --timeout 5
    """
    from trunkline.cli import check_run

    return check_run.run(choices, networks, hosts, timeout)


@click.command()
@click.argument("networks", metavar="[NETWORK]...", nargs=-1, shell_complete=complete_networks)
@click.option("--host", "hosts", metavar="HOST", multiple=True, shell_complete=complete_hosts, help="Only these hosts.")
@_timeout
@shared
@pass_choices
def probe(choices: Choices, networks: tuple[str, ...], hosts: tuple[str, ...], timeout: float) -> int:
    """Probe now: the same as `trunkline check --now`.

    \b
    Example:
      trunkline probe mynet2
    """
    from trunkline.cli import check_run

    return check_run.run(choices, networks, hosts, timeout)
