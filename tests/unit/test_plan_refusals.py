"""Every refusal of the planners: reason, the objects it names, and a remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakes.planning import NOW, Room, container

from controller.plan.requests import AttachmentRequest, NetworkRequest, NetworkUpdate, PrefixChange
from controller.plan.uplinks import parse_ranges
from controller.state import codec, keys
from controller.state.records import AddressKind, AddressRecord, Claim
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.model import HostFacts, HostUplink, Observation, Prefix, Target, TargetKind


def refused(reason: Reason, call: Callable[[], Any], *named: str) -> TrunklineError:
    with pytest.raises(TrunklineError) as caught:
        call()
    error = caught.value
    assert error.reason is reason, str(error)
    for name in named:
        assert name in error.text, error.text
    assert error.remedy
    return error


@pytest.fixture
def room() -> Room:
    """Two hosts, VLANs 100 to 102, network red of 20.0.0.0/29 with gateway .1."""
    room = Room()
    room.host("h1")
    room.host("h2")
    room.uplink(((100, 102),))
    room.network("red", "20.0.0.0/29", gateway="20.0.0.1")
    return room


# Networks as asked for.


@pytest.mark.parametrize("name", ["", "-red", "re d", "réd", "a/b", "x" * 64])
def test_plan_network_name(room: Room, name: str) -> None:
    refused(Reason.INVALID_NAME, lambda: room.create(NetworkRequest(name, vlan=5)), repr(name))


def test_plan_network_uplink_name(room: Room) -> None:
    refused(Reason.INVALID_NAME, lambda: room.create(NetworkRequest("n", "up link", 5)), "up link")


@pytest.mark.parametrize(
    ("prefix", "reason", "named"),
    [
        (Prefix("20.0.1.1/24"), Reason.INVALID_PREFIX, ("20.0.1.1/24", "20.0.1.0/24")),
        (Prefix("banana"), Reason.INVALID_PREFIX, ("banana",)),
        (Prefix("0.0.0.0/0"), Reason.INVALID_PREFIX, ("0.0.0.0/8",)),
        (Prefix("224.0.1.0/24"), Reason.INVALID_PREFIX, ("224.0.0.0/4",)),
        (Prefix("fe80::/64"), Reason.INVALID_PREFIX, ("fe80::/10",)),
        (Prefix("20.0.1.0/24", "20.0.2.1"), Reason.INVALID_GATEWAY, ("20.0.2.1", "outside")),
        (Prefix("20.0.1.0/24", "20.0.1.0"), Reason.INVALID_GATEWAY, ("network address",)),
        (Prefix("20.0.1.0/24", "20.0.1.255"), Reason.INVALID_GATEWAY, ("broadcast address",)),
        (Prefix("fd00::/64", "fd00::"), Reason.INVALID_GATEWAY, ("anycast",)),
        (Prefix("20.0.1.0/24", "x"), Reason.INVALID_GATEWAY, ("'x'",)),
        (Prefix("20.0.1.0/24", ranges=("20.0.2.1-20.0.2.9",)), Reason.INVALID_RANGE, ("20.0.2.1-20.0.2.9",)),
        (Prefix("20.0.1.0/24", ranges=("20.0.1.9-20.0.1.1",)), Reason.INVALID_RANGE, ("did you mean",)),
        (Prefix("20.0.1.0/24", ranges=("x-y",)), Reason.INVALID_RANGE, ("x-y",)),
        (Prefix("20.0.1.0/24", excludes=("20.0.2.0/28",)), Reason.INVALID_RANGE, ("20.0.2.0/28",)),
        (Prefix("20.0.1.0/24", excludes=("20.0.1.0/24",)), Reason.INVALID_RANGE, ("nothing is left",)),
        (Prefix("20.0.1.0/32", "20.0.1.0"), Reason.INVALID_RANGE, ("nothing is left",)),
    ],
    ids=str,
)
def test_plan_network_prefix(room: Room, prefix: Prefix, reason: Reason, named: tuple[str, ...]) -> None:
    refused(reason, lambda: room.create(NetworkRequest("n", vlan=5, prefixes=(prefix,))), *named)


def test_plan_network_two_prefixes_of_a_family(room: Room) -> None:
    prefixes = (Prefix("20.0.1.0/24"), Prefix("20.0.2.0/24"))
    refused(
        Reason.INVALID_PREFIX,
        lambda: room.create(NetworkRequest("n", vlan=5, prefixes=prefixes)),
        "20.0.1.0/24",
        "one family",
    )


@pytest.mark.parametrize(
    ("mtu", "cidr", "named"),
    [(67, "20.0.1.0/24", "68 to 65535"), (1279, "fd00::/64", "RFC 8200"), (65536, "20.0.1.0/24", "65535")],
)
def test_plan_network_mtu(room: Room, mtu: int, cidr: str, named: str) -> None:
    request = NetworkRequest("n", vlan=5, prefixes=(Prefix(cidr),), mtu=mtu)
    refused(Reason.INVALID_MTU, lambda: room.create(request), str(mtu), named)


def test_plan_network_mtu_above_a_hosts_uplink(room: Room) -> None:
    refused(
        Reason.UPLINK_MTU, lambda: room.create(NetworkRequest("n", vlan=5, mtu=9000)), "9000", "1500", "host h1", "eth0"
    )


@pytest.mark.parametrize("vlan", [4095, -1, 5000])
def test_plan_network_vlan_number(room: Room, vlan: int) -> None:
    refused(Reason.INVALID_VLAN, lambda: room.create(NetworkRequest("n", vlan=vlan)), str(vlan))


def test_plan_network_mode_passthru(room: Room) -> None:
    request = NetworkRequest("n", vlan=5, mode="passthru")  # type: ignore[arg-type]
    refused(Reason.MODE_REFUSED, lambda: room.create(request), "passthru", "bridge, private or vepa")


@pytest.mark.parametrize("term", ["", "a b", "=x", "rack=a b", "h{1}"])
def test_plan_network_selector(room: Room, term: str) -> None:
    refused(
        Reason.INVALID_ARGUMENT, lambda: room.create(NetworkRequest("n", vlan=5, host_selector=(term,))), repr(term)
    )


def test_plan_network_times(room: Room) -> None:
    refused(Reason.INVALID_ARGUMENT, lambda: room.create(NetworkRequest("n", vlan=5, rest_seconds=-1)), "rest of -1")
    refused(Reason.INVALID_ARGUMENT, lambda: room.create(NetworkRequest("n", vlan=5, hold_seconds=1 << 40)), "hold of")


def test_plan_network_auto_without_range(room: Room) -> None:
    refused(
        Reason.UPLINK_NOT_SET, lambda: room.create(NetworkRequest("n", "storage")), "storage", "trunkline uplink set"
    )


def test_plan_network_auto_exhausted(room: Room) -> None:
    room.network("green")
    room.network("blue")
    refused(Reason.VLAN_EXHAUSTED, lambda: room.create(NetworkRequest("n")), "default", "100-102")


def test_plan_network_vlan_taken(room: Room) -> None:
    refused(
        Reason.VLAN_TAKEN,
        lambda: room.create(NetworkRequest("n", vlan=100)),
        "VLAN 100",
        "uplink default",
        "network red",
    )


def test_plan_network_untagged_taken(room: Room) -> None:
    room.create(NetworkRequest("flat", vlan=0))
    refused(Reason.VLAN_TAKEN, lambda: room.create(NetworkRequest("n", vlan=0)), "untagged", "network flat")


def test_plan_network_overlap(room: Room) -> None:
    request = NetworkRequest("n", vlan=5, prefixes=(Prefix("20.0.0.0/16"),))
    refused(
        Reason.PREFIX_OVERLAP, lambda: room.create(request), "20.0.0.0/16", "20.0.0.0/29", "network red", "--overlap"
    )


def test_plan_network_overlap_needs_both(room: Room) -> None:
    request = NetworkRequest("n", vlan=5, prefixes=(Prefix("20.0.0.0/16"),), overlap=True)
    refused(Reason.PREFIX_OVERLAP, lambda: room.create(request), "network red")


def test_plan_network_exists(room: Room) -> None:
    error = refused(
        Reason.NETWORK_EXISTS,
        lambda: room.create(NetworkRequest("red", vlan=7, mtu=1400)),
        "network red",
        "VLAN auto",
    )
    assert "MTU not set, asked for 1400" in error.text
    assert "prefixes 20.0.0.0/29" in error.text


def test_plan_network_beside_an_unreadable_one(room: Room) -> None:
    room.put(keys.network("odd"), b"not ours")
    request = NetworkRequest("n", vlan=5, prefixes=(Prefix("30.0.0.0/24"),))
    refused(Reason.STORE_CORRUPT, lambda: room.create(request), "networks/odd")
    refused(Reason.STORE_CORRUPT, lambda: room.create(NetworkRequest("odd", vlan=5)), "networks/odd")


def test_plan_network_unreadable_claims_count_as_taken(room: Room) -> None:
    room.put(keys.vlan("default", 101), b"?")
    room.put(keys.number(2), b"?")
    refused(Reason.VLAN_TAKEN, lambda: room.create(NetworkRequest("n", vlan=101)), "unreadable", "vlans/default/101")
    record = room.create(NetworkRequest("n")).record
    assert (record.vlan, record.number) == (102, 3)


# Changing and deleting networks.


def update(room: Room, **fields: Any) -> Callable[[], Any]:
    return lambda: room.update(NetworkUpdate("red", **fields))


def test_plan_update_unknown(room: Room) -> None:
    refused(Reason.NETWORK_NOT_FOUND, lambda: room.update(NetworkUpdate("rot")), "'rot'", "known: red")


def test_plan_update_other_prefix(room: Room) -> None:
    refused(Reason.IMMUTABLE, update(room, prefixes=(PrefixChange("30.0.0.0/24"),)), "30.0.0.0/24", "20.0.0.0/29")


def test_plan_update_shrunken_ranges(room: Room) -> None:
    change = PrefixChange("20.0.0.0/29", ranges=("20.0.0.2-20.0.0.3",))
    refused(Reason.IMMUTABLE, update(room, prefixes=(change,)), "the whole prefix", "network red", "excludes")


def test_plan_update_excludes_in_use(room: Room) -> None:
    room.attach("h1", "red", "web")
    change = PrefixChange("20.0.0.0/29", excludes=("20.0.0.2",))
    refused(Reason.NETWORK_IN_USE, update(room, prefixes=(change,)), "20.0.0.2", "web/red", "host h1")


def test_plan_update_gateway_and_mtu_in_use(room: Room) -> None:
    room.attach("h1", "red", "web")
    change = PrefixChange("20.0.0.0/29", gateway="20.0.0.6")
    refused(Reason.NETWORK_IN_USE, update(room, prefixes=(change,)), "gateway", "h1/web/red")
    refused(Reason.NETWORK_IN_USE, update(room, mtu=1400), "MTU", "h1/web/red")
    assert room.update(NetworkUpdate("red", mtu=0)).txn is None


def test_plan_delete_in_use_names_ten(room: Room) -> None:
    room.network("wide", "20.1.0.0/24")
    for n in range(12):
        room.attach("h1", "wide", f"c{n:02}")
    refused(Reason.NETWORK_IN_USE, lambda: room.delete("wide"), "h1/c00/wide", "h1/c09/wide", "and 2 more")


def test_plan_delete_with_an_unreadable_address(room: Room) -> None:
    room.put(keys.address("red", "20.0.0.4"), b"?")
    refused(Reason.NETWORK_IN_USE, lambda: room.delete("red"), "addresses/red/20.0.0.4")


def test_plan_network_being_deleted(room: Room) -> None:
    room.delete("red")
    refused(Reason.NETWORK_DELETING, lambda: room.update(NetworkUpdate("red", mtu=1400)), "red")
    refused(Reason.NETWORK_DELETING, lambda: room.create(NetworkRequest("red")), "red")
    refused(Reason.NETWORK_DELETING, lambda: room.attach("h1", "red", "web"), "red")


# Uplinks.


def test_plan_uplink_in_use(room: Room) -> None:
    refused(Reason.UPLINK_IN_USE, lambda: room.uplink(((101, 199),)), "100 (red)", "101-199", "default")


@pytest.mark.parametrize("text", ["0-5", "5-4095", "9-3", "a", "1-2-3", "-5"])
def test_plan_uplink_ranges(text: str) -> None:
    refused(Reason.INVALID_VLAN, lambda: parse_ranges(text))


def test_plan_uplink_name(room: Room) -> None:
    refused(Reason.INVALID_NAME, lambda: room.uplink((), label="a b"), "a b")


# Attaching.


def attach(room: Room, host: str = "h1", network: str = "red", name: str = "web", **fields: Any) -> Callable[[], Any]:
    return lambda: room.attach(host, network, name, **fields)


def test_plan_attach_unknown(room: Room) -> None:
    refused(Reason.HOST_NOT_FOUND, attach(room, host="h9"), "'h9'", "h1, h2")
    refused(Reason.NETWORK_NOT_FOUND, attach(room, network="rot"), "'rot'", "red")


def test_plan_attach_host_state(room: Room) -> None:
    room.drain("h1")
    refused(Reason.HOST_DRAINED, attach(room), "h1", "--undo")
    room.cut("h1")
    room.forget_step("h1")
    refused(Reason.HOST_FORGETTING, attach(room), "h1")


def test_plan_attach_not_selected(room: Room) -> None:
    room.update(NetworkUpdate("red", host_selector=("h2",)))
    refused(Reason.HOST_NOT_SELECTED, attach(room), "red", "h1", "selector is h2")


def test_plan_attach_without_uplink(room: Room) -> None:
    room.create(NetworkRequest("far", "storage", 5))
    refused(Reason.UPLINK_NOT_ON_HOST, attach(room, network="far"), "h1", "'storage'", "far", "it has default")


def test_plan_attach_uplink_mtu(room: Room) -> None:
    room.update(NetworkUpdate("red", mtu=1500))
    room.host("h3", uplinks=(HostUplink("default", "eth7", True, True, True, 1400),))
    refused(Reason.UPLINK_MTU, attach(room, host="h3"), "1500", "1400", "eth7", "h3")


def test_plan_attach_exists(room: Room) -> None:
    room.attach("h1", "red", "web")
    error = refused(Reason.ATTACHMENT_EXISTS, attach(room, ifname="eth9"), "web/red", "h1", "asked for eth9", "--name")
    assert "target" not in error.message
    refused(Reason.ATTACHMENT_EXISTS, attach(room, addresses=("20.0.0.5",)), "addresses not set, asked for 20.0.0.5")


def test_plan_attach_detaching(room: Room) -> None:
    room.attach("h1", "red", "web")
    room.detach("h1", "web/red")
    refused(Reason.ATTACHMENT_DETACHING, attach(room), "web/red", "h1")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (Target(TargetKind.CONTAINER, ""), "container"),
        (Target(TargetKind.NETNS, "blue"), "/run/netns/blue"),
        (Target(TargetKind.PID, "0"), "process id"),
        (Target(TargetKind.PID, "abc"), "process id"),
    ],
)
def test_plan_attach_target(room: Room, target: Target, named: str) -> None:
    refused(Reason.INVALID_ARGUMENT, lambda: room.ask(AttachmentRequest("h1", "red", target)), named)


def test_plan_attach_names(room: Room) -> None:
    refused(Reason.INVALID_NAME, attach(room, attachment="a//b"), "a//b")
    refused(Reason.INVALID_NAME, attach(room, ifname="a/b"), "a/b")
    refused(Reason.INVALID_NAME, attach(room, ifname="x" * 16))


def test_plan_attach_ifname_taken(room: Room) -> None:
    room.network("green", "20.1.0.0/29")
    room.attach("h1", "red", "web", ifname="data0")
    refused(Reason.IFNAME_TAKEN, attach(room, network="green", ifname="data0"), "data0", "web/red", "h1")


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01", "00:00:00:00:00:00", "02:00", "xx:00:00:00:00:01"])
def test_plan_attach_mac_malformed(room: Room, mac: str) -> None:
    refused(Reason.INVALID_MAC, attach(room, mac=mac), mac)


def test_plan_attach_mac_of_a_probe(room: Room) -> None:
    refused(Reason.INVALID_MAC, attach(room, mac="02:01:00:00:00:01"), "probes")


def test_plan_attach_mac_taken(room: Room) -> None:
    room.attach("h1", "red", "web", mac="06:00:01:00:00:01")
    refused(Reason.MAC_TAKEN, attach(room, name="db", mac="06:00:01:00:00:01"), "h1/web/red")


def test_plan_attach_mac_built_by_another(room: Room) -> None:
    built = room.attach("h1", "red", "web").record.mac
    refused(Reason.MAC_TAKEN, attach(room, name="db", mac=built), built, "20.0.0.2", "network red", "h1/web/red")


# Addresses.


@pytest.mark.parametrize(
    ("address", "reason", "named"),
    [
        ("20.0.1.1", Reason.ADDRESS_OUTSIDE, ("20.0.1.1", "red", "20.0.0.0/29")),
        ("fd00::1", Reason.ADDRESS_OUTSIDE, ("fd00::1",)),
        ("20.0.0.0", Reason.ADDRESS_OUTSIDE, ("network address", "20.0.0.1 to 20.0.0.6")),
        ("20.0.0.7", Reason.ADDRESS_OUTSIDE, ("broadcast address",)),
        ("20.0.0.1", Reason.ADDRESS_RESERVED, ("gateway", "red")),
        ("20.0.0.4/24", Reason.INVALID_ARGUMENT, ("prefix length",)),
        ("banana", Reason.INVALID_ARGUMENT, ("banana",)),
    ],
)
def test_plan_attach_static(room: Room, address: str, reason: Reason, named: tuple[str, ...]) -> None:
    refused(reason, attach(room, addresses=(address,)), *named)


def test_plan_attach_static_excluded(room: Room) -> None:
    room.update(NetworkUpdate("red", (PrefixChange("20.0.0.0/29", excludes=("20.0.0.4",)),)))
    refused(Reason.ADDRESS_RESERVED, attach(room, addresses=("20.0.0.4",)), "20.0.0.4", "excluded", "network red")


def test_plan_attach_static_anycast(room: Room) -> None:
    room.network("six", "fd00::/64")
    refused(Reason.ADDRESS_OUTSIDE, attach(room, network="six", addresses=("fd00::",)), "subnet-router anycast")


def test_plan_attach_two_of_a_family(room: Room) -> None:
    refused(Reason.INVALID_ARGUMENT, attach(room, addresses=("20.0.0.3", "20.0.0.4")), "one address per family")


def test_plan_attach_addresses_and_none(room: Room) -> None:
    refused(Reason.INVALID_ARGUMENT, attach(room, addresses=("20.0.0.3",), no_ip=True), "20.0.0.3", "--no-ip")


def test_plan_attach_address_without_prefix(room: Room) -> None:
    room.network("flat")
    refused(Reason.ADDRESS_OUTSIDE, attach(room, network="flat", addresses=("20.0.0.3",)), "no prefix")


def test_plan_address_taken(room: Room) -> None:
    room.attach("h2", "red", "db", addresses=("20.0.0.3",))
    refused(Reason.ADDRESS_TAKEN, attach(room, addresses=("20.0.0.3",)), "20.0.0.3", "db/red", "host h2")


def test_plan_address_resting_then_held(room: Room) -> None:
    room.attach("h2", "red", "db", addresses=("20.0.0.3",))
    room.release("h2", "db/red")
    ask = attach(room, addresses=("20.0.0.3",))
    refused(Reason.ADDRESS_RESTING, ask, "rests until 2023-11-14 22:18:20Z", "db", "host h2")
    room.now += 301_000
    refused(Reason.ADDRESS_RESTING, ask, "is held until 2023-11-15 22:13:20Z", "db", "host h2")
    room.now += 86_400_000
    assert ask().record.addresses == ("20.0.0.3/29",)


@pytest.mark.parametrize(
    ("kind", "reason", "named"),
    [
        (AddressKind.RESERVED, Reason.ADDRESS_RESERVED, "reserved for printer"),
        (AddressKind.CONFLICT, Reason.ADDRESS_CONFLICT, "06:00:01:00:00:09"),
        (AddressKind.STOCK, Reason.ADDRESS_TAKEN, "stock of host h2"),
    ],
)
def test_plan_address_of_other_kinds(room: Room, kind: AddressKind, reason: Reason, named: str) -> None:
    record = AddressRecord(kind, "printer", "h2", "06:00:01:00:00:09", NOW)
    room.put(keys.address("red", "20.0.0.3"), codec.encode(record))
    refused(reason, attach(room, addresses=("20.0.0.3",)), "20.0.0.3", named)


def test_plan_address_unreadable(room: Room) -> None:
    room.put(keys.address("red", "20.0.0.2"), b"{")
    refused(Reason.STORE_CORRUPT, attach(room, addresses=("20.0.0.2",)), "addresses/red/20.0.0.2")
    assert room.attach("h1", "red", "web").record.addresses == ("20.0.0.3/29",)


def test_plan_pool_exhausted(room: Room) -> None:
    for n in range(3):
        room.attach("h2", "red", f"c{n}")
    room.attach("h1", "red", "x")
    room.attach("h1", "red", "y")
    room.release("h1", "y/red")
    error = refused(Reason.POOL_EXHAUSTED, attach(room))
    assert error.message == (
        "pool 20.0.0.0/29 of network red is exhausted: "
        "5 addresses, 4 used (host h2 3, h1 1), 1 resting until 2023-11-14 22:18:20Z"
    )
    assert error.remedy == (
        "detach what is not needed (see `trunkline attachment list --network red`), "
        "use another network with a larger prefix, or wait for the rest to end"
    )
    room.now += 301_000
    assert "was held for y on host h1" in attach(room)().warnings[0]


def test_plan_pool_exhausted_but_for_ranges(room: Room) -> None:
    for n in range(6):
        room.host(f"g{n}")
    prefix = Prefix("20.9.0.0/24", ranges=("20.9.0.10-20.9.0.15",), excludes=("20.9.0.15",))
    room.create(NetworkRequest("n", prefixes=(prefix,)))
    room.attach("g5", "n", "static", addresses=("20.9.0.200",))
    for n in range(5):
        room.attach(f"g{n}", "n", "web")
    error = refused(Reason.POOL_EXHAUSTED, attach(room, network="n"))
    assert error.message == (
        "pool 20.9.0.0/24 of network n is exhausted: 5 addresses, 6 used (host g5 1, g0 1, g1 1 and 3 hosts more), "
        "0 resting, some of these outside of its ranges"
    )
    assert "widen the ranges or drop excludes with `trunkline network update n`" in error.remedy


# Hosts.


def test_plan_register_other_machine(room: Room) -> None:
    refused(
        Reason.HOST_MACHINE_MISMATCH,
        lambda: room.register(HostFacts("h1", "another")),
        "h1",
        "machine-h1",
        "another",
        "trunkline host forget h1",
    )


def test_plan_register_malformed(room: Room) -> None:
    refused(Reason.INVALID_NAME, lambda: room.register(HostFacts("h 1", "m")), "h 1")
    refused(Reason.INVALID_ARGUMENT, lambda: room.register(HostFacts("h5", "")), "machine-id")
    refused(Reason.INVALID_ARGUMENT, lambda: room.register(HostFacts("h5", "m", labels={"a=b": "c"})), "a=b")


def test_plan_register_unreadable(room: Room) -> None:
    room.put(keys.host("h1"), b"?")
    refused(Reason.STORE_CORRUPT, lambda: room.register(HostFacts("h1", "machine-h1")), "hosts/h1")


def test_plan_forget(room: Room) -> None:
    refused(Reason.HOST_NOT_FOUND, lambda: room.forget_step("h9"), "h9")
    refused(Reason.HOST_NOT_FOUND, lambda: room.drain("h9"), "h9")
    refused(Reason.HOST_CONNECTED, lambda: room.forget_step("h1"), "h1", "live session")
    room.cut("h1")
    room.forget_step("h1")
    refused(Reason.HOST_FORGETTING, lambda: room.register(HostFacts("h1", "machine-h1")), "h1")
    refused(Reason.HOST_FORGETTING, lambda: room.drain("h1"), "h1")


def test_plan_forget_with_an_unreadable_attachment(room: Room) -> None:
    room.put(keys.attachment("h1", "web/red"), b"?")
    room.cut("h1")
    room.forget_step("h1")
    refused(Reason.STORE_CORRUPT, lambda: room.forget_step("h1"), "attachments/h1/web/red")


# Observations.


def test_plan_settle_refuses(room: Room) -> None:
    session = room.snapshot.sessions["h1"].mod_revision
    refused(Reason.EPOCH_MISMATCH, lambda: room.settle("h1", session, Observation("old", 5)), "'old'", "'e1'", "h1")
    refused(Reason.SESSION_SUPERSEDED, lambda: room.settle("h1", session - 1, Observation("e1", 5)), "h1", str(session))
    stray = Observation("e1", 5, session=session + 1)
    refused(Reason.SESSION_SUPERSEDED, lambda: room.settle("h1", session, stray), "h1")
    room.cut("h1")
    refused(Reason.SESSION_SUPERSEDED, lambda: room.settle("h1", session, Observation("e1", 5)), "none")


def test_plan_desired_of_an_unreadable_attachment(room: Room) -> None:
    room.put(keys.attachment("h1", "web/red"), b"?")
    refused(Reason.STORE_CORRUPT, lambda: room.desired("h1"), "h1", "attachments/h1/web/red")
    assert room.desired("h2").networks


def test_plan_detach_unreadable(room: Room) -> None:
    room.put(keys.attachment("h1", "web/red"), b"?")
    refused(Reason.STORE_CORRUPT, lambda: room.detach("h1", "web/red"), "attachments/h1/web/red")


def test_plan_refusals_are_refusals(room: Room) -> None:
    room.put(keys.mac("06:00:01:00:00:01"), codec.encode(Claim("h2/x")))
    with pytest.raises(Refusal):
        room.ask(AttachmentRequest("h1", "red", container("web"), mac="06:00:01:00:00:01"))
