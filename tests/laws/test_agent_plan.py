"""Laws of the agent's planner: from whatever a host looks like it gets where it should, in few rounds, and then rests;
it never touches what it did not make; and a step that fails leaves no trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fakes.links import FakeInterface, FakeKernel, FakeLinks, FakeNamespace
from fakes.prober import FakeProber, FakeWire
from fakes.targets import FakeTargets
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.apply import Applier
from agent.loop import Look, Observer
from agent.plan import diff, networks, uplinks, verify
from agent.plan.diff import Plan
from agent.plan.state import HostConfig, Namespace, Observed, ShimRoute, UplinkConfig
from trunkline import naming
from trunkline.errors import Reason, TrunklineError
from trunkline.model import (
    Desired,
    HostAttachment,
    HostNetwork,
    Mode,
    Observation,
    Origin,
    Phase,
    Prefix,
    Target,
    TargetKind,
)

ROUNDS = 6
NETWORKS = ("blue", "red", "plain")
VLANS = {"blue": 10, "red": 20, "plain": 0}
PATHS = ("/run/netns/a", "/run/netns/b", "/run/netns/c")


@dataclass
class Host:
    """A fake machine with its agent's parts."""

    kernel: FakeKernel
    config: HostConfig
    links: FakeLinks = field(init=False)
    targets: FakeTargets = field(init=False)
    observer: Observer = field(init=False)
    applier: Applier = field(init=False)

    def __post_init__(self) -> None:
        self.links = FakeLinks(self.kernel)
        self.targets = FakeTargets(self.kernel)
        self.observer = Observer(self.links, self.targets)
        self.applier = Applier(self.links, FakeProber(FakeWire(), "h1"))

    async def converge(self, desired: Desired, removals: bool = True) -> tuple[Plan, Observed]:
        """Round after round until nothing is left to do; fails when that takes too many."""
        for _ in range(ROUNDS):
            observed = await self.observer.observe(desired, Look.SWEEP)
            plan = diff.plan(desired, observed, self.config, removals=removals)
            if not any(plan.jobs()):
                return plan, observed
            failures = await self.applier.run(plan)
            assert not failures, failures
        raise AssertionError(f"not there after {ROUNDS} rounds; still to do: {list(plan.jobs())}")

    def report(self, desired: Desired, plan: Plan, observed: Observed) -> Observation:
        return verify.observation(desired, observed, plan, self.config, {})

    def picture(self) -> dict[str, dict[int, tuple[object, ...]]]:
        """Everything there is."""
        return {
            path: {index: _facts(space, one) for index, one in space.interfaces.items()}
            for path, space in self.kernel.spaces.items()
        }

    def foreign(self) -> dict[str, dict[int, tuple[object, ...]]]:
        """Everything that is not ours; of uplinks all but what we may change."""
        found: dict[str, dict[int, tuple[object, ...]]] = {}
        for path, space in self.kernel.spaces.items():
            for index, one in space.interfaces.items():
                if naming.is_ours(one.link.alias) or naming.is_temporary(one.link.name):
                    continue
                link = one.link
                if link.name in ("up0", "up1"):
                    link = replace(link, up=True, promiscuous=False, promiscuity=0)
                found.setdefault(path, {})[index] = (link, tuple(one.addresses))
        return found


def _facts(space: FakeNamespace, one: FakeInterface) -> tuple[object, ...]:
    routes = {route for route in space.marked_routes if route.index == one.link.index}
    return one.link, tuple(one.addresses), one.accept_ra, routes


def wanted_network(name: str, mtu: int = 0, mode: Mode = Mode.BRIDGE) -> HostNetwork:
    number = NETWORKS.index(name) + 1
    prefix = Prefix(f"20.0.{number}.0/24", f"20.0.{number}.1")
    return HostNetwork(name, number, "default", VLANS[name], mtu, mode, (prefix,))


def wanted_attachment(name: str, network: str, path: str, number: int, ifname: str = "") -> HostAttachment:
    which = NETWORKS.index(network) + 1
    return HostAttachment(
        name,
        network,
        Target(TargetKind.NETNS, path),
        f"06:0{which}:14:00:00:{number:02x}",
        (f"20.0.{which}.{number}/24",),
        ifname,
    )


def wanted_shim(network: str, number: int) -> HostAttachment:
    """The host's own interface on a network."""
    wanted = wanted_attachment(f"host/{network}", network, "1", 200 + number)
    return replace(wanted, target=Target(TargetKind.PID, "1"), origin=Origin.HOST)


