"""Compose projects on a network of the fabric: the same project on one host and on two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from engine.commands import Answer
from engine.containers import (
    FOREVER,
    NETWORK,
    agreed,
    attachments,
    create,
    default_route,
    holdings,
    remove,
    settings,
)
from engine.fabric import Fabric
from engine.host import Host
from engine.peer import Peer
from engine.wire import Wire
from lab.docker import IMAGE
from lab.waiting import until

DOMAIN = f"{NETWORK}.trunkline.internal"
LAN = {"networks": ["lan"]}
OWNER = "io.trunkline.owner"


@dataclass
class Project:
    """`shop` on a host; its network `lan` is the fabric's, `inner` a bridge of its own."""

    host: Host
    services: dict[str, dict[str, Any]] = field(default_factory=lambda: {"web": dict(LAN)})

    def run(self, *words: str) -> Answer:
        """`docker-compose` with the project's file."""
        base = {"image": IMAGE, "command": list(FOREVER), "init": True}
        document = {
            "name": "shop",
            "services": {name: base | service for name, service in self.services.items()},
            "networks": {"lan": {"name": NETWORK, "external": True}, "inner": {}},
        }
        path = self.host.directory / "compose.json"
        path.write_text(json.dumps(document))
        return self.host.result(["docker-compose", "-f", str(path), *words])

    def up(self, **scale: int) -> dict[str, str]:
        """`docker-compose up -d`, so many of each service; who has which address then."""
        done = self.run("up", "-d", *(f"--scale={name}={count}" for name, count in scale.items()))
        assert done.status == 0, done.err
        return self.addresses()

    def down(self) -> None:
        assert self.run("down", "-t", "0").status == 0

    def addresses(self, key: str = "IPAddress") -> dict[str, str]:
        """By container, in the order of their names."""
        names = sorted(self.host.docker("ps", "--format", "{{.Names}}").split())
        return {name: str(settings(self.host, name)[key]) for name in names}


@pytest.fixture(scope="module", autouse=True)
def network(fabric: Fabric) -> None:
    dual = ("--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1", "--subnet", "fd00:20::/64", "--gateway", "fd00:20::1")
    create(fabric, *dual, "--exclude", "20.0.0.250")


@pytest.fixture(scope="module")
def peer(wire: Wire) -> Peer:
    return wire.peer("peer", "20.0.0.250/24")


