"""What the CLI decides without a controller: words, tables, exit codes, when waiting is over, what a matrix shows."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.cli import check_run, main, matrix, present, standing, words
from trunkline.cli.matrix import NetworkCheck
from trunkline.cli.plain import plain
from trunkline.cli.screen import console, grid
from trunkline.cli.standing import HostStand, Stand
from trunkline.errors import Reason, Refusal, Status, TrunklineError
from trunkline.model import Target, TargetKind
from trunkline.v1 import attachment_pb2, check_pb2, network_pb2

# ---- words


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("90s", 90), ("5m", 300), ("24h", 86_400), ("1h30m", 5400), ("0", 0)]
)
def test_durations(text: str, value: int) -> None:
    assert words.seconds(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1.5h", "5 m", "m", "5y", "٣m", "99999999d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Refusal):
        words.seconds(text)


@given(st.integers(10, 10**8))
def test_a_printed_duration_can_be_typed_and_is_close(seconds: int) -> None:
    back = words.seconds(words.duration(seconds))
    assert back <= seconds
    assert seconds - back < max(1, seconds * 0.1)


def test_vlan_ranges_round_trip_and_refusals() -> None:
    assert words.vlan_ranges("100-199, 300") == [(100, 199), (300, 300)]
    assert words.vlan_text(words.vlan_ranges("100-199,300")) == "100-199,300"
    assert words.vlan_ranges("none") == []
    for bad in ("", "0", "4095", "1-4095", "5-3", "a", "1-", "-1", "1,,2", "²"):
        with pytest.raises(Refusal) as caught:
            words.vlan_ranges(bad)
        assert caught.value.reason is Reason.INVALID_VLAN


@given(st.sets(st.integers(1, 4094)))
def test_joined_ids_cover_the_same_ids(vids: set[int]) -> None:
    ranges = words.joined(sorted(vids))
    assert [v for low, high in ranges for v in range(low, high + 1)] == sorted(vids)
    assert all(after[0] - before[1] > 1 for before, after in itertools.pairwise(ranges))


def test_vlan_choice() -> None:
    assert [words.vlan_choice(t) for t in ("auto", "0", "4094")] == [None, 0, 4094]
    for bad in ("4095", "-1", "x", ""):
        with pytest.raises(Refusal):
            words.vlan_choice(bad)


def test_targets_and_places() -> None:
    assert words.place("h/netns:/run/netns/x") == ("h", "netns:/run/netns/x")
    assert words.target("web1") == Target(TargetKind.CONTAINER, "web1")
    assert words.target("pid:12") == Target(TargetKind.PID, "12")
    for bad in ("pid:0", "pid:x", "netns:blue", "docker:web1", "pid:99999999999"):
        with pytest.raises(Refusal):
            words.target(bad)
    for bad in ("h", "h/", "/web1", ""):
        with pytest.raises(Refusal):
            words.place(bad)


# ---- present and main


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_documented_exit_code(reason: Reason) -> None:
    assert present.exit_code(reason) in present.EXIT_CODES
    assert present.exit_code(reason) != 0


def test_every_status_has_an_exit_code_of_its_kind() -> None:
    wanted = {
        Status.INVALID_ARGUMENT: 2,
        Status.NOT_FOUND: 3,
        Status.ALREADY_EXISTS: 4,
        Status.FAILED_PRECONDITION: 4,
        Status.RESOURCE_EXHAUSTED: 5,
        Status.UNAVAILABLE: 6,
        Status.DEADLINE_EXCEEDED: 7,
        Status.PERMISSION_DENIED: 8,
        Status.UNAUTHENTICATED: 8,
        Status.INTERNAL: 1,
        Status.DATA_LOSS: 1,
    }
    for reason in Reason:
        assert present.exit_code(reason) == wanted.get(reason.status, 4)


def test_an_error_of_many_lines_stays_readable() -> None:
    told = present.lines(TrunklineError(Reason.DEADLINE, "late:\na: x\nb: y", "do"))
    assert told == ["error: late:\n    a: x\n    b: y", "  next: do", "  reason: DEADLINE"]


def test_a_newer_reason_is_shown_as_it_came() -> None:
    error = TrunklineError(Reason.INVALID_ARGUMENT, "m")
    error.facts = {"reason": "TOO_PURPLE"}
    assert present.lines(error)[-1] == "  reason: TOO_PURPLE"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ([], 2),
        (["--help"], 0),
        (["--version"], 0),
        (["nosuch"], 2),
        (["network", "create"], 2),
        (["network", "create", "n", "--vlan", "4095", "--no-ip"], 2),
        (["network", "create", "n"], 2),
        (["network", "create", "n", "--subnet", "20.0.0.0/24"], 2),
        (["network", "create", "n", "--subnet", "20.0.0.5/24", "--no-gateway"], 2),
        (["network", "create", "n", "--subnet", "20.0.0.0/24", "--gateway", "20.0.1.1"], 2),
        (["network", "create", "n", "--no-ip", "--mode", "passthru"], 2),
        (["network", "create", "a/b", "--no-ip"], 2),
        (["attach", "h/c", "--network", "n", "--mac", "01:00:5e:00:00:01"], 2),
        (["attach", "h/c", "--network", "n", "--ip", "20.0.0.1", "--no-ip"], 2),
        (["attach", "h/c", "--network", "n", "--ifname", "much-too-long-name"], 2),
        (["uplink", "set", "default", "--vlans", "4095"], 2),
        (["status", "--tls-ca", "x"], 2),
        (["status", "--deadline", "0"], 2),
        (["reason", "NOPE"], 2),
        (["reason", "pool-exhausted"], 0),
        (["help", "exit-codes"], 0),
        (["help", "config"], 0),
        (["help"], 0),
    ],
)
def test_exit_codes_without_a_controller(
    args: list[str], code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main.run(args) == code
    told = capsys.readouterr()
    if code and args:
        assert told.err.startswith("error: ")
        assert "\n  next: " in told.err
        assert "Traceback" not in told.err


def test_a_bug_is_told_as_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(main.cli, "main", bug)
    assert main.run(["status"]) == present.UNEXPECTED
    err = capsys.readouterr().err
    assert "ZeroDivisionError: boom" in err
    assert "TRUNKLINE_DEBUG=1" in err


def test_ctrl_c_is_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.cli, "main", interrupt)
    assert main.run(["status"]) == present.INTERRUPTED
    assert capsys.readouterr().err == ""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands with their words."""
    ctx = click.Context(command)
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            inner = command.get_command(ctx, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


ALL = dict(commands(main.cli))
LEAVES = {path: c for path, c in ALL.items() if path and not isinstance(c, click.Group)}


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_teaches_by_example(path: tuple[str, ...]) -> None:
    assert "trunkline " in (LEAVES[path].help or "")
    assert all(p.help for p in LEAVES[path].params if isinstance(p, click.Option))


@pytest.mark.parametrize("path", [p for p in LEAVES if p not in (("help",), ("completion",))], ids=" ".join)
def test_every_command_takes_the_shared_options_after_it(path: tuple[str, ...]) -> None:
    taken = {option for p in LEAVES[path].params for option in p.opts}
    assert {"-o", "--deadline", "--no-wait", "--controller", "--tls-ca", "--insecure", "--no-color"} <= taken


def test_help_imports_neither_grpc_nor_rich() -> None:
    script = (
        "import sys; from trunkline.cli import main; main.run(['--help']);"
        "sys.exit(str({'grpc', 'rich', 'google.protobuf', 'msgspec'} & set(sys.modules) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
    assert "network" in done.stdout


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-c", "import sys; from trunkline.cli.main import run; sys.exit(run(['reason']))"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", shell]) == 0
    assert "_TRUNKLINE_COMPLETE" in capsys.readouterr().out


