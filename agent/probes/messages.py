"""What agent and probe child say to each other over a socket pair: length, then MessagePack."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from agent.ports import Announcement, ConflictProbe, ProbePlan, ProbeResult

LIMIT: Final = 64 << 20
"""Bytes of a message above which its sender has lost its mind."""


class Run(msgspec.Struct, tag=True, frozen=True):
    """Take part in a check from the link with this index."""

    call: int
    plan: ProbePlan
    index: int


class Stop(msgspec.Struct, tag=True, frozen=True):
    """Nobody waits for this call any more; it is answered with Finished all the same."""

    call: int


class Conflicts(msgspec.Struct, tag=True, frozen=True):
    """Ask whether anybody answers for these addresses."""

    call: int
    probes: list[ConflictProbe]


class Announce(msgspec.Struct, tag=True, frozen=True):
    """Announce these addresses."""

    call: int
    announcements: list[Announcement]


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The child has loaded what it needs. Its first message."""


class Learnt(msgspec.Struct, tag=True, frozen=True):
    """Results of a run; `complete` when there will be none after these, though the child goes on answering others."""

    call: int
    results: list[ProbeResult]
    complete: bool


class Finished(msgspec.Struct, tag=True, frozen=True):
    """A call is over: a run has ended, or could not be (`error`)."""

    call: int
    error: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """Of one address or announcement: who answered ("" for nobody), or why that is not known."""

    mac: str = ""
    error: str = ""


class Judged(msgspec.Struct, tag=True, frozen=True):
    """Verdicts of Conflicts or Announce, in the order asked for."""

    call: int
    verdicts: list[Verdict]


Request = Run | Stop | Conflicts | Announce
Report = Ready | Learnt | Finished | Judged

_encoder: Final = msgspec.msgpack.Encoder()
_requests: Final = msgspec.msgpack.Decoder[Request](Request)
_reports: Final = msgspec.msgpack.Decoder[Report](Report)


def pack(message: Request | Report) -> bytes:
    """A message with its length before it."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


async def _body(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > LIMIT:
        raise ConnectionError(f"message of {length} bytes")
    return await reader.readexactly(length)


async def read_request(reader: asyncio.StreamReader) -> Request:
    """The next request. Raises IncompleteReadError at the end, ConnectionError or msgspec.DecodeError on nonsense."""
    request: Request = _requests.decode(await _body(reader))
    return request


async def read_report(reader: asyncio.StreamReader) -> Report:
    """The next report; raises as `read_request` does."""
    report: Report = _reports.decode(await _body(reader))
    return report
