"""Swarm services over a network of the fabric: a config-only network on each node, addresses from the fabric."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from engine.containers import (
    FOREVER,
    NETWORK,
    agreed,
    attachments,
    holdings,
    in_docker,
    refused,
    remove,
    run,
    there,
    who,
)
from engine.fabric import Fabric
from engine.host import Host
from engine.peer import Peer
from engine.wire import Wire
from lab.docker import IMAGE
from lab.waiting import until

CONFIG = f"{NETWORK}-config"
# a retry at once, and an end at once: nothing of the tests' time is swarm's
QUICK = ("--restart-delay", "0s", "--stop-grace-period", "0s", "--update-monitor", "10ms", "--update-parallelism", "0")
OPTIONS = ("--vlan", "0", "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1", "--exclude", "20.0.0.250")


class Swarm:
    """A manager h1 and a worker h2, with NETWORK made from the fabric's config-only network."""

    def __init__(self, fabric: Fabric, manager: Host, worker: Host) -> None:
        self.fabric, self.manager, self.worker = fabric, manager, worker
        self.hosts = (manager, worker)

    def init(self) -> None:
        """Make it. The management network carries what the nodes say to each other."""
        first, second = "10.254.0.2", "10.254.0.3"
        quick = ("--dispatcher-heartbeat", "1s", "--task-history-limit", "1")
        self.manager.docker("swarm", "init", "--advertise-addr", first, "--listen-addr", first, *quick)
        token = self.manager.docker("swarm", "join-token", "-q", "worker")
        mine = ("--advertise-addr", second, "--listen-addr", second)
        self.worker.docker("swarm", "join", *mine, "--token", token, f"{first}:2377")
        self.network()

    def network(self) -> None:
        made = ("-d", "macvlan", "--scope", "swarm", "--attachable", "--config-from", CONFIG)
        self.manager.docker("network", "create", *made, NETWORK)

    def service(self, name: str, replicas: int, *options: str) -> None:
        """Start a service; does not wait."""
        words = ("--replicas", str(replicas), "--network", NETWORK, *QUICK, *options)
        self.manager.docker("service", "create", "-q", "--detach", "--name", name, *words, IMAGE, *FOREVER)

    def scale(self, name: str, replicas: int) -> None:
        """Does not wait."""
        self.manager.docker("service", "scale", "--detach", f"{name}={replicas}")

    def tasks(self, name: str) -> dict[str, tuple[str, str]]:
        """Host and address of each task that has one, by slot; LabError when two have one address."""
        found = {}
        for address, place in in_docker(self.fabric).items():
            slot = place.container.rpartition(".")[0]
            if slot.startswith(f"{name}."):
                assert slot not in found, f"{slot} runs twice"
                found[slot] = (place.host, address)
        return dict(sorted(found.items()))

    def runs(self, name: str, replicas: int, timeout: float = 30) -> dict[str, tuple[str, str]]:
        """Wait until so many tasks run, and none besides; those."""

        def all_run() -> bool:
            running = ("--filter", "desired-state=running", "--format", "{{.CurrentState}}")
            states = self.manager.docker("service", "ps", name, *running).splitlines()
            return len(states) == replicas and all(state.startswith("Running") for state in states)

        until(all_run, f"{replicas} tasks of {name} to run", timeout, every=0.1)
        until(lambda: sum(map(self.containers, self.hosts)) == replicas, "no others to run", timeout)
        return self.tasks(name)

    def containers(self, host: Host) -> int:
        """How many tasks run there."""
        return len(host.docker("ps", "-q", "--filter", "label=com.docker.swarm.task").split())

    def errors(self, name: str) -> str:
        return self.manager.docker("service", "ps", name, "--no-trunc", "--format", "{{.Error}}")

    def on(self, host: Host) -> tuple[str, str]:
        """Options that keep a service's tasks on a host."""
        return "--constraint", f"node.hostname=={host.name}"

    def node(self, host: Host, availability: str) -> None:
        self.manager.docker("node", "update", "--availability", availability, host.name)

    def clear(self) -> None:
        """Remove services and containers: swarm itself would take seconds for its tasks' containers."""
        for name in self.manager.docker("service", "ls", "-q").split():
            self.manager.docker("service", "rm", name)
        until(lambda: not any(list(map(self.cleared, self.hosts))), "all containers to be gone")

    def cleared(self, host: Host) -> list[str]:
        """Remove what containers there are, unless swarm does so already; those."""
        found = host.docker("ps", "-aq").split()
        if found:
            host.docker_result("rm", "-f", *found)
        return found


