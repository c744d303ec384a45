"""Faults of etcd and of the way to it: each was seen to break a client, and must not break this adapter."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from clusters.etcd import EtcdCluster
from clusters.proxy import Mode, Proxy
from grpc import aio

from controller.state.entry import Change
from controller.state.txn import Absent, Delete, Guard, Put, Txn
from controller.store.etcd import EtcdSettings, EtcdStore, channel, read
from controller.store.port import Committed, Conflict, Reload
from trunkline import pki
from trunkline.errors import Reason, StoreUnavailable, TrunklineError
from trunkline.etcd import rpc_pb2 as pb
from trunkline.etcd import rpc_pb2_grpc as stubs

pytestmark = pytest.mark.etcd


def put(key: str, value: bytes = b"v", *guards: Guard) -> Txn:
    return Txn(guards, (Put(key, value),))


def create(key: str, value: bytes = b"v") -> Txn:
    return put(key, value, Absent(key))


async def keys(store: EtcdStore, prefix: str = "") -> list[str]:
    return [entry.key for entry in (await store.read(prefix)).entries]


@contextlib.asynccontextmanager
async def opened(settings: EtcdSettings) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(settings)
    try:
        yield store
    finally:
        await store.close()


async def numbers(store: EtcdStore, after: int, count: int) -> list[Change]:
    """The first `count` changes; fails rather than waits for ever."""
    found: list[Change] = []
    async with asyncio.timeout(30), contextlib.aclosing(store.watch("", after)) as watch:  # type: ignore[type-var]
        async for changes in watch:
            found.extend(changes.changes)
            if len(found) >= count:
                return found
    raise AssertionError("the watch ended")


def first(endpoints: tuple[str, ...], member: int) -> tuple[str, ...]:
    """The endpoints, `member` in front: an adapter begins with the first."""
    return (endpoints[member], *(e for i, e in enumerate(endpoints) if i != member))


# --- Answers that are lost


@pytest.mark.parametrize("which", ["one_member", "three_members"])
async def test_a_win_whose_answer_is_cut_off_is_reported_as_a_win(lent: EtcdCluster) -> None:
    async with Proxy(lent.endpoints[0]) as proxy:
        settings = lent.settings(endpoints=(proxy.endpoint,), prefix=f"/cut/{time.time_ns()}/")
        async with opened(settings) as store:
            await store.commit(put("warm"))
            for i in range(12):
                proxy.set(Mode.SWALLOW)
                wait = asyncio.ensure_future(store.commit(create(f"k/{i}")))
                await proxy.swallowed.wait()
                proxy.set(Mode.PASS)
                proxy.cut()
                assert isinstance(await wait, Committed)
                assert isinstance(await store.commit(create(f"k/{i}")), Conflict)
            assert len(await keys(store, "k/")) == 12


@pytest.mark.parametrize("which", ["one_member"])
async def test_a_conflict_whose_answer_is_cut_off_is_reported_as_a_conflict(lent: EtcdCluster) -> None:
    async with Proxy(lent.endpoints[0]) as proxy:
        settings = lent.settings(endpoints=(proxy.endpoint,), prefix=f"/cut/{time.time_ns()}/")
        async with opened(settings) as store, opened(lent.settings("c2", prefix=settings.prefix)) as other:
            await store.commit(create("a"))
            proxy.set(Mode.SWALLOW)
            wait = asyncio.ensure_future(store.commit(create("a", b"late")))
            await proxy.swallowed.wait()
            # The guard would hold now: only the lane keeps the request from being applied after all.
            await other.commit(Txn((), (Delete("a"),)))
            proxy.set(Mode.PASS)
            proxy.cut()
            assert isinstance(await wait, Conflict)
            assert await keys(other) == []


@pytest.mark.parametrize("which", ["one_member"])
async def test_a_black_hole_ends_at_the_deadline_and_is_settled_before_anything_later(lent: EtcdCluster) -> None:
    async with Proxy(lent.endpoints[0]) as proxy:
        settings = lent.settings(
            endpoints=(proxy.endpoint,), prefix=f"/hole/{time.time_ns()}/", deadline=0.8, attempt=0.3
        )
        async with opened(settings) as store, opened(lent.settings("c2", prefix=settings.prefix)) as other:
            await store.commit(put("warm"))
            proxy.set(Mode.HOLD)
            began = time.monotonic()
            results = await asyncio.gather(*(store.commit(create(f"k/{i}")) for i in range(20)), return_exceptions=True)
            assert [type(result) for result in results] == [StoreUnavailable] * len(results)
            assert time.monotonic() - began < 1.5
            assert await keys(other, "k/") == [], "the proxy holds what was sent"
            proxy.set(Mode.PASS)
            await until_committed(store, put("later"))
            settled = await keys(other, "k/")
            # Everything that the proxy held has arrived by now: later requests went the same way.
            for i in range(20):
                await other.commit(Txn((), (Delete(f"k/{i}"),)))
            for _ in range(20):
                assert isinstance(await store.commit(put("later")), Committed)
            assert await keys(other, "k/") == [], f"applied after a later commit; at that commit: {settled}"


async def until_committed(store: EtcdStore, txn: Txn) -> None:
    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(StoreUnavailable):
                await store.commit(txn)
                return


async def test_what_a_frozen_member_lets_loose_later_is_not_applied() -> None:
    """The member's socket holds requests; they reach etcd seconds after they were settled through other members."""
    async with EtcdCluster(3) as cluster:
        member = (await cluster.leader() + 1) % 3
        endpoints = first(cluster.endpoints, member)
        async with opened(cluster.settings(endpoints=endpoints)) as store, opened(cluster.settings("c2")) as other:
            await store.commit(put("warm"))
            control = await raw_creates_into(cluster, member, 100)
            outcomes = await asyncio.gather(*(store.commit(create(f"k/{i}")) for i in range(100)))
            assert all(isinstance(outcome, Committed) for outcome in outcomes)
            # With the keys gone, every "must not exist" of the requests that were held holds again.
            await asyncio.gather(*(other.commit(Txn((), (Delete(f"k/{i}"),))) for i in range(100)))
            assert await keys(other, "k/") == []
            cluster.thaw(member)
            assert await control == 100, "the member does pass on what it held"
            assert await keys(other, "k/") == []
            assert isinstance(await store.commit(create("k/0")), Committed)


