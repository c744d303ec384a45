"""gRPC as Trunkline speaks it: errors with reason codes on the wire, channels, and the server's interceptor.

An error travels as a google.rpc.Status with one google.rpc.ErrorInfo {reason, domain "trunkline", metadata}, in the
trailing metadata `grpc-status-details-bin` (gRPC's richer error model; AIP-193). The metadata carry the error's
facts and, under "remedy", what to do next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from trunkline.errors import DOMAIN, Reason, TrunklineError
from trunkline.tls import ClientTls

_DETAILS: Final = "grpc-status-details-bin"
_REMEDY: Final = "remedy"

# gRPC refuses trailing metadata over 8 KiB by default, and then the whole error is lost.
_METADATA_BYTES: Final = 64 << 10
_MESSAGE_LIMIT: Final = 4096
_FACT_LIMIT: Final = 1024
_FACTS_LIMIT: Final = 16

_MESSAGE_BYTES: Final = 64 << 20
"""Room for the desired state of a host with 100,000 endpoints, or a listing of a large fabric."""

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

# What a status without our ErrorInfo most likely means: it was made by gRPC itself, or by a proxy.
_FALLBACK: Final = {
    grpc.StatusCode.UNAVAILABLE: Reason.CONTROLLER_UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE,
    grpc.StatusCode.UNIMPLEMENTED: Reason.PROTOCOL_VERSION,
    grpc.StatusCode.UNAUTHENTICATED: Reason.IDENTITY_MISSING,
    grpc.StatusCode.PERMISSION_DENIED: Reason.NOT_PERMITTED,
    grpc.StatusCode.INVALID_ARGUMENT: Reason.INVALID_ARGUMENT,
}
_FALLBACK_REMEDY: Final = {
    Reason.CONTROLLER_UNREACHABLE: "check that the controller runs and that its address and TLS files are right",
    Reason.DEADLINE: "ask again with a longer deadline",
    Reason.PROTOCOL_VERSION: "use a client and a controller of the same release",
}

Options = list[tuple[str, Any]]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def to_status(error: TrunklineError) -> grpc.Status:
    """`error` as code, details and trailing metadata; over-long texts are cut."""
    facts = dict(list(error.facts.items())[: _FACTS_LIMIT - 1])
    metadata = {key: _cut(value, _FACT_LIMIT) for key, value in facts.items()}
    if error.remedy:
        metadata[_REMEDY] = _cut(error.remedy, _FACT_LIMIT)
    message = _cut(error.message, _MESSAGE_LIMIT)
    rich = status_pb2.Status(code=int(error.reason.status), message=message)
    rich.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason.name, domain=DOMAIN, metadata=metadata))
    return _RpcStatus(_CODES[int(error.reason.status)], message, ((_DETAILS, rich.SerializeToString()),))


class _RpcStatus(grpc.Status):
    def __init__(self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, bytes], ...]) -> None:
        self.code = code
        self.details = details
        self.trailing_metadata = trailing_metadata


async def abort(context: aio.ServicerContext[Any, Any], error: TrunklineError) -> NoReturn:
    """End an RPC with `error`. Never returns: grpc raises its AbortError."""
    status = cast("_RpcStatus", to_status(error))
    await context.abort(status.code, status.details, status.trailing_metadata)
    raise AssertionError("abort returned")


def from_rpc_error(error: grpc.RpcError) -> TrunklineError:
    """The error that a failed call stands for, of grpc or grpc.aio.

    Reason, message, facts and remedy come from ErrorInfo. Without it the status decides: UNAVAILABLE is
    CONTROLLER_UNREACHABLE, DEADLINE_EXCEEDED is DEADLINE, the rest INTERNAL or what is next to it. A reason that this
    release does not know becomes the fallback of its status, with the code in the facts under "reason".
    """
    call = cast("grpc.Call", error)
    code, details = call.code(), call.details() or ""
    info, message = _error_info(call)
    if info is None:
        return _without_info(code, details)
    facts = dict(info.metadata)
    remedy = facts.pop(_REMEDY, "")
    reason = Reason.__members__.get(info.reason)
    if reason is None:
        reason = _FALLBACK.get(code, Reason.INTERNAL)
        facts["reason"] = info.reason
    known = TrunklineError(reason, message or details, remedy)
    known.facts = facts
    return known


def carries_info(error: grpc.RpcError) -> bool:
    """Whether one of our servers said what went wrong; else gRPC did, in its own words."""
    return _error_info(cast("grpc.Call", error))[0] is not None


def _without_info(code: grpc.StatusCode, details: str) -> TrunklineError:
    reason = _FALLBACK.get(code, Reason.INTERNAL)
    said = details or code.name
    if reason is Reason.CONTROLLER_UNREACHABLE:
        said = f"no controller answered: {said}"
    return TrunklineError(reason, said, _FALLBACK_REMEDY.get(reason, ""))


def _error_info(call: grpc.Call) -> tuple[error_details_pb2.ErrorInfo | None, str]:
    for key, value in call.trailing_metadata() or ():
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        try:
            rich = status_pb2.Status.FromString(value)
            for detail in rich.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
                    return info, rich.message
        except DecodeError:
            return None, ""
    return None, ""


Handler = Callable[[Any, Any], Any]


class ErrorInterceptor(aio.ServerInterceptor):
    """Turns what handlers of our services raise into statuses with ErrorInfo.

    A TrunklineError keeps its reason; an RpcError of a call made on behalf of the caller is passed on; anything else
    is a bug: logged once with its traceback, and answered as INTERNAL without a word about internals. A unary call
    without a deadline is refused with INVALID_ARGUMENT. Services of others (health, reflection) are left alone.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a method of ours."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith(f"/{DOMAIN}."):
            return handler
        return _wrap(handler, method)


