"""Labs for the tests of this directory, one at a time and shared by a module."""

from collections.abc import Iterator

import pytest
from lab.fabric import Lab


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    """Two hosts, both with VLANs 10 and 20 on the trunk: 20.0.<vid>.<host>; h2 also as a macvlan."""
    with Lab().up(2) as lab:
        for guest in lab.hosts:
            for vid in (10, 20):
                guest.ok(
                    f"ip link add link enp7s0 name enp7s0.{vid} type vlan id {vid}; ip link set enp7s0.{vid} up;"
                    f"ip addr add 20.0.{vid}.{guest.number}/24 dev enp7s0.{vid}"
                )
            # A container in all but name: a macvlan with a MAC of its own, in a namespace of its own.
            guest.ok(
                "ip netns add box; ip link add link enp7s0.10 name mv type macvlan mode bridge;"
                f"ip link set mv address 02:42:14:00:0a:{guest.number + 100:02x} netns box;"
                f"ip -n box addr add 20.0.10.{guest.number + 100}/24 dev mv; ip -n box link set mv up"
            )
        yield lab


@pytest.fixture
def mended(pair: Lab) -> Iterator[Lab]:
    """The pair; what a test breaks on its wires is mended after it."""
    yield pair
    pair.clear()
