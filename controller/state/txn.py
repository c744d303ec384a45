"""A transaction as a value: guards that name every fact a plan relied on, and the writes that follow. Pure.

Guards and operations are what etcd can compare and do in one transaction (Txn of the v3 API).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.state.codec import Decoded

MAX_OPS = 120
"""Guards, and operations, one transaction may hold; each list counts for itself. etcd's default limit is 128,
of which the store adapter uses a few for itself."""

MAX_BYTES = 1_200_000
"""Bytes of keys and values one transaction may hold; etcd's default limit of a request is 1.5 MiB."""


@dataclass(frozen=True, slots=True)
class Absent:
    """The key does not exist."""

    key: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The key exists with exactly this modification revision."""

    key: str
    mod_revision: int


@dataclass(frozen=True, slots=True)
class NoneNewer:
    """No key under `prefix` was created or changed after `revision`. Deletions are not seen by it (law 2)."""

    prefix: str
    revision: int


Guard = Absent | Unchanged | NoneNewer


@dataclass(frozen=True, slots=True)
class Put:
    """Write `value` under `key`; a positive `lease` binds the key's life to that lease.

    `known` may say what `codec` would read from key and value, so that whoever sees them come back need not."""

    key: str
    value: bytes
    lease: int = 0
    known: Decoded | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove `key`; no error when it does not exist."""

    key: str


Op = Put | Delete


@dataclass(frozen=True, slots=True)
class Txn:
    """All `ops` are applied at one revision if all `guards` hold, else none. A key is written at most once."""

    guards: tuple[Guard, ...]
    ops: tuple[Op, ...]

    def __post_init__(self) -> None:
        if len({op.key for op in self.ops}) != len(self.ops):
            raise ValueError("a key is written twice in one transaction")