@pytest.fixture
def shops(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[tuple[Project, Project]]:
    """The project on both hosts, nothing of it running yet."""
    yield Project(pair[0]), Project(pair[1])
    for host in pair:
        remove(host)
    assert agreed(fabric) == {}


def owners(fabric: Fabric) -> dict[str, set[str]]:
    """Whose addresses are in use, and on which hosts."""
    found: dict[str, set[str]] = {}
    for one in holdings(fabric, "attachment").values():
        found.setdefault(one["owner"], set()).add(one["host"])
    return found


def answers(project: Project, container: str, name: str) -> set[str]:
    """What a container finds for a name."""
    said = project.host.docker_result("exec", container, "nslookup", "-type=a", name).out
    return {line.split()[-1] for line in said.splitlines() if line.startswith("Address:")} - {"127.0.0.11:53"}


def finds(project: Project, name: str, wanted: set[str]) -> bool:
    return answers(project, "shop-web-1", name) == wanted


def test_replicas_have_addresses_of_their_own_and_keep_them(
    fabric: Fabric, shops: tuple[Project, Project], peer: Peer, docker_version: tuple[int, ...]
) -> None:
    shop, _ = shops
    first, before = shop.up(web=3), shop.host.inspect("shop-web-1")["Id"]
    assert list(first) == ["shop-web-1", "shop-web-2", "shop-web-3"]
    both = {*first.values(), *shop.addresses("GlobalIPv6Address").values()}
    assert len(both) == 6
    assert set(agreed(fabric)) == both
    assert owners(fabric) == {f"shop/web/{number}": {"h1"} for number in (1, 2, 3)}
    shop.services["web"]["environment"] = {"CHANGED": "1"}
    assert shop.up(web=3) == first, "made anew"
    assert shop.host.inspect("shop-web-1")["Id"] != before
    assert shop.up(web=1) == {"shop-web-1": first["shop-web-1"]}
    assert shop.run("restart", "-t", "0").status == 0
    assert shop.addresses() == {"shop-web-1": first["shop-web-1"]}
    shop.down()
    assert shop.up(web=3) == first, "scaled up, and all made anew"
    assert shop.run("restart", "-t", "0").status == 0
    after = shop.addresses()
    if docker_version >= (29,):
        assert after == first
    # All are restarted at once, and Docker up to 28 does not say which one asks: they may not get their own.
    assert len(set(after.values())) == 3
    assert all(peer.pings(address) for address in after.values())
    assert {*after.values(), *shop.addresses("GlobalIPv6Address").values()} == set(agreed(fabric))


def test_the_same_project_on_two_hosts_is_two(fabric: Fabric, shops: tuple[Project, Project]) -> None:
    here, there = shops[0].up(), shops[1].up()
    assert list(here) == list(there) == ["shop-web-1"]
    assert here != there
    agreed(fabric)
    assert owners(fabric) == {"shop/web/1": {"h1", "h2"}}
    assert attachments(fabric) == {f"{name}/shop-web-1/{NETWORK}": "ready" for name in ("h1", "h2")}
    found = {here["shop-web-1"], there["shop-web-1"]}
    for name in ("web", "shop-web-1"):
        until(partial(finds, shops[1], f"{name}.{DOMAIN}", found), f"both under {name}", 15)
    assert answers(shops[1], "shop-web-1", f"web.h1.{DOMAIN}") == {here["shop-web-1"]}
    assert answers(shops[1], "shop-web-1", "web") == {there["shop-web-1"]}, "Docker's own names are the host's"


def test_fixed_addresses_and_a_bridge_beside(fabric: Fabric, shops: tuple[Project, Project], peer: Peer) -> None:
    fixed = {"ipv4_address": "20.0.0.40", "ipv6_address": "fd00:20::40"}
    services: dict[str, dict[str, Any]] = {"web": {"networks": ["lan", "inner"]}, "db": {"networks": {"lan": fixed}}}
    for shop in shops:
        shop.services |= services
    here = shops[0].up()
    assert here["shop-db-1"] == "20.0.0.40"
    assert shops[0].addresses("GlobalIPv6Address")["shop-db-1"] == "fd00:20::40"
    assert default_route(shops[0].host, "shop-web-1")[0] == "20.0.0.1"
    assert answers(shops[0], "shop-web-1", "db") == {"20.0.0.40"}
    assert answers(shops[0], "shop-db-1", "web") == {here["shop-web-1"]}
    assert peer.pings(here["shop-web-1"])
    agreed(fabric)
    said = shops[1].run("up", "-d").err
    assert all(word in said for word in ("trunkline: ", "20.0.0.40", "shop-db-1", "h1")), said


def test_a_promise_and_an_owner_by_label_go_from_host_to_host(fabric: Fabric, shops: tuple[Project, Project]) -> None:
    fabric.ok("address", "reserve", NETWORK, "shop/web/1", "--address", "20.0.0.99")
    for shop in shops:
        # One after the other: of two that start at once, Docker up to 28 does not say which one asks.
        shop.services["front"] = {"networks": ["lan"], "labels": {OWNER: "front"}, "depends_on": ["web"]}
    has = shops[0].up()
    assert has["shop-web-1"] == "20.0.0.99"
    agreed(fabric)
    for service, owner in (("web", "shop/web/1"), ("front", "front")):
        said = shops[1].run("up", "-d", "--no-deps", service).err
        assert all(word in said for word in ("trunkline: ", owner, has[f"shop-{service}-1"], "on host h1")), said
    shops[0].down()
    assert shops[1].up() == has
    assert {place.host for place in agreed(fabric).values()} == {"h2"}
    assert owners(fabric) == {"front": {"h2"}, "shop/web/1": {"h2"}}
    remove(shops[1].host)
    agreed(fabric)
    fabric.ok("address", "release", NETWORK, "shop/web/1")
