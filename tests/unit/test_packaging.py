"""What is imported is this checkout, and what is shipped is the three packages and three programs, nothing else."""

from __future__ import annotations

import configparser
import importlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
ROOTS = ("agent", "controller", "trunkline")
PROGRAMS = ("trunkline", "trunkline-agent", "trunkline-controller")


@pytest.mark.parametrize("name", ROOTS)
def test_root_package_is_the_one_of_this_checkout(name: str) -> None:
    root = importlib.import_module(name)
    assert root.__file__ is not None
    assert Path(root.__file__).resolve() == CHECKOUT / name / "__init__.py"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout, built by the backend that pyproject.toml names; without a network."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (built,) = out.iterdir()
    return zipfile.ZipFile(built)


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = [one for one in wheel.namelist() if one.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


def test_wheel_has_exactly_three_top_level_names(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(ROOTS)
    assert len(tops) == len(ROOTS) + 1


def test_wheel_is_typed_and_whole(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"{root}/py.typed" for root in ROOTS} <= names
    code = {str(path.relative_to(CHECKOUT)) for root in ROOTS for path in (CHECKOUT / root).rglob("*.py*")}
    assert {name for name in code if "__pycache__" not in name} - names == set(), "code that is not shipped"
    shipped = {name for name in names if ".dist-info/" not in name}
    strange = {name for name in shipped if Path(name).suffix not in {".py", ".pyi", ".typed"}}
    assert strange == {f"agent/units/trunkline-agent.{kind}" for kind in ("service", "socket")}


def test_wheel_has_three_programs_that_exist(wheel: zipfile.ZipFile) -> None:
    entries = configparser.ConfigParser()
    entries.read_string(metadata(wheel, "entry_points.txt"))
    assert entries.sections() == ["console_scripts"]
    programs = dict(entries["console_scripts"])
    assert tuple(sorted(programs)) == PROGRAMS
    for where in programs.values():
        module, _, function = where.partition(":")
        found: Callable[[], None] = getattr(importlib.import_module(module), function)
        assert callable(found)


def test_wheel_says_what_it_needs(wheel: zipfile.ZipFile) -> None:
    told = Parser().parsestr(metadata(wheel, "METADATA"))
    assert told["Name"] == "trunkline"
    assert set(told.get_all("Provides-Extra") or ()) == {"controller", "agent", "dev"}
    plain = [need.split(";")[0] for need in told.get_all("Requires-Dist") or () if "extra ==" not in need]
    assert any(need.startswith("grpcio") for need in plain)
    assert not any(need.startswith(("pyroute2", "scapy", "pytest")) for need in plain), "these belong into extras"
