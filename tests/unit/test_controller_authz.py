"""Who may call what."""

from __future__ import annotations

import pytest

from controller.api.authz import MAY_CALL, check
from trunkline.agent.v1 import address_pb2 as grants_pb2
from trunkline.agent.v1 import directory_pb2, session_pb2
from trunkline.errors import Reason, TrunklineError
from trunkline.v1 import address_pb2, attachment_pb2, check_pb2, fabric_pb2, host_pb2, network_pb2

AGENTS = (directory_pb2, grants_pb2, session_pb2)
FILES = (*AGENTS, address_pb2, attachment_pb2, check_pb2, fabric_pb2, host_pb2, network_pb2)
SERVICES = {service.full_name for file in FILES for service in file.DESCRIPTOR.services_by_name.values()}


def allowed(service: str, identity: str) -> bool:
    try:
        check(service, identity)
    except TrunklineError as error:
        if error.reason is not Reason.NOT_PERMITTED or not error.remedy:
            raise
        return False
    return True


def test_the_table_names_every_service() -> None:
    assert set(MAY_CALL) == SERVICES


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_agents_have_services_of_their_own_and_operators_the_rest(service: str) -> None:
    assert allowed(service, "")
    assert allowed(service, "host:docker1") is service.startswith("trunkline.agent.")
    assert allowed(service, "operator:ann") is (not service.startswith("trunkline.agent."))
    assert not allowed(service, "controller:c2")
    assert not allowed(service, "stranger:x")


def test_a_service_that_is_not_listed_is_for_nobody() -> None:
    assert not allowed("trunkline.v1.NewService", "")
