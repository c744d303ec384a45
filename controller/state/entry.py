"""What comes out of the store: entries, listings and changes, as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One key with its value, and the revision of its last change. `lease` is 0 when it hangs on none."""

    key: str
    value: bytes
    mod_revision: int
    create_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries of a prefix as of one revision."""

    revision: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One key that was put (`entry`) or deleted (`entry` is None) at `revision`."""

    key: str
    revision: int
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes in order of revision; every change up to and including `revision` has been delivered.

    `changes` may be empty: then only the revision is known to have been reached (progress).
    """

    revision: int
    changes: tuple[Change, ...]
