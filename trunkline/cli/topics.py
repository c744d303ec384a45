"""`trunkline reason` and `trunkline help`."""

from __future__ import annotations

import difflib
from typing import Final

import click

from trunkline.cli import present
from trunkline.cli.choices import Choices, pass_choices, shared
from trunkline.errors import Reason, Refusal

_TOPICS: Final = ("exit-codes", "config")


@click.command()
@click.argument("code", required=False, default="", metavar="[CODE]")
@shared
@pass_choices
def reason(choices: Choices, code: str) -> None:
    """Explain the reason codes that errors carry, one or all.

    \b
    Example:
      trunkline reason POOL_EXHAUSTED
    """
    from trunkline.cli.screen import Screen, grid

    known = list(Reason) if not code else [_reason(code)]
    screen = Screen(choices)
    if choices.structured:
        data = [_plain(r) for r in known]
        screen.data(data[0] if code else data, [r.name for r in known])
    elif code:
        found = known[0]
        retry = "may succeed later as it is" if found.retryable else "will not succeed until something is changed"
        pairs = (("reason", found.name), ("means", found.meaning), ("the request", retry))
        screen.pairs((*pairs, ("exit code", f"{_code(found)}: {present.EXIT_CODES[_code(found)]}")))
    else:
        rows = [[r.name, str(_code(r)), "yes" if r.retryable else "no", r.meaning] for r in known]
        screen.print(grid([("REASON", False), ("EXIT", True), ("RETRY", False), ("MEANS", False)], rows))


def _code(found: Reason) -> int:
    return present.exit_code(found)


def _plain(found: Reason) -> dict[str, object]:
    return {
        "reason": found.name,
        "status": found.status.name,
        "exit_code": _code(found),
        "retryable": found.retryable,
        "meaning": found.meaning,
    }


def _reason(code: str) -> Reason:
    found = Reason.__members__.get(code.upper().replace("-", "_"))
    if found is None:
        near = [name for name in Reason.__members__ if code.upper() in name][:1]
        near = near or difflib.get_close_matches(code.upper(), Reason.__members__, n=1)
        remedy = f"did you mean {near[0]}? trunkline reason lists all" if near else "trunkline reason lists them"
        raise Refusal(Reason.INVALID_ARGUMENT, f"{code!r} is not a reason code", remedy)
    return found


@click.command("help")
@click.argument("topic", required=False, default="", type=click.Choice(["", *_TOPICS]), metavar="[TOPIC]")
@click.pass_context
def help_(ctx: click.Context, topic: str) -> None:
    """Explain a topic: exit-codes, config. For a command: trunkline COMMAND --help.

    \b
    Example:
      trunkline help exit-codes
    """
    match topic:
        case "exit-codes":
            for code, meaning in present.EXIT_CODES.items():
                click.echo(f"{code:>4}  {meaning}")
        case "config":
            click.echo(CONFIG)
        case _:
            click.echo(ctx.find_root().get_help())


help = help_

CONFIG: Final = """\
The first of these files that exists is read, TOML; options and environment win:
  ~/.config/trunkline/config.toml   (or below XDG_CONFIG_HOME)
  /etc/trunkline/cli.toml

  controllers = ["c1.example.org:7440", "c2.example.org:7440"]   # tried in order
  insecure = false        # plain text to other machines; labs only

  [tls]
  ca = "/etc/trunkline/pki/ca.crt"
  cert = "~/.config/trunkline/operator-ann.crt"
  key = "~/.config/trunkline/operator-ann.key"
  server_name = ""        # if the certificate carries another name than the one dialled

Environment: TRUNKLINE_CONTROLLER (comma-separated), NO_COLOR, TRUNKLINE_DEBUG=1 (tracebacks)."""
