"""Who could be asking for an address, and what is given to one of whom nobody can tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.plan import ledger, owners
from agent.plan.choice import Choice, Question, Refuse, Take, choose, concerns
from agent.plan.docker import Container, Endpoint
from agent.plan.ledger import Entry, Listing
from agent.plan.owners import Asker, DockerNames
from trunkline.errors import Reason, Refusal
from trunkline.model import EndpointState, HostNetwork, Prefix, Reservation

NOW = 10_000_000
NET = HostNetwork(
    "blue", 1, "default", 10, prefixes=(Prefix("10.9.0.0/24", "10.9.0.1"),), reserved=(Reservation("db", "10.9.0.50"),)
)
NAMES = DockerNames({"n1": "blue", "n2": ""}, {"blue": "blue", "bridge": ""})
STOCK = Entry(EndpointState.STOCK)


def container(name: str, state: str, network: str = "n1", *requested: str) -> Container:
    return Container(f"id-{name}", name, state, endpoints=(Endpoint(network, "blue", requested=requested),))


def kept(owner: str, ago: int, **more: object) -> Entry:
    entry = Entry(EndpointState.KEPT, owner, container_id=f"id-{owner}", container=owner, since_ms=NOW - ago * 1000)
    return replace(entry, **more)  # type: ignore[arg-type]


def names(found: list[Container]) -> set[str]:
    return {one.name for one in found}


def test_one_with_a_fixed_address_asks_for_no_other() -> None:
    fixed, free = container("fixed", "exited", "n1", "10.9.0.9"), container("free", "created")
    assert names(owners.candidates([fixed, free], NAMES, "blue", 4)) == {"free"}
    assert names(owners.candidates([fixed, free], NAMES, "blue", 4, "10.9.0.9")) == {"fixed"}
    assert names(owners.candidates([fixed, free], NAMES, "blue", 4, "10.9.0.8")) == {"fixed", "free"}
    assert names(owners.candidates([fixed, free], NAMES, "blue", 6)) == {"fixed", "free"}


def test_one_that_runs_elsewhere_may_be_connected() -> None:
    listed = [container("web", "running", "n2"), container("on", "running"), container("off", "exited", "n2")]
    assert names(owners.outsiders(listed, NAMES, "blue")) == {"web"}


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (Asker("web", False, "id-web", "web"), True),
        (Asker("db", False, "id-db", "db"), True),
        (Asker("any", True, "id-any", "any"), True),
        (Asker("idle", False, "id-idle", "idle"), False),
    ],
)
def test_one_matters_who_has_something_or_is_promised_something_or_is_cluster_wide(who: Asker, expected: bool) -> None:
    entries = {("blue", "10.9.0.2"): kept("web", 10), ("blue", "10.9.0.3"): STOCK}
    question = Question("h1", NET, "10.9.0.0/24", NOW)
    assert concerns(entries, question, who) is expected


def decide(entries: dict[str, Entry], *askers: Asker, unknown: bool = False, boots: bool = False) -> Choice:
    question = Question("h1", NET, "10.9.0.0/24", NOW, "", None if unknown else askers, None, boots)
    return choose({("blue", address): entry for address, entry in entries.items()}, question)


def address(choice: Choice) -> str:
    assert isinstance(choice, Take), choice
    return choice.address


def test_one_that_was_renamed_is_still_the_one() -> None:
    entries = {"10.9.0.2": kept("web", 10), "10.9.0.3": STOCK}
    assert address(decide(entries, Asker("shop", False, "id-web", "shop"))) == "10.9.0.2"
    promised = {**entries, "10.9.0.2": kept("web", 10, promised=True)}
    assert address(decide(promised, Asker("shop", False, "id-web", "shop"))) == "10.9.0.3"


def test_a_dockerd_that_boots_is_given_what_was_given_back_last() -> None:
    entries = {
        "10.9.0.2": kept("old", 500),
        "10.9.0.3": kept("ran", 10),
        "10.9.0.4": kept("gone", 5, destroyed=True),
        "10.9.0.5": kept("db", 4, promised=True),
        "10.9.0.6": kept("any", 3, shared=True),
        "10.9.0.7": STOCK,
        "10.9.0.8": kept("fixed", 2, fixed=True),
    }
    assert address(decide(entries, unknown=True, boots=True)) == "10.9.0.3"
    assert address(decide(entries, unknown=True)) == "10.9.0.7"


def test_what_a_container_can_start_with_alone_is_given_up_last() -> None:
    full = Refusal(Reason.POOL_EXHAUSTED, "all are in use")
    entries = {"10.9.0.2": kept("fixed", 900, fixed=True), "10.9.0.3": kept("free", 1)}
    question = Question("h1", NET, "10.9.0.0/24", NOW, "", ())
    assert address(choose({("blue", key): entry for key, entry in entries.items()}, question, full)) == "10.9.0.3"
    resting = {("blue", "10.9.0.2"): kept("fixed", 1, fixed=True)}
    assert isinstance(choose(resting, question, full), Refuse)
    ambiguous = (Asker("fixed", False, "id-fixed", "fixed"), Asker("free", False, "id-free", "free"))
    assert address(decide(entries, *ambiguous)) == "10.9.0.3"


def test_an_address_that_its_user_chose_is_known_to_be_so() -> None:
    chosen = Question("h1", NET, "10.9.0.0/24", NOW, "10.9.0.3", ())
    choice = choose({("blue", "10.9.0.3"): STOCK}, chosen)
    assert isinstance(choice, Take)
    assert choice.entry.fixed
    endpoint = Endpoint("n1", "blue", "e1", ("10.9.0.3/24",), ("10.9.0.3",), "02:42:0a:09:00:03")
    listing = Listing([Container("id-web", "web", "running", endpoints=(endpoint,))], NAMES, NOW)
    found = ledger.reconcile({}, listing, NOW)["blue", "10.9.0.3"]
    assert found is not None
    assert found.fixed