@pytest.fixture(scope="module")
def made(fabric: Fabric, pair: tuple[Host, Host]) -> Swarm:
    fabric.ok("network", "create", NETWORK, *OPTIONS, "--docker", "swarm", "--rest", "1s")
    until(lambda: all(there(host, CONFIG) for host in pair), "the config-only networks")
    swarm = Swarm(fabric, *pair)
    swarm.init()
    return swarm


@pytest.fixture
def swarm(made: Swarm) -> Iterator[Swarm]:
    """The swarm with nothing on it; all addresses go back after the test."""
    yield made
    made.clear()
    assert agreed(made.fabric) == {}


@pytest.fixture(scope="module")
def peer(wire: Wire) -> Peer:
    return wire.peer("peer", "20.0.0.250/24")


def finds(host: Host, container: str, name: str, wanted: set[str]) -> bool:
    """Whether these are the addresses that a container finds for a name."""
    said = host.docker_result("exec", container, "nslookup", "-type=a", name).out
    found = {line.split()[-1] for line in said.splitlines() if line.startswith("Address:")} - {"127.0.0.11:53"}
    return found == wanted


def only_stock(fabric: Fabric) -> bool:
    return {one["kind"] for one in holdings(fabric).values()} <= {"stock"}


def test_tasks_on_two_nodes_have_addresses_of_their_own_and_all_go_back(swarm: Swarm, peer: Peer) -> None:
    fabric = swarm.fabric
    swarm.service("web", 3)
    first = swarm.runs("web", 3)
    assert {host for host, _ in first.values()} == {"h1", "h2"}
    known = agreed(fabric)
    assert set(known) == {address for _, address in first.values()}
    assert attachments(fabric) == {f"{one.host}/{one.container}/{NETWORK}": "ready" for one in known.values()}
    slot, (host, address) = next(iter(first.items()))
    assert who(fabric, address) == [("attachment", host, slot)]
    assert all(peer.pings(one) for one in known)
    swarm.scale("web", 5)
    five = swarm.runs("web", 5)
    assert {slot: five[slot] for slot in first} == first
    assert len(agreed(fabric)) == 5
    swarm.node(swarm.worker, "drain")
    drained = swarm.runs("web", 5)
    assert {host for host, _ in drained.values()} == {"h1"}
    stayed = {slot: place for slot, place in five.items() if place[0] == "h1"}
    assert {slot: drained[slot] for slot in stayed} == stayed
    swarm.node(swarm.worker, "active")
    swarm.scale("web", 1)
    swarm.runs("web", 1)
    assert len(agreed(fabric)) == 1
    swarm.clear()
    until(lambda: only_stock(fabric), "every address to go back", 20)


def test_a_killed_task_is_followed_by_one_with_its_address(swarm: Swarm, peer: Peer) -> None:
    swarm.service("web", 1, *swarm.on(swarm.manager))
    swarm.service("api", 1, *swarm.on(swarm.worker))
    until(lambda: swarm.tasks("web") and swarm.tasks("api"), "both to run")
    agreed(swarm.fabric)
    for name, host in (("web", swarm.manager), ("api", swarm.worker)):
        killed = host.docker("ps", "-q")
        before = swarm.tasks(name)
        host.docker("kill", killed)
        until(partial(follows, host, killed), "the next task")
        until(partial(has, swarm, name, before), f"{name} to have its address")
        assert peer.pings(before[f"{name}.1"][1])
    agreed(swarm.fabric)


def follows(host: Host, killed: str) -> bool:
    return host.docker("ps", "-q") not in ("", killed)


def has(swarm: Swarm, name: str, wanted: dict[str, tuple[str, str]]) -> bool:
    return swarm.tasks(name) == wanted


def test_standalone_containers_and_names(swarm: Swarm) -> None:
    """Docker passes no --ip on in a swarm's network; a promise does what it would."""
    fabric = swarm.fabric
    fabric.ok("address", "reserve", NETWORK, "alone", "--address", "20.0.0.77")
    swarm.service("web", 2)
    found = {address for _, address in swarm.runs("web", 2).values()}
    assert run(swarm.worker, "alone", NETWORK) == "20.0.0.77"
    other = run(swarm.manager, "other", NETWORK, "--ip", "20.0.0.99")
    assert other != "20.0.0.99"
    assert set(agreed(fabric)) == {"20.0.0.77", other, *found}
    for name in ("web", "tasks.web"):
        until(partial(finds, swarm.worker, "alone", name, found), f"all tasks under {name}")
    until(partial(finds, swarm.manager, "other", "alone", {"20.0.0.77"}), "the other host's container")
    swarm.worker.docker("restart", "-t", "0", "alone")
    assert set(agreed(fabric)) == {"20.0.0.77", other, *found}
    remove(swarm.worker, "alone")
    agreed(fabric)
    fabric.ok("address", "release", NETWORK, "alone")