@st.composite
def desires(draw: st.DrawFn) -> Desired:
    names = draw(st.lists(st.sampled_from(NETWORKS), unique=True))
    networks = [
        wanted_network(name, draw(st.sampled_from((0, 1400, 1500))), draw(st.sampled_from(list(Mode))))
        for name in names
    ]
    attachments = [
        wanted_attachment(
            f"a{number}",
            draw(st.sampled_from(NETWORKS)),
            draw(st.sampled_from((*PATHS, "/run/netns/absent", "/proc/1/ns/net"))),
            number,
            draw(st.sampled_from(("", "", "eth0", f"net{number}"))),
        )
        for number in draw(st.lists(st.integers(2, 9), unique=True, max_size=5))
    ]
    attachments += [wanted_shim(name, draw(st.integers(5, 6))) for name in NETWORKS if draw(st.integers(0, 3)) == 0]
    return Desired("e", draw(st.integers(1, 9)), tuple(networks), tuple(attachments))


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    kernel = FakeKernel()
    up = kernel.add_link(kernel.host, "up0", up=draw(st.booleans()), promiscuous=draw(st.booleans()))
    kernel.add_link(kernel.host, "up1", up=draw(st.booleans()))
    for path in PATHS:
        where = kernel.add_namespace(path)
        if draw(st.booleans()):
            kernel.add_link(where, draw(st.sampled_from(("eth0", "tl0"))), "veth")
    for vid in (10, 20, 30):
        draw(st.sampled_from((_nothing, _ours, _lent, _bridged, _foreign, _clash, _renamed)))(kernel, up, vid)
    for number in draw(st.lists(st.integers(2, 6), max_size=5)):
        _interface(draw, kernel, number)
    for name in draw(st.lists(st.sampled_from(NETWORKS), unique=True)):
        _shim(draw, kernel, name)
    uplink = UplinkConfig("default", "up0", draw(st.booleans()))
    return Host(kernel, HostConfig("h1", {"default": uplink}))


def _nothing(kernel: FakeKernel, up: int, vid: int) -> None:
    pass


def _ours(kernel: FakeKernel, up: int, vid: int) -> None:
    alias = naming.subinterface_mark("default", vid)
    kernel.add_link(
        kernel.host,
        f"up0.{vid}",
        "vlan",
        parent=up,
        vlan=vid,
        alias=alias,
        mtu=1400 if vid == 10 else 1500,
        up=vid != 20,
    )


def _lent(kernel: FakeKernel, up: int, vid: int) -> None:
    """Ours, and the host is reached by it."""
    _ours(kernel, up, vid)
    made = kernel.space(kernel.host).named(f"up0.{vid}")
    assert made is not None
    made.addresses = [f"192.0.2.{vid}/24"]


def _bridged(kernel: FakeKernel, up: int, vid: int) -> None:
    """Ours, and a port of somebody's bridge."""
    _ours(kernel, up, vid)
    made = kernel.space(kernel.host).named(f"up0.{vid}")
    assert made is not None
    kernel.change(kernel.host, made.link.index, master=kernel.add_link(kernel.host, f"br{vid}", "bridge"))


def _foreign(kernel: FakeKernel, up: int, vid: int) -> None:
    kernel.add_link(kernel.host, f"up0.{vid}", "vlan", parent=up, vlan=vid)


def _clash(kernel: FakeKernel, up: int, vid: int) -> None:
    kernel.add_link(kernel.host, f"up0.{vid}", "dummy")


def _renamed(kernel: FakeKernel, up: int, vid: int) -> None:
    kernel.add_link(kernel.host, f"v{vid}", "vlan", parent=up, vlan=vid, up=vid != 10)


def _interface(draw: st.DrawFn, kernel: FakeKernel, number: int) -> None:
    """A macvlan of some earlier life, in some state of disrepair, or somebody else's."""
    parents = [
        index
        for index, one in kernel.space(kernel.host).interfaces.items()
        if one.link.kind == "vlan" or one.link.name.startswith("up")
    ]
    where = kernel.space(Namespace(draw(st.sampled_from(PATHS)), "")).namespace
    alias = draw(st.sampled_from((naming.attachment_mark(f"a{number}"), "", "somebody's")))
    here = draw(st.integers(0, 4)) > 0
    names: tuple[str, ...] = (f"tl{number}", f"net{number}")
    if here and alias != "somebody's":  # else the name we need is taken for good, which is reported, not cured
        names = (*names, naming.temporary(f"a{number}"))
    name = draw(st.sampled_from(names))
    if kernel.space(where).named(name) is not None:
        return
    which = draw(st.integers(1, 3))
    index = kernel.add_link(
        where,
        name,
        "macvlan",
        parent=draw(st.sampled_from(parents)),
        parent_on_host=here,
        alias=alias,
        up=alias != "" and draw(st.booleans()),
        mode=draw(st.sampled_from(("bridge", "private"))),
        # MACs of strangers never meet ours: that is a conflict of its own kind, which planning cannot cure.
        mac=f"06:0{which}:14:00:00:{number:02x}" if naming.is_ours(alias) else f"0a:00:00:00:00:{number:02x}",
        mtu=1400,
    )
    if draw(st.booleans()):
        kernel.space(where).interfaces[index].addresses = [f"20.0.{which}.{draw(st.integers(2, 9))}/24"]


