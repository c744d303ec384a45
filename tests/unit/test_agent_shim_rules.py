"""Rules for the host's own interfaces on networks, one by one: which routes, what is mended, what is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from agent.plan import diff, shims, verify
from agent.plan.diff import Plan
from agent.plan.state import HostConfig, Link, MacvlanSpec, Observed, ShimRoute, ShimSpec, UplinkConfig
from agent.plan.steps import AddShim, ConfigureShim, DeleteLink, Job, Step, Subject, inverse
from trunkline import naming
from trunkline.errors import Reason, TrunklineError
from trunkline.model import (
    AttachmentObservation,
    Desired,
    HostAttachment,
    HostNetwork,
    Mode,
    Origin,
    Phase,
    Prefix,
    Target,
    TargetKind,
)

UP = Link(2, "enp7s0", "", "52:54:00:00:00:01", 1500, True, True)
SUB = Link(3, "enp7s0.10", "vlan", UP.mac, 1500, True, True, naming.subinterface_mark("default", 10), parent=2, vlan=10)
CONFIG = HostConfig("h1", {"default": UplinkConfig("default", "enp7s0")})
BLUE = HostNetwork("blue", 7, "default", 10, prefixes=(Prefix("20.0.0.0/24", "20.0.0.1"), Prefix("fd00::/64")))
WANTED = HostAttachment(
    "host/blue",
    "blue",
    Target(TargetKind.PID, "1"),
    "06:07:14:00:00:05",
    ("20.0.0.5/24", "fd00::5/64"),
    origin=Origin.HOST,
)
WEB = HostAttachment("web/blue", "blue", Target(TargetKind.CONTAINER, "web"), "06:07:14:00:00:11", ("20.0.0.17/24",))
ALIAS = naming.shim_mark("host/blue")
SHIM = Link(
    9, "tlh7", "macvlan", WANTED.mac, 1500, True, True, ALIAS,
    parent=3, mode="bridge", parent_on_host=True, host_addresses=("20.0.0.5/32", "fd00::5/128"),
)  # fmt: skip
METRIC = 40_007
PREFIXES = (("20.0.0.0/24", "20.0.0.5"), ("fd00::/64", "fd00::5"))
ROUTES = tuple(ShimRoute(9, destination, source, METRIC) for destination, source in PREFIXES)
WITHOUT: Mapping[str, Collection[str]] = {}


def observed(*links: Link, routes: tuple[ShimRoute, ...] = ROUTES, swept: bool = True) -> Observed:
    return Observed((UP, SUB, *links), swept=swept, complete=True, routes=routes)


def desired(*attachments: HostAttachment, network: HostNetwork = BLUE) -> Desired:
    return Desired("e", 7, (network,), attachments)


def plan(
    wanted: Desired, host: Observed, local: Mapping[str, Collection[str]] = WITHOUT, removals: bool = True
) -> Plan:
    return diff.plan(wanted, host, CONFIG, removals=removals, local=local)


def steps(made: Plan) -> list[Step]:
    return [step for job in made.jobs() for step in job.steps]


def routes(
    wanted: Desired, host: Observed, local: Mapping[str, Collection[str]] = WITHOUT
) -> tuple[tuple[str, str], ...]:
    return plan(wanted, host, local).shims.wanted["host/blue"].spec.routes


def report(
    wanted: Desired, host: Observed, failures: verify.Failures | None = None, removals: bool = True
) -> dict[str, AttachmentObservation]:
    made = plan(wanted, host, removals=removals)
    seen = verify.observation(wanted, host, made, CONFIG, failures or {})
    return {one.name: one for one in seen.attachments}


def test_it_is_made_with_host_addresses_and_its_routes() -> None:
    (step,) = steps(plan(desired(WANTED), observed(routes=())))
    interface = MacvlanSpec(
        parent_index=3,
        temporary_name=naming.temporary(ALIAS),
        name="tlh7",
        alias=ALIAS,
        mac=WANTED.mac,
        mode="bridge",
        mtu=1500,
        addresses=("20.0.0.5/32", "fd00::5/128"),
    )
    assert step == AddShim(ShimSpec(interface, PREFIXES, METRIC))
    assert inverse(step, 42) == DeleteLink(42, "tlh7", ALIAS)


def test_one_that_is_as_wanted_is_ready_in_the_fabrics_spelling() -> None:
    assert steps(plan(desired(WANTED), observed(SHIM))) == []
    one = report(desired(WANTED), observed(SHIM))["host/blue"]
    assert one == AttachmentObservation(
        "host/blue", Phase.READY, "", "", "tlh7", WANTED.mac, ("20.0.0.5/24", "fd00::5/64"), "", True
    )


def test_it_is_no_attachment_of_a_target() -> None:
    made = plan(desired(WANTED), observed(SHIM))
    assert (made.deletions, made.blocked) == ((), {})
    assert set(report(desired(WANTED), observed(SHIM))) == {"host/blue"}


def test_a_container_interface_marked_like_it_is_a_stray_all_the_same() -> None:
    assert shims.without(desired(WANTED, WEB)).attachments == (WEB,)
    assert shims.hosts_own(desired(WANTED, WEB)) == [WANTED]


def test_each_address_of_a_container_here_gets_a_route_whoever_attached_it() -> None:
    local = {"blue": ["20.0.0.30", "fd00::30", "20.0.0.5", "192.0.2.1"], "red": ["20.0.0.40"]}
    found = routes(desired(WANTED, WEB), observed(SHIM), local)
    own = (("20.0.0.17/32", "20.0.0.5"), ("20.0.0.30/32", "20.0.0.5"), ("fd00::30/128", "fd00::5"))
    assert set(found) == {*own, *PREFIXES}


def test_a_family_without_an_address_gets_no_route() -> None:
    only = replace(WANTED, addresses=("fd00::5/64",))
    assert routes(desired(only, WEB), observed(SHIM)) == (("fd00::/64", "fd00::5"),)


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ("20.0.0.9/24", True),
        ("20.0.0.9/25", True),
        ("20.0.0.9/32", True),
        ("20.0.7.9/16", False),
        ("10.0.0.9/8", True),
        ("20.1.0.9/16", True),
    ],
)
def test_a_wider_lan_of_the_hosts_keeps_its_part(own: str, kept: bool) -> None:
    """A route to a wider prefix loses to one to a part of it, whatever the metrics; others win over ours by metric."""
    lan = Link(20, "eth9", "", "52:54:00:00:00:09", 1500, True, True, host_addresses=(own,))
    found = routes(desired(WANTED, WEB), observed(SHIM, lan))
    assert (PREFIXES[0] in found) is kept
    assert PREFIXES[1] in found
    assert ("20.0.0.17/32", "20.0.0.5") in found


def test_a_container_route_gives_way_to_nobody_but_a_host_route() -> None:
    assert METRIC > 1024  # systemd-networkd's and the kernel's own highest defaults
    (step,) = steps(plan(desired(WANTED), observed(routes=())))
    assert isinstance(step, AddShim)
    assert step.spec.metric == METRIC


@pytest.mark.parametrize(
    ("link", "found", "words"),
    [
        (replace(SHIM, name="tlh8"), ROUTES, "name is tlh8, not tlh7"),
        (replace(SHIM, up=False), ROUTES, "it is down"),
        (replace(SHIM, mtu=1400), ROUTES, "MTU is 1400, not 1500"),
        (replace(SHIM, host_addresses=("fd00::5/128",)), ROUTES, "address 20.0.0.5/32 is missing"),
        (
            replace(SHIM, host_addresses=(*SHIM.host_addresses, "20.0.0.6/32")),
            ROUTES,
            "address 20.0.0.6/32 is not its own",
        ),
        (SHIM, ROUTES[1:], "the route to 20.0.0.0/24 is missing"),
        (SHIM, (replace(ROUTES[0], source=""), ROUTES[1]), "the route to 20.0.0.0/24 is missing"),
        (SHIM, (replace(ROUTES[0], metric=7), ROUTES[1]), "the route to 20.0.0.0/24 is missing"),
        (SHIM, (*ROUTES, ShimRoute(9, "20.0.0.17/32", "20.0.0.5", METRIC)), "the route to 20.0.0.17/32 leads nowhere"),
    ],
)
def test_what_differs_is_mended_in_place(link: Link, found: tuple[ShimRoute, ...], words: str) -> None:
    (step,) = steps(plan(desired(WANTED), observed(link, routes=found)))
    assert isinstance(step, ConfigureShim)
    assert step.index == 9
    assert any(one.startswith(words) for one in step.differences), step.differences
    one = report(desired(WANTED), observed(link, routes=found))["host/blue"]
    assert (one.phase, one.present) == (Phase.PENDING, True)
    assert inverse(step) is None


def test_what_is_somebody_elses_on_it_stays() -> None:
    busy = replace(SHIM, host_addresses=(*SHIM.host_addresses, "192.0.2.9/32"))
    elsewhere = ShimRoute(2, "20.0.0.0/24", "", METRIC)
    assert steps(plan(desired(WANTED), observed(busy, routes=(*ROUTES, elsewhere)))) == []


@pytest.mark.parametrize(
    "change", [{"mac": "06:07:14:00:00:06"}, {"mode": "private"}, {"parent": 2}], ids=["mac", "mode", "parent"]
)
def test_what_cannot_be_mended_is_made_anew(change: dict[str, object]) -> None:
    other = replace(SHIM, **change)  # type: ignore[arg-type]
    made = steps(plan(desired(WANTED), observed(other)))
    assert [type(step) for step in made] == [DeleteLink, AddShim]
    assert made[0] == DeleteLink(9, "tlh7", ALIAS)
    host, kept = observed(other), plan(desired(WANTED), observed(other), removals=False)
    assert steps(kept) == []
    assert report(desired(WANTED), host, removals=False)["host/blue"].reason == "EPOCH_CHANGED"


def test_one_that_nobody_wants_goes_and_a_second_of_one_name_too() -> None:
    assert steps(plan(desired(), observed(SHIM))) == [DeleteLink(9, "tlh7", ALIAS)]
    twin = replace(SHIM, index=10, name="tlh9")
    assert steps(plan(desired(WANTED), observed(SHIM, twin))) == [DeleteLink(10, "tlh9", ALIAS)]
    one = report(desired(), observed(SHIM))["host/blue"]
    assert (one.phase, one.present) == (Phase.PENDING, True)
    assert report(desired(), observed()) == {}


def test_it_goes_before_the_subinterface_under_it() -> None:
    nothing = Desired("e", 8)
    first = plan(nothing, observed(SHIM))
    assert steps(first) == [DeleteLink(9, "tlh7", ALIAS)]
    assert "carries tlh7" in first.problems[0].message
    assert [type(step) for step in steps(plan(nothing, observed(routes=())))] == [DeleteLink]


def test_without_leave_it_stays() -> None:
    kept = report(desired(), observed(SHIM), removals=False)["host/blue"]
    assert (kept.phase, kept.reason, kept.present) == (Phase.FAILED, "EPOCH_CHANGED", True)
    assert steps(plan(desired(), observed(SHIM), removals=False)) == []


def test_one_that_was_never_marked_goes() -> None:
    half = Link(11, naming.temporary(ALIAS), "macvlan", "06:00:00:00:00:01", 1500, False, False, parent=3)
    (step, _) = steps(plan(desired(WANTED), observed(half, routes=())))
    assert step == DeleteLink(11, half.name, "")
    assert steps(plan(desired(), observed(replace(half, name="macvlan0"), routes=()))) == []


def test_a_name_that_is_taken_is_refused() -> None:
    taken = Link(11, "tlh7", "bridge", "06:00:00:00:00:01", 1500, True, True)
    assert steps(plan(desired(WANTED), observed(taken, routes=()))) == []
    one = report(desired(WANTED), observed(taken, routes=()))["host/blue"]
    assert (one.phase, one.reason, one.present) == (Phase.FAILED, "LINK_CLASH", False)
    assert "tlh7" in one.message


def test_it_waits_for_its_network_and_says_why_there_is_none() -> None:
    no_link = Observed((UP,), swept=True, complete=True)
    assert report(desired(WANTED), no_link)["host/blue"].phase is Phase.PENDING
    failed = {Subject("network", "blue"): TrunklineError(Reason.KERNEL_REFUSED, "no 802.1Q")}
    one = report(desired(WANTED), no_link, failed)["host/blue"]
    assert (one.phase, one.reason) == (Phase.FAILED, "KERNEL_REFUSED")
    lost = report(desired(replace(WANTED, network="red")), observed())["host/blue"]
    assert (lost.phase, lost.reason) == (Phase.FAILED, "NETWORK_NOT_FOUND")


def test_a_failure_is_told() -> None:
    failed = {Subject("attachment", "host/blue"): TrunklineError(Reason.ADDRESS_CONFLICT, "somebody answers")}
    one = report(desired(WANTED), observed(routes=()), failed)["host/blue"]
    assert (one.phase, one.reason, one.message) == (Phase.FAILED, "ADDRESS_CONFLICT", "somebody answers")


def test_private_mode_has_no_routes_to_siblings_and_says_so() -> None:
    network = replace(BLUE, mode=Mode.PRIVATE)
    host = observed(replace(SHIM, mode="private"))
    assert routes(desired(WANTED, WEB, network=network), host) == PREFIXES
    one = report(desired(WANTED, network=network), host)["host/blue"]
    assert one.phase is Phase.READY
    assert "does not reach its own containers" in one.message


def test_vepa_says_what_it_needs() -> None:
    network = replace(BLUE, mode=Mode.VEPA)
    host = observed(replace(SHIM, mode="vepa"))
    assert ("20.0.0.17/32", "20.0.0.5") in routes(desired(WANTED, WEB, network=network), host)
    assert "reflective relay" in report(desired(WANTED, network=network), host)["host/blue"].message


def test_a_name_of_its_own_is_kept_in_the_mark() -> None:
    """The controller takes another name where a container's attachment has the first."""
    other = replace(WANTED, name="host/blue/access")
    (step,) = steps(plan(desired(other), observed(routes=())))
    assert isinstance(step, AddShim)
    assert naming.attachment_of(step.spec.interface.alias) == "host/blue/access"
    jobs = list(plan(desired(other), observed(SHIM)).jobs())
    assert jobs[0] == Job(Subject("attachment", "host/blue"), (DeleteLink(9, "tlh7", ALIAS),))
