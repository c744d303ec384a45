"""Choosing an address against a plain search: free, allowed, ascending from the cursor, and refused only when nothing
is left."""

from __future__ import annotations

import ipaddress

import pytest
from fakes.planning import NOW
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.plan.addresses import Cursor, Owner, choose
from controller.plan.prefixes import canonical, pool
from controller.state import codec, keys
from controller.state.entry import Change, Changes, Entry
from controller.state.records import AddressKind, AddressRecord
from controller.state.snapshot import Snapshot
from controller.state.txn import Absent, Unchanged
from trunkline.errors import Reason, Refusal
from trunkline.model import Prefix

ME = Owner("h1", "me")
NETS = ("20.0.0.0/28", "20.0.0.0/27", "20.0.0.8/30", "20.0.0.0/31", "fd00::/124", "fd00::ff00/120")


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    cidr = draw(st.sampled_from(NETS))
    net = ipaddress.ip_network(cidr)
    members = st.integers(0, net.num_addresses - 1).map(lambda n: net[n])
    spans = st.tuples(members, members).map(lambda pair: f"{min(pair)}-{max(pair)}")
    gateway = draw(st.none() | members)
    ranges, excludes = draw(st.lists(spans, max_size=2)), draw(st.lists(members.map(str), max_size=3))
    try:
        return canonical(Prefix(cidr, str(gateway or ""), tuple(ranges), tuple(excludes)))
    except Refusal:
        return canonical(Prefix(cidr))


kinds = st.sampled_from([AddressKind.ATTACHMENT, AddressKind.RESERVED, AddressKind.CONFLICT, None])
records = st.tuples(kinds, st.just(0), st.sampled_from(["other"])) | st.tuples(
    st.just(AddressKind.RESTING), st.integers(-3, 3), st.sampled_from(["other", "other", "other", "me"])
)


@settings(max_examples=150, deadline=None)
@given(prefixes(), st.data())
def test_plan_choice_is_right(prefix: Prefix, data: st.DataObject) -> None:
    limits, net = pool(prefix), ipaddress.ip_network(prefix.cidr)
    allowed = [int(address) for address in net if limits.is_dynamic(int(address))]
    assert len(allowed) == limits.size
    taken = data.draw(st.dictionaries(st.sampled_from([int(address) for address in net]), records))
    full = data.draw(st.booleans())
    for value in allowed if full else ():
        taken.setdefault(value, (AddressKind.ATTACHMENT, 0, "other"))
    snapshot, held = store(limits.address, taken)
    cursor = Cursor(last=data.draw(st.sampled_from([0, *allowed])))
    last = cursor.last
    free = [value for value in allowed if value not in taken]
    mine = [v for v in allowed if v in taken and taken[v][0] is AddressKind.RESTING and taken[v][2] == "me"]
    rested = [v for v in allowed if v in taken and taken[v][0] is AddressKind.RESTING and taken[v][1] <= 0]
    if not (free or mine or rested):
        with pytest.raises(Refusal) as caught:
            choose(snapshot, "n", prefix, ME, cursor, NOW)
        assert caught.value.reason is Reason.POOL_EXHAUSTED
        return
    choice = choose(snapshot, "n", prefix, ME, cursor, NOW)
    value, key = int(choice.address), keys.address("n", choice.address)
    if mine:
        assert value in mine
    elif free:
        assert value == (min((v for v in free if v > last), default=free[0]) if last else value)
        assert value in free
    else:
        assert value in rested
        assert taken[value][1] == min(taken[v][1] for v in rested)
    assert choice.guard == (Unchanged(key, held[value]) if value in held else Absent(key))


def store(address: object, taken: dict[int, tuple[AddressKind | None, int, str]]) -> tuple[Snapshot, dict[int, int]]:
    """A snapshot with these keys, and their revisions; kind None is a value that cannot be read."""
    snapshot, held = Snapshot(), {}
    for revision, (value, (kind, rest, owner)) in enumerate(taken.items(), start=2):
        key = keys.address("n", address(value))  # type: ignore[operator]
        data = b"?"
        if kind is not None:
            until = NOW + rest * 1000
            data = codec.encode(AddressRecord(kind, owner, "h1", "", 0, until, until + 10_000))
        snapshot.apply(Changes(revision, (Change(key, revision, Entry(key, data, revision, revision)),)))
        held[value] = revision
    return snapshot, held


@settings(deadline=None)
@given(prefixes(), st.integers(0, 2**63))
def test_plan_choices_fill_a_pool_without_repeating(prefix: Prefix, draw: int) -> None:
    """A cursor alone, on one snapshot, hands out each address once before any comes again, wherever it jumped to."""
    limits, cursor = pool(prefix), Cursor()
    cursor.jump(draw)
    picked = [choose(Snapshot(), "n", prefix, ME, cursor, NOW).address for _ in range(limits.size)]
    assert len(set(picked)) == limits.size
    assert all(limits.is_dynamic(int(address)) for address in picked)
