"""What the CLI says when certificates do not fit: each is the first thing that goes wrong in a new fabric."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.services import Double

from trunkline import pki
from trunkline.cli import present
from trunkline.cli.main import run
from trunkline.errors import Refusal
from trunkline.tls import ClientTls, ServerTls


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pki")
    pki.make_ca(directory)
    pki.issue(directory, "controller:main", ["127.0.0.1"])
    pki.issue(directory, "controller:far", ["c1.example.org"])
    pki.issue(directory, "operator:ann", [])
    return directory


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("strangers")
    pki.make_ca(directory)
    pki.issue(directory, "operator:eve", [])
    return directory


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("TRUNKLINE_CONTROLLER", raising=False)
    return tmp_path


@pytest.fixture
def double(authority: Path, request: pytest.FixtureRequest) -> Iterator[Double]:
    stem = f"controller-{getattr(request, 'param', 'main')}"
    tls = ServerTls(authority / "ca.crt", authority / f"{stem}.crt", authority / f"{stem}.key")
    with Double(tls) as served:
        served.host("docker1")
        yield served


def configured(home: Path, double: Double, ca: Path, cert: Path, key: Path, server_name: str = "") -> None:
    """The config file as the README has it."""
    (home / "trunkline").mkdir()
    (home / "trunkline/config.toml").write_text(
        f'controllers = ["{double.endpoint}"]\n\n[tls]\nca = "{ca}"\ncert = "{cert}"\nkey = "{key}"\n'
        f'server_name = "{server_name}"\n'
    )


def test_the_config_file_is_all_that_an_operator_needs(
    double: Double, authority: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(home, double, authority / "ca.crt", authority / "operator-ann.crt", authority / "operator-ann.key")
    assert run(["host", "list"]) == 0
    assert "docker1" in capsys.readouterr().out


@pytest.mark.parametrize("double", ["far"], indirect=True)
def test_a_certificate_of_another_name(
    double: Double, authority: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = authority / "ca.crt", authority / "operator-ann.crt", authority / "operator-ann.key"
    configured(home, double, *mine)
    assert run(["host", "list"]) == present.UNAVAILABLE
    assert "does not carry the name that was dialled" in capsys.readouterr().err
    (home / "trunkline/config.toml").unlink()
    (home / "trunkline").rmdir()
    configured(home, double, *mine, server_name="c1.example.org")
    assert run(["host", "list"]) == 0


def test_a_controller_of_another_authority(
    double: Double, strangers: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(home, double, strangers / "ca.crt", strangers / "operator-eve.crt", strangers / "operator-eve.key")
    assert run(["host", "list"]) == present.UNAVAILABLE
    told = capsys.readouterr().err
    assert "its certificate is not trusted" in told
    assert "compare tls.ca with the controller's" in told


def test_an_operator_of_another_authority(
    double: Double, authority: Path, strangers: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(home, double, authority / "ca.crt", strangers / "operator-eve.crt", strangers / "operator-eve.key")
    assert run(["host", "list"]) == present.UNAVAILABLE
    assert "it may refuse your certificate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ca", "cert", "key", "told"),
    [
        ("operator-ann.key", "operator-ann.crt", "operator-ann.key", "operator-ann.key holds no certificate"),
        ("ca.crt", "operator-ann.crt", "controller-main.key", "does not belong to certificate"),
        ("ca.crt", "operator-ann.key", "operator-ann.key", "does not belong to certificate"),
        ("ca.crt", "operator-ann.crt", "none.key", "none.key cannot be read"),
    ],
)
def test_files_that_do_not_fit_are_named_before_anything_is_dialled(
    authority: Path, ca: str, cert: str, key: str, told: str
) -> None:
    for kind in (ClientTls, ServerTls):
        with pytest.raises(Refusal) as caught:
            kind(authority / ca, authority / cert, authority / key).credentials()
        assert told in caught.value.message
