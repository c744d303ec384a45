"""The agent as a service of systemd: its units, with the paths of this installation filled in."""

from __future__ import annotations

import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Final

from trunkline.errors import Reason, TrunklineError

NAMES: Final = ("trunkline-agent.socket", "trunkline-agent.service")


def text(name: str, program: Path, config: Path, socket: str) -> str:
    """One unit. `program` is the agent, `config` its configuration, `socket` the plugin's."""
    template = resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
    values = {"@PROGRAM@": str(program), "@CONFIG@": str(config), "@SOCKET@": socket}
    for key, value in values.items():
        template = template.replace(key, value)
    return template


def write(directory: Path, config: Path, socket: str) -> list[Path]:
    """Write all units into a directory, replacing what is there; their paths. Raises CONFIG_INVALID."""
    program = _program()
    written = []
    for name in NAMES:
        path = directory / name
        try:
            path.write_text(text(name, program, config.absolute(), socket), encoding="utf-8")
        except OSError as error:
            raise TrunklineError(
                Reason.CONFIG_INVALID,
                f"{path} cannot be written: {error.strerror}",
                "name a directory that is there, such as /etc/systemd/system",
            ) from None
        written.append(path)
    return written


def _program() -> Path:
    """The agent's own program: links to it stay links, so that an exchange of what they lead to is followed."""
    called = Path(sys.argv[0])
    if called.name == "trunkline-agent":
        return called.absolute() if called.exists() else Path(shutil.which(sys.argv[0]) or called.absolute())
    return Path(sys.executable).with_name("trunkline-agent")
