"""Channels to the members of etcd, and the three ways a call can end: answered, refused for certain, unknown.

Each endpoint has a channel of its own, so that a frozen member can be told from the others and left out: gRPC's
round robin goes on sending every n-th call to it until its own ping times out. One call is one attempt; whether
it may be repeated is known to the caller only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import grpc
from grpc import aio

from controller.store.etcd.diagnosis import diagnose
from trunkline.errors import Reason, StoreUnavailable, TrunklineError
from trunkline.etcd import rpc_pb2 as pb
from trunkline.etcd import rpc_pb2_grpc as stubs

Q = TypeVar("Q")
A = TypeVar("A")

_DEFINITE: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Codes by which etcd says that it did not and will not do it. All others leave the outcome open."""

_DIAGNOSE_EACH: Final = 5.0


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """How to reach etcd. `endpoints` are "host:port"; `replica` names this controller process and is its identity
    in the store: of two processes with one name the later one wins. With `ca` the connection is TLS; `server_name`
    is what the members' certificates are checked for when they do not carry the endpoint's name or address.

    `deadline` bounds a call of the port, `attempt` one try of it on one member; both in seconds.
    """

    endpoints: tuple[str, ...]
    replica: str
    prefix: str = "/trunkline/1/"
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str = ""
    deadline: float = 5.0
    attempt: float = 1.0
    lanes: int = 4


class Unknown(Exception):
    """No answer: the request may have been applied, may be applied later, or never. `full`: etcd may be full."""

    def __init__(self, detail: str, full: bool = False) -> None:
        super().__init__(detail)
        self.full = full


