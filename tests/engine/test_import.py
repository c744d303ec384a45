"""Hand-made macvlan networks on two hosts are taken over, and exchanged under the containers that are on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import handmade
from engine.commands import Answer
from engine.fabric import Fabric
from engine.host import Host
from engine.peer import Peer
from engine.wire import Wire
from lab.docker import IMAGE
from lab.waiting import until

from agent.engine.engine import DockerEngine
from agent.engine.handmade import DockerHandmade

NAME = "hand"


@pytest.fixture(scope="module")
def peer(wire: Wire) -> Peer:
    return wire.peer("p1", "20.0.0.250/24")


@pytest.fixture
def hands(fabric: Fabric, pair: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    """A network `hand` made on both hosts, by people who carved it up; all is gone afterwards."""
    for host, part in zip(pair, ("20.0.0.32/27", "20.0.0.64/27"), strict=True):
        handmade.make(host, NAME, *handmade.GATEWAY, "--ip-range", part)
    yield pair
    for host in pair:
        if not fabric.agents[host.name].running:
            fabric.agents[host.name].start()
    fabric.wait_connected()
    for host in pair:
        if names := host.docker("ps", "-aq").split():
            host.docker("rm", "-f", *names)
    # A network of the fabric waits for its hosts to be clean; a hand-made one is its maker's to remove.
    if fabric.cli("network", "show", NAME).status == 0:
        # The controller hears of the last container's end a moment later.
        until(lambda: fabric.cli("network", "delete", NAME, "--no-wait").status == 0, f"{NAME} to be deleted", 60)
    for host in pair:
        until(lambda host=host: not handmade.is_ours(host, NAME), f"{host.name} to drop {NAME}")  # type: ignore[misc]
        if host.docker("network", "ls", "-q", "--filter", f"name=^{NAME}$").strip():
            host.docker("network", "rm", NAME)
    until(lambda: fabric.cli("network", "show", NAME).status == 3, f"network {NAME} to be gone")


def containers(host: Host) -> dict[str, tuple[str, str, str]]:
    """What must not change at an import: each container's address, MAC and process."""
    found = {}
    for name in host.docker("ps", "--format", "{{.Names}}").split():
        told = handmade.settings(host, name, NAME)
        found[name] = (told["IPAddress"], told["MacAddress"], str(host.inspect(name)["State"]["Pid"]))
    return found


def holdings(fabric: Fabric) -> dict[str, tuple[str, str]]:
    """Kind and host of every address of the network, as the controller knows them."""
    listed = json.loads(fabric.ok("address", "list", "--network", NAME, "-o", "json").out)
    return {one["address"]: (one["kind"], one["host"]) for one in listed}


def settled(fabric: Fabric, wanted: dict[str, str]) -> bool:
    """Whether these addresses are held by attachments on these hosts."""
    held = holdings(fabric)
    return all(held.get(address) == ("attachment", host) for address, host in wanted.items())


def failed(answer: Answer, code: int, *mentions: str) -> None:
    assert answer.status == code, answer
    for word in mentions:
        assert word in answer.err, answer


def test_an_import_changes_nothing_on_hosts_and_claims_every_address(fabric: Fabric, hands: tuple[Host, Host]) -> None:
    h1, h2 = hands
    web = handmade.start(h1, "web", NAME)
    db = handmade.start(h2, "db", NAME, "--ip", "20.0.0.7")
    h2.docker("create", "--name", "old", "--network", NAME, "--ip", "20.0.0.8", IMAGE, "sleep", "1")
    before = [(containers(host), handmade.network_of(host, NAME)) for host in hands]
    shown = fabric.cli("network", "import", NAME)
    failed(shown, 2, "no terminal", "20.0.0.32/27")
    assert all(word in shown.out for word in (web, db, "20.0.0.8", "h1", "h2", "stopped"))
    assert fabric.cli("network", "show", NAME).status == 3, "a preview writes nothing"

    fabric.ok("network", "import", NAME, "--yes")
    until(lambda: settled(fabric, {web: "h1", db: "h2"}), "both addresses to be held")
    assert holdings(fabric)["20.0.0.8"] == ("reserved", "")
    assert [(containers(host), handmade.network_of(host, NAME)) for host in hands] == before
    failed(fabric.cli("network", "import", NAME, "--dry-run"), 4, "imported before", "--replace")


