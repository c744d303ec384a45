"""Who is at the other end: mutual TLS for every hop, and when plain text is allowed instead."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from trunkline.errors import Reason, Refusal, TrunklineError

_SCHEME: Final = "trunkline:"
_KINDS: Final = ("host:", "operator:", "controller:")


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of a server; clients must show a certificate of the same authority."""

    ca: Path
    cert: Path
    key: Path

    def credentials(self) -> grpc.ServerCredentials:
        """Read the files; raises CONFIG_INVALID naming the one that is no good."""
        ca, cert, key = _read(self.ca), _read(self.cert), _read(self.key)
        _check(self.ca, self.cert, self.key)
        return grpc.ssl_server_credentials([(key, cert)], root_certificates=ca, require_client_auth=True)


@dataclass(frozen=True, slots=True)
class ClientTls:
    """PEM files of a client. `server_name` is the name the server's certificate must carry; empty: that dialled."""

    ca: Path
    cert: Path
    key: Path
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files; raises CONFIG_INVALID naming the one that is no good."""
        ca, cert, key = _read(self.ca), _read(self.cert), _read(self.key)
        _check(self.ca, self.cert, self.key)
        return grpc.ssl_channel_credentials(ca, key, cert)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refusal(
            Reason.CONFIG_INVALID, f"TLS file {path} cannot be read: {error.strerror}", "name a readable PEM file"
        ) from None


def _check(ca: Path, cert: Path, key: Path) -> None:
    # gRPC takes anything here and fails at the first connection, in words that name no file.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError:
        raise Refusal(Reason.CONFIG_INVALID, f"TLS file {ca} holds no certificate", "name the authority's") from None
    try:
        # Without a password callback, OpenSSL would ask for that of an encrypted key on the terminal.
        context.load_cert_chain(cert, key, password=lambda: b"")
    except (ssl.SSLError, ValueError):
        raise Refusal(
            Reason.CONFIG_INVALID,
            f"TLS key {key} does not belong to certificate {cert}, or one of them is not such a file",
            "name the two files that `trunkline pki issue` made together",
        ) from None


def peer_identity(context: Any) -> str:
    """The caller of an RPC: "host:<name>", "operator:<name>" or "controller:<name>" from its certificate, or ""
    on plain text, which `check_plaintext` keeps to this machine.

    `context` is a servicer context, of grpc or grpc.aio. Raises IDENTITY_MISSING for a TLS peer whose certificate
    carries none or several identities: it must not pass for a local caller.
    """
    auth: Mapping[str, Iterable[bytes]] = context.auth_context()
    if not auth or b"ssl" not in auth.get("transport_security_type", ()):
        return ""
    names = [_text(name) for name in auth.get("x509_subject_alternative_name", ())]
    identities = {name.removeprefix(_SCHEME) for name in names if name.startswith(_SCHEME)}
    if len(identities) == 1 and (identity := identities.pop()).startswith(_KINDS):
        return identity
    raise TrunklineError(
        Reason.IDENTITY_MISSING,
        f"the certificate of {context.peer()} names no identity of this fabric",
        "issue one with `trunkline pki issue`",
    )


def _text(name: bytes | str) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def is_local(endpoint: str) -> bool:
    """Whether `endpoint` ("host:port", "[::1]:port", "unix:/path") is a unix socket or on the loopback."""
    if endpoint.startswith(("unix:", "unix-abstract:")):
        return True
    host = endpoint.rpartition(":")[0] if not endpoint.endswith("]") else endpoint
    host = host.removeprefix("[").removesuffix("]") or endpoint
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_plaintext(endpoint: str, insecure: bool) -> None:
    """Return if plain text may be spoken on `endpoint`: a unix socket, the loopback, or asked for by `insecure`.

    Raises CONFIG_INVALID otherwise.
    """
    if insecure or is_local(endpoint):
        return
    raise Refusal(
        Reason.CONFIG_INVALID,
        f"no TLS is configured, and {endpoint} is not on this machine",
        "configure TLS (ca, cert, key), or ask for plain text with insecure (lab only)",
    )