def _shim(draw: st.DrawFn, kernel: FakeKernel, network: str) -> None:
    """The host's own interface of an earlier life, in some state of disrepair; never marked, or somebody else's."""
    here = kernel.space(kernel.host)
    parents = [index for index, one in here.interfaces.items() if one.link.kind == "vlan" or one.link.name == "up0"]
    which = NETWORKS.index(network) + 1
    alias = naming.shim_mark(f"host/{network}")
    name, alias = draw(
        st.sampled_from(
            ((f"tlh{which}", alias), (f"host{which}", alias), (naming.temporary(alias), ""), (f"tlh{which}", "mine"))
        )
    )
    index = kernel.add_link(
        kernel.host,
        name,
        "macvlan",
        parent=draw(st.sampled_from(parents)),
        alias=alias,
        up=draw(st.booleans()) and naming.is_ours(alias),
        mode=draw(st.sampled_from(("bridge", "private"))),
        mac=f"06:0{which}:14:00:00:c{draw(st.sampled_from('de'))}",
        mtu=1400,
    )
    if draw(st.booleans()) and alias:  # it is marked before it gets an address
        here.interfaces[index].addresses = [f"20.0.{which}.{draw(st.integers(205, 206))}/32"]
        if here.interfaces[index].link.up:
            here.marked_routes.append(ShimRoute(index, f"20.0.{which}.7/32", "", 3))


def run(work: Callable[[], object]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]


@given(hosts(), desires(), desires())
@settings(max_examples=150, deadline=None)
def test_a_host_gets_there_and_rests(host: Host, first: Desired, second: Desired) -> None:
    async def law() -> None:
        foreign = host.foreign()
        for desired in (first, second):
            plan, observed = await host.converge(desired)
            seen = host.report(desired, plan, observed)
            assert seen.complete
            blocked = plan.blocked.keys() | plan.shims.blocked.keys()
            for one in seen.attachments:
                if one.name not in blocked:
                    assert one.phase is Phase.READY, one
                else:
                    assert one.phase is not Phase.READY, one
                    assert one.reason, one
            for network in seen.networks:
                assert network.phase in (Phase.READY, Phase.FAILED), network
            assert {one.name for one in seen.attachments if one.present} <= {one.name for one in desired.attachments}
            assert host.foreign() == foreign
            quiet = host.picture()
            again, _ = await host.converge(desired)
            assert not any(again.jobs())
            assert host.picture() == quiet

    run(law)


@given(hosts(), desires())
@settings(max_examples=80, deadline=None)
def test_nothing_is_left_behind(host: Host, desired: Desired) -> None:
    """Wanting nothing takes everything of ours away, and only that."""

    async def law() -> None:
        foreign = host.foreign()
        await host.converge(desired)
        await host.converge(Desired("e", 99))
        assert host.foreign() == foreign
        left = [
            (path, one.link.name)
            for path, space in host.kernel.spaces.items()
            for one in space.interfaces.values()
            if naming.is_ours(one.link.alias) and (one.link.parent_on_host or path == host.kernel.host.path)
        ]
        kept = {index for index in _carrying(host) if _is_our_vlan(host, index)}
        assert {name for _, name in left} == {host.kernel.space(host.kernel.host).interfaces[i].link.name for i in kept}

    run(law)


def _carrying(host: Host) -> set[int]:
    """The host's links that somebody would miss: with addresses, in a bridge, or under a link that is not ours."""
    here = host.kernel.space(host.kernel.host).interfaces.values()
    under = {
        one.link.parent
        for space in host.kernel.spaces.values()
        for one in space.interfaces.values()
        if one.link.parent_on_host and one.link.kind == "macvlan" and not _made_by_us(one)
    }
    return under | {one.link.index for one in here if one.addresses or one.link.master}


