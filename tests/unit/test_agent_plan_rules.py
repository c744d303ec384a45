"""Rules of the agent's planner, one by one: what is refused, what waits, and in which words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.plan import diff, inspect, networks, uplinks, verify
from agent.plan.diff import Plan
from agent.plan.state import HostConfig, Interface, Link, Namespace, Observed, ResolvedTarget, UplinkConfig, View
from agent.plan.steps import (
    AddMacvlan,
    AddVlan,
    ConfigureInterface,
    DeleteInterface,
    Job,
    RaiseLink,
    SetMtu,
    Step,
    Subject,
)
from trunkline import naming
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.model import Desired, HostAttachment, HostNetwork, Mode, Phase, Prefix, Problem, Target, TargetKind

UP = Link(2, "enp7s0", "", "52:54:00:00:00:01", 1500, True, True)
SUB = Link(3, "enp7s0.10", "vlan", UP.mac, 1500, True, True, naming.subinterface_mark("default", 10), parent=2, vlan=10)
CONFIG = HostConfig("h1", {"default": UplinkConfig("default", "enp7s0")})
BLUE = HostNetwork("blue", 1, "default", 10, prefixes=(Prefix("20.0.0.0/24", "20.0.0.1"),))
TARGET = Target(TargetKind.CONTAINER, "web")
WEB = HostAttachment("web/blue", "blue", TARGET, "06:01:14:00:00:11", ("20.0.0.17/24",))
PLACE = Namespace("/proc/77/ns/net", "4:77")
RESOLVED = ResolvedTarget(PLACE, "c" * 64, "web")
GOOD = Interface(
    Link(
        9, "tl0", "macvlan", WEB.mac, 1500, True, True, naming.attachment_mark(WEB.name),
        parent=3, mode="bridge", parent_on_host=True,
    ),
    ("20.0.0.17/24", "fe80::1/64"),
)  # fmt: skip


def observed(
    *interfaces: Interface,
    links: tuple[Link, ...] = (UP, SUB),
    target: ResolvedTarget | TrunklineError = RESOLVED,
    **more: object,
) -> Observed:
    views = {PLACE.identity: View(PLACE, interfaces)}
    made = Observed(links, {TARGET: target}, views, swept=True, complete=True)
    return replace(made, **more)  # type: ignore[arg-type]


def desired(*attachments: HostAttachment, network: HostNetwork = BLUE) -> Desired:
    return Desired("e", 7, (network,), attachments)


def steps(plan: Plan) -> list[Step]:
    return [step for job in plan.jobs() for step in job.steps]


def seen(wanted: Desired, host: Observed, failures: verify.Failures | None = None, config: HostConfig = CONFIG):  # type: ignore[no-untyped-def]
    return verify.observation(wanted, host, diff.plan(wanted, host, config), config, failures or {})


# Networks


@pytest.mark.parametrize(
    ("network", "links", "reason", "words"),
    [
        (replace(BLUE, uplink="storage"), (UP,), Reason.UPLINK_NOT_ON_HOST, "it has: default"),
        (BLUE, (), Reason.UPLINK_MISSING, "h1 has no device enp7s0"),
        (BLUE, (replace(UP, up=False),), Reason.UPLINK_DOWN, "could not be set up"),
        (replace(BLUE, mtu=9000), (UP,), Reason.UPLINK_MTU, "has MTU 9000, but uplink default (enp7s0) of h1 has 1500"),
        (BLUE, (UP, Link(8, "enp7s0.10", "dummy", UP.mac, 1500, True, True)), Reason.LINK_CLASH, "a dummy link"),
        (
            BLUE,
            (UP, Link(8, "enp7s0.10", "vlan", UP.mac, 1500, True, True, parent=2, vlan=11)),
            Reason.LINK_CLASH,
            "the VLAN 11 link on the link with index 2",
        ),
        (BLUE, (UP, replace(SUB, alias="", up=False)), Reason.UPLINK_DOWN, "uses but did not make, is down"),
        (replace(BLUE, mtu=1500), (UP, replace(SUB, alias="", mtu=1400)), Reason.UPLINK_MTU, "has MTU 1400"),
    ],
)
def test_a_network_that_cannot_be_had_says_why(
    network: HostNetwork, links: tuple[Link, ...], reason: Reason, words: str
) -> None:
    one = seen(desired(WEB, network=network), observed(links=links)).networks[0]
    assert (one.phase, one.reason) == (Phase.FAILED, reason.name)
    assert words in one.message


def test_a_down_uplink_is_set_up_only_for_a_network() -> None:
    down = observed(links=(replace(UP, up=False),))
    assert RaiseLink(2, "enp7s0") in steps(diff.plan(desired(), down, CONFIG))
    assert steps(diff.plan(Desired("e", 1), down, CONFIG)) == []


def test_a_foreign_subinterface_is_used_and_stays_unmarked() -> None:
    host = observed(links=(UP, replace(SUB, name="vlan10", alias="mine")))
    plan = diff.plan(desired(), host, CONFIG)
    assert steps(plan) == []
    one = seen(desired(), host).networks[0]
    assert (one.phase, one.link, one.owned) == (Phase.READY, "vlan10", False)
    assert steps(diff.plan(Desired("e", 8), host, CONFIG)) == []


def test_a_long_device_name_gets_a_derived_subinterface() -> None:
    long = replace(UP, name="enp101s0f1np1x")
    config = HostConfig("h1", {"default": UplinkConfig("default", long.name)})
    (step,) = steps(diff.plan(desired(), observed(links=(long,)), config))
    assert isinstance(step, AddVlan)
    assert step.name == naming.subinterface(long.name, 10)
    assert len(step.name) <= naming.IFNAMSIZ


def test_untagged_needs_no_subinterface() -> None:
    one = seen(desired(network=replace(BLUE, vlan=0, mtu=1400)), observed(links=(UP,))).networks[0]
    assert (one.phase, one.link, one.owned, one.mtu) == (Phase.READY, "enp7s0", False, 1400)


def test_two_labels_through_a_bond_are_refused_for_both() -> None:
    bond = Link(5, "bond0", "bond", UP.mac, 1500, True, True)
    config = HostConfig("h1", {"a": UplinkConfig("a", "enp7s0"), "b": UplinkConfig("b", "bond0")})
    host = observed(links=(replace(UP, master=5), bond))
    wanted = Desired("e", 1, (replace(BLUE, uplink="a"), replace(BLUE, name="red", uplink="b")))
    report = seen(wanted, host, config=config)
    assert {(one.name, one.reason) for one in report.networks} == {("blue", "UPLINK_SHARED"), ("red", "UPLINK_SHARED")}
    assert all("both reach" in one.problem for one in report.uplinks)


def test_a_bridge_of_two_subinterfaces_does_not_join_their_uplinks() -> None:
    other = replace(UP, index=4, name="enp8s0")
    bridge = Link(6, "br10", "bridge", UP.mac, 1500, True, True)
    ports = (replace(SUB, master=6), replace(SUB, index=7, name="enp8s0.10", parent=4, master=6))
    uplinks_of = {"a": UplinkConfig("a", "enp7s0"), "b": UplinkConfig("b", "enp8s0")}
    assert uplinks.shared(uplinks_of, (UP, other, bridge, *ports)) == {}


def test_two_networks_of_one_vlan_never_share_a_subinterface() -> None:
    wanted = Desired("e", 1, (BLUE, replace(BLUE, name="twin")))
    assert [one.reason for one in seen(wanted, observed()).networks] == ["", "VLAN_TAKEN"]


def test_a_subinterface_goes_last_and_only_when_nobody_is_on_it() -> None:
    nothing = Desired("e", 9)
    crowded = observed(GOOD)
    plan = diff.plan(nothing, crowded, CONFIG)
    assert [type(step) for step in steps(plan)] == [DeleteInterface]
    assert plan.problems[0].message.startswith("sub-interface enp7s0.10 is no longer needed but carries tl0")
    assert [job.subject for job in diff.plan(nothing, observed(), CONFIG).jobs()] == [Subject("link", "enp7s0.10")]
    on_top = Link(11, "shim0", "macvlan", UP.mac, 1500, True, True, parent=3, parent_on_host=True)
    assert steps(diff.plan(nothing, observed(links=(UP, SUB, on_top)), CONFIG)) == []
    bridged = Link(12, "br0", "bridge", UP.mac, 1500, True, True)
    assert steps(diff.plan(nothing, observed(links=(UP, replace(SUB, master=12), bridged)), CONFIG)) == []


def test_a_subinterface_is_not_removed_before_all_namespaces_were_looked_at() -> None:
    plan = diff.plan(Desired("e", 9), observed(swept=False), CONFIG)
    assert plan.sweep_first
    assert steps(plan) == []


def test_a_subinterface_stays_while_its_uplink_is_away() -> None:
    moved = HostConfig("h1", {"default": UplinkConfig("default", "enp9s0")})
    assert networks.leftovers((BLUE,), moved, (UP, SUB)) == []
    present = replace(UP, index=20, name="enp9s0")
    assert networks.leftovers((BLUE,), moved, (UP, SUB, present)) == [SUB]


def test_a_former_network_is_reported_until_its_link_is_gone() -> None:
    nothing, host = Desired("e", 9), observed(GOOD)
    former = {SUB.alias: "blue"}
    plan = diff.plan(nothing, host, CONFIG)
    report = verify.observation(nothing, host, plan, CONFIG, {}, former=former)
    assert [(one.name, one.phase, one.owned) for one in report.networks] == [("blue", Phase.PENDING, True)]
    assert [(one.name, one.present) for one in report.attachments] == [("web/blue", True)]


# Promiscuous mode


def test_promiscuous_mode_is_cleared_only_where_we_set_it() -> None:
    on = replace(UP, promiscuous=True)
    wanted = HostConfig("h1", {"default": UplinkConfig("default", "enp7s0", True)})
    assert [str(type(step).__name__) for step in steps(diff.plan(desired(), observed(links=(UP, SUB)), wanted))] == [
        "SetPromiscuous"
    ]
    assert steps(diff.plan(desired(), observed(links=(on, SUB)), wanted)) == []
    assert steps(diff.plan(desired(), observed(links=(on, SUB)), CONFIG)) == []
    ours = replace(CONFIG, promiscuous_by_us=frozenset({"enp7s0"}))
    assert len(steps(diff.plan(desired(), observed(links=(on, SUB)), ours))) == 1


# Attachments


def test_ready_only_when_everything_read_is_as_wanted() -> None:
    report = seen(desired(WEB), observed(GOOD))
    one = report.attachments[0]
    assert (one.phase, one.ifname, one.mac, one.target_id) == (Phase.READY, "tl0", WEB.mac, RESOLVED.target_id)
    assert one.addresses == WEB.addresses


@pytest.mark.parametrize(
    ("damage", "kinds", "words"),
    [
        ({"mac": "06:01:14:00:00:99"}, [DeleteInterface, AddMacvlan], ""),
        ({"parent": 2}, [DeleteInterface, AddMacvlan], ""),
        ({"mode": "private"}, [DeleteInterface, AddMacvlan], ""),
        ({"up": False}, [ConfigureInterface], "it is down"),
        ({"mtu": 1400}, [ConfigureInterface], "MTU is 1400, not 1500"),
        ({"name": naming.temporary(WEB.name)}, [ConfigureInterface], "temporary name"),
    ],
)
def test_drift_of_the_link(damage: dict[str, object], kinds: list[type], words: str) -> None:
    broken = replace(GOOD, link=replace(GOOD.link, **damage))  # type: ignore[arg-type]
    plan = diff.plan(desired(WEB), observed(broken), CONFIG)
    assert [type(step) for step in steps(plan)] == kinds
    assert words in str([step.differences for step in steps(plan) if isinstance(step, ConfigureInterface)])
    assert seen(desired(WEB), observed(broken)).attachments[0].phase is Phase.PENDING


@pytest.mark.parametrize(
    ("addresses", "drift"),
    [
        ((), True),
        (("20.0.0.17/16",), True),
        (("20.0.0.17/24", "20.0.0.18/24"), True),
        (("20.0.0.17/24", "192.168.1.1/32"), False),
        (("20.0.0.17/24", "fe80::abcd/64"), False),
    ],
)
def test_drift_of_addresses(addresses: tuple[str, ...], drift: bool) -> None:
    plan = diff.plan(desired(WEB), observed(replace(GOOD, addresses=addresses)), CONFIG)
    assert bool(steps(plan)) == drift


def test_router_advertised_addresses_are_the_containers_own() -> None:
    six = replace(BLUE, prefixes=(Prefix("fd00:20::/64"),))
    web = replace(WEB, addresses=("fd00:20::11/64",), accept_ra=True)
    slaac = replace(GOOD, addresses=("fd00:20:0::11/64", "fd00:20::401:14ff:fe00:11/64"), accept_ra=True)
    assert steps(diff.plan(desired(web, network=six), observed(slaac), CONFIG)) == []
    strict = replace(web, accept_ra=False)
    assert len(steps(diff.plan(desired(strict, network=six), observed(slaac), CONFIG))) == 1


def test_a_default_route_is_put_back_and_never_taken_away() -> None:
    wanted = replace(WEB, gateways=("20.0.0.1",), default_route=True)
    assert len(steps(diff.plan(desired(wanted), observed(GOOD), CONFIG))) == 1
    assert steps(diff.plan(desired(wanted), observed(replace(GOOD, gateways=("20.0.0.1",))), CONFIG)) == []
    assert steps(diff.plan(desired(WEB), observed(replace(GOOD, gateways=("20.0.0.9",))), CONFIG)) == []


def test_the_gateway_is_used_only_when_asked_for() -> None:
    (step,) = steps(diff.plan(desired(replace(WEB, gateways=("20.0.0.1",))), observed(), CONFIG))
    assert isinstance(step, AddMacvlan)
    assert step.spec.gateways == ()


@pytest.mark.parametrize(
    ("reason", "phase"),
    [
        (Reason.CONTAINER_NOT_FOUND, Phase.WAITING),
        (Reason.CONTAINER_NOT_RUNNING, Phase.WAITING),
        (Reason.NETNS_NOT_FOUND, Phase.WAITING),
        (Reason.DOCKER_UNAVAILABLE, Phase.WAITING),
        (Reason.CONTAINER_HOST_NETWORK, Phase.FAILED),
        (Reason.NETNS_IS_HOST, Phase.FAILED),
    ],
)
def test_what_a_target_that_cannot_be_had_means(reason: Reason, phase: Phase) -> None:
    host = observed(GOOD, target=TrunklineError(reason, "seen so", "do this"))
    one = seen(desired(WEB), host).attachments[0]
    assert (one.phase, one.reason, one.message) == (phase, reason.name, "seen so; do this")
    assert one.present  # its interface is left where it is
    assert steps(diff.plan(desired(WEB), host, CONFIG)) == []


def test_interface_names_are_free_or_refused() -> None:
    eth = Interface(Link(5, "tl0", "veth", "0a:00:00:00:00:01", 1500, True, True))
    pair = (WEB, replace(WEB, name="web/blue2", mac="06:01:14:00:00:12"))
    made = [s.spec.name for s in steps(diff.plan(desired(*pair), observed(eth), CONFIG)) if isinstance(s, AddMacvlan)]
    assert made == ["tl1", "tl2"]
    named = desired(replace(WEB, ifname="tl0"))
    one = seen(named, observed(eth)).attachments[0]
    assert (one.phase, one.reason) == (Phase.FAILED, "IFNAME_TAKEN")


def test_two_that_want_one_name() -> None:
    pair = [replace(WEB, ifname="net0"), replace(WEB, name="web/blue2", mac="06:01:14:00:00:12", ifname="net0")]
    report = seen(desired(*pair), observed())
    assert [one.reason for one in report.attachments] == ["", "IFNAME_TAKEN"]


def test_another_hosts_interface_on_the_same_kernel_is_not_ours() -> None:
    elsewhere = replace(GOOD, link=replace(GOOD.link, parent_on_host=False))
    nothing = Desired("e", 9)
    assert steps(diff.plan(nothing, observed(elsewhere, links=(UP,)), CONFIG)) == []
    assert seen(nothing, observed(elsewhere, links=(UP,))).attachments == ()


def test_the_old_interface_goes_when_its_target_is_elsewhere() -> None:
    new = Namespace("/proc/78/ns/net", "4:78")
    host = observed(GOOD, target=replace(RESOLVED, namespace=new))
    host = replace(host, views={**host.views, "4:78": View(new)})
    plan = diff.plan(desired(WEB), host, CONFIG)
    assert [type(step) for step in steps(plan)] == [DeleteInterface, AddMacvlan]


def test_failures_are_reported_with_their_object() -> None:
    error = TrunklineError(Reason.KERNEL_REFUSED, "cannot", "try")
    host = observed(links=(UP,))
    report = seen(desired(WEB), host, {Subject("network", "blue"): error})
    assert (report.networks[0].phase, report.networks[0].reason) == (Phase.FAILED, "KERNEL_REFUSED")
    assert (report.attachments[0].phase, report.attachments[0].reason) == (Phase.FAILED, "KERNEL_REFUSED")
    report = seen(desired(WEB), observed(), {Subject("link", "enp7s0.9"): error})
    assert report.problems == (Problem("link", "enp7s0.9", "KERNEL_REFUSED", "cannot; try"),)


# A renewed history


def test_nothing_is_removed_or_replaced_without_leave() -> None:
    plan = diff.plan(Desired("e2", 1), observed(GOOD), CONFIG, removals=False)
    assert list(plan.jobs()) == []
    other = replace(WEB, mac="06:01:14:00:00:77")
    plan = diff.plan(desired(other), observed(GOOD), CONFIG, removals=False)
    assert list(plan.jobs()) == []
    assert plan.blocked[WEB.name].reason is Reason.EPOCH_CHANGED


# Probes


def test_probe_links_of_an_earlier_life_go_at_the_start_only() -> None:
    probe = Link(30, "tlp1", "macvlan", UP.mac, 1500, True, True, naming.probe_mark("blue"), parent=3)
    host = observed(links=(UP, SUB, probe))
    assert steps(diff.plan(desired(), host, CONFIG)) == []
    assert [job.subject for job in diff.plan(desired(), host, CONFIG, fresh=True).jobs()] == [Subject("link", "tlp1")]


# Inspection


def test_a_down_uplink_is_no_reason_to_refuse_a_target() -> None:
    inspect.judge_network(BLUE, CONFIG, (replace(UP, up=False),))
    with pytest.raises(Refusal) as refusal:
        inspect.judge_network(replace(BLUE, mtu=9000), CONFIG, (UP,))
    assert refusal.value.reason is Reason.UPLINK_MTU


def test_a_name_that_is_taken_says_by_whom() -> None:
    with pytest.raises(Refusal, match="attachment web/blue's"):
        inspect.judge_name("tl0", [GOOD], "web", "h1")
    inspect.judge_name("tl1", [GOOD], "web", "h1")
    inspect.judge_name("", [GOOD], "web", "h1")


def test_modes_reach_the_kernel() -> None:
    (step,) = steps(diff.plan(desired(WEB, network=replace(BLUE, mode=Mode.VEPA)), observed(), CONFIG))
    assert isinstance(step, AddMacvlan)
    assert step.spec.mode == "vepa"
    assert isinstance(Job(Subject("attachment", "x"), (step,)).steps[0], AddMacvlan)


# A sub-interface of ours that the host uses, too


def lent(*more: Link, **changes: object) -> tuple[Link, ...]:
    return (UP, replace(SUB, **changes), *more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("links", "inside", "words"),
    [
        (lent(host_addresses=("192.0.2.7/24",)), (), "address 192.0.2.7/24"),
        (lent(Link(12, "br0", "bridge", UP.mac, 1500, True, True), master=12), (), "bridge br0 (as a port of it)"),
        (lent(Link(13, "iv0", "ipvlan", UP.mac, 1500, True, True, parent=3, parent_on_host=True)), (), "link iv0"),
        (lent(Link(13, "enp7s0.10.5", "vlan", UP.mac, 1500, True, True, parent=3, parent_on_host=True)), (), "10.5"),
        (lent(), (Interface(replace(GOOD.link, alias="", name="eth0")),), "macvlan link eth0 in /proc/77/ns/net"),
    ],
)
def test_a_subinterface_that_the_host_uses_stays_and_says_who(
    links: tuple[Link, ...], inside: tuple[Interface, ...], words: str
) -> None:
    nothing, host = Desired("e", 9), observed(*inside, links=links)
    plan = diff.plan(nothing, host, CONFIG)
    assert steps(plan) == []
    assert not plan.sweep_first
    report = verify.observation(nothing, host, plan, CONFIG, {}, former={SUB.alias: "blue"})
    (one,) = report.networks
    assert (one.name, one.phase, one.reason) == ("blue", Phase.FAILED, "SUBINTERFACE_IN_USE")
    for said in (words, "enp7s0.10 of h1", "alias ''"):
        assert said in one.message
    assert [problem.reason for problem in report.problems] == ["SUBINTERFACE_IN_USE"]


def test_a_veth_whose_peer_has_the_index_sits_on_nothing() -> None:
    pair = Link(14, "veth1", "veth", UP.mac, 1500, True, True, parent=3, parent_on_host=True)
    moved = Link(15, "mv0", "macvlan", UP.mac, 1500, True, True, parent=3)  # on link 3 of another namespace
    assert len(steps(diff.plan(Desired("e", 9), observed(links=lent(pair, moved)), CONFIG))) == 1


def test_what_users_are_named_does_not_depend_on_how_far_was_looked() -> None:
    links = lent(host_addresses=("192.0.2.7/24",))
    swept = observed(Interface(replace(GOOD.link, alias="", name="eth0")), links=links)
    near = replace(swept, views={}, swept=False)
    told = [diff.plan(Desired("e", 9), host, CONFIG).problems for host in (swept, near)]
    assert told[0] == told[1]


def test_the_mtu_of_a_subinterface_changes_only_when_nobody_else_is_on_it() -> None:
    wanted = desired(network=replace(BLUE, mtu=1400))
    assert [type(step) for step in steps(diff.plan(wanted, observed(), CONFIG))] == [SetMtu]
    unsure = diff.plan(wanted, observed(swept=False), CONFIG)
    assert (unsure.sweep_first, steps(unsure)) == (True, [])
    used = observed(links=lent(host_addresses=("192.0.2.7/24",)))
    assert steps(diff.plan(wanted, used, CONFIG)) == []
    assert [(one.phase, one.mtu) for one in seen(wanted, used).networks] == [(Phase.READY, 1400)]
    small = observed(links=lent(host_addresses=("192.0.2.7/24",), mtu=1300))
    one = seen(wanted, small).networks[0]
    assert (one.phase, one.reason) == (Phase.FAILED, "SUBINTERFACE_IN_USE")


def test_a_service_tag_is_no_subinterface() -> None:
    """An 802.1ad link of the right parent is another link; under the name that is needed, it is in the way."""
    service = Link(8, "enp7s0.10", "vlan", UP.mac, 1500, True, True, parent=2, parent_on_host=True)
    one = seen(desired(), observed(links=(UP, service))).networks[0]
    assert one.reason == "LINK_CLASH"
    assert "an 802.1ad link" in one.message
    aside = replace(service, name="svc10")
    assert [type(step) for step in steps(diff.plan(desired(), observed(links=(UP, aside)), CONFIG))] == [AddVlan]


@pytest.mark.parametrize(("kind", "refused"), [("bridge", True), ("bond", True), ("openvswitch", True), ("vrf", False)])
@pytest.mark.parametrize("vid", [0, 10])
def test_nothing_is_made_on_a_port_of_a_bridge_which_would_lose_the_vlan(kind: str, refused: bool, vid: int) -> None:
    master = Link(20, "br0", kind, UP.mac, 1500, True, True)
    port = replace(UP, master=20)
    wanted, host = desired(WEB, network=replace(BLUE, vlan=vid)), observed(links=(port, master))
    plan = diff.plan(wanted, host, CONFIG)
    assert (steps(plan) == []) == refused
    one = seen(wanted, host)
    assert (one.networks[0].reason == "UPLINK_ENSLAVED") == refused
    assert ("port of" in one.uplinks[0].problem) == refused


def test_a_subinterface_that_is_there_is_used_although_its_uplink_is_a_port() -> None:
    master = Link(20, "br0", "bridge", UP.mac, 1500, True, True)
    assert seen(desired(), observed(links=(replace(UP, master=20), SUB, master))).networks[0].phase is Phase.READY