def test_a_new_container_elsewhere_gets_no_address_in_use(fabric: Fabric, hands: tuple[Host, Host]) -> None:
    """Host 2 has no hand-made network: it gets the fabric's at once, with every address of host 1 out of reach."""
    h1, h2 = hands
    h2.docker("network", "rm", NAME)
    taken = {handmade.start(h1, f"c{n}", NAME, "--ip", f"20.0.0.{n}") for n in range(2, 8)}
    fabric.ok("network", "import", NAME, "--yes")
    until(lambda: handmade.is_ours(h2, NAME), "h2 to have the fabric's network")
    until(lambda: settled(fabric, dict.fromkeys(taken, "h1")), "the addresses of h1 to be held")
    fresh = {handmade.start(h2, f"n{n}", NAME) for n in range(3)}
    assert len(fresh) == 3
    assert not fresh & taken
    refused = h2.docker_result("run", "--rm", "--network", NAME, "--ip", "20.0.0.5", IMAGE, "true")
    assert refused.status != 0
    assert "20.0.0.5" in refused.err
    assert "h1" in refused.err


def test_duplicates_and_differences_are_refused_by_name(fabric: Fabric, hands: tuple[Host, Host]) -> None:
    h1, h2 = hands
    handmade.start(h1, "web", NAME, "--ip", "20.0.0.9")
    handmade.start(h2, "db", NAME, "--ip", "20.0.0.9")
    failed(fabric.cli("network", "import", NAME, "--yes"), 4, "20.0.0.9", "web on h1", "db on h2")
    h2.docker("rm", "-f", "db")
    h2.docker("network", "rm", NAME)
    handmade.make(h2, NAME, "--gateway", "20.0.0.254")
    failed(fabric.cli("network", "import", NAME, "--yes"), 4, "differ in gateway", "20.0.0.254", "h2")
    assert fabric.cli("network", "show", NAME).status == 3


def test_an_exchange_keeps_addresses_and_names_and_says_how_long_it_took(
    fabric: Fabric, hands: tuple[Host, Host], peer: Peer, tmp_path: Path
) -> None:
    h1, h2 = hands
    web = handmade.start(h1, "web", NAME, "--network-alias", "shop")
    db = handmade.start(h2, "db", NAME, "--ip", "20.0.0.7", "--mac-address", "02:00:5e:10:00:07")
    h1.docker("create", "--name", "old", "--network", NAME, "--ip", "20.0.0.8", IMAGE, "sleep", "100000")
    handmade.start(h1, "other", NAME)
    fabric.ok("network", "import", NAME, "--yes")
    with handmade.pinging(peer, web, tmp_path / "web") as of_web, handmade.pinging(peer, db, tmp_path / "db") as of_db:
        done = fabric.ok("network", "import", NAME, "--replace", "--yes", "-o", "json")
    steps = json.loads(done.out)["replaced"]
    off = {(step["host"], step["container"]): step["off_ms"] for step in steps if " with " in step["message"]}
    lost = [step["message"] for step in steps if "02:00:5e:10:00:07" in step["message"]]
    mac = handmade.settings(h2, "db", NAME)["MacAddress"]
    assert bool(lost) == (mac != "02:00:5e:10:00:07"), "a MAC that Docker does not give back is told"
    assert set(off) == {("h1", "web"), ("h1", "other"), ("h1", "old"), ("h2", "db")}
    assert off["h1", "old"] == 0, "it does not run"
    print(f"off, as told: {off}; as pinged: web {of_web.longest():.2f} s, db {of_db.longest():.2f} s")
    # The peer hears it again a moment after Docker says so, and never later than its neighbours would notice.
    for pings, told in ((of_web, off["h1", "web"]), (of_db, off["h2", "db"])):
        assert pings.longest() < told / 1000 + 2.0
    for host in hands:
        assert handmade.is_ours(host, NAME)
    assert (handmade.address(h1, "web", NAME), handmade.address(h2, "db", NAME)) == (web, db)
    assert "shop" in handmade.settings(h1, "web", NAME)["Aliases"]
    assert web in h1.docker("exec", "other", "nslookup", "shop")
    h1.docker("start", "old")
    assert handmade.address(h1, "old", NAME) == "20.0.0.8"
    until(lambda: settled(fabric, {web: "h1", db: "h2", "20.0.0.8": "h1"}), "the addresses to be held")
    h1.docker("restart", "-t", "0", "web")
    assert handmade.address(h1, "web", NAME) == web
    again = json.loads(fabric.ok("network", "import", NAME, "--replace", "--yes", "-o", "json").out)["replaced"]
    assert [step["message"] for step in again if step["message"]] == ["nothing to exchange", "nothing to exchange"]


