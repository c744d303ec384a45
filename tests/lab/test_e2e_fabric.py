"""The main job on real kernels: networks, attachments, isolation, drift, bad input. Judged by ip, ping and docker."""

import json
from collections.abc import Iterator

import pytest
from lab.deployment import Deployment
from lab.docker import IMAGE, Docker
from lab.fabric import Lab
from lab.waiting import until
from lab.world import container, host_links, namespace

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


# The operator's router, on the switch itself: the gateway of VLAN 10.
ROUTER = """
modprobe 8021q; ip link add link br0 name br0.10 type vlan id 10; bridge vlan add dev br0 vid 10 self
ip addr add 20.0.0.1/24 dev br0.10; ip link set br0.10 up
"""


@pytest.fixture(scope="module")
def fabric() -> Iterator[Deployment]:
    """Three hosts, Docker on the first two, a foreign VLAN link on the third, networks blue (10) and green (20)."""
    with Lab().up(3, switch="vlan") as lab:
        lab.host(0).ok(ROUTER)
        lab.host(3).ok("ip link add link enp7s0 name enp7s0.99 type vlan id 99; ip link set enp7s0.99 up")
        fabric = Deployment(lab).up()
        for guest in lab.hosts[:2]:
            docker = Docker(guest)
            docker.start()
            docker.load_busybox()
            for name in ("web", "db"):
                docker("run", "-d", "--network", "none", "--name", f"{name}{guest.number}", IMAGE, "sleep", "1000000")
        lab.host(3).ok("ip netns add box && ip -n box link set lo up")
        fabric.ok("uplink", "set", "default", "--vlans", "10-29")
        fabric.ok("network", "create", "blue", "--subnet", "20.0.0.0/24", "--subnet", "fd00:20::/64",
                  "--gateway", "20.0.0.1", "--vlan", "10")  # fmt: skip
        fabric.ok("network", "create", "green", "--subnet", "30.0.0.0/24", "--no-gateway", "--vlan", "20")
        yield fabric


def attached(fabric: Deployment, place: str, network: str, *options: str) -> dict[str, object]:
    """Attach, and the attachment as the fabric then shows it."""
    fabric.ok("attach", place, "--network", network, *options)
    listing = fabric.ok("attachment", "list", "--host", place.split("/")[0], "--network", network, "-o", "json").json()
    wanted = place.split("/", 1)[1].removeprefix("netns:")
    found = [a for a in listing if wanted in a["spec"]["target"].values()]
    assert len(found) == 1, listing
    assert found[0]["phase"] == "ready", found
    return dict(found[0])


def address_of(attachment: dict[str, object], family: int = 4) -> str:
    addresses = [str(a).split("/")[0] for a in attachment["addresses"]]  # type: ignore[attr-defined]
    return next(a for a in addresses if (":" in a) == (family == 6))


def test_containers_of_one_vlan_reach_each_other_across_hosts(fabric: Deployment) -> None:
    lab = fabric.lab
    web1 = attached(fabric, "h1/web1", "blue")
    web2 = attached(fabric, "h2/web2", "blue")
    box = attached(fabric, "h3/netns:/run/netns/box", "blue")
    inside = {
        "web1": container(lab.host(1), "web1"),
        "web2": container(lab.host(2), "web2"),
        "box": namespace(lab.host(3), "box"),
    }
    assert inside["web1"].addresses() == {f"{address_of(web1)}/24"}
    link = inside["web1"].links()[str(web1["ifname"])]
    assert link["address"] == web1["mac"]
    assert link["linkinfo"]["info_kind"] == "macvlan"
    assert link["linkinfo"]["info_data"]["mode"] == "bridge"
    with lab.capture(1, "vlan 10 and icmp") as wire:
        assert inside["web1"].pings(address_of(web2))
        wire.await_frame("vlan 10, .*echo reply")
    assert inside["web2"].pings(address_of(box))
    assert inside["box"].pings(address_of(web1))
    assert inside["web1"].pings(address_of(web2, 6))
    made = host_links(lab.host(1))["enp7s0.10"]
    assert made["linkinfo"]["info_data"]["id"] == 10
    assert made["link"] == "enp7s0"


