"""What Docker and the machine itself do to attachments: other names, shared namespaces, clocks that jump."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab.deployment import Deployment
from lab.docker import IMAGE, Docker
from lab.fabric import Lab
from lab.waiting import until
from lab.world import container

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def fabric() -> Iterator[Deployment]:
    """One host with Docker, container web on network blue."""
    with Lab().up(1) as lab:
        fabric = Deployment(lab).up()
        docker = Docker(lab.host(1))
        docker.start()
        docker.load_busybox()
        docker("run", "-d", "--network", "none", "--name", "web", IMAGE, "sleep", "1000000")
        fabric.ok("uplink", "set", "default", "--vlans", "10-29")
        fabric.ok("network", "create", "blue", "--subnet", "20.0.0.0/24", "--no-gateway", "--vlan", "10")
        fabric.ok("network", "create", "red", "--subnet", "30.0.0.0/24", "--no-gateway", "--vlan", "11")
        fabric.ok("attach", "h1/web", "--network", "blue")
        yield fabric


def phases(fabric: Deployment) -> dict[str, str]:
    answer = fabric.cli("attachment", "list", "-o", "json")
    return {one["spec"]["name"]: one["phase"] for one in answer.json()} if answer.status == 0 else {}


def test_a_container_that_is_renamed_keeps_its_interface_and_is_known_again(fabric: Deployment) -> None:
    guest = fabric.lab.host(1)
    docker = Docker(guest)
    before = container(guest, "web").links()
    docker("rename", "web", "other")
    until(lambda: phases(fabric) == {"web/blue": "waiting"}, "the renamed container to be missed", 30)
    assert container(guest, "other").links() == before
    docker("rename", "other", "web")
    until(lambda: phases(fabric) == {"web/blue": "ready"}, "the container to be known again", 30)
    assert container(guest, "web").links() == before


def test_a_sidecar_shares_the_interface_of_the_container_it_joins(fabric: Deployment) -> None:
    guest = fabric.lab.host(1)
    docker = Docker(guest)
    docker("run", "-d", "--network", "container:web", "--name", "sidecar", IMAGE, "sleep", "1000000")
    fabric.ok("attach", "h1/sidecar", "--network", "red")
    assert len(container(guest, "web").links()) == 2
    docker("rm", "-f", "sidecar")
    until(lambda: phases(fabric)["sidecar/red"] == "waiting", "the sidecar to be missed", 30)
    fabric.ok("detach", "h1/sidecar", "--network", "red")
    until(lambda: len(container(guest, "web").links()) == 1, "the interface to go", 30)


def test_a_container_removed_in_the_middle_of_an_attach_leaves_nothing(fabric: Deployment) -> None:
    guest = fabric.lab.host(1)
    docker = Docker(guest)
    docker("run", "-d", "--network", "none", "--name", "brief", IMAGE, "sleep", "1000000")
    fabric.ok("attach", "h1/brief", "--network", "red", "--no-wait")
    docker("rm", "-f", "brief")
    until(lambda: phases(fabric).get("brief/red") == "waiting", "the container to be missed", 30)
    fabric.ok("detach", "h1/brief", "--network", "red")
    assert phases(fabric) == {"web/blue": "ready"}


def test_a_host_whose_clocks_jump_recovers_by_itself(fabric: Deployment) -> None:
    """Frozen until the controller has given it up, as a virtual machine is while it moves."""
    guest = fabric.lab.host(1)
    before = container(guest, "web").links()
    guest.freeze()
    try:
        fabric.await_cli(["host", "show", "h1", "-o", "json"], '"connected": false', 90)
    finally:
        guest.thaw()
    fabric.wait_connected(["h1"], 60)
    until(lambda: phases(fabric) == {"web/blue": "ready"}, "the attachment to be ready", 30)
    assert container(guest, "web").links() == before
    guest.ok("date -s '2031-01-01'")
    docker = Docker(guest)
    docker("run", "-d", "--network", "none", "--name", "later", IMAGE, "sleep", "1000000")
    fabric.ok("attach", "h1/later", "--network", "blue")
    fabric.ok("detach", "h1/later", "--network", "blue")
