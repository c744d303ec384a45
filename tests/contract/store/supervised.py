"""A controller's process in small, for tests that kill it: runs an embedded etcd and prints each acknowledged write.

supervised.py DIRECTORY ETCD
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from controller.state.txn import Absent, Put, Txn
from controller.store.etcd import EtcdStore
from controller.store.etcd.embedded import EmbeddedEtcd
from controller.store.port import Committed


async def main(directory: Path, binary: Path) -> None:
    etcd = EmbeddedEtcd(directory, binary)
    await etcd.start()
    store = EtcdStore(etcd.settings("c1"))
    print(f"pid {etcd.pid}", flush=True)
    number = 0
    while True:
        if isinstance(await store.commit(Txn((Absent(f"k/{number}"),), (Put(f"k/{number}", b"x"),))), Committed):
            print(f"ack {number}", flush=True)
        number += 1


asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
