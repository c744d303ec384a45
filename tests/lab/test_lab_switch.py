"""The switch with VLANs of its own, and labs beside each other."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.fabric import Lab
from lab.faults import Split
from lab.ping import reaches
from lab.places import default_name
from lab.process import Process, inside_namespace
from lab.waiting import until

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def trunks() -> Iterator[Lab]:
    """Two hosts on a VLAN-aware switch: untagged 20.0.0.<host>, VLAN 10 20.0.10.<host>."""
    with Lab(default_name() + "-v").up(2, switch="vlan", memory="160M") as lab:
        for guest in lab.hosts:
            guest.ok(
                "ip link add link enp7s0 name enp7s0.10 type vlan id 10; ip link set enp7s0.10 up;"
                f"ip addr add 20.0.10.{guest.number}/24 dev enp7s0.10;"
                f"ip addr add 20.0.0.{guest.number}/24 dev enp7s0"
            )
        yield lab


def test_ports_carry_what_they_are_members_of(trunks: Lab) -> None:
    h1 = trunks.host(1)
    assert reaches(h1, "20.0.10.2")
    assert reaches(h1, "20.0.0.2")
    trunks.port_vlans(2, ["20-29"], native=1)
    trunks.clear()
    assert not reaches(h1, "20.0.10.2")
    assert reaches(h1, "20.0.0.2")


def test_a_native_mismatch_joins_untagged_to_a_vlan(trunks: Lab) -> None:
    h1, h2 = trunks.hosts
    trunks.port_vlans(1, [10], native=1)
    trunks.port_vlans(2, [20], native=10)
    h2.ok("ip addr add 20.0.10.22/24 dev enp7s0")
    trunks.clear()
    h2.ok("ip link set enp7s0.10 down")
    assert reaches(h1, "20.0.10.22")
    assert not reaches(h1, "20.0.0.2")
    h2.ok("ip link set enp7s0.10 up; ip addr del 20.0.10.22/24 dev enp7s0")
    for host in (1, 2):
        trunks.port_vlans(host, ["2-4094"], native=1)
    trunks.clear()
    assert reaches(h1, "20.0.10.2")


def test_a_split_inside_the_switch(trunks: Lab) -> None:
    with trunks.faulty(Split(1, 2)):
        assert not reaches(trunks.host(1), "20.0.10.2")
    trunks.clear()
    assert reaches(trunks.host(1), "20.0.10.2")


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    name = default_name() + "-k"
    script = f"from lab.fabric import Lab; Lab({name!r}).up(1, memory='160M'); print('up', flush=True); input()"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, env=env) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == b"up\n"
        lab = Lab(name)
        warden = Process.recorded(lab.places.run / "warden.pid")
        assert warden
        assert inside_namespace(lab.switch.path)
        owner.kill()
    assert warden.await_end(20)
    until(lambda: not lab.places.run.exists(), "the run directory to go")
    assert not lab.switch.path.exists()
