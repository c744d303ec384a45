"""The way by systemd-resolved: which file is written when, and what is asked beyond it. The commands are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agent.dns.resolver import Places, Resolver

STUB = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n"


class Machine:
    """A directory that plays a host with systemd-resolved."""

    def __init__(self, root: Path, active: bool = True, restarts: bool = True) -> None:
        self.places = Places(root / "resolv.conf", root / "resolve", root / "resolved.conf.d/trunkline.conf")
        self.places.resolved_run.mkdir()
        (self.places.resolved_run / "stub-resolv.conf").write_text(STUB)
        (self.places.resolved_run / "resolv.conf").write_text("nameserver 127.0.0.153\nnameserver 192.0.2.1\n")
        self.places.resolv_conf.symlink_to(self.places.resolved_run / "stub-resolv.conf")
        self.commands: list[str] = []
        self.answers = {"is-active": active, "restart": restarts}
        self.resolver = Resolver("127.0.0.153", "trunkline.internal", lambda: 0.0, self.places, self.run)

    def run(self, argv: Sequence[str]) -> bool:
        self.commands.append(argv[1])
        return self.answers[argv[1]]


def test_the_domain_is_routed_and_the_file_stays(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.resolver.look() == ("192.0.2.1",), "neither resolved nor we are asked what resolved asks us"
    lines = machine.places.resolved_drop_in.read_text().splitlines()
    assert lines[1:] == ["[Resolve]", "DNS=127.0.0.153", "Domains=~trunkline.internal"]
    assert machine.places.resolv_conf.read_text() == STUB
    assert machine.resolver.problem == ""
    assert machine.commands == ["is-active", "restart"]
    machine.resolver.look()
    assert machine.resolver.look() is None
    assert machine.commands.count("restart") == 1
    assert machine.resolver.undo()
    assert not machine.places.resolved_drop_in.exists()
    assert machine.commands.count("restart") == 2
    assert not machine.resolver.undo()


def test_servers_that_resolved_learns_are_followed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.resolver.look()
    (machine.places.resolved_run / "resolv.conf").write_text("nameserver 192.0.2.2\nnameserver 192.0.2.33\n")
    assert machine.resolver.look() == ("192.0.2.2", "192.0.2.33")


def test_a_resolved_that_does_not_restart_is_left_as_it_was(tmp_path: Path) -> None:
    machine = Machine(tmp_path, restarts=False)
    machine.resolver.look()
    assert not machine.places.resolved_drop_in.exists()
    assert "systemd-resolved" in machine.resolver.problem


def test_without_resolved_the_file_itself_is_led(tmp_path: Path) -> None:
    machine = Machine(tmp_path, active=False)
    machine.resolver.look()
    assert not machine.places.resolved_drop_in.exists()
    assert machine.places.resolv_conf.is_symlink()
    assert machine.places.resolv_conf.read_text().startswith("# trunkline")
    assert machine.resolver.undo()
    assert machine.places.resolv_conf.read_text() == STUB


def test_a_host_that_changes_to_resolved_has_one_way_only(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.places.resolv_conf.unlink()
    machine.places.resolv_conf.write_text("nameserver 192.0.2.1\n")
    machine.resolver.look()
    assert "127.0.0.153" in machine.places.resolv_conf.read_text()
    machine.places.resolv_conf.unlink()
    machine.places.resolv_conf.symlink_to(machine.places.resolved_run / "stub-resolv.conf")
    machine.resolver.look()
    assert machine.places.resolved_drop_in.exists()
    assert machine.places.resolv_conf.read_text() == STUB
