"""`trunkline-controller`: reads the configuration, runs one replica until it is told to stop."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from pathlib import Path

import click

from controller import config
from controller.app import serve
from trunkline import log
from trunkline.errors import Reason, TrunklineError

EXIT_CONFIG = 2
EXIT_FAILED = 1

HELP = """Run one replica of the Trunkline controller.

Without a file it serves on 127.0.0.1:7440 and keeps its state in an etcd of its own under
/var/lib/trunkline-controller. Replicas that name the same etcd form one fabric; agents may name several.

\b
A configuration file (TOML), with its defaults:
  [controller]
  name = ""                        # of this replica; empty takes the machine's host name
  listen = ["127.0.0.1:7440"]      # also "unix:/run/trunkline/controller.sock"
  insecure = false                 # plain text beyond this machine, for a lab only
\b
  [tls]                            # needed to listen beyond this machine
  ca = "/etc/trunkline/pki/ca.crt"
  cert = "/etc/trunkline/pki/controller-main.crt"
  key = "/etc/trunkline/pki/controller-main.key"
\b
  [store]
  etcd = "embedded"                # or ["10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"]
  data_dir = "/var/lib/trunkline-controller"
  prefix = "/trunkline/1"
  #etcd_binary = "/usr/bin/etcd"   # without it, etcd is looked for in PATH
  insecure = false                 # plain text to an etcd beyond this machine, for a lab only
\b
  [store.tls]                      # ca, cert, key, server_name = ""
\b
  [log]
  level = "info"                   # debug, info, warning, error
  json = false

\b
Exit codes: 0 stopped as asked, 1 could not run, or another process took its name over,
2 the configuration or a flag is wrong."""


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file; flags override it.")
@click.option("--check-config", is_flag=True, help="Check the configuration and exit.")
@click.option("--name", help="Name of this replica.")
@click.option("--listen", multiple=True, metavar="ADDRESS", help="host:port or unix:/path; may be given several times.")
@click.option("--insecure", is_flag=True, help="Allow plain text beyond this machine.")
@click.option("--etcd", metavar="embedded|HOST:PORT,…", help="An etcd of its own, or the endpoints of a cluster.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the embedded etcd keeps its data.")
@click.version_option(version("trunkline"), prog_name="trunkline-controller")
def command(
    file: Path | None,
    check_config: bool,
    name: str | None,
    listen: tuple[str, ...],
    insecure: bool,
    etcd: str | None,
    data_dir: Path | None,
) -> None:
    """Parse, check, run."""
    flags = config.Overrides(name=name, listen=listen, insecure=insecure, etcd=etcd, data_dir=data_dir)
    try:
        wanted = config.read(file, flags)
        if check_config:
            click.echo(f"{file or 'command line'}: ok")
            return
        log.setup(wanted.log.level, wanted.log.json)
        asyncio.run(serve(wanted))
    except TrunklineError as error:
        click.echo(f"trunkline-controller: {error.text}", err=True)
        sys.exit(EXIT_CONFIG if error.reason is Reason.CONFIG_INVALID else EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_FAILED)


def main() -> None:
    """Entry point of the console script."""
    command(prog_name="trunkline-controller")


if __name__ == "__main__":
    main()
