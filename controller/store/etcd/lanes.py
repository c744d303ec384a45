"""The lanes of one adapter: keys that only it moves, so that a batch applies once, and never too late.

They live beside the data, at `<prefix without its last "/">.attempts/<replica>/<lane>`: no read or watch of the data
delivers them, and no guard over the data covers them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from controller.store.etcd.channel import Ring
from controller.store.etcd.txn import encode, prefix_end
from trunkline.errors import Reason, TrunklineError
from trunkline.etcd import kv_pb2
from trunkline.etcd import rpc_pb2 as pb


@dataclass(slots=True)
class Lane:
    """One lane; `known` is its modification revision as last seen."""

    key: bytes
    known: int


def root(prefix: str) -> bytes:
    """Where all replicas' lanes live. "." sorts directly before "/", so one range covers lanes and data."""
    return encode(prefix.rstrip("/")) + b".attempts/"


class Lanes:
    """Taking the lanes over fences every older process of the same name: its next transaction finds them moved."""

    def __init__(self, ring: Ring, name: str) -> None:
        self._ring = ring
        self._own = root(ring.settings.prefix) + encode(ring.settings.replica) + b"/"
        self._writer = f"{name} ".encode()
        self._mark = self._writer + b"start"
        self._wanted = [self._own + str(i).encode() for i in range(ring.settings.lanes)]
        self._all: dict[bytes, Lane] = {}
        self.idle: list[Lane] = []
        self.owned = False

    def busy(self) -> set[bytes]:
        """Keys of the lanes with a batch on them."""
        return self._all.keys() - {lane.key for lane in self.idle}

    async def take_over(self) -> bool:
        """Move every lane of this replica's name. False: somebody moved one meanwhile, try again.

        Raises Refused or Unknown. An unknown outcome needs no care: the mark is read back at the next try, and a
        late attempt fails its guards once any other has moved the lanes.
        """
        request = pb.RangeRequest(key=self._own, range_end=prefix_end(self._own))
        found = {kv.key: kv for kv in (await self._ring.call(lambda e: e.kv.Range, request)).kvs}
        # A predecessor may have had more lanes; those are moved, too, but not used.
        keys = sorted(found.keys() | set(self._wanted))
        if all(key in found and found[key].value == self._mark for key in keys):
            self._use({key: found[key].mod_revision for key in keys})
            return True
        response = await self._ring.call(
            lambda e: e.kv.Txn,
            pb.TxnRequest(
                compare=[
                    pb.Compare(
                        target=pb.Compare.MOD, key=key, mod_revision=found[key].mod_revision if key in found else 0
                    )
                    for key in keys
                ],
                success=[pb.RequestOp(request_put=pb.PutRequest(key=key, value=self._mark)) for key in keys],
            ),
        )
        if response.succeeded:
            self._use(dict.fromkeys(keys, response.header.revision))
        return response.succeeded

    def _use(self, revisions: dict[bytes, int]) -> None:
        self._all = {key: Lane(key, revisions[key]) for key in self._wanted}
        self.idle = list(self._all.values())
        self.owned = True

    def moved_by_another(self, kv: kv_pb2.KeyValue) -> bool:
        """Whether a change is of a lane of ours and not by us: another process has this name, or had it just before."""
        return self.owned and kv.key.startswith(self._own) and not kv.value.startswith(self._writer)

    def fenced(self) -> TrunklineError:
        """The error of an adapter whose lanes were taken over."""
        return TrunklineError(
            Reason.STORE_FENCED,
            f"another controller process took the name {self._ring.settings.replica!r} over (this is process"
            f" {os.getpid()}); this one commits no more, and its last transactions may or may not have been applied",
            "give each replica a name of its own ([controller] name, or --name), or stop one of the two",
        )
