"""The controller's configuration: one TOML file, overridden by flags. Unknown keys are refused."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field, replace
from pathlib import Path

from trunkline import config
from trunkline.errors import Reason, Refusal
from trunkline.ids import check_name
from trunkline.log import LEVELS
from trunkline.tls import ServerTls, check_plaintext

EMBEDDED = "embedded"
"""Value of `etcd` that makes the controller start and supervise an etcd of its own."""

LISTEN = "127.0.0.1:7440"
DATA_DIR = Path("/var/lib/trunkline-controller")
PREFIX = "/trunkline/1"


@dataclass(frozen=True, slots=True)
class ControllerTable:
    """`[controller]`. `name` is the replica's, unique in the fabric; empty takes the machine's host name."""

    name: str = ""
    listen: tuple[str, ...] = (LISTEN,)
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class TlsTable:
    """`[tls]`: PEM files; agents and operators must show a certificate of the same authority."""

    ca: Path
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class StoreTlsTable:
    """`[store.tls]`: PEM files for etcd; `server_name` is what etcd's certificate must carry."""

    ca: Path
    cert: Path
    key: Path
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class StoreTable:
    """`[store]`. `etcd` is "embedded" or a list of endpoints ("host:port")."""

    etcd: str | tuple[str, ...] = EMBEDDED
    data_dir: Path = DATA_DIR
    prefix: str = PREFIX
    etcd_binary: Path | None = None
    insecure: bool = False
    tls: StoreTlsTable | None = None


@dataclass(frozen=True, slots=True)
class LogTable:
    """`[log]`. `json` writes one JSON object per line."""

    level: str = "info"
    json: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file."""

    controller: ControllerTable = field(default_factory=ControllerTable)
    tls: TlsTable | None = None
    store: StoreTable = field(default_factory=StoreTable)
    log: LogTable = field(default_factory=LogTable)

    @property
    def name(self) -> str:
        """Name of this replica."""
        return self.controller.name or socket.gethostname()

    @property
    def embedded(self) -> bool:
        """Whether the controller runs an etcd of its own."""
        return self.store.etcd == EMBEDDED

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Endpoints of etcd without their scheme; empty when embedded."""
        if self.embedded:
            return ()
        named = (self.store.etcd,) if isinstance(self.store.etcd, str) else self.store.etcd
        return tuple(one.strip().removeprefix("https://").removeprefix("http://") for one in named)

    def server_tls(self) -> ServerTls | None:
        """TLS of the listeners."""
        return ServerTls(self.tls.ca, self.tls.cert, self.tls.key) if self.tls else None


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says; None leaves the file's value."""

    name: str | None = None
    listen: tuple[str, ...] = ()
    insecure: bool = False
    etcd: str | None = None
    data_dir: Path | None = None


def read(path: Path | None, overrides: Overrides) -> Config:
    """The file with the flags over it, checked; CONFIG_INVALID naming what is wrong with which key."""
    loaded = config.load(path, Config) if path else Config()
    merged = _override(loaded, overrides)
    _check(merged, str(path) if path else "command line")
    return merged


def _override(loaded: Config, flags: Overrides) -> Config:
    controller, store = loaded.controller, loaded.store
    if flags.name is not None:
        controller = replace(controller, name=flags.name)
    if flags.listen:
        controller = replace(controller, listen=flags.listen)
    if flags.insecure:
        controller = replace(controller, insecure=True)
    if flags.etcd is not None:
        named = EMBEDDED if flags.etcd == EMBEDDED else tuple(flags.etcd.split(","))
        store = replace(store, etcd=named)
    if flags.data_dir is not None:
        store = replace(store, data_dir=flags.data_dir)
    return replace(loaded, controller=controller, store=store)


def _check(merged: Config, source: str) -> None:
    try:
        check_name("controller", merged.name)
    except Refusal as error:
        raise _invalid(source, "controller.name", error.message, error.remedy) from None
    if not merged.controller.listen:
        raise _invalid(source, "controller.listen", "is empty", f'name an address, such as "{LISTEN}"')
    for endpoint in merged.controller.listen:
        _check_listen(endpoint, source)
        if merged.tls is None:
            check_plaintext(endpoint, merged.controller.insecure)
    if merged.log.level not in LEVELS:
        raise _invalid(source, "log.level", f"{merged.log.level!r} is not a level", f"use one of {', '.join(LEVELS)}")
    if not merged.store.prefix.startswith("/") or merged.store.prefix.endswith("/"):
        raise _invalid(source, "store.prefix", f"{merged.store.prefix!r} is not a prefix", f"write it as {PREFIX}")
    _check_endpoints(merged, source)


def _check_endpoints(merged: Config, source: str) -> None:
    if not merged.embedded and not all(merged.endpoints):
        raise _invalid(source, "store.etcd", "names no endpoint", 'use "embedded" or ["10.0.0.1:2379", …]')
    for endpoint in merged.endpoints:
        _check_port(endpoint, "store.etcd", source)
        if merged.store.tls is None:
            check_plaintext(endpoint, merged.store.insecure)


def _check_listen(endpoint: str, source: str) -> None:
    if endpoint.startswith("unix:"):
        if not endpoint.removeprefix("unix:").startswith("/"):
            raise _invalid(source, "controller.listen", f"{endpoint!r} names no absolute path", "use unix:/path")
        return
    _check_port(endpoint, "controller.listen", source)


def _check_port(endpoint: str, key: str, source: str) -> None:
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise _invalid(source, key, f"{endpoint!r} is not host:port", f'write it as "{LISTEN}"')


def _invalid(source: str, key: str, what: str, remedy: str) -> Refusal:
    return Refusal(Reason.CONFIG_INVALID, f"{source}: {key}: {what}", remedy, file=source, key=key)
