"""Records to bytes and back; whatever else is in the store ends in STORE_CORRUPT."""

from __future__ import annotations

import json

import pytest

from controller.state import codec, keys
from controller.state.records import (
    AddressKind,
    AddressRecord,
    AttachmentRecord,
    AttachmentStatus,
    Claim,
    EpochRecord,
    HostRecord,
    HostStatus,
    NetworkHostStatus,
    NetworkRecord,
    SessionRecord,
    UplinkRecord,
)
from trunkline.errors import Reason, TrunklineError
from trunkline.model import HostUplink, Phase, Prefix, Problem, Target, TargetKind

NETWORK = NetworkRecord(
    "red", "default", 100, 7, (Prefix("20.0.0.0/24", "20.0.0.1", ("20.0.0.10-20.0.0.20",), ("20.0.0.12-20.0.0.12",)),)
)
ATTACHMENT = AttachmentRecord(
    "h1", "web/red", "red", Target(TargetKind.CONTAINER, "web"), "02:07:14:00:00:0a", "web", ("20.0.0.10/24",)
)
SAMPLES = [
    (keys.EPOCH, EpochRecord("e1")),
    (keys.uplink("default"), UplinkRecord("default", ((2, 99), (101, 4094)))),
    (keys.network("red"), NETWORK),
    (keys.vlan("default", 100), Claim("red")),
    (keys.number(7), Claim("red")),
    (keys.host_number(1), Claim("h1")),
    (keys.address("red", "20.0.0.10"), AddressRecord(AddressKind.ATTACHMENT, "web", "h1", "web/red", 5)),
    (keys.address("red", "fd00::a"), AddressRecord(AddressKind.RESTING, "web", "h1", "", 5, 6, 7)),
    (keys.mac("06:00:00:00:00:01"), Claim("h1/web/red")),
    (keys.attachment("h1", "web/red"), ATTACHMENT),
    (keys.attachment_status("h1", "web/red"), AttachmentStatus(Phase.READY, addresses=("20.0.0.10/24",), present=True)),
    (keys.network_status("h1", "red"), NetworkHostStatus(Phase.FAILED, "UPLINK_DOWN", "eth0 is down")),
    (keys.host("h1"), HostRecord("h1", "abc", 1, {"rack": "b", "arch": "amd64"})),
    (
        keys.host_status("h1"),
        HostStatus("1", "6.1", "28", (HostUplink("default", "eth0"),), (Problem("host", "h1", "X", "y"),), ("red",), 9),
    ),
    (keys.session("h1"), SessionRecord("h1", "r1", 5)),
]


@pytest.mark.parametrize(("key", "record"), SAMPLES, ids=lambda value: value if isinstance(value, str) else "")
def test_plan_codec_round_trip(key: str, record: codec.Record) -> None:
    value = codec.encode(record)
    assert json.loads(value)["v"] == keys.SCHEMA
    assert codec.decode(key, value) == record
    assert codec.encode(codec.decode(key, value)) == value


def test_plan_codec_every_kind_is_sampled() -> None:
    assert {type(record) for _, record in SAMPLES} == set(codec.RECORDS)


def test_plan_codec_mappings_are_ordered() -> None:
    one = HostRecord("h1", "m", 1, {"a": "1", "b": "2"})
    two = HostRecord("h1", "m", 1, {"b": "2", "a": "1"})
    assert codec.encode(one) == codec.encode(two)


def test_plan_codec_absent_fields_take_their_defaults() -> None:
    assert codec.decode(
        "networks/red", b'{"v":1,"name":"red","uplink":"default","vlan":5,"number":1}'
    ) == NetworkRecord("red", "default", 5, 1)


def edited(record: codec.Record, **changes: object) -> bytes:
    return json.dumps({**json.loads(codec.encode(record)), **changes}).encode()


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("networks/red", edited(NETWORK, v=2), "schema 2, this controller reads 1"),
        ("networks/red", edited(NETWORK, v=2, later="field"), "schema 2"),
        ("networks/red", edited(NETWORK, colour="red"), "unknown field `colour`"),
        ("networks/red", edited(NETWORK, prefixes=[{"cidr": "20.0.0.0/24", "x": 1}]), "unknown field `x`"),
        ("networks/red", edited(NETWORK, deleting=None), "got `null`"),
        ("networks/red", edited(NETWORK, vlan=4095), "VLAN id"),
        ("networks/red", edited(NETWORK, number=0x42), "number 66"),
        ("networks/red", edited(NETWORK, mode="passthru"), "passthru"),
        ("networks/red", edited(NETWORK, prefixes=[{"cidr": "banana"}]), "banana"),
        ("networks/red", edited(NETWORK, prefixes=[{"cidr": "20.0.0.0/24", "gateway": "10.0.0.1"}]), "gateway"),
        ("networks/red", edited(NETWORK, prefixes=[{"cidr": "20.0.0.0/24", "ranges": ["20.0.0.9"]}]), ""),
        ("networks/blue", codec.encode(NETWORK), "names another network"),
        ("networks/red", b"", ""),
        ("networks/red", b"\xff\xfe", ""),
        ("networks/red", b"[" * 100_000, ""),
        ("networks/red", b"{}", "missing required field"),
        ("uplinks/default", edited(UplinkRecord("default"), vlans=[[5, 3]]), "out of order"),
        ("attachments/h1/web/red", edited(ATTACHMENT, addresses=["x"]), "x"),
        ("attachments/h2/web/red", codec.encode(ATTACHMENT), "names another attachment"),
        ("hosts/h1", edited(HostRecord("h1", "m", 1), number=0), "number 0"),
        ("sessions/h1", codec.encode(SessionRecord("h2", "r")), "names another host"),
    ],
)
def test_plan_codec_refuses_values(key: str, value: bytes, why: str) -> None:
    with pytest.raises(TrunklineError) as caught:
        codec.decode(key, value)
    assert caught.value.reason is Reason.STORE_CORRUPT
    assert why in caught.value.message
    assert key in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    "key",
    [
        "",
        "networks",
        "networks/",
        "networks/a/b",
        "status/other/h",
        "findings/red/1",
        "vlans/default",
        "vlans/default/0100",
        "vlans/default/4095",
        "vlans/default/x",
        "numbers/0",
        "numbers/²",
        "addresses/red",
        "addresses/red/20.0.0.010",
        "addresses/red/FD00::1",
        "addresses/red/fe80::1%eth0",
        "attachments/h1",
        "attachments/h1/",
        "status/networks/h1/a/b",
    ],
)
def test_plan_codec_refuses_keys(key: str) -> None:
    with pytest.raises(TrunklineError) as caught:
        codec.decode(key, b'{"v":1,"holder":"x"}')
    assert caught.value.reason is Reason.STORE_CORRUPT
