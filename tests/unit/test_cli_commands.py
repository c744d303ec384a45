"""Commands against a double of the controller: what is asked, what is shown, and the exit code."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from fakes.services import Double, Gone, Step

from trunkline.cli import present, progress, standing, waiting
from trunkline.cli.main import run
from trunkline.errors import Reason, Refusal
from trunkline.v1 import address_pb2, attachment_pb2, check_pb2, network_pb2


@dataclass
class Outcome:
    """What a script sees."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(standing, "AWAY_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "_SILENCE", 0.2)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("TRUNKLINE_CONTROLLER", raising=False)


@pytest.fixture
def double() -> Iterator[Double]:
    with Double() as served:
        yield served


@pytest.fixture
def cli(double: Double, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("TRUNKLINE_CONTROLLER", double.endpoint)

    def call(*args: str) -> Outcome:
        capsys.readouterr()
        code = run(list(args))
        told = capsys.readouterr()
        return Outcome(code, told.out, told.err)

    return call


def phase(host: str, word: str, reason: str = "", message: str = "") -> Step:
    """The next thing a host reports of a network."""

    def step(network: network_pb2.Network) -> None:
        entry = next(h for h in network.hosts if h.host == host)
        entry.phase, entry.reason, entry.message = word, reason, message

    return step


def becomes(number: attachment_pb2.AttachmentPhase.ValueType, reason: str = "", message: str = "") -> Step:
    """The next thing a host reports of an attachment."""

    def step(item: attachment_pb2.Attachment) -> None:
        item.phase, item.reason, item.message, item.ifname = number, reason, message, "tl0"

    return step


def gone(_: object) -> None:
    raise Gone


CREATE = ("network", "create", "mynet2", "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1")
ATTACH = ("attach", "docker1/web1", "--network", "mynet2")


def test_create_asks_for_what_was_typed_and_waits_for_every_host(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.host("docker2")
    double.course = [phase("docker1", "READY"), phase("docker2", "READY")]
    got = cli(
        *CREATE, "--subnet", "fd00:20::/64", "--gateway", "fd00:20::1", "--range", "20.0.0.128/25", "--rest", "10m"
    )
    assert got.code == 0, got.err
    spec = double.called("CreateNetwork")[0].spec
    assert [(p.cidr, p.gateway, list(p.ranges)) for p in spec.prefixes] == [
        ("20.0.0.0/24", "20.0.0.1", ["20.0.0.128/25"]),
        ("fd00:20::/64", "fd00:20::1", []),
    ]
    assert (spec.vlan_auto, spec.rest_seconds, spec.HasField("hold_seconds")) == (True, 600, False)
    assert "mynet2 created: VLAN 100" in got.out
    assert "ready on 2 hosts" in got.out
    assert got.err == "", "what is done at once needs no account of its course"


def test_what_takes_long_is_told_line_by_line_where_there_is_no_terminal(
    double: Double, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.2)
    double.host("docker1")
    double.host("docker2")
    double.host("docker3")
    told = threading.Event()

    def late(network: network_pb2.Network) -> None:
        told.wait(0.5)
        phase("docker2", "FAILED", "UPLINK_DOWN", "enp7s0 is down")(network)

    def later(network: network_pb2.Network) -> None:
        told.wait(0.5)
        phase("docker2", "READY")(network)
        phase("docker3", "READY")(network)

    double.course = [phase("docker1", "READY"), late, later]
    got = cli(*CREATE)
    assert got.code == 0
    lines = [re.sub(r" \([\d.]+ m?s\)$", "", line) for line in got.err.splitlines()]
    assert lines == [
        "network mynet2: docker2 pending",
        "network mynet2: docker3 pending",
        "network mynet2: docker2 failed: enp7s0 is down",
        "network mynet2: docker2 ready",
        "network mynet2: docker3 ready",
    ]


@pytest.mark.parametrize(
    ("command", "seconds", "told"),
    [
        (("network", "list"), 42, "42s"),
        (("host", "list"), 3, "3s"),
        (("attachment", "list", "-o", "json"), 7260, "2h1m"),
        (("uplink", "list"), 90, "1m30s"),
        (("who", "20.0.0.9"), 61, "1m1s"),
    ],
)
def test_an_answer_from_memory_says_how_old_it_is_once(
    double: Double, cli: Run, command: tuple[str, ...], seconds: int, told: str
) -> None:
    double.stale_seconds = seconds
    got = cli(*command)
    assert got.code == 0
    line = f"warning: the store does not answer; this is what was known {told} ago"
    assert got.err.count(line) == 1
    assert line not in got.out


def test_a_controller_that_does_not_answer_in_time_is_named(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.mute = True
    got = cli("attach", "docker1/web1", "--network", "n", "--deadline", "0.6")
    assert got.code == present.DEADLINE
    assert f"error: controller {double.endpoint} did not answer within 0.6 s" in got.err
    assert "asking again is safe" in got.err


def test_a_host_that_is_away_is_counted_as_such(double: Double, cli: Run) -> None:
    host = double.host("docker1", connected=False)
    host.attachments, host.attachments_ready = 5, 4
    assert "was 4/5" in cli("host", "list").out
    assert "was 4 ready of 5" in cli("host", "show", "docker1").out
    cli(*CREATE, "--no-wait")
    network = double.networks["mynet2"]
    network.phase, network.hosts[0].phase = network_pb2.NETWORK_PHASE_READY, "READY"
    assert "0/1" in cli("network", "list").out
    assert "ready, 1 host away" in cli("network", "show", "mynet2").out
    cli("attach", "docker1/web1", "--network", "mynet2", "--no-wait")
    assert "no live session: this is what was last known" in cli("attachment", "show", "docker1/web1").out
    double.status.attachments, double.status.attachments_ready, double.status.attachments_away = 5, 3, 2
    told = cli("status").out
    assert "3 ready of 5, 2 on hosts that are away" in told
    assert "not every attachment" not in told


def test_completion_writes_nothing_into_the_prompt(
    double: Double, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUNKLINE_CONTROLLER", double.endpoint)
    monkeypatch.setenv("_TRUNKLINE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "trunkline host show do")
    monkeypatch.setenv("COMP_CWORD", "3")
    double.stale_seconds = 42
    double.host("docker1")
    with pytest.raises(SystemExit):
        run([])
    told = capsys.readouterr()
    assert told.out.split() == ["plain,docker1"]
    assert told.err == ""


def test_who_claims_no_more_than_is_known_of_a_host_that_is_away(double: Double, cli: Run) -> None:
    held = address_pb2.Holding(
        network="n", address="20.0.0.9", kind="attachment", phase="ready", observed=True, observed_ms=1_700_000_000_000
    )
    double.holdings = [held]
    away = cli("who", "20.0.0.9").out
    assert "attachment, away (was ready)" in away
    assert "was, 2023-11-1" in away
    held.connected = True
    here = cli("who", "20.0.0.9").out
    assert "attachment, ready" in here
    assert "yes, since 2023-11-1" in here
    double.holdings = [address_pb2.Holding(network="n", address="20.0.0.9", kind="resting", host="docker1")]
    assert "away" not in cli("who", "20.0.0.9").out


def test_ids_are_as_short_as_docker_s_in_tables_and_whole_in_data(double: Double, cli: Run) -> None:
    whole = "0123456789ab" + "c" * 52
    double.holdings = [address_pb2.Holding(network="n", address="20.0.0.9", kind="attachment", target_id=whole)]
    assert "0123456789ab\n" in cli("who", "20.0.0.9").out
    assert whole in cli("who", "20.0.0.9", "-o", "json").out


def test_a_host_out_of_reach_is_named_and_not_waited_for(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.host("docker3", connected=False)
    double.course = [phase("docker1", "READY")]
    got = cli(*CREATE)
    assert got.code == 0
    assert "warning: docker3 is out of reach" in got.err


def test_a_failure_that_no_waiting_mends_ends_the_wait(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.host("docker2")
    double.course = [phase("docker1", "READY"), phase("docker2", "FAILED", "UPLINK_NOT_ON_HOST", "no uplink default")]
    got = cli(*CREATE)
    assert got.code == present.CONFLICT
    assert "error: network mynet2 failed on docker2: no uplink default" in got.err
    assert "next: the network stands" in got.err
    assert "reason: UPLINK_NOT_ON_HOST" in got.err


def test_the_deadline_says_what_each_host_lacks(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.host("docker2")
    double.course = [phase("docker1", "READY"), phase("docker2", "FAILED", "UPLINK_DOWN", "enp7s0 is down")]
    got = cli(*CREATE, "--deadline", "0.6")
    assert got.code == present.DEADLINE
    assert "not done after 0.6 s: docker2: enp7s0 is down" in got.err
    assert "reason: DEADLINE" in got.err


def test_a_watch_that_is_cut_is_taken_up_again(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.cut_watch_once = True
    double.course = [phase("docker1", "READY")]
    assert cli(*CREATE).code == 0
    assert len(double.called("WatchNetworks")) == 2


def test_a_watch_that_says_nothing_is_helped_by_asking(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.silent_watch = True
    double.course = [phase("docker1", "READY")]
    assert cli(*CREATE).code == 0


def test_a_host_that_is_lost_while_waiting_gets_time_to_come_back(double: Double, cli: Run) -> None:
    def connected(yes: bool) -> Step:
        def step(network: network_pb2.Network) -> None:
            network.hosts[0].connected = yes

        return step

    double.host("docker1")
    double.course = [connected(False), connected(True), phase("docker1", "READY")]
    got = cli(*CREATE)
    assert got.code == 0
    assert "ready on 1 host" in got.out
    assert "warning" not in got.err


def test_no_wait_returns_at_once(double: Double, cli: Run) -> None:
    double.host("docker1")
    got = cli(*CREATE, "--no-wait")
    assert got.code == 0
    assert not double.called("WatchNetworks")


def test_network_removed_by_somebody_else_while_waiting(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.course = [gone]
    got = cli(*CREATE)
    assert got.code == present.NOT_FOUND
    assert "removed meanwhile" in got.err


def test_create_as_json_has_the_final_state_and_nothing_else_on_stdout(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.course = [phase("docker1", "READY")]
    got = cli("-o", "json", *CREATE)
    data = json.loads(got.out)
    assert data["network"]["hosts"][0] | {} == {
        "host": "docker1",
        "phase": "ready",
        "reason": "",
        "message": "",
        "link": "",
        "owned": False,
        "connected": True,
        "docker": "",
        "docker_message": "",
    }
    assert (data["existed"], data["network"]["spec"]["rest_seconds"]) == (False, None)


def test_delete_waits_until_gone(double: Double, cli: Run) -> None:
    double.host("docker1")
    cli(*CREATE, "--no-wait")
    double.course = [phase("docker1", "CLEAN"), gone]
    got = cli("network", "delete", "mynet2")
    assert (got.code, got.out) == (0, "network mynet2 deleted\n")


def test_delete_with_a_host_out_of_reach_says_what_stays_claimed(double: Double, cli: Run) -> None:
    double.host("docker1", connected=False)
    cli(*CREATE, "--no-wait")
    got = cli("network", "delete", "mynet2")
    assert got.code == present.UNAVAILABLE
    assert "docker1 is out of reach" in got.err
    assert "stay claimed" in got.err


def test_update_replaces_the_lists_of_the_right_prefix(double: Double, cli: Run) -> None:
    cli(*CREATE, "--subnet", "fd00:20::/64", "--no-wait")
    got = cli("network", "update", "mynet2", "--exclude", "fd00:20::5", "--hold", "48h", "--all-hosts")
    assert got.code == 0, got.err
    request = double.called("UpdateNetwork")[0]
    assert [(p.cidr, list(p.excludes), p.set_excludes, p.set_ranges) for p in request.prefixes] == [
        ("fd00:20::/64", ["fd00:20::5"], True, False)
    ]
    assert (request.set_host_selector, request.hold_seconds, request.HasField("mtu")) == (True, 172_800, False)


def test_attach_until_ready(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.course = [becomes(attachment_pb2.ATTACHMENT_PHASE_READY)]
    got = cli(*ATTACH, "--ip", "20.0.0.2", "--mac", "02-00-5E-10-00-01")
    assert got.code == 0, got.err
    request = double.called("Attach")[0]
    assert request.check_target
    assert (request.spec.mac, list(request.spec.addresses)) == ("02:00:5e:10:00:01", ["20.0.0.2"])
    assert "docker1/web1/mynet2 attached: 20.0.0.2/24, MAC 02:01:14:00:00:02 as tl0" in got.out


@pytest.mark.parametrize(
    ("typed", "kind", "value"),
    [
        ("docker1/web1", "container", "web1"),
        ("docker1/netns:/run/netns/blue", "netns", "/run/netns/blue"),
        ("docker1/pid:123", "pid", 123),
    ],
)
def test_targets(double: Double, cli: Run, typed: str, kind: str, value: object) -> None:
    double.host("docker1")
    cli("attach", typed, "--network", "mynet2", "--no-wait")
    target = double.called("Attach")[0].spec.target
    assert (target.WhichOneof("kind"), getattr(target, kind)) == (kind, value)


def test_a_new_attachment_that_can_never_come_is_withdrawn(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.course = [becomes(attachment_pb2.ATTACHMENT_PHASE_FAILED, "IFNAME_TAKEN", "web1 has an eth1")]
    got = cli(*ATTACH)
    assert got.code == present.CONFLICT
    assert "web1 has an eth1" in got.err
    assert "withdrawn" in got.err
    assert double.called("Detach")[0].name == "web1/mynet2"


def test_an_attachment_that_was_there_is_not_withdrawn(double: Double, cli: Run) -> None:
    double.host("docker1")
    cli(*ATTACH, "--no-wait")
    double.course = [becomes(attachment_pb2.ATTACHMENT_PHASE_FAILED, "IFNAME_TAKEN", "web1 has an eth1")]
    got = cli(*ATTACH)
    assert got.code == present.CONFLICT
    assert "trunkline detach docker1/web1/mynet2" in got.err
    assert not double.called("Detach")


def test_attach_on_a_host_out_of_reach_says_so(double: Double, cli: Run) -> None:
    double.host("docker1", connected=False)
    got = cli(*ATTACH)
    assert got.code == present.UNAVAILABLE
    assert "docker1 is out of reach" in got.err
    assert "made when the host is back" in got.err


@pytest.mark.parametrize("place", ["docker1/web1", "docker1/web1/mynet2", "web1/mynet2"])
def test_detach_finds_what_is_meant(double: Double, cli: Run, place: str) -> None:
    double.host("docker1")
    cli(*ATTACH, "--no-wait")
    double.course = [gone]
    got = cli("detach", place)
    assert got.code == 0, got.err
    assert "docker1/web1/mynet2 detached" in got.out


def test_detach_asks_which_network_when_there_are_several(double: Double, cli: Run) -> None:
    double.host("docker1")
    cli(*ATTACH, "--no-wait")
    cli("attach", "docker1/web1", "--network", "mynet3", "--no-wait")
    got = cli("detach", "docker1/web1")
    assert got.code == present.USAGE
    assert "docker1/web1/mynet2, docker1/web1/mynet3" in got.err
    assert not double.called("Detach")
    double.course = [gone]
    assert cli("detach", "docker1/web1", "--network", "mynet3").code == 0


def test_detach_of_nothing_is_no_error_but_an_unknown_host_is(double: Double, cli: Run) -> None:
    double.host("docker1")
    assert cli("detach", "docker1/web9").code == 0
    assert cli("detach", "docker9/web1").code == present.NOT_FOUND


def test_detached_before_the_watch_began(double: Double, cli: Run) -> None:
    double.host("docker1")
    cli(*ATTACH, "--no-wait")
    double.silent_watch = True
    double.course = [lambda _: double.attachments.clear()]
    assert cli("detach", "docker1/web1").code == 0


@pytest.mark.parametrize("output", ["table", "wide", "json", "yaml", "name"])
def test_lists_in_every_form(double: Double, cli: Run, output: str) -> None:
    double.host("docker1").uplinks.add(label="default", device="enp7s0", present=True, up=True, carrier=True)
    cli(*CREATE, "--no-wait")
    cli(*ATTACH, "--no-wait")
    cli("uplink", "set", "default", "--vlans", "100-199,300")
    for words, named in (
        (("network", "list"), "mynet2"),
        (("attachment", "list"), "docker1/web1/mynet2"),
        (("host", "list"), "docker1"),
        (("uplink", "list"), "default"),
    ):
        got = cli(*words, "-o", output)
        assert got.code == 0, got.err
        if output == "json":
            assert isinstance(json.loads(got.out), list)
        elif output == "yaml":
            assert isinstance(yaml.safe_load(got.out), list)
        elif output == "name":
            assert got.out == f"{named}\n"
        else:
            assert named.rpartition("/")[2] in got.out
            assert all(line == line.rstrip() for line in got.out.splitlines())


def test_a_pipe_gets_full_lines(double: Double, cli: Run) -> None:
    name = "x" * 63
    cli("network", "create", name, "--no-ip", "--no-wait", "--vlan", "10", "--host", "y" * 200)
    got = cli("network", "show", name)
    assert "y" * 200 in got.out
    assert len(cli("network", "list", "-o", "wide").out.splitlines()) == 2


def test_show_network_and_host(double: Double, cli: Run) -> None:
    host = double.host("docker1")
    host.problems.add(kind="uplink", object="storage", reason="UPLINK_DOWN", message="bond0 is down; set it up")
    cli(*CREATE, "--no-wait")
    double.networks["mynet2"].pools.add(cidr="20.0.0.0/24", size=253, used=17, resting=3)
    shown = cli("network", "show", "mynet2").out
    for word in ("20.0.0.0/24", "253", "17", "5m, 1d", "docker1"):
        assert word in shown
    assert "bond0 is down" in cli("host", "show", "docker1").out


@pytest.mark.parametrize("reason", list(Reason))
def test_every_refusal_has_its_exit_code_and_is_shown_in_three_lines(double: Double, cli: Run, reason: Reason) -> None:
    double.refusals["GetNetwork"] = Refusal(reason, "what was seen", "what to do", reason_detail="x")
    got = cli("network", "show", "n")
    assert (got.code, got.out) == (present.exit_code(reason), "")
    assert got.err == f"error: what was seen\n  next: what to do\n  reason: {reason.name}\n"


def test_forget_needs_a_yes_without_a_terminal(double: Double, cli: Run) -> None:
    double.host("docker3", connected=False)
    got = cli("host", "forget", "docker3")
    assert got.code == present.USAGE
    assert "--yes" in got.err
    assert not double.calls
    assert "docker3 forgotten" in cli("host", "forget", "docker3", "--yes").out


def test_drain_and_back(double: Double, cli: Run) -> None:
    double.host("docker3")
    assert "is drained" in cli("host", "drain", "docker3").out
    assert "again" in cli("host", "drain", "docker3", "--undo").out


def test_who(double: Double, cli: Run) -> None:
    assert "nobody holds 20.0.0.9" in cli("who", "20.0.0.9").err
    double.holdings = [
        address_pb2.Holding(
            network="mynet2", address="20.0.0.9", kind="attachment", host="docker1", target="web1", observed=True
        )
    ]
    got = cli("who", "20.0.0.9").out
    for word in ("docker1", "web1", "yes"):
        assert word in got


def test_status(double: Double, cli: Run) -> None:
    double.status.store.add(endpoint="127.0.0.1:2379", healthy=True, version="3.4.23", db_size=5 << 20)
    assert "All is well." in cli("status").out
    double.status.attachments = 1
    assert "not every attachment is ready" in cli("status").out
    double.status.problems.add(kind="host", object="docker3", reason="HOST_UNREACHABLE", message="no session for 3m")
    got = cli("status").out
    assert "no session for 3m" in got
    assert "All is well" not in got


@pytest.mark.parametrize(("levels", "asked"), [((False, True), 1), ((False, False), 0), ((True, True), 0)])
def test_a_controller_whose_store_answers_is_preferred(
    double: Double, cli: Run, levels: tuple[bool, bool], asked: int
) -> None:
    with Double() as second:
        doubles = (double, second)
        double.level, second.level = levels
        assert cli("--controller", f"{double.endpoint},{second.endpoint}", "network", "list").code == 0
        assert ["ListNetworks" in [name for name, _ in one.calls] for one in doubles] == [asked == 0, asked == 1]


def test_the_first_controller_that_answers_is_asked(double: Double, cli: Run) -> None:
    got = cli("--controller", f"127.0.0.1:1,{double.endpoint}", "network", "list")
    assert got.code == 0
    got = cli("--controller", "127.0.0.1:1", "--controller", "127.0.0.1:2", "network", "list")
    assert got.code == present.UNAVAILABLE
    assert "127.0.0.1:1: " in got.err
    assert "127.0.0.1:2: " in got.err


def test_another_protocol_is_not_talked_to(double: Double, cli: Run) -> None:
    double.refusals["Ping"] = Refusal(Reason.PROTOCOL_VERSION, "this controller speaks protocol 2, you 1", "upgrade")
    got = cli("network", "list")
    assert got.code == present.CONFLICT
    assert "protocol 2" in got.err


def test_plain_text_stays_on_this_machine(cli: Run) -> None:
    got = cli("--controller", "10.0.0.1:7440", "status")
    assert got.code == present.USAGE
    assert "no TLS" in got.err


def test_config_file(double: Double, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUNKLINE_CONTROLLER")
    (tmp_path / "trunkline").mkdir()
    file = tmp_path / "trunkline" / "config.toml"
    file.write_text(f'controllers = ["{double.endpoint}"]')
    assert cli("status").code == 0
    file.write_text('controler = "x"')
    got = cli("status")
    assert got.code == present.USAGE
    assert "unknown key controler" in got.err


def check(double: Double, outcome: check_pb2.ProbeOutcome.ValueType, bad: int) -> None:
    plan = check_pb2.CheckPlan(
        network="mynet2", hosts=["docker1", "docker2"], skipped=["docker3: out of reach"], vlan=100
    )
    double.events = [check_pb2.RunCheckResponse(plan=plan)]
    for source, destination in (("docker1", "docker2"), ("docker2", "docker1")):
        for kind in (check_pb2.PROBE_KIND_BROADCAST, check_pb2.PROBE_KIND_UNICAST):
            double.events.append(
                check_pb2.RunCheckResponse(
                    result=check_pb2.CheckResult(
                        network="mynet2",
                        from_host=source,
                        to_host=destination,
                        kind=kind,
                        outcome=outcome if source == "docker1" else check_pb2.PROBE_OUTCOME_OK,
                        rtt_us=420,
                    )
                )
            )
    double.events.append(check_pb2.RunCheckResponse(summary=check_pb2.CheckSummary(ok=4 - bad, bad=bad)))


@pytest.mark.parametrize("command", ["check", "probe"])
def test_check_prints_a_matrix(double: Double, cli: Run, command: str) -> None:
    check(double, check_pb2.PROBE_OUTCOME_OK, 0)
    got = cli(command, "mynet2", "--timeout", "1.5")
    assert got.code == 0, got.err
    assert double.called("RunCheck")[0].timeout_ms == 1500
    rows = [line.split() for line in got.out.splitlines()]
    assert ["docker1", "·", "0.42"] in rows
    assert ["docker2", "0.42", "·"] in rows
    assert "docker3: out of reach" in got.out


def test_check_that_finds_something_bad_exits_9(double: Double, cli: Run) -> None:
    check(double, check_pb2.PROBE_OUTCOME_SILENT, 2)
    got = cli("check")
    assert got.code == present.CHECK_BAD
    assert ["docker1", "·", "--"] in [line.split() for line in got.out.splitlines()]
    data = json.loads(cli("check", "-o", "json").out)
    assert data["summary"]["bad"] == 2
    assert len(data["networks"][0]["results"]) == 4
    assert cli("check", "-o", "name").out == "mynet2\n"


def test_check_without_summary_is_no_success(double: Double, cli: Run) -> None:
    assert cli("check").code == present.UNAVAILABLE


def test_pki(cli: Run, tmp_path: Path) -> None:
    directory = str(tmp_path / "pki")
    assert cli("pki", "init", directory).code == 0
    got = cli("pki", "issue", directory, "controller:c1", "--name", "10.0.0.5", "-o", "json")
    assert Path(json.loads(got.out)["cert"]).exists()
    assert cli("pki", "init", directory).code == present.USAGE


@pytest.mark.parametrize(
    "words",
    [CREATE, ("network", "update", "mynet2", "--hold", "48h"), ("uplink", "set", "default", "--vlans", "1-9"), ATTACH],
)
def test_warnings_of_the_controller_are_shown_and_not_mixed_into_the_data(
    double: Double, cli: Run, words: tuple[str, ...]
) -> None:
    double.host("docker1")
    cli(*CREATE, "--no-wait")
    double.warnings = ["VLAN 1 is what most switches use untagged"]
    got = cli(*words, "--no-wait", "-o", "json")
    assert got.code == 0, got.err
    assert got.err == "warning: VLAN 1 is what most switches use untagged\n"
    json.loads(got.out)