def test_a_container_that_has_the_network_by_its_id_is_refused(fabric: Fabric, hands: tuple[Host, Host]) -> None:
    h1, _ = hands
    h1.docker("run", "-d", "--name", "web", "--network", handmade.network_of(h1, NAME)["Id"], IMAGE, "sleep", "100000")
    web = handmade.address(h1, "web", NAME)
    fabric.ok("network", "import", NAME, "--yes")
    until(lambda: settled(fabric, {web: "h1"}), "the address to be held")
    refused = fabric.cli("network", "import", NAME, "--replace", "--yes", "--hosts", "h1")
    failed(refused, 4, "h1", "web", "by its id", "nothing was changed")
    assert (handmade.address(h1, "web", NAME), handmade.is_ours(h1, NAME)) == (web, False)


def exchanging(host: Host) -> bool:
    """Whether an exchange is written down on the host and not finished."""
    try:
        return bool(json.loads((host.directory / "agent/exchanges.json").read_text())["body"])
    except FileNotFoundError:
        return False


def test_an_agent_that_is_killed_in_the_middle_finishes_at_its_next_start(
    fabric: Fabric, hands: tuple[Host, Host]
) -> None:
    h1, _ = hands
    wanted = {f"c{n}": handmade.start(h1, f"c{n}", NAME) for n in range(5)}
    fabric.ok("network", "import", NAME, "--yes")
    until(lambda: settled(fabric, dict.fromkeys(wanted.values(), "h1")), "the addresses to be held")
    words = ["network", "import", NAME, "--replace", "--yes", "--hosts", "h1"]
    process = fabric.wire.popen(fabric.cli_argv(*words), fabric.directory / "replace.log")
    until(lambda: exchanging(h1), "the exchange to begin", every=0.005)
    # Once as soon as it has begun, and once where the next life has got to when containers are off.
    fabric.agents["h1"].kill()
    assert process.wait(30) == 6, "the host is out of reach"
    assert exchanging(h1)
    fabric.agents["h1"].start()
    until(lambda: not all(handmade.address(h1, name, NAME) for name in wanted), "containers to be off", every=0.005)
    fabric.agents["h1"].kill()
    fabric.agents["h1"].start()

    def whole() -> bool:
        return {name: handmade.address(h1, name, NAME) for name in wanted} == wanted and not exchanging(h1)

    until(whole, "every container to be on the network with its address", 30)
    assert handmade.is_ours(h1, NAME)
    fabric.wait_connected(["h1"])
    until(lambda: settled(fabric, dict.fromkeys(wanted.values(), "h1")), "the addresses to be held still")


async def test_a_hand_made_network_can_be_made_again_as_it_was(
    pair: tuple[Host, Host], docker_version: tuple[int, ...]
) -> None:
    """What an exchange falls back to when ours cannot be made."""
    host = pair[0]
    options = ["--ip-range", "20.0.0.32/27", "--aux-address", "router=20.0.0.40", "--label", "who=ann"]
    handmade.make(host, NAME, *handmade.GATEWAY, *options)
    docker, engine = DockerHandmade(str(host.engine_socket), "h1"), DockerEngine(str(host.engine_socket), "h1")
    try:
        web = handmade.start(host, "web", NAME, "--network-alias", "shop", "--mac-address", "02:00:5e:10:00:07")
        told = handmade.settings(host, "web", NAME)
        before = handmade.network_of(host, NAME)
        found = (await docker.named(NAME))[0]
        assert found.auxiliary == ("20.0.0.40",)
        (listed,) = await docker.members(found)
        member = await docker.detailed(listed, NAME)
        assert member is not None
        assert (member.wanted, member.gateways, member.running) == ((web,), ("20.0.0.1",), True)
        await engine.disconnect(found.network.id, member.id)
        await engine.remove_network(found.network.id)
        again = await docker.create(found.recipe)
        assert await docker.connect(again, member, member.wanted)
        after = handmade.network_of(host, NAME)
        assert after["Id"] == again != before["Id"]
        for name in ("Driver", "IPAM", "Options", "Labels", "Internal", "Attachable", "EnableIPv6"):
            assert after[name] == before[name]
        settings = handmade.settings(host, "web", NAME)
        assert settings["IPAddress"] == web
        # Seen on 28: Docker takes no MAC from one who connects a container.
        assert (settings["MacAddress"] == told["MacAddress"]) == (docker_version < (25,))
        assert "shop" in settings["Aliases"]
        host.docker("rm", "-f", "web")
        assert not await docker.connect(again, member, member.wanted), "it is gone"
    finally:
        await docker.close()
        await engine.close()
        host.docker_result("rm", "-f", "web")
        host.docker("network", "rm", NAME)
