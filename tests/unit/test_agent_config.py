"""The agent's configuration: what it takes, and what it says of what it does not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.config import load
from agent.plan.state import UplinkConfig
from trunkline.errors import Reason, TrunklineError

GOOD = """
[agent]
controllers = ["127.0.0.1:7440", "unix:/run/c.sock"]
machine_id_file = "{machine_id}"
{agent}
[uplinks.default]
device = "enp7s0"
[uplinks.storage]
device = "bond0"
promiscuous = true
[labels]
rack = "r7"
{rest}
"""


def write(directory: Path, agent: str = "", rest: str = "", text: str = GOOD) -> Path:
    machine_id = directory / "machine-id"
    machine_id.write_text("0123456789abcdef\n")
    path = directory / "agent.toml"
    path.write_text(text.format(machine_id=machine_id, agent=agent, rest=rest))
    return path


def test_defaults(tmp_path: Path) -> None:
    config = load(write(tmp_path))
    assert config.host == socket.gethostname()
    assert config.machine_id == "0123456789abcdef"
    assert config.uplinks == (UplinkConfig("default", "enp7s0"), UplinkConfig("storage", "bond0", True))
    assert config.labels == {"rack": "r7"}
    assert config.state_dir == Path("/var/lib/trunkline")
    assert (str(config.dns.listen), config.dns.domain) == ("127.0.0.153:53", "trunkline.internal")
    assert (config.tick_seconds, config.docker_socket, config.tls) == (30.0, "/var/run/docker.sock", None)


@pytest.mark.parametrize(
    ("agent", "rest", "reason", "words"),
    [
        ("hots = 'x'", "", Reason.CONFIG_INVALID, "unknown key agent.hots"),
        ("", "[uplink]\nx = 1", Reason.CONFIG_INVALID, "unknown key uplink"),
        ("", "[uplinks.third]\ndevice = 'eth0'\nvlan = 4", Reason.CONFIG_INVALID, "unknown key uplinks.third.vlan"),
        ("", "[uplinks.third]\ndevice = 'enp7s0'", Reason.UPLINK_SHARED, "default and third both name device enp7s0"),
        ("", "[uplinks.third]\ndevice = 'much-too-long-a-name'", Reason.INVALID_NAME, "much-too-long-a-name"),
        ("", "[uplinks.'a b']\ndevice = 'eth0'", Reason.INVALID_NAME, "a b"),
        ("host = 'no good'", "", Reason.INVALID_NAME, "no good"),
        ("tick_seconds = 0", "", Reason.CONFIG_INVALID, "tick_seconds"),
        ("", "[dns]\nresolver = 'on'", Reason.CONFIG_INVALID, "dns.resolver 'on'"),
        ("", "[dns]\nlisten = 'localhost'", Reason.CONFIG_INVALID, "dns.listen 'localhost'"),
        ("tick_seconds = 'x'", "", Reason.CONFIG_INVALID, "agent.tick_seconds"),
        ("", "[log]\nlevel = 'loud'", Reason.CONFIG_INVALID, "loud"),
        ("", "[tls]\nca = '/nope/ca'\ncert = '/nope/c'\nkey = '/nope/k'", Reason.CONFIG_INVALID, "/nope/"),
        ("", "[tls]\nca = '/nope/ca'", Reason.CONFIG_INVALID, "cert"),
        ("insecure =", "", Reason.CONFIG_INVALID, "is not TOML"),
    ],
)
def test_refusals_name_file_key_and_remedy(tmp_path: Path, agent: str, rest: str, reason: Reason, words: str) -> None:
    with pytest.raises(TrunklineError) as refusal:
        load(write(tmp_path, agent, rest))
    assert refusal.value.reason is reason
    assert words in refusal.value.message
    assert refusal.value.remedy


@pytest.mark.parametrize(
    ("controllers", "words"),
    [
        ("[]", "is empty"),
        ('["192.0.2.1:7440"]', "not on this machine"),
        ('["localhost"]', "not host:port"),
        ('["localhost:http"]', "not host:port"),
    ],
)
def test_controllers(tmp_path: Path, controllers: str, words: str) -> None:
    text = GOOD.replace('["127.0.0.1:7440", "unix:/run/c.sock"]', controllers)
    with pytest.raises(TrunklineError, match=words):
        load(write(tmp_path, text=text))


def test_plain_text_elsewhere_must_be_asked_for(tmp_path: Path) -> None:
    text = GOOD.replace('"127.0.0.1:7440"', '"192.0.2.1:7440"')
    assert load(write(tmp_path, "insecure = true", text=text)).controllers[0] == "192.0.2.1:7440"


def test_a_machine_without_an_id(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "machine-id").write_text("uninitialized\n")
    with pytest.raises(TrunklineError, match="holds no machine id"):
        load(path)
    (tmp_path / "machine-id").unlink()
    with pytest.raises(TrunklineError, match="cannot be read"):
        load(path)


def test_a_bad_file_ends_with_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--config", str(write(tmp_path, "hots = 'x'")), "--check-config"])
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("trunkline-agent: CONFIG_INVALID: ")
    assert shown.count("\n") == 1


def test_check_config_says_what_is_wrong_with_uplinks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--config", str(write(tmp_path, "host = 'h1'")), "--check-config"])
    assert end.value.code == 0
    shown = capsys.readouterr()
    assert "is good: host h1, uplinks default = enp7s0, storage = bond0" in shown.out
    assert "h1 has no device bond0 for uplink storage" in shown.err
