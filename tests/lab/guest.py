"""One host of the lab: its power button, its command line, its files, its daemons."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.channel import Command, Result, Sink, listen
from lab.errors import GuestGone, LabError, NoAnswer
from lab.places import Places
from lab.plan import GuestPlan, address, mac
from lab.prepare import runner_config
from lab.process import Process, group_members, kill_all
from lab.switch import Switch
from lab.waiting import until

Argv = str | Sequence[str]


class Guest:
    def __init__(self, places: Places, switch: Switch, plan: GuestPlan) -> None:
        self.places = places
        self.switch = switch
        self.plan = plan
        self.number = plan.number
        self.name = plan.name
        self.address = address(plan.number)
        self.mac = mac("trunk", plan.number)
        self.directory = places.run / plan.name
        self._runner: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<guest {self.name}>"

    # Power

    @property
    def kernel(self) -> Process | None:
        return Process.recorded(self.directory / "kernel.pid")

    @property
    def running(self) -> bool:
        return self.kernel is not None

    @property
    def boot_id(self) -> str:
        path = self.directory / "boot_id"
        return path.read_text().strip() if path.exists() else ""

    def start(self, wait: bool = True) -> None:
        """Power on. Without wait the first command waits for the boot by itself."""
        if Process.recorded(self.directory / "runner.pid"):
            raise LabError(f"{self.name} runs already")
        for stale in ("exec.sock", "boot_id"):
            (self.directory / stale).unlink(missing_ok=True)
        config = runner_config(self.places, self.plan)
        server = listen(self.directory)
        tests = str(Path(__file__).resolve().parents[1])
        with server, (self.directory / "runner.log").open("ab") as log:
            self._runner = self.switch.popen(
                [sys.executable, "-m", "lab.runner", str(config), str(server.fileno())],
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(server.fileno(),),
                env={**os.environ, "PYTHONPATH": tests, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        if wait:
            self.wait()

    def wait(self, timeout: float = 90) -> None:
        """Until it takes commands; with systemd, until the boot is finished."""
        try:
            self.ok(["true"], timeout=timeout)
            if self.plan.init == "systemd":
                states = ("running", "degraded")
                ask = ["systemctl", "is-system-running", "--wait"]
                until(lambda: self.run(ask, timeout).out.strip() in states, f"{self.name}'s systemd", timeout)
        except LabError as e:
            raise LabError(f"{self.name} did not come up ({e}); its console: {self.directory}/console.log") from e

    def kill(self) -> None:
        """Power loss: nothing is flushed; what had reached the disk is there after a start."""
        kernel = self._alive()
        # Its side threads outlive the kernel and hold the taps: the group dies, not the process.
        kill_all([kernel, *group_members(kernel.pid)])
        self._runner_ended()

    def _runner_ended(self) -> None:
        runner = Process.recorded(self.directory / "runner.pid")
        if runner and not runner.await_end(10):
            raise LabError(f"the runner of {self.name} outlived its kernel")
        self.reap()

    def reap(self) -> None:
        """After somebody else killed everything: collects the runner's exit status."""
        if self._runner:
            self._runner.wait(10)
            self._runner = None

    def power_cycle(self) -> None:
        self.kill()
        self.start()

    def poweroff(self, timeout: float = 60) -> None:
        """An orderly end."""
        kernel = self._alive()
        self._last_words("poweroff")
        if not kernel.await_end(timeout):
            raise NoAnswer(f"{self.name} did not power off in {timeout:g} s")
        kill_all(group_members(kernel.pid))
        self._runner_ended()

    def reboot(self, timeout: float = 90) -> None:
        """An orderly end and a new start, by systemd where it runs."""
        # Not in place: a kernel that starts itself again may find its taps still held by its former self.
        self.poweroff(timeout)
        self.start(wait=False)
        self.wait(timeout)

    def _last_words(self, verb: str) -> None:
        """sync and the minimal init's forced end; the answer is lost with the guest."""
        forced = "" if self.plan.init == "systemd" else " -f"
        try:
            self.run(f"sync; systemctl {verb}{forced}{forced}" if forced else f"systemctl {verb}", 20)
        except (GuestGone, NoAnswer):
            return

    def freeze(self) -> None:
        """As a paused virtual machine: its clocks jump when it is thawed."""
        kernel = self._alive()
        kernel.signal(signal.SIGSTOP)
        until(lambda: kernel.state == "T", f"{self.name} to stop")

    def thaw(self) -> None:
        self._alive().signal(signal.SIGCONT)

    def _alive(self) -> Process:
        kernel = self.kernel
        if not kernel:
            raise LabError(f"{self.name} is not running")
        return kernel

    # Commands and files

    def run(
        self,
        argv: Argv,
        timeout: float = 60,
        *,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        sink: Sink | None = None,
    ) -> Result:
        """Run a shell string or an argument list out of band. sink gets output as it comes."""
        words = ["/bin/sh", "-c", argv] if isinstance(argv, str) else list(argv)
        data = stdin.encode() if isinstance(stdin, str) else stdin
        return Command(self.directory, self.name).run(words, timeout, data, env or {}, sink)

    def ok(self, argv: Argv, timeout: float = 60, **options: str | bytes | Mapping[str, str] | None) -> str:
        """Its stdout; LabError with its stderr when it fails."""
        result = self.run(argv, timeout, **options)  # type: ignore[arg-type]
        if result.status:
            shown = argv if isinstance(argv, str) else shlex.join(argv)
            text = result.err.strip() or result.out.strip()
            raise LabError(f"{self.name}: {shown}: status {result.status}: {text}")
        return result.out

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """A file in the guest, on its disk when this returns."""
        quoted = shlex.quote(path)
        script = f'mkdir -p "$(dirname {quoted})" && cat >{quoted} && chmod {mode:o} {quoted} && sync {quoted}'
        self.ok(script, stdin=content)

    def read(self, path: str) -> bytes:
        result = self.run(["cat", path])
        if result.status:
            raise LabError(f"{self.name}: {result.err.strip()}")
        return result.stdout

    def offer(self, source: Path) -> str:
        """Shows a file of this machine in the guest; its path there. Large files cross at no cost."""
        shown = self.directory / "share" / source.name
        draft = shown.with_name(shown.name + "~")
        shutil.copyfile(source, draft)
        draft.rename(shown)
        return f"/lab/{source.name}"

    def forget_neighbours(self) -> None:
        """In all its network namespaces: an entry in its last retry would eat a mended path's first packets."""
        self.run(
            "ip neigh flush all; ip -all netns exec ip neigh flush all;"
            "for pid in $(lsns -n -t net -o PID); do"
            ' [ "$pid" = 1 ] || nsenter -t "$pid" -n ip neigh flush all; done'
        )

    # Daemons

    def daemon(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
        """Start a program that outlives this call; output to /var/log/lab/NAME.log. Its pid."""
        if self.daemon_running(name):
            raise LabError(f"{self.name}: {name} runs already")
        script = (
            f"mkdir -p /run/lab /var/log/lab && "
            f"{{ setsid {shlex.join(argv)} </dev/null >>/var/log/lab/{name}.log 2>&1 & }} && "
            # the start time tells it from a later process of the same pid
            f"echo $! $(cut -d' ' -f22 /proc/$!/stat) >/run/lab/{name}.pid && echo $!"
        )
        return int(self.ok(script, env=env))

    def daemon_pid(self, name: str) -> int:
        """0 when it does not run."""
        script = (
            f"read pid born </run/lab/{name}.pid && "
            '[ "$(cut -d" " -f22 /proc/$pid/stat)" = "$born" ] && '
            '[ "$(cut -d" " -f3 /proc/$pid/stat)" != Z ] && echo $pid'
        )
        found = self.run(f"{{ {script}; }} 2>/dev/null")
        return int(found.out) if found.status == 0 else 0

    def daemon_running(self, name: str) -> bool:
        return self.daemon_pid(name) != 0

    def daemon_log(self, name: str) -> str:
        return self.run(["cat", f"/var/log/lab/{name}.log"]).out

    def stop_daemon(self, name: str, number: signal.Signals = signal.SIGTERM, timeout: float = 20) -> None:
        """By pid; waits for its end. Nothing to do when it has ended already."""
        pid = self.daemon_pid(name)
        if pid:
            script = f"kill -{int(number)} {pid} && timeout {timeout:g} tail --pid={pid} -s 0.05 -f /dev/null"
            if self.run(script, timeout + 10).status == 124:
                raise NoAnswer(f"{self.name}: {name} ({pid}) did not end in {timeout:g} s")
