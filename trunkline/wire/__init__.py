"""Between protobuf messages and the values of `trunkline.model`.

`x_to_pb(x_from_pb(m))` keeps all that the model knows; fields that a newer peer adds are dropped. `*_from_pb` raise
Refusal INVALID_ARGUMENT for a message that names nothing, never anything else.
"""

from trunkline.wire.session import (
    DesiredCoder,
    attachment_from_pb,
    attachment_to_pb,
    desired_from_pb,
    desired_to_pb,
    hello_from_pb,
    hello_to_pb,
    network_from_pb,
    network_to_pb,
    observation_from_pb,
    observation_to_pb,
)
from trunkline.wire.values import (
    docker_from_pb,
    docker_to_pb,
    event_to_pb,
    mode_from_pb,
    mode_to_pb,
    origin_to_pb,
    phase_from_pb,
    phase_to_pb,
    prefix_from_pb,
    prefix_to_pb,
    problem_from_pb,
    problem_to_pb,
    target_from_pb,
    target_to_pb,
    uplink_from_pb,
    uplink_to_pb,
)

__all__ = [
    "DesiredCoder",
    "attachment_from_pb",
    "attachment_to_pb",
    "desired_from_pb",
    "desired_to_pb",
    "docker_from_pb",
    "docker_to_pb",
    "event_to_pb",
    "hello_from_pb",
    "hello_to_pb",
    "mode_from_pb",
    "mode_to_pb",
    "network_from_pb",
    "network_to_pb",
    "observation_from_pb",
    "observation_to_pb",
    "origin_to_pb",
    "phase_from_pb",
    "phase_to_pb",
    "prefix_from_pb",
    "prefix_to_pb",
    "problem_from_pb",
    "problem_to_pb",
    "target_from_pb",
    "target_to_pb",
    "uplink_from_pb",
    "uplink_to_pb",
]
