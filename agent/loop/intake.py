"""Which desired state is in force, and whether it may take anything away.

Same history: a revision that is older than the one in force is ignored and reported. New history (the epoch was
renewed, by a restore or because the store lost data): it is followed, but nothing is removed until an operator has
accepted it on this host, since what it does not know may still be in use.
"""

from __future__ import annotations

from trunkline.errors import Reason
from trunkline.model import Desired, Problem


class Intake:
    """`accepted` is the epoch whose removals are allowed; empty before the first contact, which is accepted."""

    def __init__(self, host: str, accepted: str = "") -> None:
        self._host = host
        self._accepted = accepted
        self._current: Desired | None = None
        self._ignored: Problem | None = None
        self.trusted = False
        """A controller sent the state in force, or one like it, in this life of the agent."""

    @property
    def current(self) -> Desired | None:
        """The desired state in force."""
        return self._current

    @property
    def accepted(self) -> str:
        """The epoch whose removals are allowed."""
        return self._accepted

    @property
    def removals(self) -> bool:
        """Whether the state in force may take anything away."""
        return self._current is not None and self._current.epoch == self._accepted

    def restore(self, desired: Desired) -> None:
        """Start from what was spooled."""
        self._current = desired
        self._accepted = self._accepted or desired.epoch

    def offer(self, desired: Desired) -> bool:
        """A controller sent `desired`; whether it is in force now."""
        current = self._current
        if current is not None and current.epoch == desired.epoch and desired.revision < current.revision:
            self._ignored = Problem(
                "host",
                self._host,
                Reason.REVISION_OLD.name,
                f"revision {desired.revision} was ignored, since {current.revision} of the same epoch is in force; "
                "a controller replica lags, or its store lost data: see `trunkline status`",
            )
            return False
        self._ignored = None
        self._current = desired
        self._accepted = self._accepted or desired.epoch
        self.trusted = True
        return True

    def accept_epoch(self) -> None:
        """An operator confirmed the history in force: it may take things away."""
        if self._current is not None:
            self._accepted = self._current.epoch

    def problems(self) -> tuple[Problem, ...]:
        """What is to be reported."""
        found = [self._ignored] if self._ignored else []
        if self._current is not None and not self.removals:
            found.append(
                Problem(
                    "host",
                    self._host,
                    Reason.EPOCH_CHANGED.name,
                    f"the fabric's history changed from {self._accepted} to {self._current.epoch}, so nothing is "
                    f"removed here; see with `trunkline attachment list --host {self._host}` what it wants now, then "
                    "run `trunkline-agent --config FILE accept-epoch`",
                )
            )
        return tuple(found)
