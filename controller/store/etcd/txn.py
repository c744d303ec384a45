"""Transactions as etcd's messages, and what an answer means.

A lane is one key that this adapter owns and that is never deleted. Each batch is committed on one lane, with an
attempt id of its own:

    if   lane.mod_revision == what we last saw, and the guards of the batch
    then put lane = id, the operations of the batch
    else if lane.mod_revision == what we last saw
         then put lane = id + " conflict"
         else read lane

Whichever branch is taken first moves the lane, so the same request can be sent again until it is answered: it is
applied at most once, and a later answer tells what the first one did, since the value of the lane is the id of the
last attempt and says how it ended. Thus an answer that was cut off is never mistaken for a conflict (a transaction
is recognised as one's own by its id), and a request that a frozen member lets loose seconds later finds the lane
moved and does nothing. The deletion of a guarded key cannot revive it either: the lane itself is never deleted and
its revision never returns. A lane that another process of the same name has taken over shows a foreign id.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from controller.state.txn import Absent, Guard, NoneNewer, Op, Put
from controller.store.batch import Batch
from trunkline.etcd import rpc_pb2 as pb

_CONFLICT = b" conflict"


def encode(text: str) -> bytes:
    """A key as bytes; keys that are not UTF-8 (not ours) survive the round trip."""
    return text.encode(errors="surrogateescape")


def decode(raw: bytes) -> str:
    """The inverse of `encode`."""
    return raw.decode(errors="surrogateescape")


def prefix_end(prefix: bytes) -> bytes:
    """End of the range of all keys that begin with `prefix`, as etcd's `range_end` wants it."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else b"\0"


class Codec:
    """Guards and operations under one prefix, as messages."""

    def __init__(self, prefix: str) -> None:
        self.data = encode(prefix)

    def compare(self, into: pb.Compare, guard: Guard) -> None:
        """Write one guard into an empty message. Equal to, the default, is not set: etcd's EQUAL is 0."""
        if isinstance(guard, NoneNewer):
            # A compare over a range holds if it holds for each key in it, and for an empty range.
            into.result = pb.Compare.LESS
            into.target = pb.Compare.MOD
            into.key = self.data + encode(guard.prefix)
            into.range_end = prefix_end(into.key)
            into.mod_revision = guard.revision + 1
            return
        into.key = self.data + encode(guard.key)
        if isinstance(guard, Absent):
            into.target = pb.Compare.CREATE
            into.create_revision = 0
        else:
            into.target = pb.Compare.MOD
            into.mod_revision = guard.mod_revision

    def operation(self, into: pb.RequestOp, op: Op) -> None:
        """Write one operation into an empty message."""
        if isinstance(op, Put):
            put = into.request_put
            put.key, put.value = self.data + encode(op.key), op.value
            if op.lease:
                put.lease = op.lease
        else:
            into.request_delete_range.key = self.data + encode(op.key)


class Ending(enum.Enum):
    """How an attempt ended."""

    APPLIED = enum.auto()
    CONFLICT = enum.auto()
    CANCELLED = enum.auto()
    FENCED = enum.auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ending, and the revision at which the lane shows it."""

    ending: Ending
    revision: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One batch on one lane. Its requests may be sent any number of times, in any order, and may arrive late."""

    lane: bytes
    known: int
    id: bytes

    def request(self, batch: Batch, codec: Codec) -> pb.TxnRequest:
        """The batch, as described above."""
        # Filled in place: a message that is handed over as an argument is copied, which took most of the time.
        request = pb.TxnRequest(
            compare=[self._unmoved()],
            success=[self._mark(self.id)],
            failure=[pb.RequestOp(request_txn=self._moving(self.id + _CONFLICT))],
        )
        for guard in batch.guards:
            codec.compare(request.compare.add(), guard)
        for op in batch.ops:
            codec.operation(request.success.add(), op)
        return request

    def cancellation(self) -> pb.TxnRequest:
        """Moves the lane if the batch has not, so that it never will be applied."""
        return self._moving(self.id + _CONFLICT)

    def judge(self, response: pb.TxnResponse) -> Verdict:
        """What the answer to `request` says of this attempt."""
        if response.succeeded:
            return Verdict(Ending.APPLIED, response.header.revision)
        inner = response.responses[0].response_txn
        if inner.succeeded:
            return Verdict(Ending.CONFLICT, response.header.revision)
        return self._read(inner)

    def judge_cancellation(self, response: pb.TxnResponse) -> Verdict:
        """What the answer to `cancellation` says of this attempt."""
        if response.succeeded:
            return Verdict(Ending.CANCELLED, response.header.revision)
        return self._read(response)

    def _read(self, response: pb.TxnResponse) -> Verdict:
        for kv in response.responses[0].response_range.kvs:
            if kv.value == self.id:
                return Verdict(Ending.APPLIED, kv.mod_revision)
            # Written by our request or by our cancellation: either way no write of ours was or will be applied.
            if kv.value == self.id + _CONFLICT:
                return Verdict(Ending.CONFLICT, kv.mod_revision)
        return Verdict(Ending.FENCED, response.header.revision)

    def _unmoved(self) -> pb.Compare:
        return pb.Compare(target=pb.Compare.MOD, key=self.lane, mod_revision=self.known)

    def _mark(self, value: bytes) -> pb.RequestOp:
        return pb.RequestOp(request_put=pb.PutRequest(key=self.lane, value=value))

    def _moving(self, value: bytes) -> pb.TxnRequest:
        return pb.TxnRequest(
            compare=[self._unmoved()],
            success=[self._mark(value)],
            failure=[pb.RequestOp(request_range=pb.RangeRequest(key=self.lane))],
        )