def test_containers_of_different_vlans_do_not(fabric: Deployment) -> None:
    lab = fabric.lab
    web2 = attached(fabric, "h2/web2", "blue")
    db1, db2 = attached(fabric, "h1/db1", "green"), attached(fabric, "h2/db2", "green")
    inside = container(lab.host(1), "db1")
    assert inside.pings(address_of(db2))
    ask = ["arping", "-c", "2", "-w", "3", "-I", str(db1["ifname"])]
    assert "reply" in inside.run(*ask, address_of(db2))[1].lower()
    assert "reply" not in inside.run(*ask, address_of(web2))[1].lower()


def test_addresses_are_unique_over_hosts_and_who_tells_them(fabric: Deployment) -> None:
    listing = fabric.ok("attachment", "list", "-o", "json").json()
    addresses = [a for item in listing for a in item["addresses"]]
    assert len(addresses) == len(set(addresses)) >= 5
    web1 = attached(fabric, "h1/web1", "blue")
    for query in (address_of(web1), str(web1["mac"]), "h1/web1"):
        holdings = fabric.ok("who", query, "-o", "json").json()
        assert any(h["host"] == "h1" and h["address"] == address_of(web1) for h in holdings), (query, holdings)


def test_a_repeated_attach_is_the_same_attachment(fabric: Deployment) -> None:
    assert attached(fabric, "h1/web1", "blue")["addresses"] == attached(fabric, "h1/web1", "blue")["addresses"]


def test_a_restarted_container_gets_its_interface_back(fabric: Deployment) -> None:
    guest = fabric.lab.host(1)
    before = attached(fabric, "h1/web1", "blue")
    guest.ok(["docker", "restart", "-t", "0", "web1"])
    place = container(guest, "web1")
    until(lambda: place.addresses() == {f"{address_of(before)}/24"}, "web1 to get its address back", 30)
    assert place.links()[str(before["ifname"])]["address"] == before["mac"]
    assert place.pings(address_of(attached(fabric, "h2/web2", "blue")), count=3)


@pytest.mark.parametrize(
    "damage",
    [
        "docker exec --privileged web1 ip link delete {ifname}",
        "docker exec --privileged web1 ip addr flush dev {ifname}",
        "docker exec --privileged web1 ip link set {ifname} down",
        "ip link delete enp7s0.10",
        "ip link set enp7s0.10 down",
    ],
)
def test_drift_is_repaired(fabric: Deployment, damage: str) -> None:
    guest = fabric.lab.host(1)
    web1, web2 = attached(fabric, "h1/web1", "blue"), attached(fabric, "h2/web2", "blue")
    pid = guest.ok(["docker", "inspect", "-f", "{{.State.Pid}}", "web1"]).strip()
    command = damage.format(ifname=web1["ifname"]).replace("docker exec --privileged web1", f"nsenter -t {pid} -n")
    guest.ok(command)
    place = container(guest, "web1")
    until(lambda: place.pings(address_of(web2), wait=1), f"repair after `{command}`", 60)
    assert place.links()[str(web1["ifname"])]["address"] == web1["mac"]


def test_every_host_hears_every_host(fabric: Deployment) -> None:
    answer = fabric.ok("check", "blue", "-o", "json")
    assert '"outcome": "ok"' in answer.out
    assert '"outcome": "silent"' not in answer.out


