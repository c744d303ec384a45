"""The Docker side of an agent that leaves Docker's networks alone."""

from __future__ import annotations

from agent.docking import Docked, Ground
from trunkline.model import Desired


class Undocked:
    """Implements `agent.docking.Dock` with nothing behind it."""

    async def desired(self, desired: Desired, removals: bool) -> None:
        """Nothing is granted."""

    def ground(self, ground: Ground) -> None:
        """Nothing stands on it."""

    def view(self) -> Docked:
        """Nothing is there, and that is certain."""
        return Docked(endpoints_complete=True)

    def note(self, subject: str, message: str) -> None:
        """Nobody is told."""
