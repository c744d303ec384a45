"""The ledger of this host, in memory and in the journal: what is handed out is on disk first, and what is let go is on
disk before anybody is told."""

from __future__ import annotations

import asyncio
from collections.abc import Container as Holds
from typing import Final

from agent.docking import Journal
from agent.plan import ledger
from agent.plan.ledger import Changes, Entries, Entry, Key
from trunkline import log
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, EndpointObservation, EndpointState, Problem

SAVE_SECONDS: Final = 2.0
"""A change that need not be on disk before anybody is told is waited for so long; it is written later else."""

GONE_MS: Final = 60_000
"""No listing of Docker takes so long."""


class Holdings:
    """Every address the host was given. Changes take effect in memory in the order they are made, so that nothing is
    chosen twice, and are written in that order."""

    def __init__(self, host: str, journal: Journal) -> None:
        self._host = host
        self._journal = journal
        self._entries: dict[Key, Entry] = {}
        self._unsaved: set[Key] = set()
        self._leaving: set[Key] = set()
        self._gone: dict[Key, int] = {}
        self._log = log.get("addresses")

    async def load(self) -> tuple[bool, bool]:
        """Read the journal; whether it says anything, and whether that is all."""
        entries, whole = await asyncio.to_thread(self._journal.load)
        self._entries = dict(entries)
        return bool(entries) or whole or bool(self._journal.problem), whole

    @property
    def entries(self) -> Entries:
        """The whole ledger; not to be changed."""
        return self._entries

    def free_of(self, network: str) -> Entries:
        """The ledger of a network less what is being let go of."""
        return {key: entry for key, entry in self._entries.items() if key[0] == network and key not in self._leaving}

    def observations(self, present: Holds[Key]) -> tuple[EndpointObservation, ...]:
        """The whole ledger for the controller."""
        return ledger.observations(self._entries, present)

    def add(self, key: Key, entry: Entry) -> None:
        """The controller gave this address; it is written with what is done with it."""
        self._apply({key: entry})

    async def hand_out(self, key: Key, entry: Entry) -> None:
        """Make an address used, on disk. Raises SPOOL_CORRUPT, and then, or when cancelled, it is as it was."""
        before = self._entries[key]
        self._apply({key: entry})
        try:
            await self._save()
        except BaseException:
            if self._entries.get(key) is entry:
                self._apply({key: before})
            raise

    async def change(self, changes: Changes) -> None:
        """Make changes; the disk may follow later. Raises nothing."""
        self._apply(changes)
        await self.settle()

    async def settle(self) -> None:
        """Write what is not on disk yet. Raises nothing: `problems` says when the disk refuses."""
        try:
            async with asyncio.timeout(SAVE_SECONDS):
                await self._save()
        except (TrunklineError, TimeoutError):
            pass

    async def let_go(self, desired: Desired, now_ms: int) -> bool:
        """Let go of what is over; whether there was any. What cannot be written stays. Raises nothing."""
        over = {key for key in ledger.over(self._entries, desired, now_ms) if key not in self._leaving}
        if not over:
            return False
        before = {key: self._entries[key] for key in over}
        self._leaving |= over
        try:
            async with asyncio.timeout(SAVE_SECONDS):
                await self._journal.write(dict.fromkeys(over))
        except BaseException as error:
            self._unsaved |= over  # it may be on disk, so it is written again as it stays
            if not isinstance(error, TrunklineError | TimeoutError):
                raise
            return False
        finally:
            self._leaving -= over
        self._gone = {key: ms for key, ms in self._gone.items() if now_ms - ms < GONE_MS}
        gone = [key for key in over if self._entries.get(key) is before[key]]
        for key in gone:
            del self._entries[key]
            self._unsaved.discard(key)
            self._gone[key] = now_ms
            self._log.info("address let go", network=key[0], address=key[1])
        return bool(gone)

    def gone_since(self, began_ms: int) -> list[Key]:
        """What was let go of after this time: a listing of Docker made before may still show it."""
        return [key for key, ms in self._gone.items() if ms >= began_ms and key not in self._entries]

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the journal."""
        if not self._journal.problem:
            return ()
        waiting = len(self._unsaved)
        message = self._journal.problem + (f"; {waiting} changes wait to be written" if waiting else "")
        return (Problem("host", self._host, Reason.SPOOL_CORRUPT.name, message),)

    def _apply(self, changes: Changes) -> None:
        for key, entry in changes.items():
            if entry is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = entry
        self._unsaved.update(changes)

    async def _save(self) -> None:
        changes = {key: self._entries.get(key) for key in self._unsaved}
        if not changes:
            return
        await self._journal.write(changes)
        self._unsaved -= {key for key, entry in changes.items() if self._entries.get(key) is entry}


def stock(owner: str, promise: bool, now_ms: int) -> Entry:
    """The entry of an address that the controller has just given."""
    return Entry(EndpointState.STOCK, owner if promise else "", promised=promise, since_ms=now_ms)