@pytest.mark.parametrize(
    ("words", "reason", "status"),
    [
        (["attach", "h1/ghost", "--network", "blue"], "CONTAINER_NOT_FOUND", 3),
        (["attach", "h1/stopped", "--network", "blue"], "CONTAINER_NOT_RUNNING", 4),
        (["attach", "h1/hostnet", "--network", "blue"], "CONTAINER_HOST_NETWORK", 4),
        (["attach", "h9/web1", "--network", "blue"], "HOST_NOT_FOUND", 3),
        (["attach", "h1/web1", "--network", "none-such"], "NETWORK_NOT_FOUND", 3),
        (["attach", "h1/db1", "--network", "blue", "--ip", "20.0.1.7"], "ADDRESS_OUTSIDE", 2),
        (["attach", "h1/db1", "--network", "blue", "--ip", "20.0.0.1"], "ADDRESS_RESERVED", 4),
        (
            ["network", "create", "big", "--subnet", "40.0.0.0/24", "--no-gateway", "--vlan", "21", "--mtu", "9000"],
            "UPLINK_MTU",
            4,
        ),
        (["network", "create", "bits", "--subnet", "40.0.0.1/24", "--vlan", "21"], "INVALID_PREFIX", 2),
        (["network", "create", "gate", "--subnet", "40.0.0.0/24", "--gateway", "41.0.0.1"], "INVALID_GATEWAY", 2),
        (["network", "create", "vid", "--subnet", "40.0.0.0/24", "--vlan", "4095"], "INVALID_VLAN", 2),
        (
            ["network", "create", "over", "--subnet", "20.0.0.128/25", "--no-gateway", "--vlan", "22"],
            "PREFIX_OVERLAP",
            4,
        ),
        (
            ["network", "create", "noup", "--subnet", "40.0.0.0/24", "--no-gateway", "--uplink", "storage"],
            "UPLINK_NOT_SET",
            4,
        ),
        (["network", "create", "pass", "--subnet", "40.0.0.0/24", "--mode", "passthru"], "MODE_REFUSED", 2),
        (["network", "delete", "blue"], "NETWORK_IN_USE", 4),
        (["host", "forget", "h1", "--yes"], "HOST_CONNECTED", 4),
    ],
)
def test_bad_input_is_refused_and_nothing_is_left(
    fabric: Deployment, words: list[str], reason: str, status: int
) -> None:
    guest = fabric.lab.host(1)
    if "stopped" in str(words):
        guest.ok(["docker", "create", "--network", "none", "--name", "stopped", IMAGE, "sleep", "1"])
    if reason == "NETWORK_IN_USE":
        attached(fabric, "h1/web1", "blue")
    if "hostnet" in str(words):
        guest.ok(["docker", "run", "-d", "--network", "host", "--name", "hostnet", IMAGE, "sleep", "1000000"])
    before = fabric.ok("attachment", "list", "-o", "json").json(), fabric.ok("network", "list", "-o", "name").out
    answer = fabric.cli(*words)
    lines = [line.strip() for line in answer.err.splitlines()]
    assert f"reason: {reason}" in lines, answer
    assert any(line.startswith("error: ") for line in lines), answer
    assert any(line.startswith("next: ") for line in lines), answer
    assert answer.status == status, answer
    after = fabric.ok("attachment", "list", "-o", "json").json(), fabric.ok("network", "list", "-o", "name").out
    assert json.dumps(before) == json.dumps(after)


def test_a_foreign_link_in_the_way_is_reported_and_left_alone(fabric: Deployment) -> None:
    guest = fabric.lab.host(3)
    guest.ok("ip link add enp7s0.25 type dummy")
    before = host_links(guest)["enp7s0.25"]
    answer = fabric.cli("network", "create", "clash", "--subnet", "50.0.0.0/24", "--no-gateway", "--vlan", "25",
                        "--host", "h3", "--deadline", "20")  # fmt: skip
    assert answer.status != 0
    assert "LINK_CLASH" in answer.out + answer.err
    assert "h3" in answer.out + answer.err
    assert host_links(guest)["enp7s0.25"] == before
    fabric.ok("network", "delete", "clash")
    assert host_links(guest)["enp7s0.25"] == before
    guest.ok("ip link delete enp7s0.25")


def test_what_exists_is_used_and_not_taken_over(fabric: Deployment) -> None:
    """enp7s0.99 was there before us, with the right parent and id."""
    guest = fabric.lab.host(3)
    before = host_links(guest)["enp7s0.99"]
    fabric.ok("network", "create", "old", "--subnet", "60.0.0.0/24", "--no-gateway", "--vlan", "99", "--host", "h3")
    box = attached(fabric, "h3/netns:/run/netns/box", "old")
    assert f"{address_of(box)}/24" in namespace(guest, "box").addresses()
    fabric.ok("detach", "h3/netns:/run/netns/box", "--network", "old")
    fabric.ok("network", "delete", "old")
    after = host_links(guest)["enp7s0.99"]
    assert (after["ifindex"], after["address"], after.get("ifalias")) == (
        before["ifindex"], before["address"], before.get("ifalias"))  # fmt: skip


def test_detach_and_delete_leave_nothing(fabric: Deployment) -> None:
    lab = fabric.lab
    for item in fabric.ok("attachment", "list", "-o", "json").json():
        fabric.ok("detach", f"{item['spec']['host']}/{item['spec']['name']}")
    assert container(lab.host(1), "web1").links() == {}
    assert namespace(lab.host(3), "box").links() == {}
    for network in ("blue", "green"):
        fabric.ok("network", "delete", network)
    for guest in lab.hosts:
        vlans = {n for n, link in host_links(guest).items() if link.get("linkinfo", {}).get("info_kind") == "vlan"}
        assert vlans == ({"enp7s0.99"} if guest.number == 3 else set())
        assert guest.run("ip addr show dev mgmt0").out.count(guest.address) == 1
