"""What holds for every command: options that are taken before and after the subcommand, and the config file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from trunkline.errors import Reason, Refusal

if TYPE_CHECKING:
    from trunkline.tls import ClientTls

DEFAULT_CONTROLLER: Final = "127.0.0.1:7440"
DEFAULT_DEADLINE: Final = 60.0
OUTPUTS: Final = ("table", "wide", "json", "yaml", "name")

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Choices:
    """The options of one invocation; a later place on the command line wins over an earlier one."""

    controller: tuple[str, ...] = ()
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    output: str = "table"
    deadline: float = DEFAULT_DEADLINE
    no_wait: bool = False
    no_color: bool = False

    @property
    def structured(self) -> bool:
        """Standard output is for a program: nothing but the data may go there."""
        return self.output in ("json", "yaml", "name")


pass_choices = click.make_pass_decorator(Choices, ensure=True)


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value not in (None, (), False) and param.name:
        setattr(ctx.ensure_object(Choices), param.name, value)


def _option(*names: str, after: bool = True, **given: Any) -> Callable[[bool], Callable[[F], F]]:
    """An option that is stored in Choices; `after`: listed in the help of subcommands too, not only taken there."""

    def make(root: bool) -> Callable[[F], F]:
        return click.option(*names, callback=_remember, expose_value=False, hidden=not (root or after), **given)

    return make


_NO_WAIT = _option(
    "--no-wait", is_flag=True, after=False, help="Return once it is written, without waiting for the hosts."
)

_SHARED = (
    _option(
        "--controller",
        metavar="ENDPOINT",
        multiple=True,
        after=False,
        help="Controller to ask, host:port or unix:/path; several are tried in order. [env: TRUNKLINE_CONTROLLER]",
    ),
    _option("--tls-ca", type=click.Path(path_type=Path), after=False, help="Authority of the fabric, PEM."),
    _option("--tls-cert", type=click.Path(path_type=Path), after=False, help="Own certificate, PEM."),
    _option("--tls-key", type=click.Path(path_type=Path), after=False, help="Own private key, PEM."),
    _option("--insecure", is_flag=True, after=False, help="Speak plain text to a controller on another machine."),
    _option("-o", "--output", type=click.Choice(OUTPUTS), help="How to print results.  [default: table]"),
    _option(
        "--deadline",
        type=click.FloatRange(min=0.1, max=86_400),
        metavar="SECONDS",
        help="How long the whole command may take.  [default: 60]",
    ),
    _NO_WAIT,
    _option("--no-color", is_flag=True, after=False, help="No colours. [env: NO_COLOR]"),
)


def shared_options(root: bool) -> Callable[[F], F]:
    """Add the shared options to the program (`root`) or to a subcommand."""

    def decorate(function: F) -> F:
        for option in reversed(_SHARED):
            function = option(root)(function)
        return function

    return decorate


shared = shared_options(root=False)
"""For commands that only ask; --no-wait is taken there, too, and changes nothing."""


def waiting(function: F) -> F:
    """`shared`, for commands that wait for hosts: their help says how not to."""
    decorated = shared(function)
    for option in decorated.__click_params__:  # type: ignore[attr-defined]
        option.hidden = option.hidden and option.name != "no_wait"
    return decorated


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Table [tls] of the config file. `server_name`: what the controller's certificate carries."""

    ca: Path
    cert: Path
    key: Path
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class CliConfig:
    """The config file of the CLI."""

    controllers: tuple[str, ...] = ()
    tls: TlsFiles | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the fabric, all places considered."""

    endpoints: tuple[str, ...]
    tls: ClientTls | None
    insecure: bool


def config_paths() -> tuple[Path, ...]:
    """Where the config file is looked for; the first that exists is taken."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return (home / "trunkline" / "config.toml", Path("/etc/trunkline/cli.toml"))


def access(choices: Choices) -> Access:
    """Options win over the environment, that over the config file; raises CONFIG_INVALID."""
    from trunkline import config
    from trunkline.tls import check_plaintext

    path = next((p for p in config_paths() if p.exists()), None)
    file = config.load(path, CliConfig) if path else CliConfig()
    named = choices.controller or (os.environ.get("TRUNKLINE_CONTROLLER", ""),)
    endpoints = tuple(e.strip() for text in named for e in text.split(",") if e.strip())
    endpoints = endpoints or file.controllers or (DEFAULT_CONTROLLER,)
    tls = _client_tls(choices, file)
    insecure = choices.insecure or file.insecure
    if tls is None:
        for endpoint in endpoints:
            check_plaintext(endpoint, insecure)
    return Access(endpoints, tls, insecure)


def _client_tls(choices: Choices, file: CliConfig) -> ClientTls | None:
    from trunkline.tls import ClientTls

    if choices.tls_ca and choices.tls_cert and choices.tls_key:
        return ClientTls(choices.tls_ca, choices.tls_cert, choices.tls_key, file.tls.server_name if file.tls else "")
    if choices.tls_ca or choices.tls_cert or choices.tls_key:
        raise Refusal(
            Reason.CONFIG_INVALID,
            "only some of --tls-ca, --tls-cert and --tls-key are given",
            "give all three, or none and a [tls] table in the config file",
        )
    if file.tls and not choices.insecure:
        return ClientTls(file.tls.ca, file.tls.cert, file.tls.key, file.tls.server_name)
    return None
