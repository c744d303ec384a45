"""Which address is handed out, whose it is, and what becomes of it: each rule by a case."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.docked_agent import DockedAgent
from fakes.docker import FakeDocker
from fakes.granting import FakeFabric

from agent.docking import GrantRequest, PoolRequest
from agent.plan import ledger, owners, pools
from agent.plan.choice import Ask, Choice, Question, Refuse, Take, choose
from agent.plan.docker import Container, Endpoint
from agent.plan.ledger import Entry, Listing
from agent.plan.owners import Asker, DockerNames
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.model import Desired, EndpointState, Grant, HostNetwork, Prefix, Reservation

NOW = 10_000_000
NET = HostNetwork(
    "blue",
    1,
    "default",
    10,
    prefixes=(Prefix("10.9.0.0/24", "10.9.0.1"), Prefix("fd00:9::/64")),
    rest_seconds=300,
    hold_seconds=3600,
    reserved=(Reservation("db", "10.9.0.50"),),
)
WEB, DB = Asker("web", False, "c1", "web"), Asker("db", False, "c2", "db")
SHARED = Asker("mail", True, "c3", "mail1")
STOCK = Entry(EndpointState.STOCK)
AWAY = TrunklineError(Reason.CONTROLLER_UNREACHABLE, "there is no session")
FULL = Refusal(Reason.POOL_EXHAUSTED, "all 253 addresses are in use")
DRAINED = Refusal(Reason.HOST_DRAINED, "host h1 is drained")


def kept(owner: str = "", ago: int = 400, **more: object) -> Entry:
    return replace(
        Entry(EndpointState.KEPT, owner, container_id=f"id-{owner}" if owner else "", since_ms=NOW - ago * 1000),
        **more,  # type: ignore[arg-type]
    )


def used(owner: str = "x", ago: int = 400, **more: object) -> Entry:
    return replace(kept(owner, ago, **more), state=EndpointState.USED)


def decide(
    entries: dict[str, Entry],
    *askers: Asker,
    failed: TrunklineError | None = None,
    ip: str = "",
    live: dict[str, str] | None = None,
    unknown: bool = False,
) -> Choice:
    whole = {("blue", address): entry for address, entry in entries.items()}
    question = Question("h1", NET, "10.9.0.0/24", NOW, ip, None if unknown else askers, live)
    return choose(whole, question, failed)


def taken(choice: Choice) -> str:
    assert isinstance(choice, Take), choice
    assert choice.entry.state is EndpointState.USED
    assert choice.entry.since_ms == NOW
    return choice.address


def reason(choice: Choice) -> Reason:
    assert isinstance(choice, Refuse), choice
    return choice.refusal.reason


def asks(choice: Choice) -> GrantRequest:
    assert isinstance(choice, Ask), choice
    return choice.request


A, B, C = "10.9.0.2", "10.9.0.3", "10.9.0.10"


@pytest.mark.parametrize(
    ("entries", "askers", "failed", "expected"),
    [
        ({A: STOCK, B: kept("web")}, [WEB], None, B),
        ({A: kept("web", 500), B: kept("web", 100)}, [WEB], None, B),
        ({A: kept("web", 1), "fd00:9::2": kept("web", 0)}, [WEB], None, A),
        ({C: STOCK, B: STOCK}, [WEB], None, B),
        ({A: kept("x"), B: STOCK}, [WEB], None, B),
        ({A: replace(STOCK, owner="db"), B: STOCK}, [WEB], None, B),
        ({A: kept("db", 9), B: kept("web", 20)}, [WEB, replace(DB, owner="cache")], None, B),
        ({A: kept("x", 9, destroyed=True), B: kept("y", 900)}, [WEB], FULL, A),
        ({A: kept("x", 301), B: kept("y", 900)}, [WEB], FULL, B),
        ({A: kept("x", 9), B: kept("y", 301)}, [WEB], AWAY, B),
        ({A: kept("x", 9), B: kept("y", 20)}, [], AWAY, B),
        ({A: kept("x", 900, promised=True), B: kept("y", 20)}, [WEB], FULL, B),
        ({A: kept("x", 20, shared=True), B: kept("y", 10)}, [WEB], FULL, B),
        ({"10.9.0.50": kept("db", 900, promised=True), A: kept("db", 1)}, [DB], None, "10.9.0.50"),
        ({"10.9.0.50": replace(STOCK, owner="db", promised=True), A: STOCK}, [DB], None, "10.9.0.50"),
        ({A: kept("db", 1)}, [DB], AWAY, A),
        ({A: kept("mail", 1, shared=True), B: STOCK}, [SHARED], None, A),
        ({A: STOCK}, [SHARED], FULL, A),
    ],
)
def test_what_is_taken(
    entries: dict[str, Entry], askers: list[Asker], failed: TrunklineError | None, expected: str
) -> None:
    assert taken(decide(entries, *askers, failed=failed)) == expected


def test_what_is_asked_for() -> None:
    assert asks(decide({}, WEB)) == GrantRequest("blue", 4, "", "web")
    assert asks(decide({A: kept("x")}, WEB)).spare
    assert not asks(decide({A: kept("x", 9)}, WEB)).spare
    assert asks(decide({A: kept("x", 9)})).spare
    assert asks(decide({A: STOCK}, DB)).owner == "db"
    assert asks(decide({A: kept("db", 1)}, DB)).owner == "db"
    assert asks(decide({A: STOCK, B: kept("mail", 9)}, SHARED)) == GrantRequest("blue", 4, "", "mail", True)
    assert asks(decide({}, WEB, ip="10.9.0.77")).address == "10.9.0.77"


def test_what_is_refused() -> None:
    assert reason(decide({}, WEB, failed=AWAY)) is Reason.CONTROLLER_UNREACHABLE
    assert reason(decide({A: kept("x")}, WEB, failed=DRAINED)) is Reason.HOST_DRAINED
    assert reason(decide({A: STOCK}, DB, failed=AWAY)) is Reason.CONTROLLER_UNREACHABLE
    assert reason(decide({A: STOCK}, SHARED, failed=AWAY)) is Reason.CONTROLLER_UNREACHABLE
    elsewhere = Refusal(Reason.OWNER_ELSEWHERE, "mail runs on h2")
    assert reason(decide({A: STOCK}, SHARED, failed=elsewhere)) is Reason.OWNER_ELSEWHERE
    full = decide({A: used("x"), B: kept("y", promised=True)}, WEB, failed=FULL)
    assert isinstance(full, Refuse)
    assert "all 253 addresses are in use; h1 uses 1 (x) and keeps 1 (y)" in full.refusal.message


@pytest.mark.parametrize(
    ("entry", "askers", "live", "expected"),
    [
        (STOCK, [WEB], None, None),
        (kept("web"), [WEB], None, None),
        (kept(""), [WEB], None, None),
        (kept("x", destroyed=True), [WEB], None, None),
        (kept("x"), [WEB], None, Reason.ADDRESS_RESTING),
        (kept("x"), [], None, Reason.ADDRESS_RESTING),
        (kept("x", destroyed=True, promised=True), [WEB], None, Reason.ADDRESS_RESERVED),
        (used("x"), [WEB], None, Reason.ADDRESS_TAKEN),
        (used("x"), [WEB], {A: "x"}, Reason.ADDRESS_TAKEN),
        (used("x", 20), [WEB], {}, Reason.ADDRESS_TAKEN),
        (used("x", 121), [WEB], {}, None),
        (used("web", 2), [WEB], {}, None),
        (used("web", 2), [WEB, DB], {}, Reason.ADDRESS_TAKEN),
        (used("web", 2), [WEB], {A: "web"}, Reason.ADDRESS_TAKEN),
    ],
)
def test_an_address_that_the_user_wants(
    entry: Entry, askers: list[Asker], live: dict[str, str] | None, expected: Reason | None
) -> None:
    choice = decide({A: entry}, *askers, ip=A, live=live)
    assert reason(choice) is expected if expected else taken(choice) == A


def test_who_cannot_be_looked_up_gets_what_is_kept_and_wanted() -> None:
    assert taken(decide({A: kept("x")}, unknown=True, ip=A)) == A
    assert reason(decide({}, WEB, ip="10.9.1.2")) is Reason.ADDRESS_OUTSIDE
    assert reason(decide({}, WEB, ip="10.9.0.1")) is Reason.ADDRESS_RESERVED
    assert reason(decide({}, WEB, ip=A, failed=AWAY)) is Reason.CONTROLLER_UNREACHABLE


COMPOSE = {
    "com.docker.compose.project": "p",
    "com.docker.compose.service": "s",
    "com.docker.compose.container-number": "2",
    "com.docker.compose.oneoff": "False",
}


@pytest.mark.parametrize(
    ("name", "labels", "owner", "shared"),
    [
        ("web", {}, "web", False),
        ("x", {"io.trunkline.owner": "mail"}, "mail", True),
        ("x", {"io.trunkline.owner": "not a name"}, "x", False),
        ("p-s-2", COMPOSE, "p/s/2", False),
        ("p-s-run-1", COMPOSE | {"com.docker.compose.oneoff": "True"}, "p-s-run-1", False),
        ("web.1.abc", {"com.docker.swarm.task.name": "web.1.abc", "com.docker.swarm.task.id": "abc"}, "web.1", False),
    ],
)
def test_owners(name: str, labels: dict[str, str], owner: str, shared: bool) -> None:
    found = owners.asker(Container("c1", name, "running", labels))
    assert (found.owner, found.shared, found.container) == (owner, shared, name)


# The ledger

NAMES = DockerNames({"n1": "blue"}, {"blue": "blue"})


def running(name: str, address: str) -> Container:
    return Container(
        f"id-{name}", name, "running", {}, (Endpoint("n1", "blue", "e1", (f"{address}/24",), (), "02:01"),)
    )


def looked(entries: dict[str, Entry], *containers: Container, began_ms: int = NOW) -> dict[str, Entry]:
    whole = {("blue", address): entry for address, entry in entries.items()}
    changes = ledger.reconcile(whole, Listing(containers, NAMES, began_ms), NOW)
    return {key[1]: entry for key, entry in {**whole, **changes}.items() if entry is not None}


def test_docker_is_right_about_what_runs() -> None:
    for before in ({}, {A: STOCK}, {A: kept("x")}, {A: used("x")}, {A: used("")}):
        after = looked(before, running("web", A))[A]
        assert (after.state, after.owner, after.container_id, after.mac) == (
            EndpointState.USED,
            "web",
            "id-web",
            "02:01",
        )


def test_a_listing_does_not_judge_what_came_after_it() -> None:
    released = kept("web", 0, since_ms=NOW + 1)
    assert looked({A: released}, running("web", A))[A] == released
    begun = used("web", 0, since_ms=NOW + 1, mac="02:01")
    assert looked({A: begun})[A] == begun


def test_a_container_that_gave_its_address_back_is_listed_with_it_for_a_moment() -> None:
    released = replace(kept("web", 2), container_id="id-web")
    assert looked({A: released}, running("web", A))[A] == released
    assert looked({A: released}, running("other", A))[A].owner == "other"
    before = replace(released, since_ms=NOW - 3001)
    assert looked({A: before}, running("web", A))[A].state is EndpointState.USED


def test_what_was_lost_is_kept_again() -> None:
    stopped = Container("id-x", "x", "exited")
    assert looked({A: used("x", 20)}, stopped)[A].state is EndpointState.USED
    assert looked({A: used("x", 121)}, stopped)[A].state is EndpointState.KEPT
    assert looked({A: used("x", 20, mac="02:01")}, stopped)[A].state is EndpointState.KEPT
    gone = looked({A: used("x", 121)})[A]
    assert (gone.state, gone.destroyed, gone.since_ms) == (EndpointState.KEPT, True, NOW)
    assert not looked({A: kept("x", destroyed=True)}, replace(stopped, id="another"))[A].destroyed


def test_what_is_let_go_of() -> None:
    def over(entry: Entry, *grants: Grant, network: HostNetwork = NET) -> bool:
        desired = Desired("e1", 5, (network,), grants=grants)
        return bool(ledger.over({("blue", A): entry}, desired, NOW))

    recalled = Grant("blue", A, recalled=True)
    assert not over(STOCK, Grant("blue", A))
    assert over(STOCK)
    assert over(STOCK, recalled)
    assert not over(used(), recalled)
    assert not over(used(), network=replace(NET, name="red"))
    assert over(kept("x", 1), network=replace(NET, name="red"))
    assert not over(kept("x"))
    assert over(kept("x", 3600))
    assert over(kept("x", destroyed=True))
    assert not over(kept("x", 299, destroyed=True))
    assert over(kept(""))
    assert over(kept("x"), recalled)
    assert not over(kept("x", 299), recalled)
    assert over(kept("x", 1, shared=True), replace(recalled, owner="x"))
    assert not over(kept("x", 1), replace(recalled, owner="x"))


def test_what_is_taken_into_stock() -> None:
    grants = (
        Grant("blue", A, revision=7),
        Grant("blue", B, revision=5),
        Grant("blue", C, revision=7, recalled=True),
        Grant("red", A, revision=7),
        Grant("blue", "10.9.0.50", "db", revision=7),
    )
    changes = ledger.take({}, Desired("e1", 9, (NET,), grants=grants), 5, NOW)
    assert set(changes) == {("blue", A), ("blue", "10.9.0.50")}
    promised = changes["blue", "10.9.0.50"]
    assert promised is not None
    assert promised.promised


# Pools


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (pools.Asked("blue", "10.9.0.0/24", 4), ("blue", "10.9.0.0/24")),
        (pools.Asked("blue", "", 6), ("blue", "fd00:9::/64")),
        (pools.Asked("", "10.9.0.0/24", 4), ("blue", "10.9.0.0/24")),
        (pools.Asked("blue", "10.9.0.0/24", 4, "10.9.0.0/24"), ("blue", "10.9.0.0/24")),
        (pools.Asked("blue", "10.9.0.0/24", 4, "10.9.0.0/25"), Reason.INVALID_RANGE),
        (pools.Asked("blue", "10.9.0.0/25", 4), Reason.INVALID_PREFIX),
        (pools.Asked("blue", "10.9.0.1/24", 4), Reason.INVALID_PREFIX),
        (pools.Asked("red", "10.9.0.0/24", 4), Reason.NETWORK_NOT_FOUND),
        (pools.Asked("", "10.8.0.0/24", 4), Reason.NETWORK_NOT_FOUND),
        (pools.Asked("", "", 4), Reason.NETWORK_NOT_FOUND),
    ],
)
def test_pools(asked: pools.Asked, expected: tuple[str, str] | Reason) -> None:
    desired = Desired("e1", 1, (NET,))
    if isinstance(expected, tuple):
        assert pools.check(desired, "h1", asked) == expected
        return
    with pytest.raises(Refusal) as refused:
        pools.check(desired, "h1", asked)
    assert refused.value.reason is expected


@pytest.fixture
async def agent(tmp_path: Path) -> DockedAgent:
    made = DockedAgent(tmp_path, FakeFabric((NET,)), FakeDocker())
    await made.start()
    await made.told()
    return made


ANY = PoolRequest("blue", "10.9.0.0/24", endpoint="web")


async def test_a_parent_that_is_missing_is_said_before_docker_joins(agent: DockedAgent) -> None:
    agent.unready["blue"] = TrunklineError(Reason.UPLINK_MISSING, "enp7s0 of h1 does not exist")
    with pytest.raises(TrunklineError, match="enp7s0"):
        await agent.pools.request(ANY)
    assert agent.pools.entries() == {}


async def test_a_docker_that_does_not_answer_makes_the_asker_unknown(agent: DockedAgent) -> None:
    agent.docker.down = True
    assert await agent.pools.request(replace(ANY, endpoint="")) == "10.9.0.2/24"
    agent.docker.down, agent.docker.slow = False, 30
    began = asyncio.get_running_loop().time()
    assert await agent.pools.request(ANY) == "10.9.0.3/24"
    assert asyncio.get_running_loop().time() - began < 2
    assert agent.states("blue") == {A: (EndpointState.USED, ""), B: (EndpointState.USED, "")}


async def test_nothing_is_handed_out_that_is_not_on_disk(agent: DockedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.docker.runs(agent.docker.create("web", agent.docker.network("blue", "10.9.0.0/24")), "10.9.0.2/24")
    assert await agent.pools.request(ANY) == "10.9.0.2/24"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(TrunklineError) as refused:
        await agent.pools.request(ANY)
    assert refused.value.reason is Reason.SPOOL_CORRUPT
    await agent.pools.release("blue", "10.9.0.0/24", A)
    assert agent.states("blue") == {A: (EndpointState.KEPT, "web"), B: (EndpointState.STOCK, "")}
    assert "No space left" in agent.pools.problems()[0].message
    monkeypatch.undo()
    await agent.told()
    assert agent.pools.problems() == ()
    await agent.restart()
    assert agent.states("blue") == {A: (EndpointState.KEPT, "web"), B: (EndpointState.STOCK, "")}
