"""Who may call what: a table of services and kinds of callers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from grpc import aio

from trunkline.errors import Reason, Refusal, TrunklineError
from trunkline.tls import peer_identity

LOCAL: Final = ""
"""Kind of a caller on plain text, which `check_plaintext` keeps to this machine unless asked otherwise."""

_OPERATORS: Final = frozenset({LOCAL, "operator"})
_AGENTS: Final = frozenset({LOCAL, "host"})

MAY_CALL: Final[dict[str, frozenset[str]]] = {
    "trunkline.v1.FabricService": _OPERATORS,
    "trunkline.v1.NetworkService": _OPERATORS,
    "trunkline.v1.AttachmentService": _OPERATORS,
    "trunkline.v1.HostService": _OPERATORS,
    "trunkline.v1.AddressService": _OPERATORS,
    "trunkline.v1.CheckService": _OPERATORS,
    "trunkline.agent.v1.SessionService": _AGENTS,
    "trunkline.agent.v1.DirectoryService": _AGENTS,
    "trunkline.agent.v1.AddressService": _AGENTS,
}
"""Kinds of identity that may call a service; a service that is not listed may be called by nobody."""

Handler = Callable[[Any, Any], Any]


def check(service: str, identity: str) -> None:
    """Return if `identity` ("<kind>:<name>", or "" on plain text) may call `service`; NOT_PERMITTED otherwise."""
    kind = identity.partition(":")[0]
    if kind not in MAY_CALL.get(service, frozenset()):
        raise TrunklineError(
            Reason.NOT_PERMITTED,
            f"{identity or 'a local caller'} may not call {service.rpartition('.')[2]}",
            "use a certificate of the right kind (operator:<name> or host:<name>)",
            identity=identity,
        )


def check_host(identity: str, host: str, what: str) -> None:
    """Return if `identity` may speak for `host`: it is the host's own, or a local caller's. HOST_IDENTITY otherwise;
    `what` names what was said for the host."""
    if identity and identity != f"host:{host}":
        raise Refusal(
            Reason.HOST_IDENTITY,
            f"the certificate is for {identity}, {what} for host {host}",
            f"issue a certificate for host:{host}",
            host=host,
        )


class AuthzInterceptor(aio.ServerInterceptor):
    """Asks the table before each call of our services; to be placed inside the error interceptor."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a method of ours."""
        handler = await continuation(handler_call_details)
        service = handler_call_details.method.split("/")[1]
        if handler is None or not service.startswith("trunkline."):
            return handler
        return _wrap(handler, service)


def _wrap(handler: Any, service: str) -> grpc.RpcMethodHandler[Any, Any]:
    coders = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary, service), **coders)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(_stream(handler.unary_stream, service), **coders)
    return grpc.stream_stream_rpc_method_handler(_stream(handler.stream_stream, service), **coders)


def _unary(behavior: Handler, service: str) -> Handler:
    async def guarded(request: Any, context: aio.ServicerContext[Any, Any]) -> Any:
        check(service, peer_identity(context))
        return await behavior(request, context)

    return guarded


def _stream(behavior: Handler, service: str) -> Handler:
    async def guarded(request: Any, context: aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        check(service, peer_identity(context))
        async for answer in behavior(request, context):
            yield answer

    return guarded
