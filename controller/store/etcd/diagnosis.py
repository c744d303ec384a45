"""Why a member does not answer, found by connecting to it without gRPC, whose texts must not be parsed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from pathlib import Path
from typing import Final

_TIMEOUT: Final = 1.0


def split(endpoint: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port"."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


async def diagnose(endpoint: str, ca: Path | None, cert: Path | None, key: Path | None, server_name: str) -> str:
    """The cause in a few words, or "" when the member takes a connection like any other."""
    host, port = split(endpoint)
    try:
        context = _context(ca, cert, key)
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=(server_name or host) if context else None
            )
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted here ({error.verify_message})"
    except ssl.SSLError as error:
        return f"TLS failed ({error.reason}); does it speak TLS, and with this CA?"
    except TimeoutError:
        return "it takes no connection, or does not answer on one (frozen, or cut off)"
    except OSError as error:
        return f"no connection ({_words(error)})"
    try:
        return await _after_handshake(reader, context is not None)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_TIMEOUT):
                await writer.wait_closed()


def _words(error: OSError) -> str:
    # asyncio puts a text of its own, with the address again, in place of the system's.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def _context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if ca is None:
        return None
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["h2"])
    if cert is not None:
        context.load_cert_chain(str(cert), str(key) if key else None)
    return context


async def _after_handshake(reader: asyncio.StreamReader, tls: bool) -> str:
    """In TLS 1.3 a server rejects the client's certificate after the client has finished (RFC 8446, 4.4.2.4)."""
    try:
        async with asyncio.timeout(0.3):
            data = await reader.read(1)
    except TimeoutError:
        return ""
    except ssl.SSLError as error:
        return f"it does not accept our certificate ({error.reason})"
    except OSError as error:
        return f"it ended the connection ({_words(error)})"
    if data:
        return ""
    return "it ended the connection; is our certificate accepted there?" if tls else "it ended the connection"
