"""What waiting for a network's removal makes of the hosts."""

from __future__ import annotations

import pytest

from trunkline.cli import standing
from trunkline.cli.standing import Stand
from trunkline.errors import Reason
from trunkline.v1 import network_pb2


@pytest.mark.parametrize(
    ("phase", "reason", "connected", "stand"),
    [
        ("CLEAN", "", True, Stand.DONE),
        ("FAILED", "SUBINTERFACE_IN_USE", True, Stand.FAILED),
        ("FAILED", "SUBINTERFACE_IN_USE", False, Stand.AWAY),
        ("FAILED", "LINK_CLASH", True, Stand.PENDING),
        ("PENDING", "NETWORK_IN_USE", True, Stand.PENDING),
    ],
)
def test_only_what_the_operator_must_clear_ends_the_wait(
    phase: str, reason: str, connected: bool, stand: Stand
) -> None:
    host = network_pb2.HostNetworkStatus(host="h1", phase=phase, reason=reason, message="why", connected=connected)
    (one,) = standing.network_removed(network_pb2.Network(hosts=[host]))
    assert one.stand is stand
    error = standing.failure((one,), "deletion of network lent")
    assert (error.reason if error else None) == (Reason.SUBINTERFACE_IN_USE if stand is Stand.FAILED else None)