async def raw_creates_into(cluster: EtcdCluster, member: int, count: int) -> asyncio.Task[int]:
    """Freeze a member with `count` plain creates sent to it; the task counts those that are applied after the thaw,
    and ends when the member has answered everything that was sent to it before."""
    channel = cluster.channel(member)
    kv = stubs.KVStub(channel)
    await kv.Range(pb.RangeRequest(key=b"x"), timeout=2)
    cluster.freeze(member)
    calls = [kv.Put(pb.PutRequest(key=f"/raw/{i}".encode(), value=b"x")) for i in range(count)]

    async def count_applied() -> int:
        try:
            await asyncio.gather(*calls, return_exceptions=True)
            await kv.Range(pb.RangeRequest(key=b"x"), timeout=10)
            found = await kv.Range(pb.RangeRequest(key=b"/raw/", range_end=b"/raw0", count_only=True), timeout=10)
            return found.count
        finally:
            await channel.close()

    await asyncio.sleep(0)
    return asyncio.ensure_future(count_applied())


# --- Members that die or freeze


@pytest.mark.parametrize("victim", ["leader", "follower"])
@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_commits_watch_and_lease_survive_the_loss_of_a_member(fault: str, victim: str) -> None:
    async with EtcdCluster(3) as cluster:
        leader = await cluster.leader()
        member = leader if victim == "leader" else (leader + 1) % 3
        settings = cluster.settings(endpoints=first(cluster.endpoints, member))
        async with opened(settings) as store:
            lease = await store.grant(10)
            start = await store.commit(Txn((), (Put("held", b"x", lease),)))
            watching = asyncio.ensure_future(numbers(store, start.revision, 150))
            renewing = asyncio.ensure_future(keep(store, lease, 8.0))
            await write(store, range(50))
            if fault == "kill":
                await cluster.kill(member)
            else:
                cluster.freeze(member)
            began = time.monotonic()
            await write(store, range(50, 100))
            assert time.monotonic() - began < 6, "an election and one unanswered attempt"
            # A watch that hung on the member has moved on by now, or does so within its quiet time.
            await write(store, range(100, 150))
            seen = await watching
            assert time.monotonic() - began < 12
            assert [change.entry and change.entry.value for change in seen] == [str(i).encode() for i in range(150)]
            assert await renewing > 5, "seconds of the lease that were left at its shortest"
            assert await keys(store, "held") == ["held"]
            answers = {m.endpoint: m.healthy for m in await store.members()}
            assert answers == {e: i != member for i, e in enumerate(cluster.endpoints)}
            if fault == "freeze":
                cluster.thaw(member)
            else:
                await cluster.restart(member)
            await write(store, range(150, 160))


