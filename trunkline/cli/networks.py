"""`trunkline network`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from trunkline.cli import words
from trunkline.cli.choices import Choices, pass_choices, shared, waiting
from trunkline.cli.import_command import import_
from trunkline.cli.named import complete_hosts, network_argument
from trunkline.ids import check_name

if TYPE_CHECKING:
    from trunkline.cli.connect import Fabric
    from trunkline.v1 import network_pb2


class _Duration(click.ParamType[int]):
    name = "DURATION"

    def convert(self, value: object, _: click.Parameter | None, __: click.Context | None) -> int:
        return value if isinstance(value, int) else words.seconds(str(value))


DURATION = _Duration()


@click.group()
def network() -> None:
    """Create, show, change and delete networks: one VLAN with its prefixes, on many hosts."""


network.add_command(import_)


@network.command()
@click.argument("name", metavar="NETWORK")
@click.option("--subnet", metavar="CIDR", multiple=True, help="Prefix; one IPv4, one IPv6, or both.")
@click.option("--gateway", metavar="ADDR", multiple=True, help="Router of the prefix that holds it.")
@click.option("--no-gateway", is_flag=True, help="There is no router on this network.")
@click.option("--no-ip", is_flag=True, help="No addresses at all: interfaces carry frames only.")
@click.option("--vlan", metavar="ID|auto", default="auto", show_default=True, help="VLAN id; 0 is untagged.")
@click.option("--uplink", metavar="LABEL", default="default", show_default=True, help="Uplink of the hosts.")
@click.option("--mtu", metavar="BYTES", type=click.IntRange(0, 65_535), default=0, help="MTU; 0 takes the uplink's.")
@click.option(
    "--mode",
    type=click.Choice(["bridge", "private", "vepa", "passthru"]),
    metavar="MODE",
    default="bridge",
    show_default=True,
    help="Macvlan mode: bridge, private or vepa.",
)
@click.option("--range", "ranges", metavar="RANGE", multiple=True, help="Hand out from here only: FIRST-LAST or CIDR.")
@click.option("--exclude", "excludes", metavar="RANGE", multiple=True, help="Never hand these out.")
@click.option(
    "--host", "selector", metavar="SELECTOR", multiple=True, help="Only hosts of this name pattern or label=value."
)
@click.option("--rest", type=DURATION, help="How long an address rests after use.  [default: 5m]")
@click.option("--hold", type=DURATION, help="How long it is kept for its last owner.  [default: 24h]")
@click.option("--overlap", is_flag=True, help="Prefixes may overlap those of other networks made with it.")
@click.option(
    "--docker",
    type=click.Choice(["local", "swarm", "none"]),
    default="local",
    show_default=True,
    help="What it is in the hosts' Docker: a network of that name, a config-only one for swarm, or nothing.",
)
@click.option(
    "--host-access/--no-host-access",
    default=False,
    help="Each host gets an interface of its own on it, since macvlan lets no host reach its own containers.",
)
@waiting
@pass_choices
def create(choices: Choices, /, **asked: Any) -> int | None:
    """Create a network on all hosts, or on those selected.

    With --docker local each host has a Docker network of the same name: `docker run --network NETWORK` and Compose use
    it, and addresses come from the fabric. With --docker swarm each host has the config-only network NETWORK-config;
    make the swarm's from it: docker network create --scope swarm -d macvlan --config-from NETWORK-config NETWORK.
    With --docker none only `trunkline attach` puts containers on it.

    \b
    Examples:
      trunkline network create mynet2 --subnet 20.0.0.0/24 --gateway 20.0.0.1
      trunkline network create dual --vlan 110 --subnet 10.1.0.0/24 --gateway 10.1.0.1 \\
          --subnet fd00:110::/64 --gateway fd00:110::1 --range 10.1.0.64/26 --exclude 10.1.0.70
      trunkline network create storage --uplink storage --vlan 0 --subnet 10.9.0.0/24 --no-gateway
      trunkline network create wire --vlan 120 --no-ip --docker none
      trunkline network create web --vlan 130 --subnet 10.3.0.0/24 --gateway 10.3.0.1 --docker swarm --host-access
    """
    from trunkline.cli import network_run, network_spec

    check_name("network", str(asked["name"]))
    return network_run.create(choices, network_spec.spec(**asked))


@network.command("list")
@shared
@pass_choices
def list_(choices: Choices) -> None:
    """List all networks.

    \b
    Example:
      trunkline network list -o wide
    """
    from trunkline.cli import network_run
    from trunkline.cli.connect import Fabric

    with Fabric(choices) as fabric:
        network_run.show_all(choices, fabric)


@network.command()
@network_argument()
@shared
@pass_choices
def show(choices: Choices, name: str) -> None:
    """Show one network: spec, hosts and use of its pools.

    STOCK counts addresses that hosts have ahead of use, so that containers start with no controller in reach. DOCKER
    is the Docker network on each host; foreign: somebody else's has the name, and is left as it is.

    \b
    Example:
      trunkline network show mynet2
    """
    from trunkline.cli import network_run
    from trunkline.cli.connect import Fabric

    with Fabric(choices) as fabric:
        network_run.show_one(choices, _get(fabric, name))


@network.command()
@network_argument()
@click.option("--range", "ranges", metavar="RANGE", multiple=True, help="Replace the ranges of the prefix it is in.")
@click.option("--exclude", "excludes", metavar="RANGE", multiple=True, help="Replace the excludes of its prefix.")
@click.option("--no-exclude", is_flag=True, help="Drop all excludes.")
@click.option("--gateway", metavar="ADDR", multiple=True, help="Router of its prefix, while nothing is attached.")
@click.option("--no-gateway", is_flag=True, help="No router, while nothing is attached.")
@click.option(
    "--host",
    "selector",
    metavar="SELECTOR",
    multiple=True,
    shell_complete=complete_hosts,
    help="Replace the host selector.",
)
@click.option("--all-hosts", is_flag=True, help="Select all hosts.")
@click.option("--rest", type=DURATION, help="How long an address rests after use.")
@click.option("--hold", type=DURATION, help="How long it is kept for its last owner.")
@click.option("--mtu", metavar="BYTES", type=click.IntRange(0, 65_535), help="MTU, while nothing is attached.")
@click.option(
    "--host-access/--no-host-access", default=None, help="Give each host an interface of its own, or take it."
)
@waiting
@pass_choices
def update(choices: Choices, /, name: str, **asked: Any) -> int | None:
    """Change what can be changed while a network lives; all or nothing.

    Uplink, VLAN, prefixes, mode and --docker stay for life: create another network for those.

    \b
    Examples:
      trunkline network update mynet2 --exclude 20.0.0.200-20.0.0.220
      trunkline network update mynet2 --host 'docker*' --host zone=a --hold 48h
      trunkline network update mynet2 --host-access
    """
    from trunkline.cli import network_run, network_spec
    from trunkline.cli.connect import Fabric

    with Fabric(choices) as fabric:
        request = network_spec.changes(_get(fabric, name), **asked)
        return network_run.update(choices, fabric, request)


@network.command()
@network_argument()
@waiting
@pass_choices
def delete(choices: Choices, name: str) -> int | None:
    """Delete a network, once no address on it is in use.

    The VLAN id and the prefixes are free again when every host was seen without it.

    \b
    Example:
      trunkline network delete mynet2
    """
    from trunkline.cli import network_run

    return network_run.delete(choices, name)


def _get(fabric: Fabric, name: str) -> network_pb2.Network:
    from trunkline.v1 import network_pb2

    return fabric.ask(fabric.networks.GetNetwork, network_pb2.GetNetworkRequest(name=name)).network
