"""What outlives the agent: written whole or not at all, and never a reason to stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.loop import Memory
from agent.plan.state import Namespace, Observed, ResolvedTarget
from agent.spool import DEEDS, DESIRED, Deeds, Spool, encode
from trunkline.errors import Reason, TrunklineError
from trunkline.model import Desired, HostAttachment, HostNetwork, Prefix, Target, TargetKind

STATE = Desired(
    "e1",
    42,
    (HostNetwork("blue", 1, "default", 10, prefixes=(Prefix("20.0.0.0/24", "20.0.0.1", ("20.0.0.9-20.0.0.20",)),)),),
    (HostAttachment("web/blue", "blue", Target(TargetKind.PID, "77"), "06:01:14:00:00:11", ("20.0.0.17/24",)),),
)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "state")
    made.prepare()
    return made


def test_what_was_kept_comes_back(spool: Spool, tmp_path: Path) -> None:
    assert spool.desired() is None
    assert spool.deeds() == Deeds()
    spool.keep_desired(STATE)
    spool.keep_deeds(Deeds(frozenset({"eth0"}), frozenset({"eth1"}), {"mark": "blue"}, "e1"))
    again = Spool(tmp_path / "state")
    assert again.desired() == STATE
    assert again.deeds() == Deeds(frozenset({"eth0"}), frozenset({"eth1"}), {"mark": "blue"}, "e1")
    assert (tmp_path / "state" / DESIRED).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b'{"schema":1}',
        encode(STATE)[:-20],
        encode(STATE).replace(b"20.0.0.17", b"20.0.0.18"),
        encode(STATE).replace(b'"schema":1', b'"schema":2'),
        encode({"epoch": "e1"}),
        b"\xff\xfe" * 100,
        b"[" * 100_000,
    ],
)
def test_a_corrupt_file_is_kept_aside_and_reported(spool: Spool, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state" / DESIRED
    path.write_bytes(content)
    with pytest.raises(TrunklineError) as corrupt:
        spool.desired()
    assert corrupt.value.reason is Reason.SPOOL_CORRUPT
    aside = tmp_path / "state" / f"{DESIRED}.corrupt"
    assert str(aside) in corrupt.value.text
    assert aside.read_bytes() == content
    assert spool.desired() is None
    spool.keep_desired(STATE)
    assert spool.desired() == STATE


def test_a_half_written_file_never_takes_the_place(spool: Spool, tmp_path: Path) -> None:
    spool.keep_desired(STATE)
    (tmp_path / "state" / f"{DESIRED}.new").write_bytes(b"half")
    assert spool.desired() == STATE


def test_a_corrupt_spool_starts_empty_with_a_problem(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "state" / DESIRED).write_bytes(b"junk")
    (tmp_path / "state" / DEEDS).write_bytes(b"junk")
    memory = Memory(spool, "h1")
    assert memory.spooled is None
    assert memory.deeds == Deeds()
    assert [problem.reason for problem in memory.problems()] == ["SPOOL_CORRUPT", "SPOOL_CORRUPT"]


async def test_a_disk_that_fails_is_a_problem_until_it_works_again(spool: Spool, tmp_path: Path) -> None:
    memory = Memory(spool, "h1")
    blocker = tmp_path / "state" / f"{DESIRED}.new"
    blocker.mkdir()
    await memory.keep(STATE, "e1")
    assert [problem.reason for problem in memory.problems()] == ["SPOOL_CORRUPT"]
    blocker.rmdir()
    await memory.keep(STATE, "e1")
    assert memory.problems() == ()
    assert spool.desired() == STATE


def test_a_state_directory_that_cannot_be_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrunklineError) as refusal:
        Spool(tmp_path / "file" / "state").prepare()
    assert refusal.value.reason is Reason.CONFIG_INVALID


def test_an_operators_word_is_taken_once(spool: Spool) -> None:
    assert not spool.take_acceptance()
    spool.ask_acceptance()
    assert spool.take_acceptance()
    assert not spool.take_acceptance()


async def test_a_pid_that_is_anothers_now_is_not_the_target(spool: Spool) -> None:
    target = Target(TargetKind.PID, "77")

    def seen(birth: str) -> Observed:
        place = Namespace("/proc/77/ns/net", "4:77")
        return Observed(targets={target: ResolvedTarget(place, "4:77", "pid:77", birth)})

    first = await Memory(spool, "h1").recognise(seen("boot1/500"))
    assert isinstance(first.targets[target], ResolvedTarget)
    rebooted = Memory(spool, "h1")
    other = (await rebooted.recognise(seen("boot2/500"))).targets[target]
    assert isinstance(other, TrunklineError)
    assert other.reason is Reason.NETNS_NOT_FOUND
    await rebooted.recognise(Observed())  # detached: whoever has the pid next is who is meant
    again = await rebooted.recognise(seen("boot2/900"))
    assert isinstance(again.targets[target], ResolvedTarget)