async def write(store: EtcdStore, values: Iterable[int]) -> None:
    for value in values:
        assert isinstance(await store.commit(put("n", str(value).encode())), Committed)


async def keep(store: EtcdStore, lease: int, seconds: float) -> float:
    """Renew a lease each second; the shortest time that was left of it when a renewal came back."""
    shortest, end, good_until = 10.0, time.monotonic() + seconds, time.monotonic() + 10
    while time.monotonic() < end:
        before = time.monotonic()
        ttl = await store.renew(lease)
        shortest = min(shortest, good_until - time.monotonic())
        good_until = before + ttl
        await asyncio.sleep(1)
    return shortest


async def test_without_a_quorum_callers_are_told_and_what_waits_is_settled_after() -> None:
    async with EtcdCluster(3) as cluster:
        leader = await cluster.leader()
        others = [i for i in range(3) if i != leader]
        settings = cluster.settings(endpoints=first(cluster.endpoints, leader), deadline=1.5)
        async with opened(settings) as store, opened(cluster.settings("c2")) as other:
            await store.commit(put("warm"))
            for member in others:
                cluster.freeze(member)
            results = await asyncio.gather(*(store.commit(create(f"k/{i}")) for i in range(10)), return_exceptions=True)
            assert [type(result) for result in results] == [StoreUnavailable] * len(results)
            with pytest.raises(StoreUnavailable):
                await store.read("")
            with pytest.raises(StoreUnavailable):
                await store.grant(10)
            for member in others:
                cluster.thaw(member)
            await until_committed(store, put("later"))
            await asyncio.gather(*(other.commit(Txn((), (Delete(f"k/{i}"),))) for i in range(10)))
            for _ in range(20):
                await store.commit(put("later"))
            assert await keys(other, "k/") == []


async def test_a_frozen_member_is_left_by_a_watch_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the heartbeat alone: gRPC's pings, which would notice at a time of their own, are switched off."""
    options = channel._options
    monkeypatch.setattr(channel, "_options", lambda s: [o for o in options(s) if "keepalive" not in o[0]])
    async with EtcdCluster(3) as cluster:
        member = (await cluster.leader() + 1) % 3
        async with opened(cluster.settings(endpoints=first(cluster.endpoints, member))) as store:
            outcome = await store.commit(put("a"))
            seen: asyncio.Queue[Change] = asyncio.Queue()
            task = asyncio.ensure_future(pour(store, outcome.revision, seen))
            try:
                async with opened(
                    cluster.settings("c2", endpoints=first(cluster.endpoints, (member + 1) % 3))
                ) as other:
                    await other.commit(put("b"))
                    async with asyncio.timeout(5):
                        assert (await seen.get()).key == "b"
                    cluster.freeze(member)
                    await other.commit(put("c"))
                    async with asyncio.timeout(5):
                        assert (await seen.get()).key == "c"
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


async def pour(store: EtcdStore, after: int, into: asyncio.Queue[Change]) -> None:
    async with contextlib.aclosing(store.watch("", after)) as watch:  # type: ignore[type-var]
        async for changes in watch:
            for change in changes.changes:
                into.put_nowait(change)


# --- Long replays and large listings


async def plain_puts(cluster: EtcdCluster, prefix: str, count: int, size: int) -> None:
    """`count` revisions, one put each, as no group commit would make them."""
    async with cluster.channel() as channel:
        kv = stubs.KVStub(channel)
        for begin in range(0, count, 200):
            await asyncio.gather(
                *(
                    kv.Put(pb.PutRequest(key=f"{prefix}k/{i}".encode(), value=b"x" * size), timeout=10)
                    for i in range(begin, min(count, begin + 200))
                )
            )


