"""Each fault stops what its name says and nothing else."""

import pytest
from lab.fabric import Lab
from lab.faults import (
    AllowVlans,
    DropArp,
    DropVlan,
    Fault,
    Loss,
    Mtu,
    NoForged,
    NoPromisc,
    OneWay,
    Partition,
    PortSecurity,
    Split,
    Way,
)
from lab.ping import reach, reaches
from lab.plan import CONTROLLER, mac

pytestmark = pytest.mark.lab

H2, H2_V20, BOX2 = "20.0.10.2", "20.0.20.2", "20.0.10.102"
FULL = ("-M", "do", "-s", "1472")  # a packet of exactly 1500 bytes

# What host 1 still reaches under each fault: h2 in VLAN 10, h2 in VLAN 20, the containers to each other.
CASES: list[tuple[Fault | None, bool, bool, bool]] = [
    (None, True, True, True),
    (DropVlan(2, 10), False, True, False),
    (AllowVlans(2, (0, 10)), True, False, True),
    (AllowVlans(2, (20,)), False, True, False),
    (NoPromisc(2), True, True, False),
    (NoForged(2), True, True, False),
    (PortSecurity(2), True, True, False),
    (Mtu(2, 1400), True, True, True),
    (Loss(2, 100), False, False, False),
    (OneWay(2, "in", vid=10), False, True, False),
    (OneWay(2, "out"), False, False, False),
    (Split(1, 2, "trunk"), False, False, False),
    (Partition(2), True, True, True),
    (DropArp(2), False, False, False),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].name if case[0] else "whole")
def test_a_fault_stops_what_it_names(mended: Lab, case: tuple[Fault | None, bool, bool, bool]) -> None:
    fault, *expected = case
    if fault:
        mended.fault(fault)
    assert reach(mended.host(1), (H2, ""), (H2_V20, ""), (BOX2, "box")) == expected


def test_large_packets_vanish_and_small_ones_pass(mended: Lab) -> None:
    h1 = mended.host(1)
    assert reaches(h1, H2, *FULL)
    mended.fault(Mtu(2, 1400))
    assert reaches(h1, H2, "-M", "do", "-s", "1372")
    assert not reaches(h1, H2, "-M", "do", "-s", "1373")


def test_vlans_are_isolated_and_tagged_on_the_wire(mended: Lab) -> None:
    h1, h2 = mended.hosts
    # One subnet on VLAN 10 here and VLAN 20 there. In a namespace of its own, since a
    # host answers ARP for each of its addresses on each of its interfaces.
    h1.ok("ip -n box addr add 20.0.30.1/24 dev mv")
    h2.ok(
        "ip netns add other; ip link add link enp7s0.20 name mv20 netns other type macvlan mode bridge;"
        "ip -n other addr add 20.0.30.2/24 dev mv20; ip -n other link set mv20 up"
    )
    with mended.capture(1) as wire:
        assert reach(h1, ("20.0.30.2", "box"), (H2, "")) == [False, True]
        assert "802.1Q" in wire.await_frame(r"vlan 10, .* 20\.0\.10\.1 > 20\.0\.10\.2: ICMP echo request")
        assert wire.text("vlan 10 and arp")
        assert not wire.text("vlan 20 and (arp or icmp)")


def test_a_partition_cuts_management_only_and_not_the_courier(mended: Lab) -> None:
    h2 = mended.host(2)
    assert reaches(h2, CONTROLLER)
    ways: list[tuple[Way, bool]] = [("out", False), ("in", True)]
    for way, heard in ways:
        mended.clear()
        mended.fault(Partition(2, way))
        with mended.capture(net="mgmt", match=f"ether src {mac('mgmt', 2)}") as wire:
            assert not reaches(h2, CONTROLLER)
            assert bool(wire.text()) == heard
        assert h2.ok(["hostname"]) == "h2\n"


def test_a_wire_that_is_down(mended: Lab) -> None:
    mended.link(2, "down")
    assert not reaches(mended.host(1), H2)
    assert not reaches(mended.host(2), "20.0.10.1")  # sending into nothing must not wedge it
    mended.link(2, "up")
    mended.clear()
    assert reaches(mended.host(1), H2)


def test_faults_outlive_the_object_that_set_them(mended: Lab) -> None:
    mended.fault(DropVlan(2, 10), AllowVlans(1, (0, 10)))
    assert Lab(mended.name).faults == [DropVlan(2, 10), AllowVlans(1, (0, 10))]
