"""Keeps the garbage collector off the snapshot, which is large, long-lived and free of cycles."""

from __future__ import annotations

import gc

from controller.reconcile.follower import Follower
from controller.state.snapshot import Dirty

KEYS = 2_000
"""Keys by which a snapshot grows before the collector is told to pass over what is there: some 25,000 objects."""

THRESHOLDS = (100_000, 20, 100)
"""For `gc.set_threshold`: at KEYS the youngest generation is not full yet, so growth alone starts no collection."""


class Growth:
    """A listener of the follower. Each object that the snapshot gains would be walked once or twice by the collector,
    at 1 us each in a large process: 40 us for each attachment, as much as all else in the making of one.

    `gc.freeze` costs next to nothing and keeps what is there from being walked; references still free it. Cycles that
    happen to be there are kept, so it is called only when there are more keys than ever before: what is kept for
    nothing is bounded by the size of the fabric, however long the process lives and however much comes and goes.
    """

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._most = 0

    def changed(self, dirty: Dirty, flapped: frozenset[str]) -> None:
        """The snapshot changed."""
        count = self._follower.snapshot.key_count()
        if count >= self._most + KEYS:
            self._most = count
            gc.freeze()