def test_a_promise_and_an_owner_by_label_go_from_node_to_node(swarm: Swarm, peer: Peer) -> None:
    fabric = swarm.fabric
    fabric.ok("address", "reserve", NETWORK, "web.1", "--address", "20.0.0.88")
    swarm.service("web", 1, *swarm.on(swarm.manager))
    swarm.runs("web", 1)
    # one after the other: of two that start at once, Docker up to 28 does not say which one asks
    swarm.service("front", 1, *swarm.on(swarm.manager), "--container-label", "io.trunkline.owner=front")
    until(lambda: swarm.tasks("front"), "front to run")
    before = {name: swarm.tasks(name)[f"{name}.1"] for name in ("web", "front")}
    assert before["web"] == ("h1", "20.0.0.88")
    agreed(fabric)
    for name, (_, address) in before.items():
        elsewhere = ("--constraint-rm", "node.hostname==h1", "--constraint-add", "node.hostname==h2")
        swarm.manager.docker("service", "update", "-q", "--detach", *elsewhere, name)
        until(partial(has, swarm, name, {f"{name}.1": ("h2", address)}), f"{name} to have its address on h2", 20)
        assert peer.pings(address)
    agreed(fabric)
    swarm.clear()
    agreed(fabric)
    fabric.ok("address", "release", NETWORK, "web.1")


def test_the_agents_are_restarted_while_tasks_start(swarm: Swarm) -> None:
    swarm.service("web", 8)
    for name in ("h1", "h2"):
        swarm.fabric.agents[name].restart()
    swarm.runs("web", 8, 60)
    assert swarm.errors("web").split() == []
    swarm.fabric.wait_connected()
    assert len(agreed(swarm.fabric)) == 8


def test_stock_serves_while_the_controller_is_away_and_the_rest_run_once_it_is_back(swarm: Swarm) -> None:
    fabric = swarm.fabric

    def stocked() -> bool:
        hosts = [one["host"] for one in holdings(fabric, "stock").values()]
        return only_stock(fabric) and all(hosts.count(name) == 2 for name in fabric.hosts)

    until(stocked, "two addresses in stock on each host, and nothing kept besides", 20)
    fabric.stop_controller()
    try:
        swarm.service("web", 4, "--replicas-max-per-node", "2")
        swarm.runs("web", 4)
        swarm.service("more", 1, *swarm.on(swarm.worker))
        words = ("trunkline: ", NETWORK, "no session with a controller")
        until(lambda: all(word in swarm.errors("more") for word in words), "the refusal, in Docker's words", 20)
    finally:
        fabric.start_controller()
    fabric.wait_connected()
    until(lambda: swarm.tasks("more"), "it to run", 20)
    assert len(agreed(fabric)) == 5


def test_a_network_that_goes_leaves_swarms_own_which_works_again_with_it(swarm: Swarm) -> None:
    fabric = swarm.fabric
    swarm.service("web", 1, *swarm.on(swarm.worker))
    swarm.runs("web", 1)
    ((_, place),) = agreed(fabric).items()
    done = fabric.cli("network", "delete", NETWORK)
    assert done.status == 4
    assert place.container in done.err
    assert "is in use" in refused(swarm.worker, "network", "rm", CONFIG)
    swarm.clear()
    agreed(fabric)
    fabric.ok("network", "delete", NETWORK)
    until(lambda: not any(there(host, CONFIG) for host in swarm.hosts), "the config-only networks to go")
    assert there(swarm.manager), "what the operator made in the swarm is the operator's"
    swarm.service("web", 1)
    until(lambda: CONFIG in swarm.errors("web"), "the task to say what is missing")
    fabric.ok("network", "create", NETWORK, *OPTIONS, "--docker", "swarm", "--rest", "1s")
    swarm.runs("web", 1)
    assert len(agreed(fabric)) == 1


def test_a_node_that_leaves_gives_its_addresses_back(swarm: Swarm) -> None:
    fabric = swarm.fabric
    swarm.service("web", 2)
    swarm.runs("web", 2)
    agreed(fabric)
    swarm.worker.docker("swarm", "leave")
    until(lambda: swarm.containers(swarm.worker) == 0, "its tasks to end")
    until(lambda: {host for host, _ in swarm.tasks("web").values()} == {"h1"}, "h1 to have them")
    swarm.runs("web", 2)
    assert {place.host for place in agreed(fabric).values()} == {"h1"}
    until(
        lambda: {one["kind"] for one in holdings(fabric).values() if one["host"] == "h2"} == {"stock"}, "the rest", 20
    )