def _made_by_us(one: FakeInterface) -> bool:
    return naming.is_ours(one.link.alias) or (not one.link.alias and naming.is_temporary(one.link.name))


@given(hosts(), desires(), desires())
@settings(max_examples=150, deadline=None)
def test_a_subinterface_that_the_host_uses_is_left_as_it_is(host: Host, first: Desired, second: Desired) -> None:
    """Ours or not: neither its MTU nor its addresses nor itself change, whatever is wanted, and whatever no longer."""

    async def law() -> None:
        here = host.kernel.space(host.kernel.host).interfaces
        lent = {index: replace(here[index].link, up=True) for index in _carrying(host) if _is_our_vlan(host, index)}
        for desired in (first, second, Desired("e", 99)):
            plan, observed = await host.converge(desired)
            assert {index: replace(here[index].link, up=True) for index in lent} == lent
            unneeded = lent.keys() & {link.index for link in networks.leftovers((), host.config, observed.links)}
            if not desired.networks:
                assert unneeded == lent.keys()
                marks = {lent[index].alias: lent[index].name for index in lent}
                report = verify.observation(desired, observed, plan, host.config, {}, former=marks)
                failed = {one.name for one in report.networks if one.reason == "SUBINTERFACE_IN_USE"}
                assert failed == set(marks.values())
                assert {one.phase for one in report.networks} <= {Phase.FAILED}

    run(law)


def _is_our_vlan(host: Host, index: int) -> bool:
    one = host.kernel.space(host.kernel.host).interfaces.get(index)
    return one is not None and one.link.kind == "vlan" and naming.is_ours(one.link.alias)


@given(hosts(), desires(), desires())
@settings(max_examples=60, deadline=None)
def test_without_leave_nothing_is_taken_away(host: Host, first: Desired, second: Desired) -> None:
    """In a renewed history no link and no interface goes, and no MAC changes, whatever is wanted now."""

    async def law() -> None:
        await host.converge(first)
        before = host.picture()
        await host.converge(second, removals=False)
        after = host.picture()
        for path, links in before.items():
            for index in links:
                old, new = links[index][0], after[path][index][0]
                assert (old.mac, old.parent, old.alias) == (new.mac, new.parent, new.alias)  # type: ignore[attr-defined]

    run(law)


@given(hosts(), desires(), st.integers(0, 12))
@settings(max_examples=200, deadline=None)
def test_a_job_that_fails_leaves_no_trace(host: Host, desired: Desired, when: int) -> None:
    """Whichever kernel call of whichever job is refused, the host is then as that job found it."""

    async def law() -> None:
        countdown = when
        for _ in range(ROUNDS):
            observed = await host.observer.observe(desired, Look.SWEEP)
            plan = diff.plan(desired, observed, host.config)
            for job in plan.jobs():
                before = host.picture()
                calls = 0

                def refuse(step: str, limit: int = countdown) -> None:
                    nonlocal calls
                    calls += 1
                    if calls == limit + 1:
                        raise TrunklineError(Reason.KERNEL_REFUSED, f"{step} was refused")

                host.links.before = refuse
                try:
                    await host.applier.do(job)
                except TrunklineError:
                    host.links.before = lambda step: None
                    assert host.picture() == before, job
                    return
                finally:
                    host.links.before = lambda step: None
                countdown = max(0, countdown - calls)
            if not any(plan.jobs()):
                return

    run(law)


@given(st.integers(1, 40), st.booleans())
def test_two_labels_on_one_wire_are_found_whatever_the_order(seed: int, swap: bool) -> None:
    kernel = FakeKernel()
    bond = kernel.add_link(kernel.host, "bond0", "bond")
    kernel.add_link(kernel.host, "eth0", master=bond)
    kernel.add_link(kernel.host, "eth1", master=bond)
    alone = kernel.add_link(kernel.host, "eth2")
    kernel.add_link(kernel.host, "eth2.5", "vlan", parent=alone, vlan=5)
    links = [one.link for one in kernel.space(kernel.host).interfaces.values()]
    if swap:
        links.reverse()
    names = ("bond0", "eth0", "eth1", "eth2", "eth2.5")
    first, second = names[seed % 5], names[(seed // 5) % 5]
    config = {"a": UplinkConfig("a", first), "b": UplinkConfig("b", second)}
    bonded = {"bond0", "eth0", "eth1"}
    together = {first, second} <= bonded or {first, second} <= set(names) - bonded
    assert bool(uplinks.shared(config, links)) == together
