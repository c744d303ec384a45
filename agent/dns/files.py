"""Files of the host that others also write: replaced in one step where that can be, links and mounts kept."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Final

_IN_PLACE: Final = frozenset({errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM})
"""A file that is a mount point cannot be renamed over (EBUSY), and its directory may be read-only: containers, and
units with ReadWritePaths. It can be written all the same."""


def signature(path: Path) -> tuple[int, ...]:
    """Differs when the file is another or was written; () when there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def replace(path: Path, text: str) -> None:
    """Give the file behind `path` this content; owner, mode and extended attributes stay. Raises OSError."""
    real = Path(os.path.realpath(path))
    beside = real.with_name(f".{real.name}.trunkline")
    data = text.encode("utf-8", "surrogateescape")
    try:
        _write_beside(real, beside, data)
        os.replace(beside, real)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if error.errno not in _IN_PLACE or not real.exists():
            raise
        _write_in_place(real, data)


def read(path: Path) -> str | None:
    """The file's text, any bytes kept; None when there is no such file. Raises OSError."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None


def _write_beside(real: Path, beside: Path, data: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    # Nobody but its reader may see a moment of another mode.
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        if real.exists():
            owner = real.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            shutil.copystat(real, beside)
            os.utime(beside)
        else:
            os.fchmod(file.fileno(), 0o644)


def _write_in_place(real: Path, data: bytes) -> None:
    with open(real, "r+b") as file:
        file.write(data)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
