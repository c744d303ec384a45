"""The whole fabric at a glance."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from controller.fleet import Fleet
from controller.plan.status import fabric_view
from controller.reconcile.replica import Replica
from controller.store.port import Member
from trunkline.errors import Reason, StoreUnavailable
from trunkline.v1 import fabric_pb2
from trunkline.wire import problem_to_pb

MUTE = 180.0
"""Seconds: agents report at least at each of their ticks, of 30 s unless configured otherwise."""

LISTED = 200
"""Problems named in one answer; how many more there are is said in a last line."""


def overview(replica: Replica, members: Sequence[Member], version: str) -> fabric_pb2.GetStatusResponse:
    """What this replica knows now. Answers with the store away, too, and then says so first."""
    store = [
        fabric_pb2.StoreMember(
            endpoint=member.endpoint,
            healthy=member.healthy,
            version=member.version,
            problem=member.problem,
            db_size=member.db_size,
        )
        for member in members
    ]
    problems = [*_store_problems(replica, members), *mute_hosts(replica.fleet, time.monotonic())]
    try:
        view = fabric_view(replica.snapshot)
    except StoreUnavailable:
        return fabric_pb2.GetStatusResponse(version=version, replica=replica.name, store=store, problems=problems)
    problems += [problem_to_pb(problem) for problem in view.problems]
    more = len(problems) - LISTED
    last = [fabric_pb2.Problem(kind="fabric", message=f"and {more} more")] if more > 0 else []
    return fabric_pb2.GetStatusResponse(
        version=version,
        replica=replica.name,
        epoch=view.epoch,
        revision=view.revision,
        store=store,
        hosts=view.hosts,
        hosts_connected=view.hosts_connected,
        networks=view.networks,
        attachments=view.attachments,
        attachments_ready=view.attachments_ready,
        attachments_away=view.attachments_away,
        addresses=view.addresses,
        problems=[*problems[:LISTED], *last],
        attachments_docker=view.attachments_docker,
        attachments_host=view.attachments_host,
        addresses_stock=view.addresses_stock,
        addresses_kept=view.addresses_kept,
        addresses_promised=view.addresses_promised,
    )


def mute_hosts(fleet: Fleet, now: float) -> Iterator[fabric_pb2.Problem]:
    """Hosts whose session lives here while their agent has stopped looking: the stream answers, the loop does not."""
    for host in fleet.hosts():
        session = fleet.get(host)
        if session is not None and session.mute(now) > MUTE:
            message = (
                f"it is connected, but has not reported for {session.mute(now):.0f} s: its agent hangs, or looks less "
                f"often than that; see its log on {host}, and restart trunkline-agent (what runs there goes on)"
            )
            yield fabric_pb2.Problem(kind="host", object=host, reason=Reason.HOST_UNREACHABLE.name, message=message)


def _store_problems(replica: Replica, members: Sequence[Member]) -> Iterator[fabric_pb2.Problem]:
    unavailable = Reason.STORE_UNAVAILABLE.name
    if not replica.level:
        message = f"the store does not answer controller {replica.name}; what is shown may be old"
        yield fabric_pb2.Problem(kind="store", reason=unavailable, message=message)
    for member in members:
        if not member.healthy or member.problem:
            message = member.problem or "it does not answer"
            if not member.healthy:
                message += (
                    "; see whether etcd runs there, and what it logs (an embedded one is started again by itself)"
                )
            yield fabric_pb2.Problem(kind="store", object=member.endpoint, reason=unavailable, message=message)
