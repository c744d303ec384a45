"""The journal of addresses: durable before it returns, never more than what is certain after."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.journal import NAME, Journal
from agent.plan.ledger import Entry
from trunkline.errors import Reason, TrunklineError
from trunkline.model import EndpointState

A, B, C = ("blue", "20.0.0.2"), ("blue", "20.0.0.3"), ("red", "fd00::3")
USED = Entry(EndpointState.USED, "web", True, True, "c1", "web", "02:42:00:00:00:01", 17)
KEPT = Entry(EndpointState.KEPT, "db", since_ms=18, destroyed=True)
STOCK = Entry(EndpointState.STOCK)


async def written(directory: Path, *writes: dict[tuple[str, str], Entry | None]) -> Path:
    journal = Journal(directory)
    journal.load()
    for changes in writes:
        await journal.write(changes)
    await journal.close()
    return directory / NAME


async def test_what_was_written_comes_back(tmp_path: Path) -> None:
    assert Journal(tmp_path).load() == ({}, False)
    path = await written(tmp_path, {A: USED, B: STOCK}, {B: KEPT}, {C: STOCK}, {A: None})
    assert Journal(tmp_path).load() == ({B: KEPT, C: STOCK}, True)
    assert path.stat().st_mode & 0o777 == 0o600


async def test_it_goes_on_in_the_next_life(tmp_path: Path) -> None:
    await written(tmp_path, {A: USED})
    await written(tmp_path, {B: KEPT})
    assert Journal(tmp_path).load() == ({A: USED, B: KEPT}, True)


async def test_half_a_last_line_was_never_acknowledged(tmp_path: Path) -> None:
    path = await written(tmp_path, {A: STOCK}, {A: USED})
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        assert Journal(tmp_path).load() == ({A: STOCK}, True), end
        path.write_bytes(whole[:end] + bytes(4096))
        assert Journal(tmp_path).load()[0] == {A: STOCK}


async def test_before_what_cannot_be_read_nothing_is_certain(tmp_path: Path) -> None:
    path = await written(tmp_path, {A: USED, B: STOCK}, {B: None}, {C: KEPT})
    data = path.read_bytes().replace(b'"20.0.0.3",null', b'"20.0.0.4",null')
    path.write_bytes(data)
    journal = Journal(tmp_path)
    assert journal.load() == ({C: KEPT}, False)
    assert "line 3" in journal.problem
    await journal.write({A: USED})
    await journal.close()
    assert journal.problem == ""
    assert Journal(tmp_path).load() == ({C: KEPT, A: USED}, True)
    assert (tmp_path / f"{NAME}.corrupt").read_bytes() == data


@pytest.mark.parametrize("content", [b"", b"\n", b"not a journal\n", b"\xff" * 100 + b"\n", b"[" * 100_000 + b"\n"])
async def test_a_file_that_says_nothing_is_not_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    journal = Journal(tmp_path)
    assert journal.load() == ({}, False)
    await journal.write({A: USED})
    await journal.close()
    assert Journal(tmp_path).load() == ({A: USED}, True)


async def test_calls_that_come_together_share_an_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.load()
    await journal.write({A: STOCK})
    synced = 0
    fsync = os.fsync

    def counted(file: int) -> None:
        nonlocal synced
        synced += 1
        fsync(file)

    monkeypatch.setattr(os, "fsync", counted)
    await asyncio.gather(*(journal.write({("blue", f"20.0.1.{i}"): USED}) for i in range(50)))
    assert synced <= 2
    await journal.close()
    assert len(Journal(tmp_path).load()[0]) == 51


async def test_history_is_left_behind(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.load()
    for _ in range(20):
        await asyncio.gather(*(journal.write({(f"n{i}", "20.0.0.2"): USED}) for i in range(200)))
    await journal.close()
    assert (tmp_path / NAME).stat().st_size < 120 * (2 * 200 + 1024)
    assert Journal(tmp_path).load() == ({(f"n{i}", "20.0.0.2"): USED for i in range(200)}, True)


async def test_a_disk_that_refuses_is_said_and_nothing_of_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.load()
    await journal.write({A: STOCK})
    write = os.write

    def full(file: int, data: bytes) -> int:
        write(file, data[:7])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(2):
        with pytest.raises(TrunklineError) as refused:
            await journal.write({A: USED})
        assert refused.value.reason is Reason.SPOOL_CORRUPT
        assert "No space left" in journal.problem
        assert Journal(tmp_path).load() == ({A: STOCK}, True)
    monkeypatch.undo()
    await journal.write({B: KEPT})
    assert journal.problem == ""
    await journal.close()
    assert Journal(tmp_path).load() == ({A: STOCK, B: KEPT}, True)


async def test_a_caller_that_goes_away_harms_no_other(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.load()
    first = asyncio.create_task(journal.write({A: USED}))
    second = asyncio.create_task(journal.write({B: USED}))
    await asyncio.sleep(0)
    first.cancel()
    await second
    await journal.close()
    assert Journal(tmp_path).load()[0][B] == USED
