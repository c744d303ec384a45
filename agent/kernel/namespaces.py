"""The only place where a network namespace is entered.

A netlink socket stays bound to the namespace it was opened in, so a thread enters only to open one, or to write
/proc/sys/net, which shows the namespace of the task that looks (net/sysctl_net.c). Sockets and descriptors live
for one call: an open one would keep the namespace of a dead container, and its MAC and address on the wire, alive.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.kernel import uapi
from agent.kernel.changes import Changes
from agent.kernel.channel import Channel
from agent.kernel.errors import namespace_gone
from agent.plan.state import Namespace
from trunkline.errors import Reason, TrunklineError

_libc: Final = ctypes.CDLL(None, use_errno=True)
_OWN: Final = "/proc/thread-self/ns/net"

stranded: Final = threading.local()
"""`stranded.yes` is set in a thread that could not leave a foreign namespace; it must do no further work."""


def identity(descriptor: int) -> str:
    """Identity of the namespace behind a descriptor: "device:inode", unique while the namespace lives."""
    seen = os.fstat(descriptor)
    return f"{seen.st_dev}:{seen.st_ino}"


def describe(path: str | Path) -> Namespace:
    """The namespace at a path with its identity; NETNS_NOT_FOUND when there is none."""
    with _open(str(path)) as descriptor:
        return Namespace(str(path), identity(descriptor))


@contextlib.contextmanager
def _open(path: str) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise TrunklineError(Reason.KERNEL_REFUSED, f"cannot open {path}: {error.strerror}") from error
        raise namespace_gone(path, error.strerror or str(error)) from error
    try:
        _check_kind(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_kind(descriptor: int, path: str) -> None:
    try:
        kind = fcntl.ioctl(descriptor, uapi.NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != uapi.CLONE_NEWNET:
        raise namespace_gone(path, "this is not a network namespace")


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, uapi.CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Entrance:
    """A namespace held open for one piece of work. `descriptor` is for IFLA_NET_NS_FD."""

    def __init__(self, descriptor: int, namespace: Namespace) -> None:
        self.descriptor = descriptor
        self.namespace = namespace

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is inside; it is back outside whatever happens, or never works again."""
        home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                _setns(self.descriptor)
            except OSError as error:
                raise TrunklineError(
                    Reason.KERNEL_REFUSED,
                    f"cannot enter network namespace {self.namespace.path}: {error.strerror}",
                    "run the agent as root, or with CAP_SYS_ADMIN",
                ) from error
            try:
                yield
            finally:
                try:
                    _setns(home)
                except OSError:
                    stranded.yes = True
                    raise
        finally:
            os.close(home)

    @contextlib.contextmanager
    def channel(self) -> Iterator[Channel]:
        """A netlink socket of the namespace, closed at the end."""
        with self.entered():
            opened = Channel()
        with opened:
            yield opened

    @contextlib.contextmanager
    def changes(self) -> Iterator[Changes]:
        """pyroute2 in the namespace, closed at the end."""
        with self.entered():
            opened = Changes()
        with opened:
            yield opened


@contextlib.contextmanager
def entrance(namespace: Namespace) -> Iterator[Entrance]:
    """Hold a namespace open. NETNS_NOT_FOUND when it is gone, or when its path (a pid used again) leads to another
    than `namespace.identity` says; an empty identity takes what is there."""
    with _open(namespace.path) as descriptor:
        found = identity(descriptor)
        if namespace.identity and namespace.identity != found:
            raise namespace_gone(namespace.path, f"is another one now ({found} instead of {namespace.identity})")
        yield Entrance(descriptor, Namespace(namespace.path, found))
