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

from agent import app, units
from agent.config import PLUGIN_SOCKET, Config, load
from agent.spool import Spool
from trunkline import log
from trunkline.errors import TrunklineError

DEFAULT = Path("/etc/trunkline/agent.toml")

_EPILOG = """\
A configuration file (TOML), with its defaults:
  [agent]
  host = ""                            # name in the fabric; empty takes the machine's host name
  controllers = ["192.0.2.10:7440"]    # required; dialled in order; also "unix:/run/trunkline/controller.sock"
  state_dir = "/var/lib/trunkline"     # the last desired state, for a boot with no controller in sight
  tick_seconds = 30                    # how often everything is looked at although nothing seems to have changed
  insecure = false                     # plain text beyond this machine, for a lab only
  machine_id_file = "/etc/machine-id"

  [uplinks.default]                    # one table for each label
  device = "enp7s0"                    # required
  promiscuous = false                  # for NICs and hypervisors that filter foreign MACs

  [labels]                             # what host selectors of networks look at, such as rack = "r7"

  [docker]
  socket = "/var/run/docker.sock"      # "" on a host without Docker
  networks = true                      # make the fabric's networks in Docker, and give its containers addresses
  plugin_socket = "/run/docker/plugins/trunkline.sock"    # unless systemd hands it over (`trunkline-agent units DIR`)

  [dns]                                # names of all containers of the fabric, see docs/names.md
  listen = "127.0.0.153"               # "" for no names on this host
  domain = "trunkline.internal"        # the same on every host
  resolver = "auto"                    # "off": /etc/resolv.conf and systemd-resolved are left alone
  upstreams = []                       # who is asked everything else, such as ["192.0.2.53"]; [] follows the host

  [tls]                                # required beyond this machine: ca, cert, key, server_name = ""

  [log]
  level = "info"                       # debug, info, warning, error
  json = false                         # always so when stderr is no terminal

Exit status: 0 stopped as asked, 1 could not run or finish, 2 the configuration or an option is wrong."""


def main(argv: list[str] | None = None) -> None:
    """Entry point; never returns."""
    options = _parser().parse_args(argv)
    if options.command == "units":
        _units(options)
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
        gone, left = asyncio.run(app.remove(config, options.attachments))
        for name in gone:
            print(f"removed {name}")
        for why in left:
            print(f"left: {why}", file=sys.stderr)
    elif options.command == "accept-epoch":
        spool = Spool(config.state_dir)
        spool.prepare()
        spool.ask_acceptance()
        print(f"accepted; the agent of {config.host} acts on it at its next look, within {config.tick_seconds:g} s")
    else:
        asyncio.run(app.serve(config))


def _units(options: argparse.Namespace) -> NoReturn:
    try:
        socket = load(options.config).plugin_socket if options.config.exists() else PLUGIN_SOCKET
        for path in units.write(options.directory, options.config, socket or PLUGIN_SOCKET):
            print(path)
    except TrunklineError as error:
        _fail(error, 2)
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trunkline-agent",
        description="Trunkline's agent on a host.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    service = commands.add_parser(
        "units",
        help="write the units of systemd for this installation",
        description="Writes trunkline-agent.socket and trunkline-agent.service for this program and configuration.",
    )
    service.add_argument("directory", type=Path, metavar="DIR", help="such as /etc/systemd/system")
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
