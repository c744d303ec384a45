"""Network namespaces by path and by process, and all that this machine has.

Identity is "device:inode" of the namespace's nsfs file (namespaces(7)): equal while the namespace lives. The agent's
own namespace is the host's.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from agent.plan.state import Namespace
from trunkline.errors import Reason, Refusal, TrunklineError

_NS_GET_NSTYPE: Final = 0xB703
_CLONE_NEWNET: Final = 0x40000000
_PROC: Final = Path("/proc")
HELD_IN: Final = (Path("/run/netns"), Path("/run/docker/netns"))
"""Where iproute2 and Docker bind namespaces, so that they live without a process."""


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"


def own() -> str:
    """Identity of the host's namespace: the one this process lives in."""
    return _identity(os.stat("/proc/self/ns/net"))


def by_path(path: str, host: str) -> Namespace:
    """The namespace at `path`; raises NETNS_NOT_FOUND or NETNS_IS_HOST. `host` is the host's name, for messages."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        why = "does not exist" if error.errno == errno.ENOENT else f"cannot be opened: {error.strerror}"
        raise _not_found(f"network namespace {path} {why} on {host}") from None
    try:
        if not _is_network_namespace(descriptor):
            raise _not_found(f"{path} on {host} is not a network namespace")
        identity = _identity(os.fstat(descriptor))
    finally:
        os.close(descriptor)
    if identity == own():
        raise Refusal(
            Reason.NETNS_IS_HOST,
            f"{path} is {host}'s own network namespace",
            "name a container, or a namespace made by `ip netns add`",
        )
    return Namespace(path, identity)


def _is_network_namespace(descriptor: int) -> bool:
    # ioctl_ns(2): any other file refuses with ENOTTY, an nsfs file of another kind answers with its own type.
    try:
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


def by_pid(pid: str, host: str) -> Namespace:
    """The namespace of a process; raises NETNS_NOT_FOUND or NETNS_IS_HOST."""
    if not pid.isdecimal() or not (_PROC / pid).is_dir():
        raise _not_found(f"{host} has no process {pid}")
    return by_path(f"/proc/{pid}/ns/net", host)


def _not_found(message: str) -> TrunklineError:
    return TrunklineError(Reason.NETNS_NOT_FOUND, message, "it is attached when it appears")


def started(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc(5), stat field 22): with the pid, it names one
    process for ever. Empty when there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The command's name may hold spaces and parentheses; fields are counted after its last ")".
    fields = text.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


def birth(pid: str) -> str:
    """What tells the process that has this pid now from all others, over reboots too: boot id and start time."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{started(int(pid))}"


def everywhere() -> list[Namespace]:
    """Every network namespace that a process lives in or a path holds, the host's own left out.

    One that only an open descriptor or a socket keeps alive cannot be seen. Raises KERNEL_REFUSED when processes may
    not be looked at (CAP_SYS_PTRACE is missing), since then absence would prove nothing.
    """
    found: dict[str, Namespace] = {}
    host = own()
    for path in [*_held(), *_of_processes()]:
        try:
            status = os.stat(path)
        except PermissionError:
            raise TrunklineError(
                Reason.KERNEL_REFUSED,
                f"{path} may not be looked at, so interfaces of ours could be overlooked",
                "run the agent as root with CAP_SYS_PTRACE",
            ) from None
        except OSError:  # the process or the path has just gone
            continue
        identity = _identity(status)
        if identity != host and identity not in found:
            found[identity] = Namespace(path, identity)
    return list(found.values())


def _of_processes() -> list[str]:
    # The first process is the host's own, and a security module may hide it even from root.
    return [f"/proc/{name}/ns/net" for name in os.listdir(_PROC) if name.isdecimal() and name != "1"]


def _held() -> list[str]:
    device = os.stat("/proc/self/ns/net").st_dev
    paths = []
    for directory in HELD_IN:
        try:
            entries = list(os.scandir(directory))
        except OSError:
            continue
        for entry in entries:
            try:
                if os.stat(entry.path).st_dev == device:
                    paths.append(entry.path)
            except OSError:
                continue
    return paths


class Watched:
    """Namespaces asked for by path or pid, as they were at the last look. The kernel tells nobody when a namespace
    is bound to a path or a process ends, so they are looked at."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def expect(self, paths: set[str]) -> None:
        """Look at these paths from now on; one that is new is taken as it is now."""
        self._seen = {path: self._seen.get(path) or _look(path) for path in paths}

    def changed(self) -> bool:
        """Whether any came, went, or is another one than at the last look."""
        now = {path: _look(path) for path in self._seen}
        changed = now != self._seen
        self._seen = now
        return changed


def _look(path: str) -> str:
    try:
        return _identity(os.stat(path))
    except OSError:
        return ""
