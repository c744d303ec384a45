"""Leads the host's programs and its containers to our DNS server, and back.

Containers reach it through dockerd's embedded server, which asks the host's servers from the host's network namespace
where they have a loopback address. With systemd-resolved our domain is routed to us; elsewhere we stand first in
/etc/resolv.conf. Nothing is changed before our server listens, and everything is put back when it stops.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.dns import files, resolvconf
from trunkline import log
from trunkline.errors import Reason, TrunklineError

REWRITES: Final = 3
REWRITES_SECONDS: Final = 600.0
"""So often is our line put back in so many seconds; whoever takes it out more often means it."""

AGAIN: Final = 60.0
"""Seconds until what did not work is tried again although nothing seems to have changed."""

_RESOLVED_ADDRESSES: Final = frozenset({"127.0.0.53", "127.0.0.54"})
_COMMAND_SECONDS: Final = 15

_log = log.get("names")


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are on a host."""

    resolv_conf: Path = Path("/etc/resolv.conf")
    resolved_run: Path = Path("/run/systemd/resolve")
    resolved_drop_in: Path = Path("/etc/systemd/resolved.conf.d/trunkline.conf")
    init: Path = Path("/proc/1")


Run = Callable[[Sequence[str]], bool]
"""Runs a command; whether it succeeded."""


def run(argv: Sequence[str]) -> bool:
    """Run a command of the host's, its output left out."""
    try:
        done = subprocess.run(argv, check=False, timeout=_COMMAND_SECONDS, capture_output=True)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


