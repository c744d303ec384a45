"""trunkline.agent.v1.AddressService: addresses for hosts, while Docker waits."""

# ruff: noqa: N802 - method names are those of the proto

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from grpc import aio

from controller.api.authz import check_host
from controller.plan.addresses import Cursors
from controller.plan.grants import Ask, GrantPlan, grant
from controller.reconcile.commit import Planned
from controller.reconcile.replica import Replica
from controller.reconcile.subscription import Subscription
from controller.state.snapshot import Snapshot
from controller.state.txn import Txn
from trunkline import log
from trunkline.agent.v1 import address_pb2, address_pb2_grpc
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.ids import IPAddress, check_name
from trunkline.tls import peer_identity

MARGIN: Final = 0.3
"""Seconds of a call's time that are left for the refusal to travel: a deadline that passes says nothing of why."""

ANSWER: Final = 0.6
"""Seconds after which a host that was asked to let go is not waited for alone; mostly it takes a tenth of that."""

PATIENCE: Final = 30.0
"""Seconds that are waited at most, whatever the call's deadline."""

SPREAD: Final = 8
"""Of so many more addresses, with each race that was lost, one is picked to be recalled."""

_log = log.get("grants")

Context = aio.ServicerContext[Any, Any]


class _Granting:
    """Plans one address; after races lost to another replica the cursor jumps away from its. Remembers what it has
    recalled, so that it asks for one address at a time."""

    def __init__(self, replica: Replica, cursors: Cursors, ask: Ask, waiters: Callable[[], int]) -> None:
        self._replica = replica
        self._cursors = cursors
        self._ask = ask
        self._waiters = waiters
        self._tried: Txn | None = None
        self._beaten = False
        self._losses = 0
        self.recalled: frozenset[IPAddress] = frozenset()
        self.mute: frozenset[str] = frozenset()

    def __call__(self, snapshot: Snapshot) -> Planned[GrantPlan]:
        if self._tried is not None:
            tried, self._tried = self._tried, None
            self._beaten = self._cursors.lost(snapshot, tried, secrets.randbits(32), self._beaten)
            self._losses += 1
        skip = secrets.randbelow(SPREAD * self._losses + 1)
        plan = grant(
            snapshot,
            self._ask,
            self._cursors,
            self._replica.clock.now_ms(),
            self.recalled,
            skip,
            self.mute,
            self._waiters(),
        )
        self._tried = plan.txn
        return Planned(plan.txn, plan)


class GrantApi(address_pb2_grpc.AddressServiceServicer):
    """See protos/trunkline/agent/v1/address.proto."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._cursors = replica.cursors
        self._waiting: Counter[tuple[str, int]] = Counter()

    async def Grant(self, request: address_pb2.GrantRequest, context: Context) -> address_pb2.GrantResponse:
        """Give at once what nobody has, else wait for what others let go."""
        check_host(peer_identity(context), request.host, "the request")
        ask = _asked(request)
        left = context.time_remaining()
        deadline = asyncio.get_running_loop().time() + min(PATIENCE, left if left is not None else 0.0) - MARGIN
        pool = (ask.network, ask.version)
        self._waiting[pool] += 1
        try:
            with self._replica.subscribed() as subscription:
                plan, revision = await self._granted(ask, subscription, deadline)
        finally:
            self._waiting[pool] -= 1
            self._waiting += Counter()  # drops what is zero
        _log.debug("granted", host=ask.host, network=ask.network, address=str(plan.address))
        return address_pb2.GrantResponse(address=str(plan.address), promised=plan.promised, revision=revision)

    async def _granted(self, ask: Ask, subscription: Subscription, deadline: float) -> tuple[GrantPlan, int]:
        pool = (ask.network, ask.version)
        planner, patience = _Granting(self._replica, self._cursors, ask, lambda: self._waiting[pool]), 0.0
        while True:
            try:
                plan, revision = await self._replica.committer.commit(planner)
            except TrunklineError as error:
                if error.reason is not Reason.STORE_CONTENTION or asyncio.get_running_loop().time() > deadline:
                    raise
                continue
            if plan.refusal is None:
                return plan, revision
            planner.recalled = plan.recalled
            now = asyncio.get_running_loop().time()
            if plan.txn is not None or now >= patience:
                patience = now + ANSWER
            try:
                async with asyncio.timeout_at(min(deadline, patience)):
                    await _touched(subscription, ask.network)
            except TimeoutError:
                if asyncio.get_running_loop().time() >= deadline:
                    raise plan.refusal from None
                held = self._replica.snapshot.addresses.get(ask.network, {})
                planner.mute |= {held[address].value.host for address in plan.recalled if address in held}


async def _touched(subscription: Subscription, network: str) -> None:
    """Return once the network, an address of it or the connection of a host has changed."""
    while network not in (await subscription.next()).networks:
        pass


def _asked(request: address_pb2.GrantRequest) -> Ask:
    check_name("host", request.host)
    check_name("network", request.network)
    if request.version not in (4, 6) and not request.address:
        raise Refusal(Reason.INVALID_ARGUMENT, f"IP version {request.version} is none", "ask for 4 or 6")
    return Ask(
        host=request.host,
        network=request.network,
        version=request.version,
        address=request.address,
        owner=request.owner,
        shared=request.shared,
        spare=request.spare,
    )