# ---- tables


def test_tables_fold_and_never_cut() -> None:
    out = io.StringIO()
    screen = console(out, no_color=True)
    screen.width = 40
    screen.print(grid([("NAME", False), ("DETAIL", False)], [["docker1", "a" * 100]]))
    assert out.getvalue().count("a") == 100
    assert "…" not in out.getvalue()


def test_markup_in_names_is_text() -> None:
    out = io.StringIO()
    console(out, no_color=True).print(grid([("NAME", False)], [["[bold]x[/bold] :smile:"]]))
    assert "[bold]x[/bold] :smile:" in out.getvalue()


def test_plain_data() -> None:
    item = attachment_pb2.Attachment(
        spec=attachment_pb2.AttachmentSpec(host="h", target=attachment_pb2.Target(pid=7)),
        phase=attachment_pb2.ATTACHMENT_PHASE_READY,
        created_ms=1 << 40,
    )
    data = plain(item)
    assert (data["phase"], data["created_ms"], data["addresses"]) == ("ready", 1 << 40, [])
    assert data["spec"]["target"] == {"pid": 7}
    assert plain(network_pb2.Network())["spec"] is None
    assert plain(network_pb2.NetworkSpec(rest_seconds=0))["rest_seconds"] == 0
    item.phase = 99  # type: ignore[assignment]
    assert plain(item)["phase"] == "unknown"


