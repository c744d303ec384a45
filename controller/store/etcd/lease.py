"""Leases: granted, renewed and revoked by single calls with a deadline each.

A stream of keep-alives that goes through a member which freezes stays silent until the lease is gone; so each
renewal opens a stream of its own, and the next try goes to another member.
"""

from __future__ import annotations

import asyncio
import math
import time

import grpc
from grpc import aio

from controller.store.etcd.channel import Refused, Ring, Unknown, being_cancelled
from controller.store.port import Reload
from trunkline.etcd import rpc_pb2 as pb


async def grant(ring: Ring, ttl: float) -> int:
    """A new lease. An attempt without an answer may leave a lease behind that nobody uses; it expires by itself."""
    try:
        request = pb.LeaseGrantRequest(TTL=math.ceil(ttl))
        answer = await ring.ask(lambda e: e.lease.LeaseGrant, request, "a lease", ring.raise_if_full)
    except Refused as refused:
        raise refused.error("a lease") from None
    return answer.ID


async def revoke(ring: Ring, lease: int) -> None:
    """End a lease; done when it is gone."""
    try:
        await ring.ask(lambda e: e.lease.LeaseRevoke, pb.LeaseRevokeRequest(ID=lease), "the end of a lease")
    except Refused as refused:
        if refused.code is not grpc.StatusCode.NOT_FOUND:
            raise refused.error("to end a lease") from None


async def renew(ring: Ring, lease: int) -> float:
    """Renew; the seconds count from before the call, since the answered attempt began after that."""
    give_up = time.monotonic() + ring.settings.deadline
    pause = 0.02
    while True:
        try:
            ttl = await _renew_once(ring, lease)
        except Unknown:
            if time.monotonic() + pause >= give_up:
                raise ring.unavailable("the renewal of a lease") from None
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 2)
            continue
        except Refused as refused:
            raise refused.error("to renew a lease") from None
        if ttl <= 0:
            raise Reload(f"lease {lease:x} is gone from etcd")
        return float(ttl)


async def _renew_once(ring: Ring, lease: int) -> int:
    endpoint = ring.pick()
    call = endpoint.lease.LeaseKeepAlive(timeout=ring.settings.attempt)
    try:
        await call.write(pb.LeaseKeepAliveRequest(ID=lease))
        answer = await call.read()
    except aio.AioRpcError as error:
        raise ring.judge(endpoint, error) from None
    except asyncio.CancelledError:
        if being_cancelled():
            raise
        raise Unknown(f"{endpoint.name}: the connection was closed here") from None
    except asyncio.InvalidStateError:
        raise Unknown(f"{endpoint.name}: the call had ended") from None
    finally:
        call.cancel()
    if not isinstance(answer, pb.LeaseKeepAliveResponse):
        ring.suspect(endpoint, "it ended a renewal without an answer")
        raise Unknown(f"{endpoint.name}: no answer")
    endpoint.answered()
    return answer.TTL
