"""A host for the tests of names: namespaces with an /etc of their own, and processes that serve DNS in them.

As a program it is one of those processes: `service` runs our DNS as the agent does, `upstream ADDRESS SAYS` a server
that knows every name below example.org by the address SAYS, and no other.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from agent.dns import NameService, Settings, Zone, remove
from agent.dns.resolver import Places
from agent.dns.zone import Name
from trunkline import log

CHECKOUT = Path(__file__).resolve().parents[2]
RESOLV = "/etc/resolv.conf"
# The C library asks for no addresses of a family that the host has none of but loopback's (AI_ADDRCONFIG).
BOOT = """
set -e
ip link set lo up
ip link add br0 type bridge
ip address add 20.9.9.9/24 dev br0
ip link set br0 up
mkdir -p {work}/upper {work}/inner
mount -t overlay overlay -o lowerdir=/etc,upperdir={work}/upper,workdir={work}/inner /etc
rm -f /etc/resolv.conf
{more}
echo booted
exec sleep infinity
"""


class NamingHost:
    """Namespaces of a host; what runs in them ends with `close`."""

    def __init__(self, work: Path, more: str = "", *, etc_of: NamingHost | None = None) -> None:
        """`more` is shell run while it boots. `etc_of`: the network alone is its own, files are the other's."""
        self._running: list[subprocess.Popen[str]] = []
        work.mkdir(parents=True, exist_ok=True)
        script = (
            BOOT.format(work=work, more=more) if etc_of is None else "ip link set lo up; echo booted; exec sleep 600"
        )
        argv = ["unshare", "--net", "--mount", "--propagation", "private", "--", "sh", "-c", script]
        if etc_of is not None:
            argv = ["nsenter", "-t", str(etc_of.pid), "-m", "--", "unshare", "--net", "--", "sh", "-c", script]
        self.anchor = self._start(argv)
        self.log = work / "service.log"
        self._wait(self.anchor, "booted")

    @property
    def pid(self) -> int:
        return self.anchor.pid

    def close(self) -> None:
        """End all that runs here."""
        for process in reversed(self._running):
            process.kill()
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()

    def file(self, path: str) -> Path:
        """A file of the host, named from this side."""
        return Path(f"/proc/{self.pid}/root{path}")

    @property
    def resolv(self) -> str:
        return self.file(RESOLV).read_text()

    def _start(self, argv: list[str], **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            argv, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **options
        )  # type: ignore[call-overload]
        self._running.append(process)
        assert isinstance(process, subprocess.Popen)
        return process

    def _wait(self, process: subprocess.Popen[str], word: str) -> None:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.strip() == word, f"{said}{process.stdout.read()}"

    def within(self, *argv: str) -> list[str]:
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "--", *argv]

    def _program(self, *words: str) -> subprocess.Popen[str]:
        path = f"{CHECKOUT}:{CHECKOUT / 'tests'}"
        with self.log.open("a") as log_file:
            process = self._start(
                self.within(sys.executable, "-m", "netns.naming_host", *words),
                env={**os.environ, "PYTHONPATH": path},
                stderr=log_file,
            )
        self._wait(process, "ready")
        return process

    def upstream(self, address: str, says: str) -> subprocess.Popen[str]:
        """A DNS server on this address that answers questions about example.org with `says`."""
        return self._program("upstream", address, says)

    def service(self, *words: str) -> subprocess.Popen[str]:
        """Our DNS; it is ready when the host's resolver leads to it, or at once with the word `anyhow`."""
        return self._program("service", *words)

    def cleanup(self) -> str:
        """What `trunkline-agent cleanup` does about names; what it says is gone."""
        process = self._program("cleanup")
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait(10) == 0
        return said

    def resolve(self, name: str, timeout: float = 20) -> str:
        """What the C library finds: an address, or "" for none."""
        done = subprocess.run(self.within("getent", "ahostsv4", name), capture_output=True, text=True, timeout=timeout)
        return done.stdout.split()[0] if done.stdout else ""


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> int:
    """End a process of a host; its status."""
    process.send_signal(number)
    return process.wait(10)


async def _serve_names(words: list[str]) -> None:
    zone = Zone("trunkline.internal")
    zone.apply([Name("h1", "web/blue", "blue", "web", ("20.0.0.1",))])
    zone.known = True
    places = Places(init=Path(words[words.index("init") + 1])) if "init" in words else Places()
    service = NameService(Settings(), zone, places)
    task = asyncio.create_task(service.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    Path(words[0]).write_text("")
    if "anyhow" not in words:
        await service.serving.wait()
    print("ready", flush=True)
    while not task.done():
        await asyncio.wait([task], timeout=0.1)
        Path(words[0]).write_text("\n".join(problem.message for problem in service.problems("h1")))


async def _serve_others(address: str, says: str) -> None:
    from contract.dns.upstream import below, serving

    async with serving(below("example.org", says), address, 53):
        print("ready", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Be one of the processes."""
    log.setup("debug", False)
    match sys.argv[1:]:
        case ["service", *words]:
            asyncio.run(_serve_names(words))
        case ["upstream", address, says]:
            asyncio.run(_serve_others(address, says))
        case _:
            print("ready", flush=True)
            print("\n".join(remove(Settings())), flush=True)


if __name__ == "__main__":
    main()
