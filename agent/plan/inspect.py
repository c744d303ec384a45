"""Whether a target could be attached to a network on this host. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.plan import match, networks, uplinks
from agent.plan.networks import NetworkPlan
from agent.plan.state import HostConfig, Interface, Link, Observed
from agent.plan.uplinks import Blocked
from trunkline.errors import Reason, Refusal
from trunkline.model import HostNetwork, Phase


def judge_network(network: HostNetwork, config: HostConfig, links: Sequence[Link]) -> NetworkPlan:
    """The network's part. Raises the Refusal that an attachment would end in: UPLINK_NOT_ON_HOST, UPLINK_MISSING,
    UPLINK_SHARED, UPLINK_MTU, LINK_CLASH, SUBINTERFACE_IN_USE, or UPLINK_DOWN for somebody else's sub-interface; an
    uplink that is down is none, since the agent sets it up."""
    links = tuple(links)
    raised = tuple(_raised(link, config, network) for link in links)
    shares = uplinks.shared(config.uplinks, links)
    plan = networks.plan_one(network, config, Observed(raised), shares)
    if plan.blocked is not None and plan.blocked.phase is Phase.FAILED:
        raise _refusal(plan.blocked, config.host)
    return plan


def _raised(link: Link, config: HostConfig, network: HostNetwork) -> Link:
    uplink = config.uplinks.get(network.uplink)
    if uplink is None or link.name != uplink.device or link.up:
        return link
    return replace(link, up=True)


def _refusal(blocked: Blocked, host: str) -> Refusal:
    return Refusal(blocked.reason or Reason.VERIFY_FAILED, blocked.message, host=host)


def judge_name(ifname: str, interfaces: Sequence[Interface], target: str, host: str) -> None:
    """Raise IFNAME_TAKEN when the target has an interface of the name asked for."""
    for interface in interfaces:
        if ifname and interface.link.name == ifname:
            whose = f"attachment {match.owner(interface)}'s" if match.owner(interface) else "not of Trunkline"
            raise Refusal(
                Reason.IFNAME_TAKEN,
                f"{target} on {host} has an interface {ifname} already ({whose})",
                "ask for another --ifname, or leave it out",
            )
