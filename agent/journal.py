"""What this host does with the addresses it was given, on disk before Docker or the controller is told.

One file, appended to: each line is a CRC-32 in hex, a space, and a JSON list of [network, address, entry | null], one
`write` or several that came together. It begins with a line of its schema, and is rewritten (beside, fsynced, renamed,
directory fsynced) when most of it is history, and after anything went wrong with it.

A power cut may leave half of a last line that nobody was told of: it is ignored. Anything else that cannot be read
makes all before it uncertain, since it may have been let go of there: only what was written after it counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from agent.plan.ledger import Entry
from trunkline import log
from trunkline.errors import Reason, TrunklineError

Key = tuple[str, str]
Changes = Mapping[Key, Entry | None]

NAME: Final = "addresses.journal"
SCHEMA: Final = 1
_HEADER: Final = b'{"schema":1}'
_SLACK: Final = 1024
"""Changes that are appended, beyond as many as there are entries, before the file is rewritten."""

_Line = list[tuple[str, str, Entry | None]]
_DECODER: Final = msgspec.json.Decoder(_Line)


class Journal:
    """The file `addresses.journal` of a state directory, mode 0600. `load` comes first."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._entries: dict[Key, Entry] = {}
        self._file = -1
        self._size = 0
        self._appended = 0
        self._whole = False
        self._keep_aside = False
        self._problem = ""
        self._waiting: list[tuple[Changes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._log = log.get("journal")

    @property
    def problem(self) -> str:
        """What is wrong with it since `load` or the last write, "" when all is well."""
        return self._problem

    def load(self) -> tuple[Mapping[Key, Entry], bool]:
        """Entries by (network, address), and whether these are all; what is not certain is left out. Raises nothing.

        A file that cannot be read is kept aside as `addresses.journal.corrupt` when the next change is written."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return {}, False
        except OSError as error:
            self._problem = f"journal {self._path} cannot be read: {error.strerror}"
            self._log.error("journal", why=self._problem)
            return {}, False
        entries, number = parse(data)
        self._entries = dict(entries)
        if number:
            self._keep_aside = True
            self._problem = (
                f"journal {self._path}: line {number} cannot be read; what was written before it is forgotten"
            )
            self._log.error("journal", why=self._problem)
        return dict(entries), not number

    async def write(self, changes: Changes) -> None:
        """Make changes durable (None removes) before it returns; calls that come together share one fsync. Raises
        SPOOL_CORRUPT when the disk refuses: none of it counts then, unless a later write says the same."""
        if not changes:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((dict(changes), done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await done

    async def close(self) -> None:
        """Finish what is being written. Idempotent."""
        if self._writer is not None:
            await asyncio.wait([self._writer])
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                changes: dict[Key, Entry | None] = {}
                for some, _ in batch:
                    changes.update(some)
                error = await asyncio.to_thread(self._commit, changes)
                for _, done in batch:
                    if done.done():  # its caller was cancelled
                        continue
                    if error is None:
                        done.set_result(None)
                    else:
                        done.set_exception(error)
        finally:
            self._writer = None

    def _commit(self, changes: Mapping[Key, Entry | None]) -> TrunklineError | None:
        after = dict(self._entries)
        for key, entry in changes.items():
            if entry is None:
                after.pop(key, None)
            else:
                after[key] = entry
        try:
            if not self._whole or self._appended > len(after) + _SLACK:
                self._rewrite(after)
            else:
                self._append(changes)
        except OSError as error:
            return self._failed(error)
        self._entries = after
        self._problem = ""
        return None

    def _append(self, changes: Changes) -> None:
        line = encode(changes.items())
        written = 0
        while written < len(line):
            written += os.write(self._file, line[written:])
        os.fsync(self._file)
        self._size += len(line)
        self._appended += len(changes)

    def _rewrite(self, entries: Mapping[Key, Entry]) -> None:
        beside = self._path.with_suffix(".new")
        data = _sealed(_HEADER) + (encode(entries.items()) if entries else b"")
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            written = 0
            while written < len(data):
                written += os.write(file, data[written:])
            os.fsync(file)
            if self._keep_aside:
                with contextlib.suppress(OSError):
                    os.replace(self._path, self._path.with_suffix(".journal.corrupt"))
                self._keep_aside = False
            os.replace(beside, self._path)
            _sync_directory(self._path.parent)
        except OSError:
            os.close(file)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._size, self._appended, self._whole = file, len(data), 0, True

    def _failed(self, error: OSError) -> TrunklineError:
        """Take back what may have been written; the next write begins a new file."""
        self._whole = False
        with contextlib.suppress(OSError):
            if self._file >= 0:
                os.ftruncate(self._file, self._size)
                os.fsync(self._file)
        why = f"journal {self._path}: {error.strerror or 'it cannot be written'}"
        if self._problem != why:
            self._log.error("journal", why=why)
        self._problem = why
        return TrunklineError(Reason.SPOOL_CORRUPT, why, "free space on the disk, or mend its owner and mode")


def encode(changes: Iterable[tuple[Key, Entry | None]]) -> bytes:
    """One line of the file."""
    return _sealed(msgspec.json.encode([(network, address, entry) for (network, address), entry in changes]))


def parse(data: bytes) -> tuple[Mapping[Key, Entry], int]:
    """What is certain of a journal's content, and the number of the last line that cannot be read, 0 if all can."""
    *lines, _torn = data.split(b"\n")
    entries: dict[Key, Entry] = {}
    bad = 0
    for number, line in enumerate(lines, 1):
        try:
            body = _opened(line)
            if number == 1:
                if body != _HEADER:
                    raise ValueError("another schema")
                continue
            changes = _DECODER.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            bad = number
            entries.clear()
            continue
        for network, address, entry in changes:
            if entry is None:
                entries.pop((network, address), None)
            else:
                entries[network, address] = entry
    if not lines:
        bad = 1
    return entries, bad


def _sealed(body: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _opened(line: bytes) -> bytes:
    if line[8:9] != b" " or int(line[:8], 16) != zlib.crc32(line[9:]):
        raise ValueError("its checksum is wrong")
    return line[9:]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
