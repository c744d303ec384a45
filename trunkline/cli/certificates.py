"""`trunkline pki`."""

from __future__ import annotations

from pathlib import Path

import click

from trunkline.cli.choices import Choices, pass_choices, shared


@click.group()
def pki() -> None:
    """Make a certificate authority for the fabric, and certificates from it.

    Needs no controller. Keep ca.key where only administrators reach it: who has it can be anyone.
    """


@pki.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@shared
@pass_choices
def init(choices: Choices, directory: Path) -> None:
    """Make a new authority in DIRECTORY.

    \b
    Example:
      trunkline pki init /etc/trunkline/pki
    """
    from trunkline import pki as authority

    _told(choices, authority.make_ca(directory))


@pki.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.argument("identity")
@click.option("--name", "names", metavar="NAME", multiple=True, help="DNS name or address it is reached by.")
@shared
@pass_choices
def issue(choices: Choices, directory: Path, identity: str, names: tuple[str, ...]) -> None:
    """Issue a certificate: IDENTITY is host:NAME, operator:NAME or controller:NAME.

    An agent may speak for the host its certificate names and for no other. Controllers need --name for each name
    or address that agents and operators dial.

    \b
    Examples:
      trunkline pki issue /etc/trunkline/pki controller:c1 --name c1.example.org --name 10.0.0.5
      trunkline pki issue /etc/trunkline/pki host:docker1
      trunkline pki issue /etc/trunkline/pki operator:ann
    """
    from trunkline import pki as authority

    _told(choices, authority.issue(directory, identity, list(names)))


def _told(choices: Choices, made: tuple[Path, Path]) -> None:
    from trunkline.cli.screen import Screen

    cert, key = map(str, made)
    screen = Screen(choices)
    if choices.structured:
        screen.data({"cert": cert, "key": key}, [cert, key])
    else:
        screen.pairs((("certificate", cert), ("private key", key)))
