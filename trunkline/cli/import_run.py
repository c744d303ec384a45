"""Importing hand-made Docker networks, and exchanging them host by host."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import click

from trunkline.cli import present
from trunkline.cli.choices import DEFAULT_DEADLINE, Choices
from trunkline.cli.connect import Fabric
from trunkline.cli.plain import enum_text, plain
from trunkline.cli.screen import Screen, grid
from trunkline.cli.words import duration
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.v1 import network_pb2

_MODE: Final = network_pb2.MacvlanMode.DESCRIPTOR

REPLACE_SECONDS: Final = 3600.0
"""How long an exchange on all hosts may take where no --deadline is given."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for."""

    name: str
    replace: bool
    hosts: tuple[str, ...]
    yes: bool
    dry_run: bool


@dataclass
class Outcome:
    """What was done so far."""

    preview: network_pb2.PreviewImportResponse | None = None
    imported: network_pb2.ImportNetworkResponse | None = None
    steps: list[network_pb2.ReplaceNetworkResponse] = field(default_factory=list)


def run(choices: Choices, wanted: Wanted) -> int:
    """Show, ask, import, exchange; the exit code. Raises IMPORT_REFUSED, and what stopped an exchange once what was
    done before is told."""
    if wanted.hosts and not wanted.replace:
        raise Refusal(
            Reason.INVALID_ARGUMENT, "--hosts says where to exchange networks, but --replace is not given", "give both"
        )
    if wanted.replace and choices.deadline == DEFAULT_DEADLINE:
        choices.deadline = REPLACE_SECONDS
    outcome = Outcome()
    with Fabric(choices) as fabric:
        try:
            code = _run(choices, fabric, wanted, outcome)
        except TrunklineError:
            _show(choices, wanted, outcome)
            raise
    _show(choices, wanted, outcome)
    return code


def _run(choices: Choices, fabric: Fabric, wanted: Wanted, outcome: Outcome) -> int:
    if not (wanted.replace and _imported(fabric, wanted.name)):
        request = network_pb2.PreviewImportRequest(name=wanted.name)
        outcome.preview = fabric.ask(fabric.networks.PreviewImport, request)
        _show_preview(choices, outcome.preview)
        if outcome.preview.refusals:
            raise _refused(wanted.name, outcome.preview.refusals)
    if wanted.dry_run:
        return present.OK
    if not wanted.yes and (code := _ask(wanted, outcome.preview is not None)) is not None:
        return code
    if outcome.preview is not None:
        order = network_pb2.ImportNetworkRequest(name=wanted.name)
        outcome.imported = fabric.ask(fabric.networks.ImportNetwork, order)
        if not choices.structured:
            _told(outcome.imported)
    if wanted.replace:
        _replace(choices, fabric, wanted, outcome)
    return present.OK


def _imported(fabric: Fabric, name: str) -> bool:
    """Whether the network was imported before. An import that was not finished selects no host, and is gone on with."""
    try:
        network = fabric.ask(fabric.networks.GetNetwork, network_pb2.GetNetworkRequest(name=name)).network
    except TrunklineError as error:
        if error.reason is Reason.NETWORK_NOT_FOUND:
            return False
        raise
    return network.imported and list(network.spec.host_selector) != ["-"]


def _refused(name: str, refusals: Sequence[str]) -> Refusal:
    return Refusal(
        Reason.IMPORT_REFUSED,
        f"Docker network {name} cannot be taken over:\n" + "\n".join(f"- {refusal}" for refusal in refusals),
        "mend that on the hosts, then look again; nothing was changed",
        network=name,
    )


def _ask(wanted: Wanted, importing: bool) -> int | None:
    """None to go on; else the exit code to leave with."""
    if not _terminal():
        present.note(
            f"nothing was done, since there is no terminal to ask on: give --yes to {_what(wanted, importing)}"
        )
        return present.USAGE
    what = _what(wanted, importing)
    question = f"{what[0].upper()}{what[1:]}?"
    if wanted.replace:
        where = ", ".join(wanted.hosts) or "every host that has it"
        question = f"{question} Each container is off the network for a moment, on {where}"
    return None if click.confirm(question, default=False, err=True) else present.INTERRUPTED


def _terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _what(wanted: Wanted, importing: bool) -> str:
    verbs = ["import"] * importing + ["replace"] * wanted.replace
    return f"{' and '.join(verbs)} Docker network {wanted.name}"


# Preview