class Resolver:
    """Keeps the host's resolver leading to `address`. Calls block for as long as a file is written, or for a second
    or two while systemd-resolved restarts."""

    def __init__(
        self,
        address: str,
        domain: str,
        monotonic: Callable[[], float],
        places: Places | None = None,
        command: Run = run,
    ) -> None:
        self._address = address
        self._domain = domain
        self._monotonic = monotonic
        self._places = places or Places()
        self._command = command
        self._seen: tuple[object, ...] | None = None
        self._put: deque[float] = deque(maxlen=REWRITES + 1)
        self._given_up = False
        self._over = False
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._own = False
        self.problem = ""
        """Why the fabric's names are not reached on this host; "" when they are."""

    def look(self) -> tuple[str, ...] | None:
        """Put right what is not, if anything changed since the last look: then the servers that the host would ask
        without us. None when nothing changed."""
        with self._lock:
            return None if self._over else self._look()

    def end(self) -> None:
        """From now on only `undo` changes anything, whatever is under way in another thread."""
        self._over = True

    def _look(self) -> tuple[str, ...] | None:
        due = bool(self.problem) and self._monotonic() > self._looked + AGAIN
        seen = self._signature()
        if seen == self._seen and not due:
            return None
        # As it was before: what somebody wrote while we looked, and what we write, is looked at again.
        self._looked, self._seen = self._monotonic(), seen
        try:
            return self._lead()
        except (OSError, TrunklineError) as error:
            self._tell(f"{self._places.resolv_conf} cannot be changed: {_words(error)}")
            return self.upstreams()

    def undo(self) -> bool:
        """Put back what was changed here, or by an agent that was killed; whether there was anything. Raises
        TrunklineError when it cannot be."""
        try:
            with self._lock:
                dropped = self._undo_resolved()
                return self._undo_file() or dropped
        except OSError as error:
            raise TrunklineError(
                Reason.NAMES_UNREACHED,
                f"{self._places.resolv_conf} cannot be put back: {_words(error)}",
                f"remove the lines that mention trunkline from it, and {self._places.resolved_drop_in}",
            ) from None

    def upstreams(self) -> tuple[str, ...]:
        """The servers that the host would ask without us; nothing is changed."""
        try:
            text = files.read(self._places.resolv_conf) or ""
            found = resolvconf.upstreams(text, self._address)
            if _RESOLVED_ADDRESSES.isdisjoint(found):
                return found
            # Asking systemd-resolved would come back to us: what it would ask is asked instead.
            beyond = resolvconf.servers(files.read(self._places.resolved_run / "resolv.conf") or "")
        except OSError:
            return ()
        direct = [server for server in found if server not in _RESOLVED_ADDRESSES]
        candidates = dict.fromkeys([*direct, *beyond])
        return tuple(server for server in candidates if server not in {self._address, *_RESOLVED_ADDRESSES})

    def _signature(self) -> tuple[object, ...]:
        places = self._places
        link = os.path.realpath(places.resolv_conf)
        uplinks = files.signature(places.resolved_run / "resolv.conf")
        return link, files.signature(places.resolv_conf), uplinks, files.signature(places.resolved_drop_in)

    def _lead(self) -> tuple[str, ...]:
        if self._is_anothers():
            self._tell(f"{self._places.resolv_conf} belongs to another network namespace, and is left as it is")
            return self.upstreams()
        if self._resolved():
            self._lead_resolved()
        else:
            self._lead_file()
        return self.upstreams()

    def _is_anothers(self) -> bool:
        """The file is the one that processes of init's network namespace read, and we are in another: our address
        leads nowhere there."""
        init = self._places.init
        try:
            if os.path.samefile(init / "ns/net", "/proc/self/ns/net"):
                return False
            real = os.path.realpath(self._places.resolv_conf)
            return os.path.samefile(f"{init}/root{real}", real)
        except OSError:
            return False

    # systemd-resolved

    def _resolved(self) -> bool:
        """Whether programs of this host ask systemd-resolved, or read what it writes."""
        real = os.path.realpath(self._places.resolv_conf)
        named = resolvconf.servers(files.read(self._places.resolv_conf) or "")
        candidate = real.startswith(f"{os.path.realpath(self._places.resolved_run)}/") or "127.0.0.53" in named
        return candidate and self._command(["systemctl", "is-active", "--quiet", "systemd-resolved.service"])

    def _lead_resolved(self) -> None:
        path = self._places.resolved_drop_in
        wanted = (
            "# Made by trunkline-agent, which removes it when it stops.\n"
            f"[Resolve]\nDNS={self._address}\nDomains=~{self._domain}\n"
        )
        self._undo_file()  # of a time before systemd-resolved
        if files.read(path) != wanted:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            files.replace(path, wanted)
            self._own = True
            if not self._reload():
                self._undo_resolved()
                self._tell("systemd-resolved does not take a server for the fabric's domain")
                return
            _log.info("resolver leads here", by="systemd-resolved", file=str(path))
        self._own = True
        self.problem = ""

    def _reload(self) -> bool:
        return self._command(["systemctl", "restart", "systemd-resolved.service"])

    def _undo_resolved(self) -> bool:
        path = self._places.resolved_drop_in
        try:
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not self._reload():
            _log.warning("systemd-resolved not restarted", file=str(path))
        return True

    # resolv.conf

    def _lead_file(self) -> None:
        path = self._places.resolv_conf
        text = files.read(path)
        if text is not None and resolvconf.leads_to(text, self._address):
            self._own |= resolvconf.has_block(text)
            self.problem = ""
            return
        if self._given_up or not self._may_put():
            return
        made = text is None
        files.replace(path, resolvconf.with_block(text or "", self._address, made))
        again, self._own, self.problem = self._own, True, ""
        _log.info("resolver leads here" if not again else "resolver leads here again", by=str(path))
        for warning in resolvconf.warnings(text or "", self._address):
            _log.warning("resolver", problem=warning, file=str(path))

    def _may_put(self) -> bool:
        """Once, and again after a DHCP client wrote the file anew; not in a contest with somebody."""
        now = self._monotonic()
        self._put.append(now)
        if len(self._put) <= REWRITES or now - self._put[0] > REWRITES_SECONDS:
            return True
        self._given_up = True
        self._tell(
            f"{self._places.resolv_conf} is rewritten by somebody again and again, and is left to them; have "
            f"nameserver {self._address} put first there, or set [dns] resolver = off"
        )
        return False

    def _undo_file(self) -> bool:
        path = self._places.resolv_conf
        text = files.read(path)
        if text is None or not resolvconf.has_block(text):
            return False
        if resolvconf.was_made(text):
            path.unlink()
        else:
            files.replace(path, resolvconf.without(text))
        return True

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            _log.warning("names not reached", problem=problem)


def _words(error: OSError | TrunklineError) -> str:
    return error.message if isinstance(error, TrunklineError) else error.strerror or str(error)