REPLAYS = [(5000, 10, (20_000, 100_000, 150_000)), (400, 100_000, (9 << 20,))]


@pytest.mark.parametrize("which", ["one_member"])
@pytest.mark.parametrize(("count", "size", "cuts"), REPLAYS)
async def test_a_replay_that_is_cut_loses_and_doubles_nothing(
    lent: EtcdCluster, count: int, size: int, cuts: tuple[int, ...]
) -> None:
    prefix = f"/replay/{time.time_ns()}/"
    async with Proxy(lent.endpoints[0]) as proxy:
        async with opened(lent.settings(prefix=prefix)) as direct:
            start = (await direct.commit(put("warm"))).revision
        await plain_puts(lent, prefix, count, size)
        async with opened(lent.settings("c2", endpoints=(proxy.endpoint,), prefix=prefix)) as store:
            found: list[Change] = []
            proxy.cut_after = list(cuts)
            async with asyncio.timeout(40), contextlib.aclosing(store.watch("", start)) as watch:  # type: ignore[type-var]
                async for changes in watch:
                    found.extend(changes.changes)
                    if len(found) >= count:
                        break
            assert proxy.cuts == len(cuts)
            assert len({change.key for change in found}) == count == len(found)
            assert [change.revision for change in found] == sorted(change.revision for change in found)


@pytest.mark.parametrize("which", ["one_member"])
async def test_a_cut_inside_a_revision_loses_and_doubles_no_part_of_it(lent: EtcdCluster) -> None:
    """etcd sends a large replay in pieces of 2 MB that end anywhere, also between two keys of one transaction."""
    prefix = f"/pieces/{time.time_ns()}/"
    async with Proxy(lent.endpoints[0]) as proxy, opened(lent.settings(prefix=prefix)) as direct:
        start = (await direct.commit(put("warm"))).revision
        for i in range(12):
            await direct.commit(Txn((), tuple(Put(f"k/{i}/{j}", b"x" * 100_000) for j in range(11))))
        async with opened(lent.settings("c2", endpoints=(proxy.endpoint,), prefix=prefix)) as store:
            proxy.cut_after = [2_500_000, 4_500_000, 7_000_000]
            found = await numbers(store, start, 12 * 11)
        assert proxy.cuts == 3
        assert [change.key for change in found] == [f"k/{i}/{j}" for i in range(12) for j in range(11)]


@pytest.mark.parametrize("which", ["one_member"])
async def test_a_listing_larger_than_a_message_is_whole(lent: EtcdCluster) -> None:
    prefix = f"/large/{time.time_ns()}/"
    await plain_puts(lent, prefix, 150, 700_000)
    await plain_puts(lent, f"{prefix}small/", 9_000, 10)
    async with opened(lent.settings(prefix=prefix)) as store:
        listing = await store.read("")
        assert len(listing.entries) == 9_150
        assert sum(len(entry.value) for entry in listing.entries) > 64 << 20
        assert [e.key for e in listing.entries] == sorted(e.key for e in listing.entries)


class Between:
    """A ring that does something between the first page of a listing and the second."""

    def __init__(self, store: EtcdStore, act: Callable[[], Awaitable[object]]) -> None:
        self._ring = store._ring
        self.settings = self._ring.settings
        self._act = act
        self.pages = 0

    async def ask(self, *arguments: Any) -> Any:
        self.pages += 1
        if self.pages == 2:
            await self._act()
        return await self._ring.ask(*arguments)


@pytest.mark.parametrize("which", ["one_member"])
async def test_all_pages_of_a_listing_are_of_one_revision(lent: EtcdCluster) -> None:
    prefix = f"/pages/{time.time_ns()}/"
    await plain_puts(lent, prefix, 50, 10)
    async with opened(lent.settings(prefix=prefix)) as store, opened(lent.settings("c2", prefix=prefix)) as other:
        before = await store.revision()
        change = Txn((), (Put("z", b"x"), Delete("k/9"), Put("k/8", b"changed")))
        ring = Between(store, lambda: other.commit(change))
        listing = await read.listing(cast("Any", ring), "", page=16)
        assert ring.pages == 4
        assert listing.revision == before
        assert {(entry.key, entry.value) for entry in listing.entries} == {(f"k/{i}", b"x" * 10) for i in range(50)}


