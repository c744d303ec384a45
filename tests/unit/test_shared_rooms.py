"""Config files, certificates, logs and backoff."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from trunkline import config, log, pki
from trunkline.backoff import Backoff
from trunkline.clock import SystemClock
from trunkline.errors import Reason, Refusal


class Etcd(msgspec.Struct, frozen=True):
    endpoints: list[str] = []
    ca: Path | None = None


@dataclass(frozen=True)
class Link:
    device: str
    promiscuous: bool = False


@dataclass(frozen=True)
class Settings:
    listen: str
    port: int = 7440
    etcd: Etcd = field(default_factory=Etcd)
    uplinks: dict[str, Link] = field(default_factory=dict)


def load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return config.load(path, Settings)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(Refusal) as caught:
        load(tmp_path, text)
    assert caught.value.reason is Reason.CONFIG_INVALID
    assert "settings.toml" in caught.value.message
    return caught.value.text


def test_config_is_read_into_types(tmp_path: Path) -> None:
    got = load(tmp_path, 'listen="a"\n[etcd]\nendpoints=["x"]\nca="/ca.pem"\n[uplinks.default]\ndevice="enp7s0"')
    assert got == Settings("a", etcd=Etcd(["x"], Path("/ca.pem")), uplinks={"default": Link("enp7s0")})


def test_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert load(tmp_path, 'listen="a"\n[etcd]\nca="~/ca.pem"').etcd.ca == Path("/home/ann/ca.pem")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('listen="a"\nprot=1', ["unknown key prot", "port", "listen"]),
        ('listen="a"\n[etcd]\nendpoint=[]', ["unknown key etcd.endpoint", "endpoints"]),
        ('listen="a"\n[uplinks.default]\ndevice="x"\npromisc=true', ["uplinks.default.promisc", "promiscuous"]),
        ('listen="a"\nport="x"', ["port", "int", "str"]),
        ('listen="a"\n[etcd]\nca=7', ["etcd.ca"]),
        ("port=1", ["listen"]),
        ('listen="a"\n[uplinks]\ndefault="enp7s0"', ["uplinks"]),
        ("listen=\nport=1", ["line 1"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: list[str]) -> None:
    message = refused(tmp_path, text)
    for word in said:
        assert word in message


def test_config_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"none\.toml: cannot be read"):
        config.load(tmp_path / "none.toml", Settings)
    (tmp_path / "bin.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Refusal, match="UTF-8"):
        config.load(tmp_path / "bin.toml", Settings)


def test_keys_are_private_and_certificates_name_the_identity(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    _, ca_key = pki.make_ca(directory)
    cert, key = pki.issue(directory, "host:docker1", ["docker1.example", "10.0.0.1", "fd00::1"])
    for path in (ca_key, key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    names = x509.load_pem_x509_certificate(cert.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == ["trunkline:host:docker1"]
    assert names.value.get_values_for_type(x509.DNSName) == ["docker1.example"]
    assert [str(a) for a in names.value.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "fd00::1"]
    assert sorted(p.name for p in directory.iterdir()) == ["ca.crt", "ca.key", "host-docker1.crt", "host-docker1.key"]


def test_an_authority_is_never_replaced(tmp_path: Path) -> None:
    before = pki.make_ca(tmp_path)[0].read_bytes()
    with pytest.raises(Refusal, match="already"):
        pki.make_ca(tmp_path)
    assert (tmp_path / "ca.crt").read_bytes() == before


@pytest.mark.parametrize("identity", ["", "docker1", "host:", "host:a/b", "root:x", "host:../x"])
def test_identity_that_is_none_is_refused(tmp_path: Path, identity: str) -> None:
    pki.make_ca(tmp_path)
    with pytest.raises(Refusal):
        pki.issue(tmp_path, identity, [])


def test_issue_without_authority_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as caught:
        pki.issue(tmp_path, "host:a", [])
    assert "pki init" in caught.value.remedy


def test_log_is_one_json_line_per_event_with_library_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    log.setup("info", json=True)
    room = log.get("fleet")
    room.info("session opened", host="docker1")
    room.debug("not wanted")
    logging.getLogger("grpc").warning("odd\nthing")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(e["event"], e.get("host"), e["level"]) for e in lines] == [
        ("session opened", "docker1", "info"),
        ("odd\nthing", None, "warning"),
    ]
    assert lines[0]["room"] == "fleet"


def test_logger_made_before_the_set_up_follows_it(capsys: pytest.CaptureFixture[str]) -> None:
    room = log.get("loop")
    log.setup("error", json=True)
    room.info("not wanted")
    log.setup("debug", json=False)
    room.debug("applied", steps=3)
    assert "steps=3" in capsys.readouterr().err
    with pytest.raises(ValueError, match="loud"):
        log.setup("loud", json=False)


@given(st.floats(0.01, 10), st.floats(1, 100), st.integers(1, 20))
def test_backoff_doubles_to_its_limit_and_starts_again(first: float, factor: float, steps: int) -> None:
    limit = first * factor
    backoff = Backoff(first, limit, draw=lambda: 1.0)
    waits = [backoff.next() for _ in range(steps)]
    assert waits == [min(limit, first * 2**n) for n in range(steps)]
    backoff.reset()
    assert backoff.next() == first


def test_backoff_draws_from_nothing_to_the_ceiling() -> None:
    draws = iter([0.0, 0.5, 0.999])
    backoff = Backoff(1, 10, draw=lambda: next(draws))
    assert [backoff.next(), backoff.next(), backoff.next()] == [0.0, 1.0, pytest.approx(3.996)]
    with pytest.raises(ValueError, match="backoff"):
        Backoff(2, 1)


async def test_clock_sleeps_no_less() -> None:
    clock = SystemClock()
    start = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - start >= 0.01
    assert clock.now_ms() > 1_700_000_000_000
