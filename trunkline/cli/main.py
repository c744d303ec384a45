"""The program `trunkline`: commands are imported when they are called, so that --help and completion are quick."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import signal
import sys
from typing import Final

import click

from trunkline.cli import present
from trunkline.cli.choices import shared_options
from trunkline.errors import Reason, TrunklineError

_ROOMS: Final = {
    "address": ("addresses", "Promise addresses to owners, and list who has what."),
    "attach": ("attachments", "Give a container one more interface, on a network."),
    "attachment": ("attachments", "Show attachments."),
    "check": ("check", "Prove on the wire that hosts reach each other."),
    "completion": ("completion", "Print the completion script of a shell."),
    "detach": ("attachments", "Take an interface away again."),
    "help": ("topics", "Explain a topic: exit-codes, config."),
    "host": ("hosts", "Show hosts, drain them, forget them."),
    "network": ("networks", "Create, show, change and delete networks."),
    "pki": ("certificates", "Make certificates for controllers, hosts and operators."),
    "probe": ("check", "Probe now: the same as `check --now`."),
    "reason": ("topics", "Explain the reason codes of errors."),
    "status": ("status", "Tell how the whole fabric is."),
    "uplink": ("uplinks", "Set and show what the switches carry."),
    "who": ("addresses", "Tell who holds an address or MAC, or what a container holds."),
}


_NO_COMMAND: Final = re.compile(r"No such command '([^']*)'")


class _LazyGroup(click.Group):
    """Knows names and one-line helps of its commands; imports a command's room when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_ROOMS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ROOMS:
            return None
        room = importlib.import_module(f"trunkline.cli.{_ROOMS[cmd_name][0]}")
        command: click.Command = getattr(room, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(_ROOMS.items())])


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"trunkline {version('trunkline')}")
        ctx.exit()


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 2 usage, 3 not found, 4 conflict, 5 exhausted, 6 unavailable, 7 deadline, "
    "8 permission, 9 check found something bad; all: `trunkline help exit-codes`.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
@shared_options(root=True)
def cli() -> None:
    """One macvlan/VLAN fabric over many Docker hosts.

    \b
    A first network and a first container on it:
      trunkline uplink set default --vlans 100-199
      trunkline network create mynet2 --subnet 20.0.0.0/24 --gateway 20.0.0.1
      trunkline attach docker1/web1 --network mynet2
      trunkline check mynet2
    """


def _usage(error: click.ClickException) -> TrunklineError:
    ctx = getattr(error, "ctx", None)
    remedy = f"{ctx.command_path} --help" if ctx else "trunkline --help"
    message = error.format_message()
    mistyped = _NO_COMMAND.match(message)
    if mistyped and ctx and isinstance(ctx.command, click.Group):
        near = difflib.get_close_matches(mistyped[1], ctx.command.list_commands(ctx), n=1)
        remedy = f"did you mean `{ctx.command_path} {near[0]}`? {remedy} lists all" if near else f"{remedy} lists all"
        message = f"{ctx.command_path} has no command {mistyped[1]!r}"
    return TrunklineError(Reason.INVALID_ARGUMENT, message, remedy)


def _unexpected(error: Exception) -> int:
    if os.environ.get("TRUNKLINE_DEBUG"):
        import traceback

        traceback.print_exception(error)
    found = TrunklineError(
        Reason.INTERNAL,
        f"unexpected {type(error).__name__}: {error}",
        "run it again with TRUNKLINE_DEBUG=1 for the traceback, and report it",
    )
    return present.fail(found)


def run(args: list[str] | None = None) -> int:
    """Run one command; the exit code. Raises nothing but the SystemExit of shell completion."""
    stdout = sys.stdout
    try:
        result = cli.main(args, prog_name="trunkline", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else present.OK
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return present.USAGE
    except click.ClickException as error:
        return present.fail(_usage(error))
    except TrunklineError as error:
        return present.fail(error)
    except (click.Abort, KeyboardInterrupt):
        return present.INTERRUPTED
    except SystemExit as left:
        # click ends the process by itself for completion, and with 1 when the reader has left (`| head`), which is
        # no error: the reader has what it wanted. Only then it has put something else in the place of stdout.
        if sys.stdout is not stdout:
            return present.OK
        raise left
    except BrokenPipeError:
        # Here from the last flush; the interpreter must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return present.OK
    except Exception as error:
        return _unexpected(error)


def _interrupted(signum: int, frame: object) -> None:
    """^C ends the program for certain: an exception that Python drops, as it does when it hits a finalizer, or an
    end that waits for a thread of gRPC's, is cut short after two seconds."""
    signal.signal(signal.SIGALRM, lambda *_: _leave(present.INTERRUPTED))
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    raise KeyboardInterrupt


def _leave(code: int) -> None:
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h")  # a live view may have hidden the cursor
    os._exit(code)


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGINT, _interrupted)
    sys.exit(run())