def _show_preview(choices: Choices, preview: network_pb2.PreviewImportResponse) -> None:
    for warning in preview.warnings:
        present.warn(warning)
    if choices.structured or not preview.networks:
        return
    screen = Screen(choices)
    screen.print(_heading(preview.spec))
    screen.print()
    titles = [("HOST", False), ("PARENT", False), ("UPLINK", False), ("VLAN", True), ("SUBNET", False)]
    titles += [("GATEWAY", False), ("RANGE", False), ("MODE", False), ("MTU", True)]
    screen.print(grid(titles, [_network(network) for network in preview.networks]))
    screen.print()
    if not preview.endpoints:
        screen.print("no containers on it")
        return
    titles = [("HOST", False), ("CONTAINER", False), ("ADDRESS", False), ("MAC", False), ("STATE", False)]
    screen.print(grid(titles, [_endpoint(endpoint) for endpoint in preview.endpoints]))


def _heading(spec: network_pb2.NetworkSpec) -> str:
    vlan = f"VLAN {spec.vlan}" if spec.vlan else "untagged"
    prefixes = ", ".join(_prefix(prefix) for prefix in spec.prefixes) or "no subnet"
    mtu = f", MTU {spec.mtu}" if spec.mtu else ""
    return f"network {spec.name}: {vlan} on uplink {spec.uplink or 'default'}, {prefixes}{mtu}"


def _prefix(prefix: network_pb2.Prefix) -> str:
    gateway = f"gateway {prefix.gateway}" if prefix.gateway else "no gateway"
    excludes = f", excludes {' '.join(prefix.excludes)}" if prefix.excludes else ""
    return f"{prefix.cidr} ({gateway}{excludes})"


def _network(network: network_pb2.ImportedNetwork) -> list[str]:
    return [
        network.host,
        network.parent or "none",
        network.uplink or "none",
        str(network.vlan) if network.vlan else "untagged",
        ", ".join(prefix.cidr for prefix in network.prefixes),
        ", ".join(prefix.gateway or "not set" for prefix in network.prefixes),
        ", ".join(text for prefix in network.prefixes for text in prefix.ranges) or "all",
        enum_text(_MODE, network.mode),
        str(network.mtu),
    ]


def _endpoint(endpoint: network_pb2.ImportedEndpoint) -> list[str]:
    addresses = ", ".join(endpoint.addresses) or "none until it starts"
    return [endpoint.host, endpoint.container, addresses, endpoint.mac, "running" if endpoint.running else "stopped"]


# Doing


def _told(answer: network_pb2.ImportNetworkResponse) -> None:
    running = sum(endpoint.running for endpoint in answer.endpoints)
    kept = sum(not endpoint.running and bool(endpoint.addresses) for endpoint in answer.endpoints)
    also = f", {kept} reserved for stopped ones" if kept else ""
    name = answer.network.spec.name
    present.note(f"network {name} imported: the addresses of {running} containers are theirs{also}")


def _replace(choices: Choices, fabric: Fabric, wanted: Wanted, outcome: Outcome) -> None:
    request = network_pb2.ReplaceNetworkRequest(name=wanted.name, hosts=wanted.hosts)
    for step in fabric.follow(fabric.networks.ReplaceNetwork, request):
        outcome.steps.append(step)
        if step.message:
            where = f"{step.host}/{step.container}" if step.container else step.host
            off = f" ({duration(step.off_ms / 1000)} off)" if step.off_ms else ""
            present.note(f"{where}: {step.message}{off}")


def _show(choices: Choices, wanted: Wanted, outcome: Outcome) -> None:
    """The result on standard output: data, or how long each container was off."""
    screen = Screen(choices)
    if choices.structured:
        hosts = dict.fromkeys(step.host for step in outcome.steps if step.done)
        screen.data(_data(outcome), [wanted.name, *hosts][: 1 + len(hosts)])
        return
    if not wanted.replace or not outcome.steps:
        return
    rows = [
        [step.host, step.container, duration(step.off_ms / 1000) if step.off_ms else "-", step.message]
        for step in outcome.steps
        if step.container
    ]
    if rows:
        screen.print(grid([("HOST", False), ("CONTAINER", False), ("OFF", True), ("DETAIL", False)], rows))
    done = [step.host for step in outcome.steps if step.done]
    longest = max((step.off_ms for step in outcome.steps), default=0)
    if done:
        screen.print(f"done on {_list(done)}; longest time off {duration(longest / 1000)}")


def _list(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _data(outcome: Outcome) -> dict[str, Any]:
    return {
        "preview": plain(outcome.preview) if outcome.preview is not None else None,
        "imported": plain(outcome.imported) if outcome.imported is not None else None,
        "replaced": [plain(step) for step in outcome.steps],
    }
