"""Paged listings at one revision."""

from __future__ import annotations

from typing import Final

import grpc

from controller.state.entry import Entry, Listing
from controller.store.etcd.channel import Refused, Ring
from controller.store.etcd.txn import decode, encode, prefix_end
from trunkline.errors import StoreUnavailable
from trunkline.etcd import kv_pb2
from trunkline.etcd import rpc_pb2 as pb

PAGE: Final = 2000
"""Entries of a page. A page of the largest values that a transaction takes would be too large for one message, so
pages shrink when etcd's answer does not fit."""

_RESTARTS: Final = 5


def entry(kv: kv_pb2.KeyValue, skip: int) -> Entry:
    """An entry; `skip` is the length of the prefix in bytes."""
    return Entry(decode(kv.key[skip:]), kv.value, kv.mod_revision, kv.create_revision, kv.lease)


async def listing(ring: Ring, prefix: str, page: int = PAGE) -> Listing:
    """All entries under `prefix` at one revision; starts again when that revision is compacted meanwhile."""
    for _ in range(_RESTARTS):
        try:
            return await _pages(ring, prefix, page)
        except Refused as refused:
            # The answer to a read of a revision that compaction has removed.
            if refused.code is not grpc.StatusCode.OUT_OF_RANGE:
                raise refused.error("to list keys") from None
    raise StoreUnavailable(f"etcd compacted its history {_RESTARTS} times while the keys were listed")


async def revision(ring: Ring) -> int:
    """The current revision, by a linearizable read."""
    request = pb.RangeRequest(key=encode(ring.settings.prefix), count_only=True)
    try:
        return (await ring.ask(lambda e: e.kv.Range, request, "a read")).header.revision
    except Refused as refused:
        raise refused.error("a read") from None


async def _pages(ring: Ring, prefix: str, page: int) -> Listing:
    data = encode(ring.settings.prefix)
    start = data + encode(prefix)
    request = pb.RangeRequest(key=start, range_end=prefix_end(start), limit=page)
    entries: list[Entry] = []

    async def shrink() -> None:
        request.limit = max(1, request.limit // 4)

    while True:
        response = await ring.ask(lambda e: e.kv.Range, request, "a listing", shrink)
        entries.extend(entry(kv, len(data)) for kv in response.kvs)
        # All later pages are read at the revision of the first.
        request.revision = request.revision or response.header.revision
        if not response.more:
            return Listing(request.revision, tuple(entries))
        request.key = response.kvs[-1].key + b"\0"
        request.limit = _next_limit(response, page)


def _next_limit(response: pb.RangeResponse, page: int) -> int:
    """Aim at pages of a few MB, judged by the last one; the channel takes 64 MB."""
    average = max(1, response.ByteSize() // len(response.kvs))
    return max(16, min(page, (4 << 20) // average))
