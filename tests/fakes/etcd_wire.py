"""A model of etcd's transactions behind a network that loses requests, loses answers, and delivers late.

It executes the adapter's own messages (compares, ranges, nested transactions) by etcd's rules, so that the lane
protocol can be run through faults by the thousand. What etcd really does is checked by tests/contract/store.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from controller.store.etcd.channel import EtcdSettings, Unknown
from trunkline.errors import StoreUnavailable
from trunkline.etcd import kv_pb2
from trunkline.etcd import rpc_pb2 as pb


class Fate(enum.Enum):
    """What happens to one request."""

    ANSWERED = enum.auto()
    ANSWER_LOST = enum.auto()
    REQUEST_LOST = enum.auto()
    LATE = enum.auto()


@dataclass
class Model:
    """One linearizable etcd. `applied` lists (revision, key, value) of every put."""

    revision: int = 1
    entries: dict[bytes, kv_pb2.KeyValue] = field(default_factory=dict)
    applied: list[tuple[int, bytes, bytes]] = field(default_factory=list)

    def txn(self, request: pb.TxnRequest) -> pb.TxnResponse:
        """One transaction: the whole of it at one revision."""
        at = self.revision + 1
        response = self._txn(request, at)
        if self.applied and self.applied[-1][0] == at:
            self.revision = at
        self._stamp(response)
        return response

    def range(self, request: pb.RangeRequest) -> pb.RangeResponse:
        """One read."""
        kvs = [self.entries[key] for key in sorted(self._keys(request.key, request.range_end))]
        return pb.RangeResponse(header=pb.ResponseHeader(revision=self.revision), kvs=kvs)

    def _stamp(self, response: pb.TxnResponse) -> None:
        response.header.revision = self.revision

    def _keys(self, key: bytes, end: bytes) -> list[bytes]:
        return [k for k in self.entries if (key <= k < end if end else k == key)]

    def _txn(self, request: pb.TxnRequest, at: int) -> pb.TxnResponse:
        held = all(self._holds(compare) for compare in request.compare)
        responses = [self._op(op, at) for op in (request.success if held else request.failure)]
        return pb.TxnResponse(succeeded=held, responses=responses)

    def _holds(self, compare: pb.Compare) -> bool:
        found = [self.entries[k] for k in self._keys(compare.key, compare.range_end)] or [kv_pb2.KeyValue()]
        if compare.target == pb.Compare.CREATE:
            return all(kv.create_revision == compare.create_revision for kv in found)
        if compare.result == pb.Compare.LESS:
            return all(kv.mod_revision < compare.mod_revision for kv in found)
        return all(kv.mod_revision == compare.mod_revision for kv in found)

    def _op(self, op: pb.RequestOp, at: int) -> pb.ResponseOp:
        if op.HasField("request_put"):
            put = op.request_put
            before = self.entries.get(put.key)
            self.entries[put.key] = kv_pb2.KeyValue(
                key=put.key, value=put.value, mod_revision=at, create_revision=before.create_revision if before else at
            )
            self.applied.append((at, put.key, put.value))
            return pb.ResponseOp(response_put=pb.PutResponse())
        if op.HasField("request_delete_range"):
            self.entries.pop(op.request_delete_range.key, None)
            return pb.ResponseOp(response_delete_range=pb.DeleteRangeResponse())
        if op.HasField("request_range"):
            return pb.ResponseOp(response_range=self.range(op.request_range))
        return pb.ResponseOp(response_txn=self._txn(op.request_txn, at))


class LossyRing:
    """Stands where `controller.store.etcd.channel.Ring` stands; `fates` decides about each request in turn."""

    def __init__(self, model: Model, settings: EtcdSettings, fates: Iterator[Fate]) -> None:
        self.model = model
        self.settings = settings
        self.endpoints = [None] * 50
        self.held: list[pb.TxnRequest] = []
        self._fates = fates

    async def call(self, method: Callable[[Any], Callable[[Any], Any]], request: Any) -> Any:
        """One attempt; a request that is held back is applied by `release`, after anything else."""
        await asyncio.sleep(0)
        serve = method(SimpleNamespace(kv=SimpleNamespace(Txn=self.model.txn, Range=self.model.range)))
        fate = next(self._fates, Fate.ANSWERED)
        if fate is Fate.LATE and isinstance(request, pb.TxnRequest):
            self.held.append(request)
        if fate in (Fate.ANSWERED, Fate.ANSWER_LOST):
            answer = serve(request)
            await asyncio.sleep(0)
            if fate is Fate.ANSWERED:
                return answer
        raise Unknown(fate.name)

    def release(self, count: int | None = None) -> None:
        """Deliver requests that were held back, oldest first."""
        for _ in range(len(self.held) if count is None else min(count, len(self.held))):
            self.model.txn(self.held.pop(0))

    async def is_full(self) -> bool:
        """Never."""
        return False

    def unavailable(self, what: str) -> StoreUnavailable:
        """As the real one."""
        return StoreUnavailable(f"no answer to {what}")