# ---- waiting

DONE = HostStand("a", Stand.DONE, "ready")
PENDING = HostStand("b", Stand.PENDING, "pending")
FAILED = HostStand("c", Stand.FAILED, "failed", "UPLINK_NOT_ON_HOST", "no uplink")
AWAY = HostStand("d", Stand.AWAY, "out of reach", "HOST_UNREACHABLE")


@pytest.mark.parametrize(
    ("stands", "away_is_done", "since_failure", "since_away", "over"),
    [
        ((), False, None, 0, True),
        ((DONE,), False, None, 0, True),
        ((DONE, PENDING), True, None, 99, False),
        ((DONE, AWAY), True, None, 0, True),
        ((DONE, AWAY), False, None, 0, False),
        ((DONE, AWAY), False, None, 99, True),
        ((PENDING, AWAY), True, None, 99, False),
        ((FAILED, DONE), False, 0, 0, True),
        ((FAILED, PENDING), False, 0, 0, False),
        ((FAILED, PENDING), False, 99, 0, True),
        ((FAILED, AWAY), False, 0, 0, True),
    ],
)
def test_when_waiting_is_over(
    stands: standing.Stands, away_is_done: bool, since_failure: float | None, since_away: float, over: bool
) -> None:
    assert standing.enough(stands, away_is_done, since_failure, since_away) is over


@pytest.mark.parametrize(
    ("phase", "connected", "reason", "stand"),
    [
        ("READY", True, "", Stand.DONE),
        ("READY", False, "", Stand.AWAY),
        ("FAILED", True, "UPLINK_NOT_ON_HOST", Stand.FAILED),
        ("FAILED", True, "UPLINK_DOWN", Stand.PENDING),
        ("FAILED", True, "OF_A_NEWER_RELEASE", Stand.PENDING),
        ("PENDING", True, "", Stand.PENDING),
        ("", True, "", Stand.PENDING),
    ],
)
def test_where_a_network_stands_on_a_host(phase: str, connected: bool, reason: str, stand: Stand) -> None:
    network = network_pb2.Network()
    network.hosts.add(host="h", phase=phase, connected=connected, reason=reason)
    assert standing.network_made(network)[0].stand is stand


def test_errors_of_waiting_name_hosts_and_what_they_lack() -> None:
    error = standing.failure((DONE, FAILED), "network n")
    assert error is not None
    assert (error.reason, error.message) == (Reason.UPLINK_NOT_ON_HOST, "network n failed on c: no uplink")
    late = standing.missing((DONE, PENDING, AWAY), "network n", 60)
    assert late.reason is Reason.DEADLINE
    assert "b: pending" in late.message
    assert "d: " not in late.message
    assert "d: out of reach" in standing.missing((DONE, AWAY), "network n", 60).message
    assert standing.failure((DONE, AWAY), "x") is None


# ---- the matrix

OUTCOMES = {"ok": matrix.OK, "silent": matrix.SILENT, "unknown": matrix.UNKNOWN, "conflict": matrix.CONFLICT, "": None}


@pytest.mark.parametrize(
    ("broadcast", "unicast", "shown"),
    [
        ("ok", "ok", "0.42"),
        ("unknown", "ok", "0.42?"),
        ("", "ok", "0.42?"),
        ("silent", "ok", "U!"),
        ("ok", "silent", "B!"),
        ("ok", "unknown", "B?"),
        ("silent", "silent", "--"),
        ("silent", "unknown", "--"),
        ("unknown", "silent", "--"),
        ("unknown", "unknown", "?"),
        ("", "", "?"),
        ("ok", "conflict", "!!"),
    ],
)
def test_cells(broadcast: str, unicast: str, shown: str) -> None:
    network = NetworkCheck(check_pb2.CheckPlan(network="n", hosts=["a", "b"]))
    for kind, word in ((matrix.BROADCAST, broadcast), (matrix.UNICAST, unicast)):
        outcome = OUTCOMES[word]
        if outcome is not None:
            network.take(check_pb2.CheckResult(from_host="a", to_host="b", kind=kind, outcome=outcome, rtt_us=420))
    network.over = True
    assert network.cell("a", "b") == shown
    assert network.rows()[0] == ["a", "·", shown]


def test_cells_wait_until_the_end() -> None:
    network = NetworkCheck(check_pb2.CheckPlan(network="n", hosts=["a", "b"]))
    assert network.cell("a", "b") == matrix.WAITING
    network.over = True
    assert network.cell("a", "b") == "?"