@pytest.mark.parametrize("which", ["one_member"])
async def test_a_listing_whose_revision_is_compacted_meanwhile_begins_again(lent: EtcdCluster) -> None:
    prefix = f"/pages/{time.time_ns()}/"
    await plain_puts(lent, prefix, 50, 10)
    async with opened(lent.settings(prefix=prefix)) as store, lent.channel() as channel:
        ring = Between(store, lambda: move_and_compact(channel, prefix))
        listing = await read.listing(cast("Any", ring), "", page=16)
        assert ring.pages == 2 + 4
        assert len(listing.entries) == 51


async def move_and_compact(channel: aio.Channel, prefix: str) -> None:
    kv = stubs.KVStub(channel)
    moved = await kv.Put(pb.PutRequest(key=f"{prefix}moved".encode(), value=b"x"), timeout=5)
    await kv.Compact(pb.CompactionRequest(revision=moved.header.revision), timeout=5)


@pytest.mark.parametrize("which", ["three_members"])
async def test_compaction_under_a_watch_that_was_cut_off_is_reported(lent: EtcdCluster) -> None:
    prefix = f"/compact/{time.time_ns()}/"
    async with Proxy(lent.endpoints[0]) as proxy:
        settings = lent.settings(endpoints=(proxy.endpoint,), prefix=prefix, deadline=1.0)
        async with opened(settings) as store, opened(lent.settings("c2", prefix=prefix)) as other:
            start = (await store.commit(put("a"))).revision
            seen: asyncio.Queue[Change] = asyncio.Queue()
            task = asyncio.ensure_future(pour(store, start, seen))
            await other.commit(put("b"))
            async with asyncio.timeout(5):
                assert (await seen.get()).key == "b"
            proxy.set(Mode.HOLD)
            proxy.cut()
            for i in range(20):
                last = (await other.commit(put("c", str(i).encode()))).revision
            async with lent.channel() as channel:
                await stubs.KVStub(channel).Compact(pb.CompactionRequest(revision=last), timeout=5)
            proxy.cut()
            proxy.set(Mode.PASS)
            async with asyncio.timeout(10):
                with pytest.raises(Reload):
                    await task


# --- Identity, fencing, limits


@pytest.mark.parametrize("which", ["one_member"])
async def test_a_second_process_of_the_same_name_fences_the_first(lent: EtcdCluster) -> None:
    prefix = f"/fence/{time.time_ns()}/"
    async with opened(lent.settings("c1", prefix=prefix)) as old:
        await old.commit(put("a", b"1"))
        async with opened(lent.settings("c1", prefix=prefix, lanes=2)) as new:
            await new.commit(put("a", b"2"))
            for _ in range(2):
                with pytest.raises(TrunklineError) as caught:
                    await old.commit(put("a", b"3"))
                assert caught.value.reason is Reason.STORE_FENCED
            assert [entry.value for entry in (await new.read("")).entries] == [b"2"]
            await asyncio.gather(*(new.commit(put(f"b/{i}")) for i in range(300)))


@pytest.mark.parametrize("which", ["one_member"])
async def test_a_fenced_process_is_told_by_its_watch_however_busy_the_other_is(lent: EtcdCluster) -> None:
    prefix = f"/fence/{time.time_ns()}/"
    async with opened(lent.settings("c1", prefix=prefix)) as old, opened(lent.settings("c1", prefix=prefix)) as new:
        started = await old.commit(put("a", b"1"))

        async def follow() -> None:
            async for _ in old.watch("", started.revision):
                pass

        following = asyncio.create_task(follow())
        async with asyncio.timeout(10):
            while not following.done():
                await new.commit(put("a"))
                await asyncio.wait({following}, timeout=0.2)
        with pytest.raises(TrunklineError) as caught:
            await following
        assert caught.value.reason is Reason.STORE_FENCED


