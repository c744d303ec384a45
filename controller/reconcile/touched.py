"""What has changed since somebody last looked, merged while they were busy. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from controller.state.snapshot import Dirty


@dataclass(slots=True)
class Touched:
    """Names of objects that may look different. `flapped` are hosts that came, went or changed their record: all
    that shows whether a host is connected, or is selected by it, may look different too."""

    networks: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    attachments: set[tuple[str, str]] = field(default_factory=set)
    flapped: set[str] = field(default_factory=set)

    def merge(self, dirty: Dirty, flapped: Iterable[str]) -> None:
        """Take in one more change."""
        self.networks |= dirty.networks
        self.hosts |= dirty.hosts
        self.attachments |= dirty.attachments
        self.flapped.update(flapped)