def test_addresses_come_worst_first_with_every_asker() -> None:
    network = NetworkCheck(check_pb2.CheckPlan(network="n", hosts=["a", "b"]))
    facts = [
        ("20.0.0.2", "a", matrix.OK),
        ("20.0.0.2", "b", matrix.OK),
        ("20.0.0.3", "a", matrix.OK),
        ("20.0.0.3", "b", matrix.SILENT),
        ("20.0.0.4", "a", matrix.CONFLICT),
        ("20.0.0.5", "a", matrix.UNKNOWN),
        ("20.0.0.6", "b", matrix.SILENT),
    ]
    for address, source, outcome in facts:
        kind = check_pb2.PROBE_KIND_ADDRESS
        network.take(check_pb2.CheckResult(from_host=source, address=address, kind=kind, outcome=outcome))
    assert [(a.address, a.outcome) for a in network.addresses()] == [
        ("20.0.0.4", "conflict"),
        ("20.0.0.6", "silent"),
        ("20.0.0.3", "silent from some"),
        ("20.0.0.5", "unknown"),
        ("20.0.0.2", "ok"),
    ]
    assert network.bad() == 3


@pytest.mark.parametrize("width", [40, 80, 120, 100_000])
@pytest.mark.parametrize("count", [2, 5, 12, 40])
def test_every_cell_of_a_matrix_is_shown_whole_at_any_width(width: int, count: int) -> None:
    hosts = [f"docker-host-{n}" for n in range(count)]
    network = NetworkCheck(check_pb2.CheckPlan(network="n", hosts=hosts), over=True)
    for source in hosts:
        for destination in hosts:
            fact = check_pb2.CheckResult(from_host=source, to_host=destination, outcome=matrix.OK, rtt_us=1110)
            fact.kind = matrix.UNICAST
            network.take(fact)
    out = io.StringIO()
    screen = console(out, no_color=True)
    screen.width = width
    for block in check_run._matrix(network, width):
        screen.print(block)
    assert out.getvalue().count("1.11?") == count * (count - 1)
    assert max(len(line) for line in out.getvalue().splitlines()) <= width
    assert all(host in out.getvalue() for host in hosts)


def test_legend_explains_what_occurs() -> None:
    assert matrix.legend({"0.42", "·"}) == [matrix.READING]
    told = matrix.legend({"B!", "--", "0.4"})
    assert told == [matrix.READING, "B! only broadcast gets through; -- nothing gets through"]
    assert "x? as x" in matrix.legend({"0.42?", "·"})[1]
    assert "x?" not in matrix.legend({"?", "·"})[1]


def matrix_of(hosts: list[str], dead: set[tuple[str, str]]) -> NetworkCheck:
    """All hear each other but those pairs of (from, to)."""
    network = NetworkCheck(check_pb2.CheckPlan(network="n", hosts=hosts, vlan=10), over=True)
    for source, destination in itertools.permutations(hosts, 2):
        outcome = matrix.SILENT if (source, destination) in dead else matrix.OK
        for kind in (matrix.BROADCAST, matrix.UNICAST):
            network.take(check_pb2.CheckResult(from_host=source, to_host=destination, kind=kind, outcome=outcome))
    return network


def test_a_host_that_is_cut_off_is_named_only_where_others_hear_each_other() -> None:
    hosts = ["h1", "h2", "h3"]
    both_ways = {pair for pair in itertools.permutations(hosts, 2) if "h3" in pair}
    assert matrix_of(hosts, both_ways).cut_off() == ["h3"]
    (hint,) = matrix_of(hosts, both_ways).hints()
    assert hint.startswith("h3 hears nobody")
    assert "VLAN 10" in hint
    assert matrix_of(hosts, {("h1", "h3"), ("h2", "h3")}).cut_off() == [], "one way only"
    assert matrix_of(hosts, set()).cut_off() == []
    assert matrix_of(hosts, set(itertools.permutations(hosts, 2))).cut_off() == [], "it could be any of them"
    assert matrix_of(["h1", "h2"], {("h1", "h2"), ("h2", "h1")}).cut_off() == [], "it could be either"


def test_addresses_of_which_the_same_is_to_be_said_share_a_row() -> None:
    network = matrix_of(["h1", "h2"], set())
    for last in range(1, 6):
        for host, outcome in (("h1", matrix.OK), ("h2", matrix.SILENT)):
            fact = check_pb2.CheckResult(from_host=host, to_host="h1", address=f"20.0.0.{last}", outcome=outcome)
            fact.kind = check_pb2.PROBE_KIND_ADDRESS
            fact.message = "no answer" if outcome == matrix.SILENT else ""
            network.take(fact)
    rows = check_run._together(network.addresses())
    assert rows == [["20.0.0.1, 20.0.0.2, 20.0.0.3 and 2 more", "h1", "silent from some", "asked from h2: no answer"]]
    assert len(check_run._each(network.addresses())) == 5


