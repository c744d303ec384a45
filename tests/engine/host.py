"""A host of the rig: network, mount and host name of its own, and a real dockerd in it.

Its `/run` and `/etc` are private (`host.outside(path)` names a file of it for this side); everything else is this
machine's file system. Pids are this machine's, so `/proc/PID` means the same on both sides.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.binaries import Binaries
from engine.commands import Answer, answer, tail
from lab.docker import IMAGE, busybox_image
from lab.errors import LabError
from lab.places import Places
from lab.process import Process
from lab.waiting import until

# Mounts are made in a namespace of their own and end with it. A fresh sysfs shows this network namespace's devices, but
# hides the control groups, which are put back. Docker's data are on tmpfs: nothing of them outlives the namespace, and
# dockerd's many fsyncs cost nothing. The anchor holds the namespaces until it is killed.
BOOT = """
set -e
hostname {name}
mkdir -p {directory}/run/docker/plugins {directory}/run/lock {directory}/cgroup
mount --rbind /sys/fs/cgroup {directory}/cgroup
mount -t sysfs -o ro sysfs /sys
mount --rbind {directory}/cgroup /sys/fs/cgroup
mount -t tmpfs -o mode=711 tmpfs {directory}/lib
mkdir {directory}/lib/etc {directory}/lib/etc.work
mount -t overlay -o lowerdir=/etc,upperdir={directory}/lib/etc,workdir={directory}/lib/etc.work etc /etc
mount --bind {directory}/run /run
echo booted
exec sleep infinity
"""
# Not LD_LIBRARY_PATH: runc starts itself again with an empty environment.
LACKING = """
mount -t overlay -o lowerdir={directory}/libraries:/usr/lib/x86_64-linux-gnu libraries /usr/lib/x86_64-linux-gnu
"""


class Host:
    """Made by `Wire.host`. Commands run in all its namespaces with its environment (PATH, DOCKER_HOST, HOME)."""

    def __init__(self, name: str, run_name: str, directory: Path, binaries: Binaries) -> None:
        self.name = name
        self.namespace = f"{run_name}-{name}"
        self.directory = directory
        self.plugins_dir = Path("/run/docker/plugins")
        self.dockerd_log = directory / "dockerd.log"
        self.containerd_log = directory / "containerd.log"
        self._cgroup = f"/{run_name}/{name}"
        self._binaries = binaries
        self._anchor: subprocess.Popen[str] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None

    # Namespaces

    def boot(self) -> None:
        """Make the namespaces and the private directories. `Wire.host` did it."""
        for name in ("run", "lib", "home"):
            (self.directory / name).mkdir(parents=True)
        self._binaries.link_into(self.directory / "bin")
        script = BOOT.format(name=self.name, directory=self.directory)
        if self._binaries.link_libraries_into(self.directory / "libraries"):
            script = LACKING.format(directory=self.directory) + script
        argv = ["nsenter", f"--net=/run/netns/{self.namespace}", "--", "unshare", "--mount", "--uts"]
        self._anchor = subprocess.Popen(
            [*argv, "--propagation", "private", "--", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._anchor.stdout is not None
        with self._anchor.stdout as said:
            first = said.readline()
            if first != "booted\n":
                raise LabError(f"{self.name} does not boot: {first}{said.read()}")
        Process.of(self._anchor.pid).record(self.directory / "anchor.pid")
        self._write_etc()

    def _write_etc(self) -> None:
        (self.etc / "docker").mkdir(exist_ok=True)
        (self.etc / "hostname").write_text(f"{self.name}\n")
        (self.etc / "machine-id").write_text(os.urandom(16).hex() + "\n")
        for name in ("resolv.conf", "docker/daemon.json"):
            (self.etc / name).unlink(missing_ok=True)  # may be a link that leads out of here
        (self.etc / "resolv.conf").write_text("# nobody to ask\n")

    @property
    def anchor_pid(self) -> int:
        """The process that holds its namespaces: `/proc/<pid>/ns/net` and so on are the host's."""
        if self._anchor is None:
            raise LabError(f"{self.name} is not up")
        return self._anchor.pid

    def outside(self, path: Path | str) -> Path:
        """The name that a file of the host (`/run/...`, `/etc/...`) has on this side."""
        return Path(f"/proc/{self.anchor_pid}/root") / str(path).lstrip("/")

    @property
    def etc(self) -> Path:
        """Its /etc, to read and write from this side: this machine's with what was changed for the host alone."""
        return self.outside("/etc")

    def argv(self, argv: Sequence[str]) -> list[str]:
        """A command line that runs `argv` in the host's namespaces. The pid is the program's own."""
        return ["nsenter", "-t", str(self.anchor_pid), "-m", "-n", "-u", "--", *argv]

    def environ(self) -> dict[str, str]:
        """The environment of what runs there; nothing of this machine's, so no proxies and no Docker settings."""
        bin_dir = self.directory / "bin"
        environ = {
            "PATH": f"{bin_dir}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.directory / "home"),
            "LC_ALL": "C.UTF-8",
            "DOCKER_HOST": f"unix://{self.engine_socket}",
        }
        if self._binaries.extensions is not None:
            environ["XTABLES_LIBDIR"] = str(self._binaries.extensions)
        return environ

    def run(self, argv: Sequence[str], *, stdin: str | None = None, timeout: float = 60) -> str:
        """Run a program there; its standard output. LabError with what it said when it fails."""
        done = self.result(argv, stdin=stdin, timeout=timeout)
        if done.status:
            raise LabError(f"{self.name}: {' '.join(argv)}: status {done.status}: {done.err}{done.out}")
        return done.out

    def result(self, argv: Sequence[str], *, stdin: str | None = None, timeout: float = 60) -> Answer:
        """Run a program there; how it ended."""
        return answer(self.argv(argv), stdin=stdin, timeout=timeout, env=self.environ())

    def popen(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a program there: subprocess.Popen with its options; standard input is empty unless given."""
        environ = self.environ() | dict(env or {})
        # a session of its own: Ctrl-C at the terminal is for the tests, which then take this down in order
        defaults = {"stdin": subprocess.DEVNULL, "start_new_session": True}
        return subprocess.Popen(self.argv(argv), **(defaults | options), env=environ)

    def daemon(self, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start a program there, its output appended to `log`."""
        with log.open("ab") as out:
            return self.popen(argv, stdout=out, stderr=out)

    # dockerd

    @property
    def engine_socket(self) -> Path:
        """dockerd's socket; the same path on both sides. Inside, /run/docker.sock is another."""
        return self.directory / "docker.sock"

    def start_docker(self, config: Mapping[str, object] | None = None, *, live_restore: bool = False) -> None:
        """Start dockerd (containerd before it, once) with these settings over the rig's own, and wait until it serves.

        Without `config` a restart keeps what daemon.json says, live-restore included.
        """
        self.launch_docker(config, live_restore=live_restore)
        self.wait_docker()

    def launch_docker(self, config: Mapping[str, object] | None = None, *, live_restore: bool = False) -> None:
        """Start dockerd without waiting for it."""
        if self._dockerd is not None and self._dockerd.poll() is None:
            raise LabError(f"{self.name}: dockerd runs already")
        self._start_containerd()
        daemon_json = self.etc / "docker/daemon.json"
        if config is not None or live_restore or not daemon_json.exists():
            settings = self._settings() | {"live-restore": live_restore} | dict(config or {})
            daemon_json.write_text(json.dumps(settings, indent=1))
        self._dockerd = self.daemon(["dockerd"], self.dockerd_log)

    def _settings(self) -> dict[str, object]:
        return {
            "hosts": [f"unix://{self.engine_socket}", "unix:///run/docker.sock"],
            "containerd": "/run/containerd/containerd.sock",
            "data-root": str(self.directory / "lib/docker"),
            "cgroup-parent": self._cgroup,
            "exec-opts": ["native.cgroupdriver=cgroupfs"],  # systemd would want a unit for each
            "iptables": False,
            "ip6tables": False,
        }

    def _start_containerd(self, timeout: float = 30) -> None:
        """containerd runs apart, as in distributions: 20.10 does not reliably find a containerd of its own again."""
        if self._containerd is not None and self._containerd.poll() is None:
            return
        config = self.directory / "containerd.toml"
        config.write_text(
            f'version = 2\nroot = "{self.directory}/lib/containerd"\nstate = "/run/containerd"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            '[grpc]\naddress = "/run/containerd/containerd.sock"\n'
        )
        self._containerd = self.daemon(["containerd", "--config", str(config)], self.containerd_log)
        until(self._containerd_serves, f"{self.name}: containerd", timeout)

    def _containerd_serves(self) -> bool:
        if self._containerd is not None and self._containerd.poll() is not None:
            raise LabError(f"{self.name}: containerd ended: {tail(self.containerd_log)}")
        return self.outside("/run/containerd/containerd.sock").is_socket()

    def wait_docker(self, timeout: float = 90) -> None:
        """Wait until dockerd serves. LabError with the end of its log when it ended or `timeout` seconds passed."""
        try:
            until(self._docker_serves, f"{self.name}: dockerd to serve", timeout)
        except LabError as error:
            raise LabError(f"{error}\n{tail(self.dockerd_log)}") from None

    def _docker_serves(self) -> bool:
        if self._dockerd is None or self._dockerd.poll() is not None:
            raise LabError(f"{self.name}: dockerd does not run")
        # dockerd opens its socket early and answers when it is ready
        return self.docker_result("version", "--format", "{{.Server.Version}}").status == 0

    def stop_docker(self, timeout: float = 60) -> None:
        """End dockerd by SIGTERM; containers stay only under live-restore."""
        self._end_docker(signal.SIGTERM, timeout)

    def kill_docker(self, timeout: float = 20) -> None:
        """Kill dockerd with SIGKILL, and nothing else: containers, their shims and containerd stay."""
        self._end_docker(signal.SIGKILL, timeout)

    def _end_docker(self, number: signal.Signals, timeout: float) -> None:
        dockerd, self._dockerd = self._dockerd, None
        if dockerd is None:
            return
        if dockerd.poll() is None:
            dockerd.send_signal(number)
        try:
            dockerd.wait(timeout)
        except subprocess.TimeoutExpired:
            self._dockerd = dockerd
            raise LabError(f"{self.name}: dockerd did not end in {timeout:g} s\n{tail(self.dockerd_log)}") from None

    @property
    def docker_pid(self) -> int:
        """dockerd's pid."""
        if self._dockerd is None:
            raise LabError(f"{self.name}: dockerd was not started")
        return self._dockerd.pid

    def collect(self) -> None:
        """`Wire.close` killed what ran here: no zombie stays."""
        for process in (self._dockerd, self._containerd, self._anchor):
            if process is not None:
                process.wait(20)
        self._dockerd = self._containerd = self._anchor = None

    # The docker CLI

    def docker(self, *words: str, stdin: str | None = None, timeout: float = 60) -> str:
        """docker("run", "-d", ...): its standard output, stripped. LabError with what it said when it fails."""
        return self.run(["docker", *words], stdin=stdin, timeout=timeout).strip()

    def docker_result(self, *words: str, stdin: str | None = None, timeout: float = 60) -> Answer:
        """The same, failures included: `.status`, `.out`, `.err`."""
        return self.result(["docker", *words], stdin=stdin, timeout=timeout)

    def compose(self, *words: str, stdin: str | None = None, timeout: float = 120) -> str:
        """docker-compose version 2: compose("-f", "-", "up", "-d", stdin=...) and so on; its output, stripped."""
        if not (self.directory / "bin/docker-compose").exists():
            raise LabError("there is no docker-compose; run: tools/setup lab")
        return self.run(["docker-compose", *words], stdin=stdin, timeout=timeout).strip()

    def load_busybox(self) -> str:
        """Load the image made of Debian's busybox-static; its name. Nothing is pulled."""
        if not self.docker("image", "ls", "-q", IMAGE):
            self.docker("load", "-q", "-i", str(busybox_image(Places.of())))
        return IMAGE

    def inspect(self, name: str) -> Any:
        """`docker inspect` of a container, network or image."""
        return json.loads(self.docker("inspect", name))[0]

    def container_pid(self, name: str) -> int:
        """Pid of a container's first process; LabError when it does not run."""
        pid = int(self.docker("inspect", "--type", "container", "--format", "{{.State.Pid}}", name))
        if pid == 0:
            raise LabError(f"{self.name}: {name} does not run")
        return pid

    def enter(self, container: str, argv: Sequence[str], timeout: float = 60) -> str:
        """Run a program of this machine in a container's network namespace; also with dockerd down, given a pid."""
        pid = int(container) if container.isdecimal() else self.container_pid(container)
        return self.run(["nsenter", "-t", str(pid), "-n", "--", *argv], timeout=timeout)
