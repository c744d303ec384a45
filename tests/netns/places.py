"""Throwaway network namespaces on this machine's kernel. Shares no code with what is tested."""

from __future__ import annotations

import itertools
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_numbers = itertools.count()


def ip(*words: str, namespace: str | None = None) -> str:
    """Run ip(8); its output. Fails the test with what ip said."""
    argv = ["ip", *(["-n", namespace] if namespace else []), *words]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Place:
    """One namespace."""

    name: str

    @property
    def path(self) -> str:
        """Path that can be opened."""
        return f"/run/netns/{self.name}"

    @property
    def identity(self) -> str:
        """device:inode, as the kernel's nsfs gives it."""
        seen = Path(self.path).stat()
        return f"{seen.st_dev}:{seen.st_ino}"

    def ip(self, *words: str) -> str:
        """Run ip(8) in it."""
        return ip(*words, namespace=self.name)

    def run(self, *argv: str) -> str:
        """Run a program in it; its output."""
        words = ["ip", "netns", "exec", self.name, *argv]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def rebind(self, other: Place) -> None:
        """This one's path leads to the other from now on, as a pid that is used again does."""
        subprocess.run(["umount", self.path], check=True)
        subprocess.run(["mount", "--bind", other.path, self.path], check=True)

    def veth(self, name: str, peer: str, *, up: bool = True) -> None:
        """A veth pair, both ends here."""
        self.ip("link", "add", name, "type", "veth", "peer", "name", peer)
        if up:
            self.ip("link", "set", name, "up")
            self.ip("link", "set", peer, "up")


@dataclass
class Places:
    """Makes namespaces and removes them."""

    _made: list[Place] = field(default_factory=list)

    def new(self, name: str = "") -> Place:
        """A fresh namespace, its name unique on this machine unless one is given."""
        place = Place(name or f"tlt{os.getpid()}n{next(_numbers)}")
        ip("netns", "add", place.name)
        self._made.append(place)
        return place

    def host(self) -> Place:
        """A fresh namespace to play the host, with an uplink `up0` whose other end is `wire`."""
        place = self.new()
        place.veth("up0", "wire")
        return place

    def remove(self, place: Place) -> None:
        """Take one away before its time."""
        self._made.remove(place)
        ip("netns", "del", place.name)

    def remove_all(self) -> None:
        """Take all away, also when one resists; then say which did."""
        resisted = []
        while self._made:
            try:
                self.remove(self._made[-1])  # forgets it first, so that this ends
            except AssertionError as error:
                resisted.append(str(error))
        assert not resisted, resisted