def test_addresses_stand_in_the_order_people_count() -> None:
    network = matrix_of(["h1", "h2"], set())
    for address in ("20.0.0.10", "fd00::2", "20.0.0.9", "20.0.0.100"):
        fact = check_pb2.CheckResult(from_host="h1", to_host="h2", address=address, outcome=matrix.OK)
        fact.kind = check_pb2.PROBE_KIND_ADDRESS
        network.take(fact)
    assert [a.address for a in network.addresses()] == ["20.0.0.9", "20.0.0.10", "20.0.0.100", "fd00::2"]


def test_how_to_read_it_is_said_once_for_all_matrices() -> None:
    checks = check_run.Checks(wide=False)
    for name in ("a", "b"):
        checks.take(check_pb2.RunCheckResponse(plan=check_pb2.CheckPlan(network=name, hosts=["h1", "h2"], vlan=10)))
    checks.take(check_pb2.RunCheckResponse(summary=check_pb2.CheckSummary(unknown=8)))
    out = io.StringIO()
    screen = console(out, no_color=True)
    screen.print(checks)
    assert out.getvalue().count(matrix.READING) == 1
    assert out.getvalue().count("not probed") == 1


# ---- what is mistyped


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["netwrk", "list"], "did you mean `trunkline network`?"),
        (["network", "lst"], "did you mean `trunkline network list`?"),
        (["xyzzy"], "next: trunkline --help lists all"),
        (["reason", "pool"], "did you mean POOL_EXHAUSTED?"),
        (["reason", "HOST_UNREACHABEL"], "did you mean HOST_UNREACHABLE?"),
        (["reason", "xyzzy"], "next: trunkline reason lists them"),
    ],
)
def test_the_nearest_name_is_offered(args: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(args) == present.USAGE
    assert told in capsys.readouterr().err


def test_certificates_are_issued_only_where_the_authority_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["pki", "issue", str(tmp_path), "host:docker1"]) == present.USAGE
    told = capsys.readouterr().err
    assert f"there is no authority in {tmp_path}: it has no ca.crt" in told
    assert f"trunkline pki init {tmp_path}" in told
    assert main.run(["pki", "init", str(tmp_path)]) == 0
    (tmp_path / "ca.key").write_text("broken")
    assert main.run(["pki", "issue", str(tmp_path), "host:docker1"]) == present.USAGE
    assert "holds no usable authority" in capsys.readouterr().err


def test_only_commands_that_wait_say_how_not_to(capsys: pytest.CaptureFixture[str]) -> None:
    for args, waits in ((["attach"], True), (["network", "delete"], True), (["who"], False), (["host", "list"], False)):
        main.run([*args, "--help"])
        assert ("--no-wait" in capsys.readouterr().out) is waits, args


# ---- network options


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--subnet", "40.0.0.1/24"], Reason.INVALID_PREFIX),
        (["--subnet", "40.0.0.0/24", "--gateway", "41.0.0.1"], Reason.INVALID_GATEWAY),
        (["--subnet", "40.0.0.0/24", "--gateway", "40.0.0.1", "--gateway", "40.0.0.2"], Reason.INVALID_GATEWAY),
        (["--subnet", "40.0.0.0/24", "--no-gateway", "--range", "41.0.0.0/25"], Reason.INVALID_RANGE),
        (["--subnet", "40.0.0.0/24", "--no-gateway", "--exclude", "x"], Reason.INVALID_ARGUMENT),
        (["--subnet", "40.0.0.0/24", "--vlan", "4095"], Reason.INVALID_VLAN),
        (["--subnet", "40.0.0.0/24", "--mode", "passthru"], Reason.MODE_REFUSED),
        (["--subnet", "40.0.0.0/24"], Reason.INVALID_ARGUMENT),
        (["--subnet", "40.0.0.0/24", "--no-gateway", "--gateway", "40.0.0.1"], Reason.INVALID_ARGUMENT),
        (["--no-ip", "--subnet", "40.0.0.0/24"], Reason.INVALID_ARGUMENT),
        (["--no-ip", "--rest", "soon"], Reason.INVALID_ARGUMENT),
        ([], Reason.INVALID_ARGUMENT),
    ],
)
def test_bad_networks_are_named_before_anybody_is_asked(
    args: list[str], reason: Reason, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["network", "create", "n", *args]) == present.USAGE
    assert f"reason: {reason.name}\n" in capsys.readouterr().err
