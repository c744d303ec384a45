"""Own writes that come back: taken as they were meant, if they are what was written."""

from __future__ import annotations

import pytest

from controller.state import codec, keys, snapshot
from controller.state.entry import Change, Changes, Entry
from controller.state.records import Claim
from controller.state.snapshot import Snapshot
from controller.state.txn import Put, Txn

KEY = keys.mac("02:00:00:00:00:01")
PATH = codec.parse_key(KEY)


def claim(holder: str) -> Put:
    record = Claim(holder)
    return Put(KEY, codec.encode(record), known=(PATH, record))


def come_back(content: Snapshot, revision: int, value: bytes) -> None:
    content.apply(Changes(revision, (Change(KEY, revision, Entry(KEY, value, revision, revision)),)))


def test_an_own_write_is_not_read_again() -> None:
    content, put = Snapshot(), claim("h/a")
    content.expect(Txn((), (put,)))
    assert not content.exists(KEY), "expecting it does not make it so"
    come_back(content, 5, put.value)
    assert put.known is not None
    assert content.macs["02:00:00:00:00:01"].value is put.known[1]
    assert content.mod_revision(KEY) == 5


def test_what_another_wrote_is_read() -> None:
    content = Snapshot()
    content.expect(Txn((), (claim("h/a"),)))
    come_back(content, 5, codec.encode(Claim("h/b")))
    assert content.macs["02:00:00:00:00:01"].value == Claim("h/b")
    come_back(content, 6, claim("h/a").value)
    assert content.macs["02:00:00:00:00:01"].value == Claim("h/a")


def test_only_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_EXPECTED", 1)
    content, first, second = Snapshot(), claim("h/a"), claim("h/b")
    content.expect(Txn((), (first,)))
    content.expect(Txn((), (Put(keys.mac("02:00:00:00:00:02"), second.value, known=second.known),)))
    come_back(content, 5, first.value)
    assert first.known is not None
    seen = content.macs["02:00:00:00:00:01"].value
    assert seen == first.known[1]
    assert seen is not first.known[1]
