"""AttachmentService."""

# ruff: noqa: N802 - method names are those of the proto

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from typing import Any

from grpc import aio

from controller.api import messages, parse
from controller.api.reading import BREATH, stamped
from controller.api.watching import watch
from controller.plan.addresses import Cursors
from controller.plan.attachments import AttachPlan, DetachPlan, attach, default_name, detach
from controller.plan.desired import host_network
from controller.plan.requests import AttachmentRequest
from controller.reconcile.commit import Planned
from controller.reconcile.replica import Replica
from controller.reconcile.touched import Touched
from controller.state.snapshot import Snapshot
from controller.state.txn import Txn
from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.v1 import attachment_pb2, attachment_pb2_grpc

INSPECT_SECONDS = 5.0
"""How long a host may take to say whether a target can be attached."""

BATCH = 10_000
"""Items of one BatchAttach at most."""

Context = aio.ServicerContext[Any, Any]
Name = tuple[str, str]


class _Attaching:
    """Plans one attachment; after races lost to another replica the address cursor jumps away from its."""

    __slots__ = ("_beaten", "_cursors", "_replica", "_tried", "_wanted")

    def __init__(self, replica: Replica, cursors: Cursors, wanted: AttachmentRequest) -> None:
        self._replica = replica
        self._cursors = cursors
        self._wanted = wanted
        self._tried: Txn | None = None
        self._beaten = False

    def __call__(self, snapshot: Snapshot) -> Planned[AttachPlan]:
        draw = secrets.randbits(64)
        if self._tried is not None:
            tried, self._tried = self._tried, None
            self._beaten = self._cursors.lost(snapshot, tried, draw >> 8, self._beaten)
        plan = attach(snapshot, self._wanted, self._cursors, draw, self._replica.clock.now_ms())
        self._tried = plan.txn
        return Planned(plan.txn, plan)


