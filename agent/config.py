"""The agent's configuration file. `trunkline-agent --help` shows every key."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.dns import OFF
from agent.dns import Settings as DnsSettings
from agent.dns import settings as dns_settings
from agent.plan.state import UplinkConfig
from trunkline import config as toml
from trunkline import ids, log, tls
from trunkline.errors import Reason, Refusal

PLUGIN_SOCKET: Final = "/run/docker/plugins/trunkline.sock"
"""Docker looks a plugin's socket up in this directory, by the name of the IPAM driver."""


@dataclass(frozen=True, slots=True)
class AgentSection:
    """[agent]: `host` names this machine in the fabric (default: its hostname); `controllers` are dialled in order;
    `insecure` allows plain text off this machine (lab only)."""

    controllers: tuple[str, ...]
    host: str = ""
    state_dir: Path = Path("/var/lib/trunkline")
    tick_seconds: float = 30.0
    insecure: bool = False
    machine_id_file: Path = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True)
class UplinkSection:
    """[uplinks.<label>]: the device behind a label."""

    device: str
    promiscuous: bool = False


@dataclass(frozen=True, slots=True)
class DockerSection:
    """[docker]: path of the engine's socket, empty where there is no Docker; whether networks are made there and
    Docker is served addresses; and where, unless the service manager hands the socket over."""

    socket: str = "/var/run/docker.sock"
    networks: bool = True
    plugin_socket: str = PLUGIN_SOCKET


@dataclass(frozen=True, slots=True)
class DnsSection:
    """[dns]: where names are answered, "" for nowhere; the fabric's domain; `resolver` "auto" leads the host's
    programs there, "off" leaves /etc/resolv.conf and systemd-resolved alone; `upstreams` instead of the host's own."""

    listen: str = "127.0.0.153"
    domain: str = "trunkline.internal"
    resolver: str = "auto"
    upstreams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsSection:
    """[tls]: PEM files; `server_name` is what the controller's certificate must carry instead of the name dialled."""

    ca: Path
    cert: Path
    key: Path
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class LogSection:
    """[log]: `level` debug, info, warning or error; `json` for machines."""

    level: str = "info"
    json: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """The tables of the file, as written."""

    agent: AgentSection
    uplinks: dict[str, UplinkSection] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    docker: DockerSection = field(default_factory=DockerSection)
    dns: DnsSection = field(default_factory=DnsSection)
    tls: TlsSection | None = None
    log: LogSection = field(default_factory=LogSection)


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration as the agent uses it: checked, defaults filled in. `plugin_socket` is "" when Docker's networks
    are none of the agent's business."""

    host: str
    machine_id: str
    controllers: tuple[str, ...]
    tls: tls.ClientTls | None
    state_dir: Path
    tick_seconds: float
    uplinks: tuple[UplinkConfig, ...]
    labels: dict[str, str]
    docker_socket: str
    plugin_socket: str
    log: LogSection
    dns: DnsSettings = OFF


def load(path: Path) -> Config:
    """Read and check the file. Raises CONFIG_INVALID (or INVALID_NAME, UPLINK_SHARED) naming file and key."""
    file = toml.load(path, File)
    source = str(path)
    host = file.agent.host or socket.gethostname()
    ids.check_name("host", host)
    client = None if file.tls is None else tls.ClientTls(file.tls.ca, file.tls.cert, file.tls.key, file.tls.server_name)
    _check_controllers(file, client, source)
    _check(file.agent.tick_seconds >= 1, source, "agent.tick_seconds is below 1", "30 is a good choice")
    _check(
        not file.docker.networks or file.docker.plugin_socket.startswith("/"),
        source,
        f"docker.plugin_socket {file.docker.plugin_socket!r} is not an absolute path",
        f"use {PLUGIN_SOCKET}, where Docker looks for it, or set networks = false",
    )
    _check(
        file.log.level in log.LEVELS,
        source,
        f"log.level {file.log.level!r} is not known",
        f"use {', '.join(log.LEVELS)}",
    )
    return Config(
        host=host,
        machine_id=_machine_id(file.agent.machine_id_file),
        controllers=file.agent.controllers,
        tls=client,
        state_dir=file.agent.state_dir,
        tick_seconds=file.agent.tick_seconds,
        uplinks=_uplinks(file, source),
        labels=file.labels,
        docker_socket=file.docker.socket,
        plugin_socket=file.docker.plugin_socket if file.docker.networks and file.docker.socket else "",
        log=file.log,
        dns=_dns(file.dns, source),
    )


def _check(good: bool, source: str, what: str, remedy: str) -> None:
    if not good:
        raise Refusal(Reason.CONFIG_INVALID, f"{source}: {what}", remedy, file=source)


def _dns(section: DnsSection, source: str) -> DnsSettings:
    try:
        return dns_settings(section.listen, section.domain, section.resolver, section.upstreams)
    except ValueError as error:
        raise Refusal(
            Reason.CONFIG_INVALID, f"{source}: dns.{error}", "see docs/names.md, or leave the key out", file=source
        ) from None


def _check_controllers(file: File, client: tls.ClientTls | None, source: str) -> None:
    endpoints = file.agent.controllers
    _check(bool(endpoints), source, "agent.controllers is empty", 'name at least one: ["192.0.2.10:7440"]')
    for endpoint in endpoints:
        port = endpoint.rpartition(":")[2]
        unix = endpoint.startswith(("unix:", "unix-abstract:"))
        _check(
            unix or (port.isdecimal() and 0 < int(port) < 65536),
            source,
            f"agent.controllers: {endpoint!r} is not host:port",
            "write it as 192.0.2.10:7440, [2001:db8::1]:7440 or unix:/path",
        )
        if client is None:
            tls.check_plaintext(endpoint, file.agent.insecure)
    if client is not None:
        client.credentials()


def _uplinks(file: File, source: str) -> tuple[UplinkConfig, ...]:
    by_device: dict[str, str] = {}
    for label, uplink in sorted(file.uplinks.items()):
        ids.check_name("uplink", label)
        ids.check_ifname(uplink.device)
        if other := by_device.get(uplink.device):
            raise Refusal(
                Reason.UPLINK_SHARED,
                f"{source}: uplinks {other} and {label} both name device {uplink.device}",
                "keep one label for a device, or VLAN ids would be claimed twice on one wire",
            )
        by_device[uplink.device] = label
    return tuple(
        UplinkConfig(label, uplink.device, uplink.promiscuous) for label, uplink in sorted(file.uplinks.items())
    )


def _machine_id(path: Path) -> str:
    try:
        machine_id = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise Refusal(
            Reason.CONFIG_INVALID, f"{path} cannot be read: {why}", "make one with systemd-machine-id-setup"
        ) from None
    if not machine_id or machine_id == "uninitialized":
        raise Refusal(Reason.CONFIG_INVALID, f"{path} holds no machine id", "make one with systemd-machine-id-setup")
    return machine_id
