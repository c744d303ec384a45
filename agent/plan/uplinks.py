"""Uplinks: what stands behind a label, and whether networks can be carried by it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.plan.state import HostConfig, Link, UplinkConfig
from agent.plan.steps import Job, RaiseLink, SetPromiscuous, Subject
from trunkline.errors import Reason
from trunkline.model import HostUplink, Phase


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why an object is not in its wanted state now, and the phase this puts it into. No reason while the agent
    is on its way there."""

    phase: Phase
    reason: Reason | None
    message: str


def refused(reason: Reason, message: str) -> Blocked:
    """FAILED for `reason`."""
    return Blocked(Phase.FAILED, reason, message)


def shared(uplinks: Mapping[str, UplinkConfig], links: Iterable[Link]) -> dict[str, str]:
    """Labels that reach a device which another label reaches too, each with a sentence that says how.

    A label reaches its device, the bond or bridge that the device is a port of, all ports of that one, and the
    parents of VLAN links among them: frames of two such labels meet on one wire, so VLAN ids would be claimed twice.
    """
    by_index = {link.index: link for link in links}
    by_name = {link.name: link for link in by_index.values()}
    ports: dict[int, list[Link]] = {}
    for link in by_index.values():
        ports.setdefault(link.master, []).append(link)
    reached = {
        label: _reached(by_name[uplink.device], by_index, ports)
        for label, uplink in uplinks.items()
        if uplink.device in by_name
    }
    found: dict[str, str] = {}
    for label in sorted(reached):
        for other in sorted(reached):
            if other != label and label not in found and (common := reached[label] & reached[other]):
                device = min(by_index[index].name for index in common)
                both = f"uplinks {label} ({uplinks[label].device}) and {other} ({uplinks[other].device})"
                found[label] = f"{both} both reach {device}"
    return found


def _reached(link: Link, by_index: Mapping[int, Link], ports: Mapping[int, list[Link]]) -> frozenset[int]:
    top = link
    climbed = {top.index}
    while top.master in by_index and top.master not in climbed:
        top = by_index[top.master]
        climbed.add(top.index)
    seen: set[int] = set()
    todo = [top.index, link.index]
    while todo:
        index = todo.pop()
        if index in seen or index not in by_index:
            continue
        seen.add(index)
        todo += [port.index for port in ports.get(index, [])]
        if by_index[index].kind in ("vlan", "macvlan"):
            todo.append(by_index[index].parent)
    return frozenset(seen)


def find(label: str, config: HostConfig, links: Iterable[Link], shares: Mapping[str, str]) -> Link | Blocked:
    """The device behind a label, or why it can carry nothing."""
    uplink = config.uplinks.get(label)
    if uplink is None:
        known = ", ".join(sorted(config.uplinks)) or "none"
        return refused(
            Reason.UPLINK_NOT_ON_HOST,
            f"the agent of {config.host} maps no device to uplink {label} (it has: {known}); "
            f"add [uplinks.{label}] to its config",
        )
    device = next((link for link in links if link.name == uplink.device), None)
    if device is None:
        return refused(
            Reason.UPLINK_MISSING,
            f"{config.host} has no device {uplink.device} for uplink {label}; plug it in or mend the agent's config",
        )
    if label in shares:
        return refused(Reason.UPLINK_SHARED, f"on {config.host}, {shares[label]}; keep one label for them")
    if not device.up:
        return refused(
            Reason.UPLINK_DOWN, f"uplink {label} ({device.name}) of {config.host} is down and could not be set up"
        )
    return device


def enslaved(device: Link, links: Iterable[Link]) -> str:
    """Why nothing may be made on a device, in words; empty when it may.

    The kernel gives a tagged frame to the VLAN link on the port before the bridge or bond sees it
    (__netif_receive_skb_core): the host, and machines behind its bridge, would lose that VLAN. A VRF takes none.
    """
    master = next((link for link in links if device.master and link.index == device.master), None)
    if master is None or master.kind == "vrf":
        return ""
    kind = master.kind or "link"
    return f"{device.name} is a port of {kind} {master.name}, which would lose its frames; name {master.name} as device"


def facts(config: HostConfig, links: Iterable[Link]) -> tuple[HostUplink, ...]:
    """Every uplink of the config as it is now."""
    links = tuple(links)
    shares = shared(config.uplinks, links)
    by_name = {link.name: link for link in links}
    seen = []
    for label, uplink in sorted(config.uplinks.items()):
        device = by_name.get(uplink.device)
        found = find(label, config, links, shares)
        problem = found.message if isinstance(found, Blocked) else ""
        if device is not None and not problem:
            problem = enslaved(device, links)
        if device is None:
            seen.append(HostUplink(label, uplink.device, problem=problem))
            continue
        if not problem and not device.carrier:
            problem = f"{device.name} has no carrier; check the cable or the switch port"
        seen.append(HostUplink(label, device.name, True, device.up, device.carrier, device.mtu, device.mac, problem))
    return tuple(seen)


def jobs(config: HostConfig, links: Iterable[Link], used: Iterable[str]) -> list[Job]:
    """Set uplinks that networks use up, and promiscuous flags as the config has them; a flag that was on before
    this agent came is left on."""
    by_name = {link.name: link for link in links}
    used = set(used)
    made: list[Job] = []
    for label, uplink in sorted(config.uplinks.items()):
        device = by_name.get(uplink.device)
        if device is None:
            continue
        if label in used and not device.up:
            made.append(Job(Subject("uplink", label), (RaiseLink(device.index, device.name),)))
        if uplink.promiscuous and not device.promiscuous:
            made.append(_promiscuous(device, True))
    meant = {uplink.device for uplink in config.uplinks.values() if uplink.promiscuous}
    for name in sorted(config.promiscuous_by_us - meant):
        if name in by_name and by_name[name].promiscuous:
            made.append(_promiscuous(by_name[name], False))
    return made


def _promiscuous(device: Link, on: bool) -> Job:
    return Job(Subject("link", device.name), (SetPromiscuous(device.index, device.name, on),))