class AttachmentApi(attachment_pb2_grpc.AttachmentServiceServicer):
    """See protos/trunkline/v1/attachment.proto."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._cursors = replica.cursors

    async def Attach(self, request: attachment_pb2.AttachRequest, context: Context) -> attachment_pb2.AttachResponse:
        """One plan, one commit; nothing is waited for."""
        wanted = parse.attachment(request.spec)
        doubts = await self._inspect(wanted) if request.check_target else []
        plan, _ = await self._replica.committer.commit(_Attaching(self._replica, self._cursors, wanted))
        return attachment_pb2.AttachResponse(
            attachment=self._planned(plan), existed=plan.existed, warnings=[*plan.warnings, *doubts]
        )

    def _planned(self, plan: AttachPlan) -> attachment_pb2.Attachment:
        """An attachment as it stands right after its plan was committed."""
        snapshot, record = self._replica.snapshot, plan.record
        if plan.existed and (known := messages.attachment(snapshot, (record.host, record.name))) is not None:
            return known
        return messages.fresh_attachment(record, record.host in snapshot.sessions)

    async def _inspect(self, wanted: AttachmentRequest) -> list[str]:
        """Ask the host about the target; what it refuses is raised, what it cannot say becomes a warning."""
        snapshot = await self._replica.follower.loaded()
        host, network = snapshot.hosts.get(wanted.host), snapshot.networks.get(wanted.network)
        name = wanted.name or default_name(wanted.target, wanted.network)
        if host is None or network is None or snapshot.attachment(wanted.host, name) is not None:
            return []  # the planner has more to say than the host
        session = self._replica.fleet.get(wanted.host)
        if session is None:
            held = snapshot.sessions.get(wanted.host)
            return [f"{wanted.target} was not checked: {held.value.replica} holds the host's session"] if held else []
        try:
            answer = await session.inspect(
                wanted.target, host_network(network.value, host.value), wanted.ifname, INSPECT_SECONDS
            )
        except TrunklineError as error:
            return [f"{wanted.target} was not checked: {error.text}"]
        if answer.reason:
            reason = Reason.__members__.get(answer.reason, Reason.INTERNAL)
            # What a host waits for by itself, once it is asked for, it is not asked for now: the request was refused.
            remedy = "" if reason.retryable else answer.remedy
            what = "start it" if reason is Reason.CONTAINER_NOT_RUNNING else "mend that"
            remedy = remedy or f"{what} on host {wanted.host} and attach again"
            raise Refusal(reason, answer.message, remedy, host=wanted.host, target=str(wanted.target))
        return []

    async def BatchAttach(
        self, request: attachment_pb2.BatchAttachRequest, context: Context
    ) -> attachment_pb2.BatchAttachResponse:
        """One planning pass over all items, grouped commits; each item stands or falls alone."""
        if len(request.specs) > BATCH:
            raise Refusal(
                Reason.INVALID_ARGUMENT, f"{len(request.specs)} attachments at once", f"ask for at most {BATCH}"
            )
        outcomes: list[AttachPlan | TrunklineError | None] = []
        plans: list[_Attaching] = []
        for spec in request.specs:
            try:
                plans.append(_Attaching(self._replica, self._cursors, parse.attachment(spec)))
                outcomes.append(None)
            except Refusal as error:
                outcomes.append(error)
        decided = await self._replica.committer.commit_many(plans)
        committed = iter(decided)
        results = (next(committed) if outcome is None else outcome for outcome in outcomes)
        return attachment_pb2.BatchAttachResponse(results=[self._result(result) for result in results])

    def _result(self, outcome: AttachPlan | TrunklineError) -> attachment_pb2.BatchAttachResult:
        if isinstance(outcome, TrunklineError):
            refusal = attachment_pb2.Refusal(reason=outcome.reason.name, message=outcome.text)
            return attachment_pb2.BatchAttachResult(refusal=refusal)
        return attachment_pb2.BatchAttachResult(attachment=self._planned(outcome))

    async def Detach(self, request: attachment_pb2.DetachRequest, context: Context) -> attachment_pb2.DetachResponse:
        """Mark for removal; the rest follows from what the host is observed to have."""

        def plan(snapshot: Snapshot) -> Planned[DetachPlan]:
            planned = detach(snapshot, request.host, request.name)
            return Planned(planned.txn, planned)

        planned, _ = await self._replica.committer.commit(plan)
        return attachment_pb2.DetachResponse(gone=planned.gone, warnings=planned.warnings)

    async def GetAttachment(
        self, request: attachment_pb2.GetAttachmentRequest, context: Context
    ) -> attachment_pb2.GetAttachmentResponse:
        """One attachment."""
        snapshot = await stamped(self._replica, context)
        found = messages.attachment(snapshot, (request.host, request.name))
        if found is None:
            raise Refusal(
                Reason.ATTACHMENT_NOT_FOUND,
                f"host {request.host} has no attachment {request.name}",
                "see `trunkline attachment list`",
                host=request.host,
                attachment=request.name,
            )
        return attachment_pb2.GetAttachmentResponse(attachment=found)

    async def ListAttachments(
        self, request: attachment_pb2.ListAttachmentsRequest, context: Context
    ) -> attachment_pb2.ListAttachmentsResponse:
        """Attachments in order of host and name."""
        snapshot = await stamped(self._replica, context)
        found = []
        for turn, name in enumerate(sorted(_select(snapshot, request.host, request.network))):
            if turn % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            message = messages.attachment(snapshot, name)
            if message is not None and _is_target(message, request.target):
                found.append(message)
        return attachment_pb2.ListAttachmentsResponse(attachments=found)

    async def WatchAttachments(
        self, request: attachment_pb2.WatchAttachmentsRequest, context: Context
    ) -> AsyncIterator[attachment_pb2.WatchAttachmentsResponse]:
        """Latest states until the caller leaves."""
        named = [(request.host, request.name)] if request.host and request.name else []

        def touched(snapshot: Snapshot, what: Touched) -> set[Name]:
            flapped = {(host, name) for host in what.flapped for name in snapshot.attachments.get(host, ())}
            return {one for one in what.attachments | flapped if request.host in ("", one[0])}

        def build(snapshot: Snapshot, one: Name) -> attachment_pb2.Attachment | None:
            message = messages.attachment(snapshot, one)
            asked = message is not None and request.network in ("", message.spec.network)
            return message if asked and request.name in ("", one[1]) else None

        stream = watch(
            self._replica, named, lambda snapshot: _select(snapshot, request.host, request.network), touched, build
        )
        async for (host, name), message in stream:
            if message is None:
                spec = attachment_pb2.AttachmentSpec(host=host, name=name)
                message = attachment_pb2.Attachment(spec=spec)
                yield attachment_pb2.WatchAttachmentsResponse(attachment=message, gone=True)
            else:
                yield attachment_pb2.WatchAttachmentsResponse(attachment=message)


def _select(snapshot: Snapshot, host: str, network: str) -> Iterable[Name]:
    if network:
        return (one for one in snapshot.on_network.get(network, ()) if host in ("", one[0]))
    hosts = [host] if host else snapshot.attachments
    return ((one, name) for one in hosts for name in snapshot.attachments.get(one, ()))


def _is_target(message: attachment_pb2.Attachment, target: str) -> bool:
    if not target:
        return True
    asked = message.spec.target
    ids = bool(message.target_id) and len(target) >= 4 and message.target_id.startswith(target)
    return target in (asked.container, asked.netns) or ids