def _wrap(handler: Any, method: str) -> grpc.RpcMethodHandler[Any, Any]:
    coders = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary, method, True), **coders)
    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(_unary(handler.stream_unary, method, False), **coders)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(_stream(handler.unary_stream, method), **coders)
    return grpc.stream_stream_rpc_method_handler(_stream(handler.stream_stream, method), **coders)


def _unary(behavior: Handler, method: str, needs_deadline: bool) -> Handler:
    async def guarded(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
        try:
            if needs_deadline and context.time_remaining() is None:
                raise TrunklineError(
                    Reason.INVALID_ARGUMENT, f"{method} was called without a deadline", "set one on each call"
                )
            return await behavior(request, context)
        except Exception as error:
            await _answer(context, error, method)

    return guarded


def _stream(behavior: Handler, method: str) -> Handler:
    async def guarded(request: Any, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            answers = behavior(request, context)
            if not hasattr(answers, "__aiter__"):
                # The other style of handler: a coroutine that writes to the context by itself.
                await answers
                return
            async for answer in answers:
                yield answer
        except Exception as error:
            await _answer(context, error, method)

    return guarded


async def _answer(context: aio.ServicerContext[Any, Any], error: Exception, method: str) -> NoReturn:
    from trunkline import log

    match error:
        case aio.AbortError():
            raise error
        case TrunklineError():
            known = error
        case grpc.RpcError():
            known = from_rpc_error(error)
        case _:
            log.get("rpc").error("handler failed", method=method, exc_info=error)
            known = TrunklineError(
                Reason.INTERNAL, f"{method} failed inside the controller", "the controller's log has the traceback"
            )
            await abort(context, known)
    log.get("rpc").info("refused", method=method, reason=known.reason.name, message=known.message)
    await abort(context, known)


def _shared_options() -> Options:
    return [
        ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MESSAGE_BYTES),
        ("grpc.max_metadata_size", _METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", 2 * _METADATA_BYTES),
        # A peer whose machine vanished sends no FIN: without pings a session would look alive for hours.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        # What ends a connection to a process that is frozen. Without it, gRPC waits a minute whatever the option above
        # says (measured: 70 s). Pings are answered by gRPC's own threads, also while Python is busy.
        ("grpc.http2.ping_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def server_options() -> Options:
    """Options of our servers: message sizes, room for errors, keepalive; the port is never shared silently."""
    return [
        *_shared_options(),
        ("grpc.so_reuseport", 0),
        # A client may ping as often as ours do; gRPC's default answers that with GOAWAY too_many_pings.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def client_options(server_name: str = "") -> Options:
    """Options of our channels. `server_name`: what the server's certificate must carry instead of the name dialled."""
    options = [
        *_shared_options(),
        # Retries are ours to decide: by reason code, never hidden in the channel.
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # A proxy from the environment must not come between us and a controller named by address.
        ("grpc.enable_http_proxy", 0),
    ]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    return options


def channel(
    endpoint: str,
    tls: ClientTls | None,
    interceptors: Sequence[aio.ClientInterceptor] | None = None,
) -> aio.Channel:
    """An asyncio channel to `endpoint` ("host:port" or "unix:/path"); plain text without `tls`, which is the
    caller's to have checked with `tls.check_plaintext`."""
    if tls is None:
        return aio.insecure_channel(endpoint, options=client_options(), interceptors=interceptors)
    options = client_options(tls.server_name)
    return aio.secure_channel(endpoint, tls.credentials(), options=options, interceptors=interceptors)


def sync_channel(endpoint: str, tls: ClientTls | None) -> grpc.Channel:
    """A blocking channel, for the CLI; otherwise as `channel`."""
    if tls is None:
        return grpc.insecure_channel(endpoint, options=client_options())
    return grpc.secure_channel(endpoint, tls.credentials(), options=client_options(tls.server_name))
