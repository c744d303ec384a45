"""The agent's Docker adapter against a real dockerd: who a target is, where it lives, and when to look again."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from lab.docker import IMAGE, Docker
from lab.fabric import Lab
from lab.guest import Guest
from lab.places import CHECKOUT, default_name
from lab.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

PYTHON = str(CHECKOUT / ".venv/bin/python")
SCRIPT = str(CHECKOUT / "tests/lab/inside/resolve.py")


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with Lab(default_name() + "-e").up(1) as lab:
        engine = Docker(lab.host(1))
        engine.start()
        engine.load_busybox()
        for name, options in {
            "web": ["--network", "none"],
            "sidecar": ["--network", "container:web"],
            "onhost": ["--network", "host"],
            "asleep": ["--network", "none"],
        }.items():
            engine("run", "-d", "--name", name, *options, IMAGE, "sleep", "100000")
        engine("stop", "-t", "0", "asleep")
        yield engine


def resolve(guest: Guest, *names: str) -> list[dict[str, Any]]:
    out = guest.ok([PYTHON, SCRIPT, *names], 60)
    return [json.loads(line) for line in out.splitlines()]


def test_each_kind_of_container(docker: Docker) -> None:
    guest = docker.guest
    identity, pid = docker("inspect", "-f", "{{.Id}} {{.State.Pid}}", "web").split()
    inode = guest.ok(["stat", "-L", "-c", "%d:%i", f"/proc/{pid}/ns/net"]).strip()
    web, by_id, sidecar, onhost, asleep, nobody, version = resolve(
        guest, "web", identity[:12], "sidecar", "onhost", "asleep", "nobody"
    )
    assert (web["id"], web["name"], web["path"], web["identity"]) == (identity, "web", f"/proc/{pid}/ns/net", inode)
    assert (by_id["id"], by_id["name"]) == (identity, "web")
    assert (sidecar["name"], sidecar["identity"]) == ("sidecar", inode)
    assert sidecar["id"] == docker("inspect", "-f", "{{.Id}}", "sidecar")
    assert [one["reason"] for one in (onhost, asleep, nobody)] == [
        "CONTAINER_HOST_NETWORK",
        "CONTAINER_NOT_RUNNING",
        "CONTAINER_NOT_FOUND",
    ]
    assert "docker start asleep" in asleep["message"]
    assert version == {"version": docker("version", "-f", "{{.Server.Version}}")}


def test_a_restart_is_another_namespace(docker: Docker) -> None:
    docker("run", "-d", "--name", "phoenix", "--network", "none", IMAGE, "sleep", "100000")
    before = resolve(docker.guest, "phoenix")[0]
    docker("restart", "-t", "0", "phoenix")
    after = resolve(docker.guest, "phoenix")[0]
    assert after["id"] == before["id"]
    assert after["path"] != before["path"]


def test_starts_and_ends_wake(docker: Docker) -> None:
    guest = docker.guest
    guest.daemon("listen", [PYTHON, SCRIPT, "--events", "120"])

    def woken() -> int:
        return guest.daemon_log("listen").count("woken")

    try:
        count = until(woken, "the first wake: subscribed", 30)
        docker("run", "-d", "--name", "brief", "--network", "none", IMAGE, "sleep", "100000")
        count = until(lambda: woken() > count and woken(), "a wake by a start", 30)
        docker("rm", "-f", "brief")
        until(lambda: woken() > count, "a wake by an end", 30)
    finally:
        guest.stop_daemon("listen")


def test_no_docker(docker: Docker) -> None:
    docker.stop()
    try:
        web, version = resolve(docker.guest, "web")
        assert web["reason"] == "DOCKER_UNAVAILABLE"
        assert version == {"version": ""}
    finally:
        docker.start()
