"""What the CLI asks for, waits for and says of networks that Docker uses, against a double of the controller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from fakes.services import Double

from trunkline.cli import network_access, present, standing, waiting
from trunkline.cli.main import cli as program
from trunkline.cli.main import run
from trunkline.cli.named import complete_owners
from trunkline.cli.standing import Stand
from trunkline.v1 import address_pb2, attachment_pb2, network_pb2

Run = Callable[..., tuple[int, str, str]]

READY = attachment_pb2.ATTACHMENT_PHASE_READY
DETACHING = attachment_pb2.ATTACHMENT_PHASE_DETACHING
CREATE = ("network", "create", "mynet2", "--subnet", "20.0.0.0/24", "--gateway", "20.0.0.1")


@pytest.fixture
def double() -> Iterator[Double]:
    with Double() as served:
        yield served


@pytest.fixture
def cli(double: Double, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setattr(standing, "AWAY_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "_SILENCE", 0.2)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TRUNKLINE_CONTROLLER", double.endpoint)

    def call(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(list(args))
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def docker(word: str, message: str = "") -> Callable[[network_pb2.Network], None]:
    """The network is ready on docker1, its Docker network is as said."""

    def step(network: network_pb2.Network) -> None:
        entry = network.hosts[0]
        entry.phase, entry.docker, entry.docker_message = "READY", word, message

    return step


@pytest.mark.parametrize(
    ("words", "mode", "access"),
    [
        ((), network_pb2.DOCKER_MODE_LOCAL, False),
        (("--docker", "local", "--no-host-access"), network_pb2.DOCKER_MODE_LOCAL, False),
        (("--docker", "swarm"), network_pb2.DOCKER_MODE_SWARM, False),
        (("--docker", "none", "--host-access"), network_pb2.DOCKER_MODE_NONE, True),
    ],
)
def test_what_create_asks_for(
    double: Double, cli: Run, words: tuple[str, ...], mode: network_pb2.DockerMode.ValueType, access: bool
) -> None:
    code, _, err = cli(*CREATE, *words, "--no-wait")
    assert code == 0, err
    spec = double.called("CreateNetwork")[0].spec
    assert (spec.docker, spec.host_access) == (mode, access)


@pytest.mark.parametrize(
    ("words", "access"),
    [(("--host-access",), True), (("--no-host-access",), False), (("--hold", "1h"), None)],
)
def test_what_update_asks_for(double: Double, cli: Run, words: tuple[str, ...], access: bool | None) -> None:
    cli(*CREATE, "--no-wait")
    code, _, err = cli("network", "update", "mynet2", *words, "--no-wait")
    assert code == 0, err
    request = double.called("UpdateNetwork")[0]
    assert (request.host_access if request.HasField("host_access") else None) is access


def test_create_waits_for_the_docker_network(double: Double, cli: Run) -> None:
    double.host("docker1")
    double.course = [docker("PENDING"), docker("PENDING", "Docker makes it"), docker("READY")]
    code, out, err = cli(*CREATE)
    assert (code, err) == (0, "")
    assert "ready on 1 host" in out
    assert double.course == [], "it was followed to its end"


@pytest.mark.parametrize("word", ["FOREIGN", "FAILED"])
def test_a_docker_network_that_cannot_be_is_told_and_no_failure(double: Double, cli: Run, word: str) -> None:
    double.host("docker1")
    double.course = [docker(word, "network mynet2 there is somebody else's: rename it")]
    code, _, err = cli(*CREATE)
    assert code == 0
    assert "no Docker network on docker1: network mynet2 there is somebody else's: rename it" in err


def own(
    host: str, phase: attachment_pb2.AttachmentPhase.ValueType, connected: bool = True
) -> attachment_pb2.Attachment:
    spec = attachment_pb2.AttachmentSpec(host=host, name="host/blue")
    return attachment_pb2.Attachment(spec=spec, phase=phase, connected=connected, origin=attachment_pb2.ORIGIN_HOST)


def test_where_hosts_stand_with_their_own_interfaces() -> None:
    network = network_pb2.Network()
    for host, connected in (("a", True), ("b", True), ("c", True), ("d", False)):
        network.hosts.add(host=host, connected=connected)
    items = {"a": own("a", READY), "b": own("b", DETACHING)}
    given = network_access.stands(network, items, given=True)
    assert [(one.host, one.stand) for one in given] == [
        ("a", Stand.DONE),
        ("b", Stand.PENDING),
        ("c", Stand.PENDING),
        ("d", Stand.AWAY),
    ]
    items["d"] = own("d", READY, connected=False)
    taken = network_access.stands(network, items, given=False)
    assert [(one.host, one.stand) for one in taken] == [
        ("a", Stand.PENDING),
        ("b", Stand.PENDING),
        ("d", Stand.AWAY),
    ]
    assert network_access.stands(network, {}, given=False) == ()


def test_owners_are_completed(double: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TRUNKLINE_CONTROLLER", double.endpoint)
    double.holdings = [address_pb2.Holding(owner=owner) for owner in ("web", "web", "worker", "", "db")]
    parameter = click.Argument(["owner"])
    assert complete_owners(click.Context(program), parameter, "w") == ["web", "worker"]
    monkeypatch.setenv("TRUNKLINE_CONTROLLER", "127.0.0.1:9")
    assert complete_owners(click.Context(program), parameter, "w") == [], "no controller is no traceback"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("network", "create"), ("docker run --network NETWORK", "--config-from NETWORK-config", "--host-access")),
        (("network", "update"), ("--no-host-access", "--docker stay for life")),
        (("network", "show"), ("STOCK", "foreign")),
        (("address", "reserve"), ("PROJECT/SERVICE/NUMBER", "SERVICE.SLOT", "io.trunkline.owner")),
        (("address", "release"), ("stays with its user",)),
        (("address", "list"), ("kept", "promised", "stock")),
        (("attachment", "list"), ("docker", "host")),
        (("detach",), ("docker network disconnect", "--no-host-access")),
    ],
)
def test_helps_teach(cli: Run, words: tuple[str, ...], told: tuple[str, ...]) -> None:
    code, out, _ = cli(*words, "--help")
    assert code == present.OK
    plain = " ".join(out.split())
    for word in told:
        assert word in plain
