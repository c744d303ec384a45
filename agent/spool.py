"""What must outlive the agent: the last desired state, and what this agent did to the host that no link shows.

Each document is one JSON file in the state directory: {"schema": 1, "sum": <SHA-256 of body>, "body": {…}}, replaced
atomically (written beside, fsynced, renamed, directory fsynced), so that a power cut leaves the old or the new one.
A file that cannot be read is kept beside as "<name>.corrupt" and never a reason to stop or to remove anything.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from agent.plan.handmade import Exchange
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired

T = TypeVar("T")

SCHEMA: Final = 1
DESIRED: Final = "desired.json"
DEEDS: Final = "deeds.json"
DOCKER: Final = "docker.json"
EXCHANGES: Final = "exchanges.json"
NAMES: Final = "names.json"
ACCEPTED: Final = "accept-epoch"
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@dataclass(frozen=True, slots=True)
class Deeds:
    """`promiscuous`: devices whose flag this agent set. `raised`: devices it found down and set up. `marks`: marks
    of sub-interfaces it may have made, to the networks they are for. `births`: which process each wanted pid meant
    when it was first looked at. `epoch`: the history whose removals an
    operator, or the first contact, accepted. `made`: indexes of sub-interfaces of ours by their mark, as last seen in
    the boot named `boot`."""

    promiscuous: frozenset[str] = frozenset()
    raised: frozenset[str] = frozenset()
    marks: dict[str, str] = field(default_factory=dict)
    epoch: str = ""
    births: dict[str, str] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    boot: str = ""


@dataclass(frozen=True, slots=True)
class MadeNetwork:
    """A Docker network that this agent made or is about to make: its name, its id once it has one, and the link it
    sits on."""

    name: str
    parent: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class DockerDeeds:
    """`networks`: by network of the fabric. `containers`: by container id, the Docker networks of ours that it was
    last set up with."""

    networks: dict[str, MadeNetwork] = field(default_factory=dict)
    containers: dict[str, tuple[str, ...]] = field(default_factory=dict)


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    sum: str
    body: msgspec.Raw


class Spool:
    """The state directory. Calls block for as long as an fsync takes. A disk that refuses raises SPOOL_CORRUPT."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def prepare(self) -> None:
        """Make the directory; raises CONFIG_INVALID when it cannot be written.

        One that is there and has no room, or whose disk became read-only, is good enough: a host that boots like that
        still gets what was spooled, and the first write that fails is reported.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self._directory / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            if error.errno in _NO_ROOM and self._directory.is_dir():
                return
            raise TrunklineError(
                Reason.CONFIG_INVALID,
                f"state directory {self._directory} cannot be written: {error.strerror}",
                "mend [agent] state_dir, or its owner and mode",
            ) from None

    def desired(self) -> Desired | None:
        """The last desired state; None when there never was one. Raises SPOOL_CORRUPT, once: the file is then
        kept aside."""
        return self._read(DESIRED, Desired)

    def keep_desired(self, desired: Desired) -> None:
        """Make `desired` what the next life starts from."""
        self._write(DESIRED, desired)

    def deeds(self) -> Deeds:
        """What was done to the host; raises SPOOL_CORRUPT as `desired` does."""
        return self._read(DEEDS, Deeds) or Deeds()

    def keep_deeds(self, deeds: Deeds) -> None:
        """Remember `deeds`; to be called before they are done."""
        self._write(DEEDS, deeds)

    def docker(self) -> DockerDeeds:
        """What was done to Docker; raises SPOOL_CORRUPT as `desired` does."""
        return self._read(DOCKER, DockerDeeds) or DockerDeeds()

    def keep_docker(self, deeds: DockerDeeds) -> None:
        """Remember `deeds`; networks before they are made."""
        self._write(DOCKER, deeds)

    def exchanges(self) -> dict[str, Exchange]:
        """Exchanges of Docker networks that were begun and not finished, by network; raises SPOOL_CORRUPT as `desired`
        does."""
        return self._read(EXCHANGES, dict[str, Exchange]) or {}

    def keep_exchanges(self, exchanges: Mapping[str, Exchange]) -> None:
        """Remember `exchanges`; to be called before a container is cut off."""
        self._write(EXCHANGES, dict(exchanges))

    def names(self, kind: type[T]) -> T | None:
        """The copy of the fabric's names, as a `kind`; raises SPOOL_CORRUPT as `desired` does."""
        return self._read(NAMES, kind)

    def keep_names(self, names: object) -> None:
        """Keep the copy of the fabric's names for a boot with no controller in sight."""
        self._write(NAMES, names)

    def ask_acceptance(self) -> None:
        """Tell the agent that runs, or runs next, that an operator accepts the history in force."""
        path = self._directory / ACCEPTED
        try:
            path.write_bytes(b"")
        except OSError as error:
            raise _unwritten(path, error) from None

    def take_acceptance(self) -> bool:
        """Whether an operator accepted the history in force since this was last asked."""
        try:
            (self._directory / ACCEPTED).unlink()
        except OSError:
            return False
        return True

    def _read(self, name: str, kind: type[T]) -> T | None:
        path = self._directory / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _corrupt(path, error.strerror or "it cannot be read", "the file was left where it is") from None
        try:
            return _decode(data, kind)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            aside = path.with_suffix(".json.corrupt")
            try:
                path.replace(aside)
            except OSError:
                raise _corrupt(path, str(error), "the file was left where it is") from None
            raise _corrupt(path, str(error), f"it was kept as {aside}") from None

    def _write(self, name: str, value: object) -> None:
        path = self._directory / name
        beside = path.with_suffix(".json.new")
        try:
            with open(beside, "wb", opener=_private) as file:
                file.write(encode(value))
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
            _sync_directory(self._directory)
        except OSError as error:
            raise _unwritten(path, error) from None


def encode(value: object) -> bytes:
    """A document as it stands in its file."""
    body = msgspec.json.format(msgspec.json.encode(value), indent=1)
    return msgspec.json.encode(_Envelope(SCHEMA, hashlib.sha256(body).hexdigest(), msgspec.Raw(body)))


def _decode(data: bytes, kind: type[T]) -> T:
    envelope = msgspec.json.decode(data, type=_Envelope)
    if envelope.schema != SCHEMA:
        raise ValueError(f"schema {envelope.schema} is not {SCHEMA}")
    body = bytes(envelope.body)
    if hashlib.sha256(body).hexdigest() != envelope.sum:
        raise ValueError("its checksum is wrong")
    return msgspec.json.decode(body, type=kind)


def _corrupt(path: Path, what: str, then: str) -> TrunklineError:
    return TrunklineError(Reason.SPOOL_CORRUPT, f"spool {path}: {what}", then)


def _unwritten(path: Path, error: OSError) -> TrunklineError:
    why = error.strerror or "it cannot be written"
    return _corrupt(path, why, "free space on the disk, or mend its owner and mode")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a filesystem that cannot sync directories needs none
            raise
    finally:
        os.close(descriptor)
