"""A store of one process that applies transactions one after another, judging guards as etcd compares revisions."""

from __future__ import annotations

from controller.state import codec
from controller.state.entry import Change, Changes, Entry, Listing
from controller.state.txn import MAX_OPS, Absent, Guard, NoneNewer, Put, Txn, Unchanged


class Applier:
    """Keys with create and mod revisions, a revision for all, and every change since the beginning."""

    def __init__(self) -> None:
        self.revision = 1
        self.entries: dict[str, Entry] = {}
        self.log: list[Change] = []

    def holds(self, guard: Guard) -> bool:
        """Whether a guard holds now."""
        match guard:
            case Absent(key):
                return key not in self.entries
            case Unchanged(key, revision):
                return key in self.entries and self.entries[key].mod_revision == revision
            case NoneNewer(prefix, revision):
                return not any(e.mod_revision > revision for k, e in self.entries.items() if k.startswith(prefix))

    def commit(self, txn: Txn) -> int | None:
        """The revision at which it was applied; None when a guard failed."""
        assert len(txn.guards) <= MAX_OPS
        assert len(txn.ops) <= MAX_OPS
        if not all(map(self.holds, txn.guards)):
            return None
        self.revision += 1
        for op in txn.ops:
            if isinstance(op, Put):
                assert op.known in (None, (codec.parse_key(op.key), codec.decode(op.key, op.value)))
                self._put(op.key, op.value, op.lease)
            else:
                self._delete(op.key)
        return self.revision

    def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """Write one key, with no guard."""
        self.revision += 1
        self._put(key, value, lease)
        return self.revision

    def expire(self, lease: int) -> None:
        """End a lease: its keys go at one revision."""
        keys = [key for key, entry in self.entries.items() if entry.lease == lease]
        if keys:
            self.revision += 1
            for key in keys:
                self._delete(key)

    def _put(self, key: str, value: bytes, lease: int) -> None:
        before = self.entries.get(key)
        created = before.create_revision if before is not None else self.revision
        entry = Entry(key, value, self.revision, created, lease)
        self.entries[key] = entry
        self.log.append(Change(key, self.revision, entry))

    def _delete(self, key: str) -> None:
        if self.entries.pop(key, None) is not None:
            self.log.append(Change(key, self.revision, None))

    def listing(self) -> Listing:
        """Everything, as of now."""
        return Listing(self.revision, tuple(self.entries[key] for key in sorted(self.entries)))

    def changes(self, after: int, until: int | None = None) -> Changes:
        """What changed after one revision up to another, the current one unless given."""
        end = self.revision if until is None else min(until, self.revision)
        return Changes(end, tuple(change for change in self.log if after < change.revision <= end))
