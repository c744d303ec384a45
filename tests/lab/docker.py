"""Docker in a guest, and an image for it that nobody has to pull."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from lab.errors import LabError
from lab.guest import Guest
from lab.places import Places
from lab.switch import command

IMAGE = "busybox:lab"
# dockerd opens its socket early and answers when it is ready: one request waits for it.
PING = """
import socket
s = socket.socket(socket.AF_UNIX)
s.connect("/run/docker.sock")
s.sendall(b"GET /_ping HTTP/1.0\\r\\n\\r\\n")
raise SystemExit(b"OK" not in s.makefile("rb").read())
"""


class Docker:
    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def start(self, config: Mapping[str, object] | None = None, timeout: float = 90) -> None:
        """Start dockerd (with this daemon.json) and wait until it serves."""
        if config is not None:
            self.guest.write("/etc/docker/daemon.json", json.dumps(config))
        if self.guest.plan.init == "systemd":
            self.guest.ok(["systemctl", "start", "docker"], timeout)
        else:
            self.guest.daemon("dockerd", ["/usr/sbin/dockerd"])
        self.wait(timeout)

    def wait(self, timeout: float = 90) -> None:
        self.guest.write("/run/lab/ping.py", PING)
        # until it listens at all, the daemon's end would be the only other outcome
        script = "until [ -S /run/docker.sock ] && python3 -I -S /run/lab/ping.py; do sleep 0.1; done 2>/dev/null"
        if self.guest.run(f"timeout {timeout:g} sh -c {json.dumps(script)}", timeout + 10).status:
            log = self.guest.daemon_log("dockerd")[-1500:]
            raise LabError(f"{self.guest.name}: dockerd does not answer after {timeout:g} s\n{log}")

    def stop(self, timeout: float = 60) -> None:
        if self.guest.plan.init == "systemd":
            self.guest.ok(["systemctl", "stop", "docker.socket", "docker"], timeout)
        else:
            self.guest.stop_daemon("dockerd", timeout=timeout)

    def __call__(self, *words: str, timeout: float = 60) -> str:
        """The docker CLI: docker("run", "-d", ...) gives its stdout, stripped."""
        return self.guest.ok(["docker", *words], timeout).strip()

    def load_busybox(self) -> str:
        """Load the image; its name."""
        self("load", "-q", "-i", self.guest.offer(busybox_image(self.guest.places)))
        return IMAGE


def busybox_image(places: Places) -> Path:
    """Debian's busybox-static as a docker archive, made once per root and kept."""
    busybox = places.rootfs / "bin/busybox"
    made, digest = places.busybox_image, hashlib.sha256(busybox.read_bytes()).hexdigest()[:12]
    made = made.with_name(f"busybox-lab-{digest}.tar")
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        draft = made.with_name(f"{made.name}.{os.getpid()}~")
        _write_archive(draft, _layer(busybox))
        draft.rename(made)
    return made


def _layer(busybox: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("bin", "etc", "proc", "root", "sys", "tmp", "www"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = busybox.stat().st_size, 0o755
        with busybox.open("rb") as f:
            tar.addfile(program, f)
        for applet in command([str(busybox), "--list"]).split():
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
    return buffer.getvalue()


def _write_archive(path: Path, layer: bytes) -> None:
    config = {
        "architecture": "amd64",
        "os": "linux",
        # pid 1 ignores SIGTERM unless it handles it: without this each stop would take ten seconds.
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "StopSignal": "SIGKILL"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    encoded = json.dumps(config).encode()
    name = hashlib.sha256(encoded).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for member, data in ((name, encoded), ("layer.tar", layer), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
