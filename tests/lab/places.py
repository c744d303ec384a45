"""Where the lab's files are. Nothing outside the work directory is ever written."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

CHECKOUT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).resolve().parent / "inside"


def default_name() -> str:
    return os.environ.get("TRUNKLINE_LAB", "tl")


@dataclass(frozen=True)
class Places:
    work: Path
    name: str

    @classmethod
    def of(cls, name: str | None = None) -> "Places":
        work = Path(os.environ.get("TRUNKLINE_WORK", CHECKOUT / ".work")).resolve()
        chosen = name or default_name()
        if not chosen.replace("-", "").replace("_", "").isalnum() or len(chosen) > 40:
            raise LabError(f"{chosen!r} cannot name a lab: letters, digits, - and _, at most 40")
        for path in (work, CHECKOUT):
            # Both travel on a kernel command line and in hostfs mount options.
            if set(str(path)) & set(" ,'\"\\"):
                raise LabError(f"{path}: a lab cannot live under a path with blanks, commas or quotes")
        return cls(work, chosen)

    @property
    def namespace(self) -> str:
        """Labs of one name in two checkouts must not meet, nor take each other down."""
        return f"{self.name}-{hashlib.sha256(str(self.work).encode()).hexdigest()[:8]}"

    @property
    def run(self) -> Path:
        return self.work / "lab" / self.name

    @property
    def rootfs(self) -> Path:
        return self._needed(self.work / "rootfs")

    @property
    def kernel(self) -> Path:
        return self._needed(self.work / "uml/usr/bin/linux.uml")

    @property
    def modules(self) -> Path:
        return self._needed(self.work / "uml/usr/lib/uml/modules")

    @property
    def busybox_image(self) -> Path:
        return self.work / "images/busybox-lab.tar"

    @staticmethod
    def _needed(path: Path) -> Path:
        if not path.exists():
            raise LabError(f"{path} is missing; run: tools/setup lab")
        return path