class Refused(Exception):
    """etcd answered that it will not do it; nothing was applied by this attempt."""

    def __init__(self, code: grpc.StatusCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code

    def error(self, what: str) -> TrunklineError:
        """The refusal as an error of ours."""
        message = f"etcd refused {what}: {self} ({self.code.name})"
        if self.code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
            remedy = "grant the controller's certificate or user read and write on its prefix in etcd"
        else:
            remedy = "check that the endpoints are an etcd of version 3.4 or later with default limits"
        return TrunklineError(Reason.STORE_REFUSED, message, remedy)


@dataclass(slots=True)
class Endpoint:
    """One member, its channel, and whether the last call to it went unanswered."""

    name: str
    channel: aio.Channel
    kv: stubs.KVAsyncStub
    watch: stubs.WatchAsyncStub
    lease: stubs.LeaseAsyncStub
    maintenance: stubs.MaintenanceAsyncStub
    suspect: bool = False
    detail: str = ""
    cause: str = ""
    diagnosed: float = field(default=-_DIAGNOSE_EACH)

    @property
    def problem(self) -> str:
        """Why it did not answer, "" while it does."""
        return self.cause or self.detail

    def answered(self) -> None:
        """It is sound."""
        self.suspect, self.detail, self.cause = False, "", ""


def _options(settings: EtcdSettings) -> list[tuple[str, int | str]]:
    options: list[tuple[str, int | str]] = [
        ("grpc.enable_retries", 0),
        # etcd answers pings closer than 5 s with GOAWAY too_many_pings.
        ("grpc.keepalive_time_ms", 6000),
        # What ends a connection to a frozen peer; grpc.keepalive_timeout_ms alone was measured to have no effect.
        ("grpc.http2.ping_timeout_ms", 2000),
        ("grpc.keepalive_timeout_ms", 2000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_receive_message_length", 64 << 20),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Else two adapters in one process share connections, and the frozen state of them.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if settings.server_name:
        options.append(("grpc.ssl_target_name_override", settings.server_name))
    return options


def _credentials(settings: EtcdSettings) -> grpc.ChannelCredentials | None:
    if settings.ca is None:
        return None
    try:
        return grpc.ssl_channel_credentials(
            settings.ca.read_bytes(),
            settings.key.read_bytes() if settings.key else None,
            settings.cert.read_bytes() if settings.cert else None,
        )
    except OSError as error:
        raise TrunklineError(
            Reason.CONFIG_INVALID,
            f"cannot read {error.filename} for the connection to etcd: {error.strerror}",
            "name readable PEM files of the CA, the client certificate and its key",
        ) from None


def _endpoint(name: str, settings: EtcdSettings, credentials: grpc.ChannelCredentials | None) -> Endpoint:
    options = _options(settings)
    if credentials is None:
        channel = aio.insecure_channel(name, options=options)
    else:
        channel = aio.secure_channel(name, credentials, options=options)
    return Endpoint(
        name,
        channel,
        stubs.KVStub(channel),
        stubs.WatchStub(channel),
        stubs.LeaseStub(channel),
        stubs.MaintenanceStub(channel),
    )


class Ring:
    """The endpoints, in the order they are tried: one is used until it fails to answer, then the next.

    A member that failed is left alone until it has answered a linearizable read again.
    """

    def __init__(self, settings: EtcdSettings) -> None:
        if not settings.endpoints:
            raise TrunklineError(Reason.CONFIG_INVALID, "no etcd endpoint is named", "name at least one host:port")
        self.settings = settings
        credentials = _credentials(settings)
        self.endpoints = [_endpoint(name, settings, credentials) for name in settings.endpoints]
        self.closed = False
        self._preferred = 0
        self._recheck: asyncio.Task[None] | None = None
        self._diagnoses: set[asyncio.Task[None]] = set()

    def pick(self, avoid: Endpoint | None = None) -> Endpoint:
        """The endpoint to use next; another than `avoid` when there is one. Raises StoreUnavailable once closed."""
        self._check_open()
        count = len(self.endpoints)
        order = [self.endpoints[(self._preferred + i) % count] for i in range(count)]
        sound = [e for e in order if not e.suspect and e is not avoid]
        if sound:
            return sound[0]
        # Nobody is known to be sound: try them in turn.
        self._preferred = (self._preferred + 1) % count
        return order[1 % count] if order[0] is avoid else order[0]

    def suspect(self, endpoint: Endpoint, detail: str) -> None:
        """Leave `endpoint` out until it answers again."""
        endpoint.detail = detail
        self._diagnose(endpoint)
        if endpoint.suspect:
            return
        endpoint.suspect = True
        if self.endpoints[self._preferred] is endpoint:
            self._preferred = (self._preferred + 1) % len(self.endpoints)
        if self._recheck is None or self._recheck.done():
            self._recheck = asyncio.create_task(self._check_suspects(), name="etcd-recheck")

    async def call(
        self,
        method: Callable[[Endpoint], aio.UnaryUnaryMultiCallable[Q, A]],
        request: Q,
        timeout: float | None = None,
        endpoint: Endpoint | None = None,
    ) -> A:
        """One attempt on one member. Raises Refused or Unknown; a call that is cut short is never repeated here."""
        self._check_open()
        chosen = endpoint or self.pick()
        try:
            answer = await method(chosen)(request, timeout=timeout or self.settings.attempt, wait_for_ready=False)
        except aio.AioRpcError as error:
            raise self.judge(chosen, error) from None
        except TimeoutError:
            self.suspect(chosen, "no answer in time")
            raise Unknown(f"{chosen.name}: no answer in time") from None
        except asyncio.CancelledError:
            # gRPC ends the calls of a closed channel as if their tasks were cancelled.
            if being_cancelled():
                raise
            raise Unknown(f"{chosen.name}: the connection was closed here") from None
        chosen.answered()
        return answer

    def judge(self, endpoint: Endpoint, error: aio.AioRpcError) -> Refused | Unknown:
        """Tell a refusal from an open outcome, by code only: the texts differ between versions."""
        code, detail = error.code(), error.details() or error.code().name
        if code in _DEFINITE:
            return Refused(code, detail)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Unknown(f"{endpoint.name}: {detail}", full=True)
        text = "no answer in time" if code is grpc.StatusCode.DEADLINE_EXCEEDED else detail
        self.suspect(endpoint, text)
        return Unknown(f"{endpoint.name}: {text}")

    async def ask(
        self,
        method: Callable[[Endpoint], aio.UnaryUnaryMultiCallable[Q, A]],
        request: Q,
        what: str,
        exhausted: Callable[[], Awaitable[None]] | None = None,
    ) -> A:
        """A call that may be repeated without harm, until the deadline. Raises Refused or StoreUnavailable.

        `exhausted` is called after an answer RESOURCE_EXHAUSTED; it may change the request, or raise.
        """
        give_up = time.monotonic() + self.settings.deadline
        pause = 0.02
        while True:
            left = give_up - time.monotonic()
            try:
                return await self.call(method, request, max(0.05, min(self.settings.attempt, left)))
            except Unknown as unknown:
                if unknown.full and exhausted:
                    await exhausted()
                if time.monotonic() + pause >= give_up:
                    raise self.unavailable(what) from None
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 2)

    def unavailable(self, what: str) -> StoreUnavailable:
        """The error for a call that got no answer within its deadline."""
        seen = "; ".join(f"{e.name}: {e.problem}" for e in self.endpoints if e.problem) or "no answer in time"
        return StoreUnavailable(f"etcd did not answer {what} within {self.settings.deadline:g} s ({seen})")

    async def is_full(self) -> bool:
        """Whether etcd has raised the alarm NOSPACE. RESOURCE_EXHAUSTED alone may mean other things."""
        try:
            answer = await self.call(lambda e: e.maintenance.Alarm, pb.AlarmRequest(action=pb.AlarmRequest.GET))
        except (Unknown, Refused):
            return False
        return any(alarm.alarm == pb.NOSPACE for alarm in answer.alarms)

    async def raise_if_full(self) -> None:
        """Raise STORE_NOSPACE when etcd has raised that alarm."""
        if await self.is_full():
            raise no_space()

    async def close(self) -> None:
        """Close all channels; calls under way end as unknown."""
        self.closed = True
        tasks = [task for task in (self._recheck, *self._diagnoses) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(endpoint.channel.close() for endpoint in self.endpoints))

    def _check_open(self) -> None:
        if self.closed:
            raise StoreUnavailable("the connection to etcd was closed here", "open a new one")

    async def _check_suspects(self) -> None:
        while suspects := [e for e in self.endpoints if e.suspect]:
            await asyncio.sleep(0.5)
            await asyncio.gather(*(self._check(endpoint) for endpoint in suspects))

    async def _check(self, endpoint: Endpoint) -> None:
        request = pb.RangeRequest(key=self.settings.prefix.encode(), count_only=True)
        try:
            await self.call(lambda e: e.kv.Range, request, endpoint=endpoint)
        except Unknown:
            return
        except Refused as refused:
            endpoint.answered()
            endpoint.detail = str(refused)

    def _diagnose(self, endpoint: Endpoint) -> None:
        now = time.monotonic()
        if now - endpoint.diagnosed < _DIAGNOSE_EACH:
            return
        endpoint.diagnosed = now
        task = asyncio.create_task(self._explain(endpoint), name=f"etcd-diagnosis {endpoint.name}")
        self._diagnoses.add(task)
        task.add_done_callback(self._diagnoses.discard)

    async def _explain(self, endpoint: Endpoint) -> None:
        s = self.settings
        cause = await diagnose(endpoint.name, s.ca, s.cert, s.key, s.server_name)
        if endpoint.suspect:
            endpoint.cause = cause


def being_cancelled() -> bool:
    """Whether somebody cancels the current task, as opposed to a call in it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def no_space() -> TrunklineError:
    """etcd's NOSPACE alarm as an error of ours."""
    return TrunklineError(
        Reason.STORE_NOSPACE,
        "etcd has raised the alarm NOSPACE: its database is over its quota and takes no writes",
        "compact and defragment each member, then `etcdctl alarm disarm`; or raise --quota-backend-bytes",
    )
