"""Names for interfaces whose name was left to us."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count


def free_names(taken: set[str]) -> Iterator[str]:
    """ "tl0", "tl1", ... without those that are taken."""
    return (name for number in count() if (name := f"tl{number}") not in taken)
