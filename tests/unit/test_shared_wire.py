"""Values survive the wire, and what names nothing is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline import wire
from trunkline.agent.v1 import session_pb2
from trunkline.errors import Reason, Refusal
from trunkline.model import (
    Desired,
    HostAttachment,
    HostFacts,
    HostUplink,
    Mode,
    Observation,
    Phase,
    Prefix,
    Problem,
    Target,
    TargetKind,
)
from trunkline.v1 import attachment_pb2, fabric_pb2, network_pb2

TEXT = st.text(max_size=12)
UINT = st.integers(0, 2**32 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
TARGETS = st.one_of(
    st.builds(Target, st.sampled_from([TargetKind.CONTAINER, TargetKind.NETNS]), st.text(min_size=1, max_size=12)),
    st.builds(Target, st.just(TargetKind.PID), st.integers(1, 2**32 - 1).map(str)),
)
for kind, strategy in ((str, TEXT), (Target, TARGETS)):
    st.register_type_strategy(kind, strategy)


def _few(kind: type) -> st.SearchStrategy[object]:
    return st.lists(st.deferred(lambda: st.from_type(kind)), max_size=3).map(tuple)


def values(kind: type, **given_fields: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Build `kind` with every field drawn, so that a field forgotten on the wire is noticed."""
    drawn: dict[str, st.SearchStrategy[object]] = {}
    hints = get_type_hints(kind)
    for field in fields(kind):
        inner = get_args(hints[field.name])
        if field.name in given_fields:
            drawn[field.name] = given_fields[field.name]
        elif field.type == "int":
            drawn[field.name] = INT64 if field.name in ("revision", "session", "at_ms", "released_ms") else UINT
        elif inner[1:] == (Ellipsis,):  # a few are enough to see one lost, many make each example slow
            drawn[field.name] = _few(inner[0])
    return st.builds(kind, **{f.name: drawn.get(f.name, ...) for f in fields(kind)})


@given(values(Desired))
def test_desired_round_trip(value: Desired) -> None:
    pb = wire.desired_to_pb(value)
    assert wire.desired_from_pb(type(pb).FromString(pb.SerializeToString())) == value


@given(st.lists(values(Desired), max_size=4))
def test_desired_coded_again_and_again(states: list[Desired]) -> None:
    coder = wire.DesiredCoder()
    for value in [*states, *states[::-1]]:
        message = session_pb2.ConnectResponse()
        coder.write(value, message.desired)
        assert message.WhichOneof("message") == "desired", "an empty state is a state"
        assert message.desired == wire.desired_to_pb(value)


def test_a_changed_attachment_is_coded_anew() -> None:
    coder = wire.DesiredCoder()
    target = Target(TargetKind.CONTAINER, "web")
    for mac in ("02:00:00:00:00:01", "02:00:00:00:00:02"):
        message = session_pb2.DesiredState()
        coder.write(Desired("e", 1, (), (HostAttachment("web", "blue", target, mac),)), message)
        assert [a.mac for a in message.attachments] == [mac]


def _desired_strategies() -> None:
    from trunkline.model import (
        AttachmentObservation,
        EndpointObservation,
        Event,
        Grant,
        HostAttachment,
        HostNetwork,
        NetworkObservation,
    )

    phases = st.sampled_from([p for p in Phase if p is not Phase.DETACHING])
    for kind in (HostNetwork, HostAttachment, HostUplink, Prefix, Problem, Grant, EndpointObservation, Event):
        st.register_type_strategy(kind, values(kind))
    for observation in (NetworkObservation, AttachmentObservation):
        st.register_type_strategy(observation, values(observation, phase=phases))


_desired_strategies()


@given(values(Observation))
def test_observation_round_trip(value: Observation) -> None:
    pb = wire.observation_to_pb(value)
    assert wire.observation_from_pb(type(pb).FromString(pb.SerializeToString())) == value


@given(values(HostFacts))
def test_hello_round_trip(value: HostFacts) -> None:
    pb = wire.hello_to_pb(value)
    assert pb.protocol == 1
    assert wire.hello_from_pb(type(pb).FromString(pb.SerializeToString())) == value


@given(st.binary(max_size=200))
def test_bytes_of_strangers_raise_only_our_errors(data: bytes) -> None:
    from google.protobuf.message import DecodeError, Message

    parsers: tuple[tuple[type[Message], Callable[[Any], object]], ...] = (
        (session_pb2.DesiredState, wire.desired_from_pb),
        (session_pb2.Observation, wire.observation_from_pb),
        (session_pb2.Hello, wire.hello_from_pb),
    )
    for kind, parse in parsers:
        try:
            message = kind.FromString(data)
        except DecodeError:
            continue
        try:
            parse(message)
        except Refusal:
            pass


@pytest.mark.parametrize(
    "pb",
    [attachment_pb2.Target(), attachment_pb2.Target(container=""), attachment_pb2.Target(pid=0)],
)
def test_target_that_names_nothing_is_refused(pb: attachment_pb2.Target) -> None:
    with pytest.raises(Refusal) as caught:
        wire.target_from_pb(pb)
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert "pid" in caught.value.remedy or "process" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "4294967296", "²"])
def test_pid_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        wire.target_to_pb(Target(TargetKind.PID, text))


def test_unknown_numbers_never_pass_for_something_good() -> None:
    assert wire.phase_from_pb(99) is Phase.PENDING  # type: ignore[arg-type]
    assert wire.mode_from_pb(network_pb2.MACVLAN_MODE_UNSPECIFIED) is Mode.BRIDGE
    with pytest.raises(Refusal) as caught:
        wire.mode_from_pb(99)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.MODE_REFUSED


def test_every_mode_and_phase_has_its_number() -> None:
    assert {wire.mode_from_pb(wire.mode_to_pb(m)) for m in Mode} == set(Mode)
    assert {wire.phase_from_pb(wire.phase_to_pb(p)) for p in Phase} == set(Phase)


def test_uplink_keeps_its_label_outside_an_uplink_message() -> None:
    uplink = HostUplink("storage", "bond0", present=True, mtu=9000)
    assert (
        wire.uplink_from_pb(fabric_pb2.HostUplink.FromString(wire.uplink_to_pb(uplink).SerializeToString())) == uplink
    )
