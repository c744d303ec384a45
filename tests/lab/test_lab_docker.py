"""Docker in a guest: an image without a pull, and a macvlan network on the trunk."""

from pathlib import Path

import pytest
from lab.docker import Docker
from lab.fabric import Lab
from lab.places import default_name

pytestmark = pytest.mark.lab


def test_a_container_answers_on_its_vlan(tmp_path: Path) -> None:
    with Lab(default_name() + "-d").up(1) as lab:
        docker = Docker(lab.host(1))
        docker.start({"log-level": "warn"})
        image = docker.load_busybox()
        macvlan = ["-d", "macvlan", "-o", "parent=enp7s0.10", "--subnet", "20.0.0.0/24"]
        docker("network", "create", *macvlan, "net10")
        with lab.capture(1, path=tmp_path / "docker.pcap") as wire:
            docker("run", "-d", "--name", "web1", "--network", "net10", "--ip", "20.0.0.17", image, "sleep", "1d")
            docker("exec", "web1", "arping", "-c", "1", "-w", "1", "-U", "-I", "eth0", "20.0.0.17")
            wire.await_frame(r"vlan 10, .*20\.0\.0\.17")
        assert docker("info", "-f", "{{.Driver}}") == "overlay2"
        docker.stop()
