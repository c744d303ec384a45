"""The controller's configuration: what is refused, and how flags and file meet."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.__main__ import command
from controller.config import DATA_DIR, LISTEN, Overrides, read


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[controller]\nnam = "x"\n', ["unknown key controller.nam", "listen"]),
        ('[controller]\nlisten = ["0.0.0.0:7440"]\n', ["0.0.0.0:7440", "TLS"]),
        ('[controller]\nlisten = ["nonsense"]\n', ["controller.listen", "nonsense"]),
        ("[controller]\nlisten = []\n", ["controller.listen"]),
        ('[controller]\nname = "no spaces"\n', ["controller.name", "no spaces"]),
        ('[log]\nlevel = "loud"\n', ["log.level", "loud", "warning"]),
        ('[store]\netcd = ["10.0.0.1:2379"]\n', ["10.0.0.1:2379", "TLS"]),
        ('[store]\netcd = "nonsense"\n', ["store.etcd", "nonsense"]),
        ('[store]\nprefix = "x/"\n', ["store.prefix"]),
        ("[store]\ndata_dir = 7\n", ["data_dir"]),
        ("[controller\n", ["TOML"]),
    ],
)
def test_bad_configuration_is_one_line(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    done = CliRunner().invoke(command, ["--config", str(path), "--check-config"])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_good_configuration_and_help(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[controller]\nname = "c1"\n[store]\netcd = ["127.0.0.1:2379"]\n')
    assert CliRunner().invoke(command, ["--config", str(path), "--check-config"]).exit_code == 0
    shown = CliRunner().invoke(command, ["--help"]).stdout
    for word in ("[controller]", "[store]", "[tls]", "--etcd", "--check-config", "Exit codes"):
        assert word in shown
    assert "trunkline-controller" in CliRunner().invoke(command, ["--version"]).stdout
    assert CliRunner().invoke(command, ["--config", str(tmp_path / "missing.toml")]).exit_code == 2


def test_without_a_file() -> None:
    config = read(None, Overrides())
    assert (config.controller.listen, config.embedded, config.store.data_dir) == ((LISTEN,), True, DATA_DIR)
    assert config.name


def test_flags_go_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[controller]\nname = "c1"\nlisten = ["127.0.0.1:1"]\n[store]\netcd = "embedded"\n')
    flags = Overrides(name="c2", listen=("127.0.0.1:2",), etcd="http://127.0.0.1:3,localhost:4", data_dir=tmp_path)
    config = read(path, flags)
    assert (config.name, config.controller.listen) == ("c2", ("127.0.0.1:2",))
    assert config.endpoints == ("127.0.0.1:3", "localhost:4")
    assert (config.embedded, config.store.data_dir) == (False, tmp_path)
    assert read(path, Overrides(etcd="embedded")).embedded


def test_plain_text_beyond_this_machine_only_when_asked_for() -> None:
    config = read(None, Overrides(name="c1", listen=("0.0.0.0:7440",), insecure=True))
    assert config.controller.insecure
    assert config.server_tls() is None
