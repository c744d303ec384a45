"""The embedded etcd: nothing acknowledged is lost, whoever is killed, and nobody else is touched."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import os
import shutil
import socket
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from clusters.etcd import etcd_binary, scratch

from controller.state.txn import Absent, Put, Txn
from controller.store.etcd import EtcdStore
from controller.store.etcd.embedded import EmbeddedEtcd, find_etcd
from controller.store.port import Committed
from trunkline.errors import Reason, TrunklineError

pytestmark = pytest.mark.etcd

SCRIPT = Path(__file__).with_name("supervised.py")
CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture
def directory() -> Iterator[Path]:
    root = scratch("trunkline-embedded-")
    yield root / "etcd"
    shutil.rmtree(root, ignore_errors=True)


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[EmbeddedEtcd]:
    etcd = EmbeddedEtcd(directory, etcd_binary())
    await etcd.start()
    try:
        yield etcd
    finally:
        await etcd.stop()


@contextlib.asynccontextmanager
async def store_on(etcd: EmbeddedEtcd, replica: str = "c1") -> AsyncIterator[EtcdStore]:
    store = EtcdStore(etcd.settings(replica))
    try:
        yield store
    finally:
        await store.close()


async def numbers(store: EtcdStore) -> set[int]:
    return {int(entry.key.removeprefix("k/")) for entry in (await store.read("k/")).entries}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int) -> None:
    async with asyncio.timeout(5):
        while alive(pid):
            await asyncio.sleep(0.01)


async def test_what_was_written_is_there_after_an_orderly_restart(directory: Path) -> None:
    async with running(directory) as etcd, store_on(etcd) as store:
        await store.commit(Txn((), (Put("k/1", b"x"),)))
        pid, first = etcd.pid, etcd.settings("c1").endpoints
        (member,) = await store.members()
        assert member.healthy
    assert not alive(pid)
    async with running(directory) as etcd, store_on(etcd) as store:
        assert etcd.settings("c1").endpoints == first, "the port is kept"
        assert await numbers(store) == {1}


async def test_killing_etcd_loses_nothing_acknowledged_and_it_comes_back(directory: Path) -> None:
    async with running(directory) as etcd, store_on(etcd) as store:
        acknowledged: set[int] = set()

        async def write(numbers: range) -> None:
            for number in numbers:
                outcome = await store.commit(Txn((Absent(f"k/{number}"),), (Put(f"k/{number}", b"x"),)))
                assert isinstance(outcome, Committed)
                acknowledged.add(number)

        for round_ in range(2):
            first = round_ * 1000
            writers = [asyncio.ensure_future(write(range(i, i + 200))) for i in range(first, first + 800, 200)]
            while len(acknowledged) < round_ * 800 + 100:
                await asyncio.sleep(0.001)
            before = etcd.pid
            os.kill(before, 9)
            await asyncio.gather(*writers)
            assert etcd.pid not in (0, before)
        assert await numbers(store) == acknowledged
        assert len(acknowledged) == 1600


async def test_killing_the_controller_ends_etcd_and_loses_nothing_acknowledged(directory: Path) -> None:
    acknowledged: set[int] = set()
    for _ in range(2):
        controller = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            str(directory),
            str(etcd_binary()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        assert controller.stdout is not None
        try:
            pid, fresh = 0, 0
            async with asyncio.timeout(20):
                while fresh < 100:
                    word, number = (await controller.stdout.readline()).split()
                    if word == b"pid":
                        pid = int(number)
                    else:
                        fresh += 1
                        acknowledged.add(int(number))
        finally:
            controller.kill()
            rest = await controller.stdout.read()
            await controller.wait()
        whole = [line for line in rest.splitlines(keepends=True) if line.startswith(b"ack ") and line.endswith(b"\n")]
        acknowledged |= {int(line.split()[1]) for line in whole}
        await gone(pid)
    async with running(directory) as etcd, store_on(etcd) as store:
        assert acknowledged
        assert await numbers(store) >= acknowledged


async def test_an_etcd_that_outlived_its_controller_is_ended_first(directory: Path) -> None:
    async with running(directory) as etcd, store_on(etcd) as store:
        await store.commit(Txn((), (Put("k/1", b"x"),)))
        command = etcd._command()
    # A child without the tie, as a controller would leave that was killed before it could make one.
    descriptor = os.open(directory / "etcd.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    stale = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, pass_fds=(descriptor,)
    )
    os.close(descriptor)
    try:
        async with running(directory) as etcd, store_on(etcd) as store:
            async with asyncio.timeout(5):
                await stale.wait()
            assert await numbers(store) == {1}
    finally:
        if stale.returncode is None:
            stale.kill()
            await stale.wait()


async def test_two_controllers_do_not_share_a_directory(directory: Path) -> None:
    async with running(directory) as etcd:
        with pytest.raises(TrunklineError, match="another controller") as caught:
            await EmbeddedEtcd(directory, etcd_binary()).start()
        assert caught.value.reason is Reason.CONFIG_INVALID
        assert alive(etcd.pid)
        async with store_on(etcd) as store:
            await store.commit(Txn((), (Put("k/1", b"x"),)))


async def test_a_port_that_somebody_took_is_replaced(directory: Path) -> None:
    async with running(directory) as etcd:
        (first,) = etcd.settings("c1").endpoints
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", int(first.rsplit(":", 1)[1])))
        squatter.listen()
        async with running(directory) as etcd, store_on(etcd) as store:
            assert etcd.settings("c1").endpoints != (first,)
            await store.commit(Txn((), (Put("k/1", b"x"),)))


async def test_only_loopback_with_a_certificate_of_its_own_authority(directory: Path) -> None:
    async with running(directory) as etcd:
        listening = {
            line.split()[1]
            for line in (
                *Path("/proc/net/tcp").read_text().splitlines()[1:],
                *Path("/proc/net/tcp6").read_text().splitlines()[1:],
            )
            if line.split()[3] == "0A" and line.split()[9] in sockets_of(etcd.pid)
        }
        assert len(listening) == 2
        assert all(address.startswith("0100007F:") for address in listening), "127.0.0.1 in /proc's byte order"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in (directory / "pki").glob("*.key"))
        naked = dataclasses.replace(etcd.settings("intruder"), cert=None, key=None, deadline=1.0)
        store = EtcdStore(naked)
        with pytest.raises(TrunklineError, match="certificate"):
            await store.read("")
        await store.close()


def sockets_of(pid: int) -> set[str]:
    links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    return {link[8:-1] for link in links if link.startswith("socket:[")}


async def test_what_is_missing_is_said_with_the_package_to_install(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TrunklineError, match="etcd-server") as caught:
        find_etcd(None)
    assert caught.value.reason is Reason.CONFIG_INVALID
    with pytest.raises(TrunklineError, match="not a program"):
        EmbeddedEtcd(directory, tmp_path / "none")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(TrunklineError, match=str(blocked)):
        await EmbeddedEtcd(blocked / "etcd", etcd_binary()).start()


async def test_an_etcd_that_does_not_come_up_is_quoted(directory: Path) -> None:
    async with running(directory):
        pass
    for wal in (directory / "data/member/wal").iterdir():
        wal.write_bytes(b"not a log")
    etcd = EmbeddedEtcd(directory, etcd_binary())
    with pytest.raises(TrunklineError, match="did not come up") as caught:
        await etcd.start()
    assert "etcd.log" in caught.value.remedy
    assert etcd.pid == 0
    shutil.rmtree(directory / "data")
    await etcd.start()
    await etcd.stop()
