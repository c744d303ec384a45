"""`trunkline host`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from trunkline.cli import present
from trunkline.cli.choices import Choices, pass_choices, shared
from trunkline.cli.named import host_argument
from trunkline.cli.words import ago, moment
from trunkline.errors import Reason, Refusal

if TYPE_CHECKING:
    from trunkline.v1 import fabric_pb2, host_pb2

_EVENTS = 10
"""Events that people are shown; data has all."""


@click.group()
def host() -> None:
    """Show hosts, drain them, forget them. Hosts register themselves: start the agent on one."""


def _state(item: host_pb2.Host) -> str:
    word = "connected" if item.connected else "away"
    return f"{word}, drained" if item.drained else word


def _uplinks(item: host_pb2.Host) -> str:
    return ", ".join(f"{u.label}={u.device}{_fault(u)}" for u in item.uplinks)


def _fault(item: fabric_pb2.HostUplink) -> str:
    if not item.present:
        return " (missing)"
    if not item.up:
        return " (down)"
    return "" if item.carrier else " (no carrier)"


@host.command("list")
@shared
@pass_choices
def list_(choices: Choices) -> None:
    """List hosts.

    READY counts attachments; CHANGED is when the host last reported something new, not when it was last heard.

    \b
    Example:
      trunkline host list -o wide
    """
    from trunkline.cli.connect import Fabric
    from trunkline.cli.screen import Column, Screen
    from trunkline.v1 import host_pb2

    with Fabric(choices) as fabric:
        found = fabric.ask(fabric.hosts.ListHosts, host_pb2.ListHostsRequest()).hosts
    now = time.time_ns() // 1_000_000
    columns = (
        Column[host_pb2.Host]("NAME", lambda h: h.name),
        Column[host_pb2.Host]("STATE", _state),
        Column[host_pb2.Host]("UPLINKS", _uplinks),
        Column[host_pb2.Host]("READY", _ready, right=True),
        Column[host_pb2.Host]("CHANGED", lambda h: ago(h.observed_ms, now)),
        Column[host_pb2.Host]("PROBLEMS", lambda h: str(len(h.problems) or ""), right=True),
        Column[host_pb2.Host]("AGENT", lambda h: h.agent_version, wide=True),
        Column[host_pb2.Host]("DOCKER", lambda h: h.docker or "none", wide=True),
        Column[host_pb2.Host]("KERNEL", lambda h: h.kernel, wide=True),
        Column[host_pb2.Host]("LABELS", _labels, wide=True),
        Column[host_pb2.Host]("REPLICA", lambda h: h.replica, wide=True),
    )
    empty = "no hosts yet; start trunkline-agent on one, with this controller in its config"
    Screen(choices).many(found, columns, lambda h: h.name, empty)


def _labels(item: host_pb2.Host) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(item.labels.items()))


def _ready(item: host_pb2.Host) -> str:
    text = f"{item.attachments_ready}/{item.attachments}"
    return text if item.connected else f"was {text}"


@host.command()
@host_argument()
@shared
@pass_choices
def show(choices: Choices, name: str) -> None:
    """Show one host: identity, uplinks, what is not well on it, and what happened there lately.

    -o json has all events that are known, newest last, as the table has the last ten.

    \b
    Example:
      trunkline host show docker1
    """
    from trunkline.cli.connect import Fabric
    from trunkline.v1 import host_pb2

    with Fabric(choices) as fabric:
        found = fabric.ask(fabric.hosts.GetHost, host_pb2.GetHostRequest(name=name)).host
    _show(choices, found)


def _show(choices: Choices, found: host_pb2.Host) -> None:
    from trunkline.cli.screen import Screen, grid

    screen = Screen(choices)
    if not screen.one(found, found.name, lambda: _details(found)):
        return
    if found.uplinks:
        titles = [("UPLINK", False), ("DEVICE", False), ("STATE", False), ("MTU", True), ("MAC", False), ("", False)]
        rows = [
            [u.label, u.device, _fault(u).strip(" ()") or "up", str(u.mtu), u.mac, u.problem] for u in found.uplinks
        ]
        screen.print()
        screen.print(grid(titles, rows))
    if found.problems:
        screen.print()
        rows = [[p.reason, f"{p.kind} {p.object}", p.message] for p in found.problems]
        screen.print(grid([("PROBLEM", False), ("OBJECT", False), ("WHAT AND WHAT NEXT", False)], rows))
    if found.events:
        screen.print()
        now = time.time_ns() // 1_000_000
        rows = [[ago(e.at_ms, now), e.object, e.message] for e in found.events[-_EVENTS:]]
        screen.print(grid([("EVENT", False), ("OBJECT", False), ("WHAT HAPPENED", False)], rows))


def _details(item: host_pb2.Host) -> Sequence[tuple[str, str]]:
    return (
        ("host", item.name),
        ("state", _state(item)),
        ("machine-id", item.machine_id),
        ("labels", _labels(item)),
        ("agent", item.agent_version),
        ("kernel", item.kernel),
        ("Docker", item.docker or "does not answer"),
        ("attachments", f"{_ready(item).replace('/', ' ready of ')}"),
        ("session with", item.replica if item.connected else ""),
        ("last change", moment(item.observed_ms) or "it has not reported yet"),
        ("registered", moment(item.registered_ms)),
    )


@host.command()
@host_argument()
@click.option("--undo", is_flag=True, help="Take it back: new attachments are allowed again.")
@shared
@pass_choices
def drain(choices: Choices, name: str, undo: bool) -> None:
    """Allow no new attachments on a host. What runs stays; the host is not probed.

    \b
    Examples:
      trunkline host drain docker3
      trunkline host drain docker3 --undo
    """
    from trunkline.cli.connect import Fabric
    from trunkline.cli.screen import Screen
    from trunkline.v1 import host_pb2

    with Fabric(choices) as fabric:
        found = fabric.ask(fabric.hosts.DrainHost, host_pb2.DrainHostRequest(name=name, undo=undo)).host
    screen = Screen(choices)
    if choices.structured:
        screen.one(found, found.name, lambda: ())
    elif found.drained:
        screen.print(f"host {name} is drained: no new attachments, {found.attachments} stay")
    else:
        screen.print(f"host {name} takes attachments again")


@host.command()
@host_argument()
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared
@pass_choices
def forget(choices: Choices, name: str, yes: bool) -> int | None:
    """Remove a host with everything it holds, for a machine that does not come back.

    Its addresses become free after their rest. If the machine still runs, its containers still use them: stop it
    first. Refused while the host is connected.

    \b
    Example:
      trunkline host forget docker3 --yes
    """
    if not yes and not _confirmed(name):
        return present.INTERRUPTED
    from trunkline.cli.connect import Fabric
    from trunkline.cli.screen import Screen
    from trunkline.v1 import host_pb2

    with Fabric(choices) as fabric:
        answer = fabric.ask(fabric.hosts.ForgetHost, host_pb2.ForgetHostRequest(name=name))
    screen = Screen(choices)
    if choices.structured:
        screen.one(answer, name, lambda: ())
    else:
        gone = len(answer.attachments)
        screen.print(f"host {name} forgotten: {gone} attachments removed, {answer.addresses} addresses rest")
    return present.OK


def _confirmed(name: str) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"forgetting host {name} frees its addresses, and there is no terminal to ask on",
            f"trunkline host forget {name} --yes",
        )
    question = f"Forget host {name}? Its addresses become free, even if the machine still uses them"
    return click.confirm(question, default=False, err=True)
