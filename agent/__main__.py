"""`trunkline-agent`: the agent of one host.

Exit status: 0 after a stop that was asked for, 2 for a configuration that cannot be used, 1 for anything else.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from agent import app
from agent.config import Config, load
from agent.spool import Spool
from trunkline import log
from trunkline.errors import TrunklineError

DEFAULT = Path("/etc/trunkline/agent.toml")


def main(argv: list[str] | None = None) -> None:
    """Entry point; never returns."""
    options = _parser().parse_args(argv)
    try:
        config = load(options.config)
    except TrunklineError as error:
        _fail(error, 2)
    log.setup(config.log.level, config.log.json or not sys.stderr.isatty())
    try:
        _act(options, config)
    except TrunklineError as error:
        _fail(error, 1)
    sys.exit(0)


def _act(options: argparse.Namespace, config: Config) -> None:
    if options.check_config:
        _check(options.config, config)
    elif options.command == "cleanup":
        log.setup("warning", config.log.json)
        for name in asyncio.run(app.remove(config, options.attachments)):
            print(f"removed {name}")
    elif options.command == "accept-epoch":
        spool = Spool(config.state_dir)
        spool.prepare()
        spool.ask_acceptance()
        print(f"accepted; the agent of {config.host} acts on it at its next look, within {config.tick_seconds:g} s")
    else:
        asyncio.run(app.serve(config))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trunkline-agent", description="Trunkline's agent on a host.")
    parser.add_argument(
        "--config", type=Path, default=DEFAULT, metavar="FILE", help=f"configuration (default: {DEFAULT})"
    )
    parser.add_argument(
        "--check-config", action="store_true", help="check the configuration against this host and exit"
    )
    parser.add_argument("--version", action="version", version=f"trunkline-agent {version('trunkline')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands (without one: run the agent)")
    removal = commands.add_parser(
        "cleanup", help="take back what a stopped agent made on this host", description="Takes back what was made here."
    )
    removal.add_argument("--attachments", action="store_true", help="remove the interfaces of containers, too")
    commands.add_parser(
        "accept-epoch",
        help="after a restore: let the agent remove what the renewed history no longer wants",
        description="Confirms the fabric's renewed history on this host, so that removals go on.",
    )
    return parser


def _check(path: Path, config: Config) -> None:
    uplinks = asyncio.run(app.inspect_uplinks(config))
    for uplink in uplinks:
        if uplink.problem:
            print(f"warning: {uplink.problem}", file=sys.stderr)
    shown = ", ".join(f"{uplink.label} = {uplink.device}" for uplink in uplinks) or "none"
    print(f"{path} is good: host {config.host}, uplinks {shown}")
    if any(" both reach " in uplink.problem for uplink in uplinks):
        sys.exit(2)


def _fail(error: TrunklineError, status: int) -> NoReturn:
    print(f"trunkline-agent: {error}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
