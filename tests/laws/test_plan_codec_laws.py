"""The codec over everything hypothesis can think of: round trips, and nothing but our error on garbage. The bit maps
of a pool against a plain set."""

from __future__ import annotations

import dataclasses
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.plan.prefixes import merged, without
from controller.state import codec
from controller.state.entry import Entry, Listing
from controller.state.pool import Occupancy
from controller.state.snapshot import Snapshot
from trunkline.errors import Reason, TrunklineError

KEYS = [
    "epoch",
    "uplinks/u",
    "networks/n",
    "vlans/u/5",
    "numbers/5",
    "host-numbers/5",
    "addresses/n/20.0.0.1",
    "addresses/n/fd00::1",
    "macs/06:00:00:00:00:01",
    "attachments/h/a/n",
    "hosts/h",
    "sessions/h",
    "status/networks/h/n",
    "status/attachments/h/a/n",
    "status/hosts/h",
]

names = {field.name for kind in codec.RECORDS for field in dataclasses.fields(kind)} | {"v", "cidr", "kind", "value"}
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(sorted(names))
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(sorted(names)), inner)
)
values = st.binary() | documents.map(lambda document: json.dumps(document).encode())
some_keys = st.sampled_from(KEYS) | st.text() | st.tuples(st.sampled_from(KEYS), st.text()).map("".join)


@settings(deadline=None)
@given(st.data())
def test_plan_codec_round_trips_any_record(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(codec.RECORDS))
    plain = st.text(st.characters(exclude_categories=["Cs"]))
    record = data.draw(st.builds(kind, **texts(kind, plain)))
    value = codec.encode(record)
    assert codec._VALUES[kind].decode(value) == record
    codec._SHAPES[kind].decode(value)


def texts(kind: type, plain: st.SearchStrategy[str]) -> dict[str, st.SearchStrategy]:
    """Texts that JSON can carry; lone surrogates are no text."""
    found: dict[str, st.SearchStrategy] = {}
    for field in dataclasses.fields(kind):
        if field.type == "str":
            found[field.name] = plain
        elif field.type == "tuple[str, ...]":
            found[field.name] = st.lists(plain, max_size=3).map(tuple)
        elif field.type == "int":
            found[field.name] = st.integers(-(2**63), 2**63 - 1)
        elif field.type == "bool":
            found[field.name] = st.booleans()
    return found


@settings(deadline=None)
@given(some_keys, values)
def test_plan_codec_only_our_error_escapes(key: str, value: bytes) -> None:
    try:
        record = codec.decode(key, value)
    except TrunklineError as error:
        if error.reason is not Reason.STORE_CORRUPT:
            raise
    else:
        assert codec.decode(key, codec.encode(record)) == record


@settings(deadline=None)
@given(st.lists(st.tuples(some_keys, values), max_size=6))
def test_plan_snapshot_takes_any_store(entries: list[tuple[str, bytes]]) -> None:
    snapshot = Snapshot()
    listed = [Entry(key, value, n + 1, n + 1) for n, (key, value) in enumerate(dict(entries).items())]
    snapshot.replace(Listing(len(listed) + 1, tuple(listed)))
    for entry in listed:
        assert snapshot.exists(entry.key)
        try:
            codec.decode(entry.key, entry.value)
        except TrunklineError:
            assert entry.key in snapshot.broken
        else:
            assert entry.key not in snapshot.broken


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1200)), max_size=400), st.integers(0, 1300))
def test_plan_occupancy_is_a_set(changes: list[tuple[bool, int]], start: int) -> None:
    occupancy, members = Occupancy(), set()
    for add, member in [(True, n) for n in range(200, 1000)] + changes:
        if add:
            occupancy.add(member)
            members.add(member)
        else:
            occupancy.discard(member)
            members.discard(member)
    absent = start
    while absent in members:
        absent += 1
    assert occupancy.next_absent(start) == absent
    assert all((member in occupancy) == (member in members) for member in range(1300))


@settings(deadline=None)
@given(st.integers(0, 2**128 - 1), st.integers(1, 70_000))
def test_plan_occupancy_of_a_full_run(first: int, length: int) -> None:
    length = min(length, 3000)
    occupancy = Occupancy()
    for member in range(first, first + length):
        occupancy.add(member)
    assert occupancy.next_absent(first) == first + length
    occupancy.discard(first + length // 2)
    assert occupancy.next_absent(first) == first + length // 2


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda s: (s[0], s[0] + s[1])), max_size=8)


@settings(deadline=None)
@given(spans, spans)
def test_plan_spans_are_sets(some: list[tuple[int, int]], holes: list[tuple[int, int]]) -> None:
    def members(of: object) -> set[int]:
        return {n for low, high in of for n in range(low, high + 1)}  # type: ignore[attr-defined]

    left = list(without(merged(some), merged(holes)))
    assert members(left) == members(some) - members(holes)
    assert left == sorted(left)
    assert len(members(left)) == sum(high - low + 1 for low, high in left)