@pytest.mark.parametrize("which", ["three_members"])
async def test_wrong_certificates_are_named_in_the_error(lent: EtcdCluster, tmp_path: Path) -> None:
    foreign, _ = pki.make_ca(tmp_path / "pki")
    cert, key = pki.issue(tmp_path / "pki", "controller:test", ["127.0.0.1"])
    cases = [
        (lent.settings(ca=foreign, deadline=1.5), "its certificate is not accepted here"),
        (lent.settings(cert=cert, key=key, deadline=1.5), "our certificate"),
        (lent.settings(cert=None, key=None, deadline=1.5), "our certificate"),
        (lent.settings(server_name="elsewhere.example", deadline=1.5), "its certificate is not accepted here"),
    ]
    for settings, wanted in cases:
        async with opened(settings) as store:
            with pytest.raises(StoreUnavailable) as caught:
                await store.commit(put("a"))
            assert wanted in caught.value.message
            assert all(wanted in member.problem for member in await store.members())
            with pytest.raises(StoreUnavailable, match="certificate"):
                await store.read("")
    with pytest.raises(TrunklineError) as missing:
        EtcdStore(lent.settings(ca=tmp_path / "none.crt"))
    assert missing.value.reason is Reason.CONFIG_INVALID


async def test_nobody_listening_is_said_in_plain_words() -> None:
    async with opened(EtcdSettings(("127.0.0.1:1",), "c1", deadline=0.5)) as store:
        began = time.monotonic()
        calls = (store.read(""), store.revision(), store.grant(10), store.renew(7), store.revoke(7))
        for call in (store.commit(put("a")), *calls):
            with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1.*refused"):
                await call
        assert time.monotonic() - began < 6
        (member,) = await store.members()
        assert not member.healthy
        assert "refused" in member.problem


async def fill(store: EtcdStore) -> None:
    for i in range(60):
        await store.commit(put(f"k/{i}", b"x" * 1_000_000))


async def test_a_full_store_is_named_with_its_remedy_and_can_be_read() -> None:
    async with (
        EtcdCluster(1, extra=(f"--quota-backend-bytes={16 << 20}",)) as cluster,
        opened(cluster.settings()) as store,
    ):
        with pytest.raises(TrunklineError) as caught:
            await fill(store)
        assert caught.value.reason is Reason.STORE_NOSPACE
        assert "compact" in caught.value.remedy
        written = len(await keys(store))
        assert written >= 5
        (member,) = await store.members()
        assert not member.healthy
        assert "NOSPACE" in member.problem
        with pytest.raises(TrunklineError) as again:
            await store.commit(put("more"))
        assert again.value.reason is Reason.STORE_NOSPACE
        async with cluster.channel() as channel:
            disarm = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, alarm=pb.NOSPACE)
            await stubs.MaintenanceStub(channel).Alarm(disarm, timeout=5)
        assert len(await keys(store)) == written


@pytest.mark.parametrize("which", ["one_member"])
async def test_nothing_is_left_behind_by_watches(lent: EtcdCluster) -> None:
    before = len(asyncio.all_tasks())
    async with opened(lent.settings(prefix=f"/leak/{time.time_ns()}/")) as store:
        revision = (await store.commit(put("a"))).revision
        for _ in range(20):
            async with contextlib.aclosing(store.watch("", revision - 1)) as watch:  # type: ignore[type-var]
                await anext(watch)
        tasks = [asyncio.ensure_future(pour(store, revision, asyncio.Queue())) for _ in range(50)]
        await store.commit(put("a"))
        for task in tasks:
            task.cancel()
        assert all(isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*tasks, return_exceptions=True))
    # gRPC's own tasks end a turn or two after their calls.
    async with asyncio.timeout(2):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("which", ["one_member"])
async def test_a_watch_ends_when_the_store_is_closed(lent: EtcdCluster) -> None:
    store = EtcdStore(lent.settings(prefix=f"/close/{time.time_ns()}/"))
    revision = (await store.commit(put("a"))).revision
    seen: asyncio.Queue[Change] = asyncio.Queue()
    task = asyncio.ensure_future(pour(store, revision, seen))
    await store.commit(put("b"))
    await seen.get()
    await store.close()
    async with asyncio.timeout(5):
        await task
