"""How a host's programs reach our DNS, and that they resolve whatever becomes of it: real C library, real files."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from netns.naming_host import RESOLV, NamingHost, stop

from agent.dns import resolvconf

OURS = "web.blue.trunkline.internal"
DHCP = "# by dhclient\nsearch example.org\nnameserver 127.0.0.1\noptions timeout:2\n"
Make = Callable[..., NamingHost]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[NamingHost] = []

    def one(text: str | None = DHCP, more: str = "", etc_of: NamingHost | None = None) -> NamingHost:
        found = NamingHost(tmp_path / f"host{len(made)}", more, etc_of=etc_of)
        made.append(found)
        if text is not None and etc_of is None:
            found.file(RESOLV).write_text(text)
        return found

    yield one
    for host in reversed(made):
        host.close()


def problems(tmp_path: Path) -> Path:
    return tmp_path / "problems"


def until(condition: Callable[[], object], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_names_resolve_and_the_file_comes_back_byte_for_byte(make: Make, tmp_path: Path) -> None:
    host = make()
    host.upstream("127.0.0.1", "192.0.2.7")
    host.file(RESOLV).chmod(0o640)
    os.chown(host.file(RESOLV), 0, 42)
    service = host.service(str(problems(tmp_path)))
    assert resolvconf.servers(host.resolv) == ("127.0.0.153", "127.0.0.1")
    assert host.resolve(OURS) == "20.0.0.1"
    assert host.resolve("www.example.org") == "192.0.2.7"
    assert stop(service) == 0
    assert host.resolv == DHCP
    found = host.file(RESOLV).stat()
    assert (found.st_mode & 0o777, found.st_gid) == (0o640, 42)
    assert host.resolve("www.example.org") == "192.0.2.7"
    assert not list(host.file("/etc").glob(".resolv*"))


def test_a_killed_agent_costs_its_names_and_nothing_else(make: Make, tmp_path: Path) -> None:
    host = make()
    host.upstream("127.0.0.1", "192.0.2.7")
    stop(host.service(str(problems(tmp_path))), signal.SIGKILL)
    assert resolvconf.has_block(host.resolv)
    began = time.monotonic()
    assert host.resolve("www.example.org") == "192.0.2.7"
    assert time.monotonic() - began < 1, "a port that refuses makes the C library go on at once"
    again = host.service(str(problems(tmp_path)))
    assert host.resolve(OURS) == "20.0.0.1"
    assert host.resolv.count("127.0.0.153") == 1
    stop(again, signal.SIGKILL)
    assert "resolver" in host.cleanup()
    assert host.resolv == DHCP
    assert host.cleanup().strip() == ""


def test_a_link_stays_a_link(make: Make, tmp_path: Path) -> None:
    host = make(None, "mkdir /etc/away; ln -s away/resolv.conf /etc/resolv.conf")
    host.file("/etc/away/resolv.conf").write_text(DHCP)
    host.upstream("127.0.0.1", "192.0.2.7")
    service = host.service(str(problems(tmp_path)))
    assert host.resolve(OURS) == "20.0.0.1"
    stop(service)
    assert os.readlink(host.file(RESOLV)) == "away/resolv.conf"
    assert host.file("/etc/away/resolv.conf").read_text() == DHCP


def test_a_file_that_is_a_mount_is_written_in_place(make: Make, tmp_path: Path) -> None:
    (tmp_path / "mounted").write_text(DHCP)
    mount = f"touch /etc/resolv.conf; mount --bind {tmp_path}/mounted /etc/resolv.conf"
    host = make(None, mount)
    host.upstream("127.0.0.1", "192.0.2.7")
    service = host.service(str(problems(tmp_path)))
    assert host.resolve(OURS) == "20.0.0.1"
    assert resolvconf.has_block((tmp_path / "mounted").read_text())
    stop(service)
    assert (tmp_path / "mounted").read_text() == DHCP


def test_a_file_that_cannot_be_written_is_a_problem_and_left(make: Make, tmp_path: Path) -> None:
    host = make(DHCP, "")
    subprocess.run(host.within("mount", "-o", "remount,ro", "/etc"), check=True)
    service = host.service(str(problems(tmp_path)))
    until(lambda: "cannot be changed" in problems(tmp_path).read_text(), "the problem")
    assert host.resolv == DHCP
    assert stop(service) == 0


@pytest.mark.parametrize("text", ["", "search example.org\n", None])
def test_a_host_that_names_nobody(make: Make, tmp_path: Path, text: str | None) -> None:
    host = make(text)
    host.upstream("127.0.0.1", "192.0.2.7")
    service = host.service(str(problems(tmp_path)))
    assert host.resolve(OURS) == "20.0.0.1"
    assert host.resolve("www.example.org") == "192.0.2.7", "the C library's default is asked"
    stop(service, signal.SIGKILL)
    assert host.resolve("www.example.org") == "192.0.2.7"
    stop(host.service(str(problems(tmp_path))))
    assert host.file(RESOLV).exists() is (text is not None)
    assert text is None or host.resolv == text


def test_a_host_without_any_server(make: Make, tmp_path: Path) -> None:
    host = make("")
    host.service(str(problems(tmp_path)))
    assert host.resolve(OURS) == "20.0.0.1"
    began = time.monotonic()
    assert host.resolve("www.example.org") == ""
    assert time.monotonic() - began < 2


def test_a_dhcp_client_is_followed(make: Make, tmp_path: Path) -> None:
    host = make()
    host.upstream("127.0.0.1", "192.0.2.7")
    host.upstream("127.0.0.9", "192.0.2.99")
    service = host.service(str(problems(tmp_path)))
    assert host.resolve("www.example.org") == "192.0.2.7"
    lease = "# a new lease\nnameserver 127.0.0.9\n"
    beside = host.file("/etc/resolv.conf.dhclient-new")
    beside.write_text(lease)
    os.replace(beside, host.file(RESOLV))
    until(lambda: resolvconf.has_block(host.resolv), "our line to come back")
    until(lambda: host.resolve("www.example.org") == "192.0.2.99", "the new server to be asked")
    assert host.resolve(OURS) == "20.0.0.1"
    stop(service)
    assert host.resolv == lease


def test_somebody_who_insists_is_let_have_it(make: Make, tmp_path: Path) -> None:
    host = make()
    host.upstream("127.0.0.1", "192.0.2.7")
    service = host.service(str(problems(tmp_path)))
    given_up = problems(tmp_path)
    rewrites = 0
    while "again and again" not in given_up.read_text():
        host.file(RESOLV).write_text(DHCP)
        rewrites += 1
        assert rewrites < 10
        until(
            lambda: resolvconf.has_block(host.resolv) or "again and again" in given_up.read_text(),
            "our line, or the problem",
        )
    assert rewrites == 3
    assert host.resolv == DHCP
    assert host.resolve("www.example.org") == "192.0.2.7"
    assert stop(service) == 0
    assert host.resolv == DHCP


def test_where_we_cannot_listen_nothing_is_changed(make: Make, tmp_path: Path) -> None:
    host = make()
    host.upstream("127.0.0.1", "192.0.2.7")
    host.upstream("127.0.0.153", "192.0.2.66")
    service = host.service(str(problems(tmp_path)), "anyhow")
    until(lambda: "cannot be answered" in problems(tmp_path).read_text(), "the problem")
    assert host.resolv == DHCP
    assert stop(service) == 0


def test_a_line_that_a_killed_agent_left_leads_to_nobody_else(make: Make, tmp_path: Path) -> None:
    host = make()
    host.upstream("127.0.0.1", "192.0.2.7")
    stop(host.service(str(problems(tmp_path))), signal.SIGKILL)
    host.upstream("127.0.0.153", "192.0.2.66")
    host.service(str(problems(tmp_path)), "anyhow")
    until(lambda: host.resolv == DHCP, "the line to be taken out")
    assert host.resolve("www.example.org") == "192.0.2.7"


def test_the_file_of_another_network_namespace_is_not_touched(make: Make, tmp_path: Path) -> None:
    init = make()
    other = make(etc_of=init)
    service = other.service(str(problems(tmp_path)), "init", f"/proc/{init.pid}")
    until(lambda: "another network namespace" in problems(tmp_path).read_text(), "the problem")
    assert init.resolv == DHCP
    assert stop(service) == 0
    assert init.resolv == DHCP
