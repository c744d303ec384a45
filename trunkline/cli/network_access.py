"""Waiting until the hosts have, or have no longer, their own interface on a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trunkline.cli import standing
from trunkline.cli.attachment_find import find_all
from trunkline.cli.choices import Choices
from trunkline.cli.connect import Fabric
from trunkline.cli.standing import HostStand, Stand, Stands
from trunkline.cli.waiting import Wanted, wait
from trunkline.errors import TrunklineError
from trunkline.v1 import attachment_pb2, network_pb2

Attachment = attachment_pb2.Attachment


def stands(network: network_pb2.Network, own: Mapping[str, Attachment], given: bool) -> Stands:
    """Where the hosts of a network stand with the interfaces of their own, by host."""
    if not given:
        return tuple(stand for host in sorted(own) for stand in standing.attachment_removed(own[host]))
    return tuple(_given(host, own.get(host.host)) for host in network.hosts)


def _given(host: network_pb2.HostNetworkStatus, item: Attachment | None) -> HostStand:
    if item is not None and item.phase == attachment_pb2.ATTACHMENT_PHASE_DETACHING and item.connected:
        # Its end is waited for before it is given anew, or the host leaves the network with it.
        return HostStand(host.host, Stand.PENDING, "detaching", item.reason, item.message)
    if item is not None:
        return standing.attachment_made(item)[0]
    if not host.connected:
        return HostStand(host.host, Stand.AWAY, "out of reach")
    return HostStand(host.host, Stand.PENDING, "no address yet", message="it was given no address of its own yet")


def settle(choices: Choices, fabric: Fabric, name: str, given: bool) -> None:
    """Wait until every connected host has its interface, or has none any more. Raises as `wait` does."""

    def look() -> Stands:
        now = fabric.ask(fabric.networks.GetNetwork, network_pb2.GetNetworkRequest(name=name)).network
        found = find_all(fabric, "", name)
        return stands(now, {one.spec.host: one for one in found if one.origin == attachment_pb2.ORIGIN_HOST}, given)

    def watch() -> Iterator[Stands]:
        # What is there is sent first, one message each; how many there are nobody says, so the whole is asked for.
        yield look()
        for change in fabric.follow(
            fabric.attachments.WatchAttachments, attachment_pb2.WatchAttachmentsRequest(network=name)
        ):
            if change.gone or change.attachment.origin == attachment_pb2.ORIGIN_HOST:
                yield look()

    try:
        wait(fabric, choices, Wanted(f"host access to network {name}", watch, look, away_is_done=True))
    except TrunklineError as error:
        error.remedy = error.remedy or f"hosts go on trying: trunkline attachment list --network {name}"
        raise
