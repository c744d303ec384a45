"""The connection of one command to the first controller that answers, within the command's deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Self, TypeVar

import grpc

from trunkline import rpc
from trunkline.cli import present
from trunkline.cli.choices import Access, Choices, access
from trunkline.cli.words import age
from trunkline.errors import Reason, TrunklineError
from trunkline.ids import PROTOCOL
from trunkline.v1 import (
    address_pb2_grpc,
    attachment_pb2_grpc,
    check_pb2_grpc,
    fabric_pb2,
    fabric_pb2_grpc,
    host_pb2_grpc,
    network_pb2_grpc,
)

M = TypeVar("M")

_HELLO_SECONDS: Final = 3.0
"""How long one controller may take to answer a ping before the next one is tried."""

_OTHER_NAME: Final = "Hostname Verification"
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"
_CLOSED: Final = "Socket closed"
"""How gRPC words what goes wrong in a handshake."""

_NOT_TRUSTED: Final = "its certificate is not trusted"

_ELSEWHERE: Final = (Reason.CONTROLLER_UNREACHABLE, Reason.DEADLINE)
"""Errors of a ping that another controller may not have."""


STALE: Final = "trunkline-stale-seconds"
"""Trailing metadata of an answer that a controller made from memory, its store being away: the age in seconds."""


class Fabric:
    """Stubs of all services on one channel. A context manager; `deadline` runs from its making. `warn` is told once
    when an answer is old."""

    def __init__(self, choices: Choices, warn: Callable[[str], None] = present.warn) -> None:
        self._warn: Callable[[str], None] | None = warn
        self._access: Access = access(choices)
        self._ends = time.monotonic() + choices.deadline
        self._seconds = choices.deadline
        self._channel: grpc.Channel | None = None
        self.endpoint = ""

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the controller."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def connect(self) -> None:
        """Take the first controller that answers and whose store answers it, or else the first that answers: that one
        still tells what it last knew. Raises CONTROLLER_UNREACHABLE with what each one said, and PROTOCOL_VERSION
        when one answers that speaks another protocol."""
        self.close()
        said: list[str] = []
        for endpoint in self._access.endpoints:
            channel = rpc.sync_channel(endpoint, self._access.tls)
            level = self._greet(endpoint, channel, said)
            if level is None or (self._channel is not None and not level):
                channel.close()
                continue
            self.close()
            self._channel, self.endpoint = channel, endpoint
            if level:
                break
        if self._channel is None:
            known = "; ".join(said)
            raise TrunklineError(
                Reason.CONTROLLER_UNREACHABLE, f"no controller answered ({known})", self._next(" ".join(said))
            )
        self._bind(self._channel)

    def _greet(self, endpoint: str, channel: grpc.Channel, said: list[str]) -> bool | None:
        """Whether the controller's store answers it; None, and a word in `said`, when the controller does not."""
        timeout = min(_HELLO_SECONDS, self.remaining())
        try:
            ping = fabric_pb2.PingRequest(protocol=PROTOCOL)
            return fabric_pb2_grpc.FabricServiceStub(channel).Ping(ping, timeout=timeout).level
        except grpc.RpcError as error:
            known = rpc.from_rpc_error(error)
            if known.reason not in _ELSEWHERE:
                channel.close()
                raise known from None
            said.append(f"{endpoint}: {_why(known, timeout)}")
            return None

    def _next(self, said: str) -> str:
        """What to do when no controller answered, by what was said."""
        if _OTHER_NAME in said:
            return (
                "its certificate does not carry the name that was dialled: dial one it carries, issue another with "
                "`trunkline pki issue DIR controller:NAME --name ...`, or set tls.server_name (`trunkline help config`)"
            )
        if _NOT_TRUSTED in said:
            return (
                "compare tls.ca with the controller's: one authority has issued both certificates, or none is trusted"
            )
        if _CLOSED in said and self._access.tls:
            return (
                "it may refuse your certificate (is it of the controller's authority? has it expired?), or speak plain "
                "text; the controller's log tells"
            )
        known = "check that trunkline-controller runs, and name it by --controller, TRUNKLINE_CONTROLLER or the config"
        tls = "" if self._access.tls else "; if it speaks TLS, name your certificate there, too"
        return f"{known} file (`trunkline help config`){tls}"

    def _bind(self, channel: grpc.Channel) -> None:
        self.fabric = fabric_pb2_grpc.FabricServiceStub(channel)
        self.networks = network_pb2_grpc.NetworkServiceStub(channel)
        self.attachments = attachment_pb2_grpc.AttachmentServiceStub(channel)
        self.addresses = address_pb2_grpc.AddressServiceStub(channel)
        self.hosts = host_pb2_grpc.HostServiceStub(channel)
        self.checks = check_pb2_grpc.CheckServiceStub(channel)

    def remaining(self) -> float:
        """Seconds left of the command's deadline; raises DEADLINE when none are."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TrunklineError(
                Reason.DEADLINE, f"not done within {self._seconds:g} s", "ask again with a longer --deadline"
            )
        return left

    def ask(self, method: grpc.UnaryUnaryMultiCallable[Any, M], request: Any) -> M:
        """One unary call within the deadline; raises the TrunklineError that it ended with."""
        try:
            answer, call = method.with_call(request, timeout=self.remaining())
            self._age(call)
            return answer
        except grpc.RpcError as error:
            raise self._known(error) from None
        except ValueError as error:
            raise _left(error) from None

    def _known(self, error: grpc.RpcError) -> TrunklineError:
        known = rpc.from_rpc_error(error)
        # gRPC's own words for it name nothing; a controller that gives up by itself says what it waited for.
        if known.reason is Reason.DEADLINE and not rpc.carries_info(error):
            known.message = f"controller {self.endpoint} did not answer within {self._seconds:g} s"
            known.remedy = (
                "what was asked for may still be done, and asking again is safe; `trunkline status` tells how the "
                "controller and its store are"
            )
        return known

    def _age(self, call: grpc.Call) -> None:
        old = next((value for key, value in call.trailing_metadata() or () if key == STALE), None)
        if old is None or self._warn is None:
            return
        text = old.decode() if isinstance(old, bytes) else old
        self._warn(f"the store does not answer; this is what was known {_age_text(text)} ago")
        self._warn = None

    def follow(self, method: Callable[..., Any], request: Any) -> Iterator[Any]:
        """The messages of a stream until it ends, or the deadline; raises the TrunklineError that it ended with."""
        try:
            call = method(request, timeout=self.remaining())
        except ValueError as error:
            raise _left(error) from None
        try:
            yield from call
        except grpc.RpcError as error:
            raise rpc.from_rpc_error(error) from None
        finally:
            call.cancel()


def _age_text(seconds: str) -> str:
    return age(int(seconds)) if seconds.isascii() and seconds.isdecimal() else f"{seconds} s"


def _left(error: ValueError) -> TrunklineError:
    # What grpc raises on a channel that was closed, here by a reconnect in another thread.
    return TrunklineError(Reason.CONTROLLER_UNREACHABLE, f"the connection was closed: {error}")


def _why(error: TrunklineError, timeout: float) -> str:
    if error.reason is Reason.DEADLINE:
        return f"no answer in {timeout:.1f} s"
    if _UNTRUSTED in error.message:
        cause = error.message.partition(_UNTRUSTED)[2].strip(": ").removesuffix(": OK")
        return f"{_NOT_TRUSTED}: {cause or 'unknown authority'}"
    # gRPC wraps the cause: "failed to connect to all addresses; last error: UNKNOWN: ipv4:…: Connection refused".
    return error.message.rpartition("last error: ")[2].rpartition(": ")[2] or error.message
