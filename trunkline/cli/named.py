"""Arguments and options that name objects, with completion from the live fabric."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import click

from trunkline.cli.choices import Choices

if TYPE_CHECKING:
    from trunkline.cli.connect import Fabric

_COMPLETION_SECONDS: Final = 1.5
Lister = Callable[["Fabric"], Iterable[str]]
Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _silently(_: str) -> None:
    """Nothing may be written into somebody's prompt."""


def _completer(lister: Lister) -> Completer:
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        from trunkline.cli.connect import Fabric

        choices = ctx.find_object(Choices) or Choices()
        choices.deadline = _COMPLETION_SECONDS
        try:
            with Fabric(choices, warn=_silently) as fabric:
                return sorted({name for name in lister(fabric) if name.startswith(incomplete)})
        except Exception:  # a completion that cannot be made is no completion, never a traceback in somebody's prompt
            return []

    return complete


def _networks(fabric: Fabric) -> Iterable[str]:
    from trunkline.v1 import network_pb2

    return (n.spec.name for n in fabric.ask(fabric.networks.ListNetworks, network_pb2.ListNetworksRequest()).networks)


def _hosts(fabric: Fabric) -> Iterable[str]:
    from trunkline.v1 import host_pb2

    return (h.name for h in fabric.ask(fabric.hosts.ListHosts, host_pb2.ListHostsRequest()).hosts)


def _attachments(fabric: Fabric) -> Iterable[str]:
    from trunkline.v1 import attachment_pb2

    request = attachment_pb2.ListAttachmentsRequest()
    found = fabric.ask(fabric.attachments.ListAttachments, request).attachments
    return (f"{a.spec.host}/{a.spec.name}" for a in found)


def _owners(fabric: Fabric) -> Iterable[str]:
    from trunkline.v1 import address_pb2

    found = fabric.ask(fabric.addresses.ListAddresses, address_pb2.ListAddressesRequest()).holdings
    return (one.owner for one in found if one.owner)


complete_networks: Final = _completer(_networks)
complete_hosts: Final = _completer(_hosts)
complete_attachments: Final = _completer(_attachments)
complete_owners: Final = _completer(_owners)


def network_argument(**given: Any) -> Callable[[Any], Any]:
    """NAME of a network."""
    return click.argument("name", metavar="NETWORK", shell_complete=complete_networks, **given)


def host_argument(**given: Any) -> Callable[[Any], Any]:
    """NAME of a host."""
    return click.argument("name", metavar="HOST", shell_complete=complete_hosts, **given)
