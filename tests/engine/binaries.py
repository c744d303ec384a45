"""Which dockerd the rig runs, and what has to lie beside it.

`DOCKERD` names another dockerd than the one of the lab's root. `DOCKER_CLI` and `CONTAINERD` name its companions;
without them they are looked for in the same tree (`usr/sbin/dockerd` beside `usr/bin/docker`), then in the lab's root,
whose runc, docker-init and docker-proxy serve every version.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.places import Places

SHIM = "containerd-shim-runc-v2"
LIBRARIES = "lib/x86_64-linux-gnu"


@dataclass(frozen=True)
class Binaries:
    """The programs of one Docker version, by the names they call each other by."""

    programs: dict[str, Path]
    compose: Path
    libraries: dict[str, Path]

    @classmethod
    def chosen(cls) -> Binaries:
        """Those of the environment, else dockerd 20.10 of the lab's root. LabError names what is missing."""
        places = Places.of()
        rootfs = places.rootfs / "usr"
        dockerd = Path(os.environ.get("DOCKERD") or rootfs / "sbin/dockerd").absolute()
        trees = [dockerd.parent, dockerd.parent.parent / "bin", rootfs / "sbin", rootfs / "bin"]
        containerd = _given("CONTAINERD", "containerd", trees)
        found = {
            "dockerd": _executable(dockerd),
            "docker": _given("DOCKER_CLI", "docker", trees),
            "containerd": containerd,
            SHIM: _beside(SHIM, [containerd.parent, *trees]),
        }
        found |= {name: _beside(name, trees) for name in ("runc", "docker-init", "docker-proxy")}
        if shutil.which("iptables") is None:
            found |= dict.fromkeys(("iptables", "ip6tables"), rootfs / "sbin/xtables-nft-multi")
        return cls(found, places.work / "bin/docker-compose", dict(_libraries(found, places.rootfs)))

    @property
    def extensions(self) -> Path | None:
        """Where iptables finds its extensions, when it is the lab's root's.

        dockerd leads each container's queries to its resolver by iptables, whatever the setting `iptables` says.
        """
        program = self.programs.get("iptables")
        return None if program is None else program.parent.parent / LIBRARIES / "xtables"

    def link_into(self, directory: Path) -> None:
        """A directory to put on PATH, with nothing in it but these."""
        directory.mkdir(parents=True)
        for name, path in self.programs.items():
            (directory / name).symlink_to(path)
        if self.compose.exists():
            (directory / "docker-compose").symlink_to(self.compose)

    def link_libraries_into(self, directory: Path) -> bool:
        """The libraries that this machine lacks; False when it lacks none."""
        directory.mkdir(parents=True)
        for name, path in self.libraries.items():
            (directory / name).symlink_to(path)
        return bool(self.libraries)

    def version(self) -> tuple[int, ...]:
        """dockerd's, such as (20, 10, 24)."""
        environ = os.environ | {"LD_LIBRARY_PATH": ":".join({str(path.parent) for path in self.libraries.values()})}
        argv = [str(self.programs["dockerd"]), "--version"]
        said = subprocess.run(argv, capture_output=True, text=True, env=environ)
        found = re.search(r"version (\d+)\.(\d+)\.(\d+)", said.stdout)
        if found is None:
            raise LabError(f"{argv[0]} --version: {said.stderr or said.stdout}")
        return tuple(int(part) for part in found.groups())


def _given(variable: str, name: str, trees: list[Path]) -> Path:
    named = os.environ.get(variable)
    return _executable(Path(named).absolute()) if named else _beside(name, trees)


def _beside(name: str, trees: list[Path]) -> Path:
    for tree in trees:
        if os.access(tree / name, os.X_OK):
            return tree / name
    raise LabError(f"there is no {name} in {', '.join(map(str, trees))}; run: tools/setup lab")


def _executable(path: Path) -> Path:
    if not os.access(path, os.X_OK):
        raise LabError(f"{path} is not a program; run: tools/setup lab, or mend DOCKERD, DOCKER_CLI, CONTAINERD")
    return path


def _libraries(programs: dict[str, Path], rootfs: Path) -> Iterator[tuple[str, Path]]:
    """What the loader of this machine does not find, from the lab's root.

    Never the C library: it must match the loader, and programs of Debian 12 run on any later one.
    """
    for path in set(programs.values()):
        said = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
        for name in re.findall(r"^\s*(\S+) => not found", said, re.MULTILINE):
            library = rootfs / "usr" / LIBRARIES / name
            if not library.exists():
                raise LabError(f"{path} needs {name}, which neither this machine nor {rootfs} has")
            yield name, library
