"""Addresses that are excluded while hosts have them: what nobody uses is asked back."""

from __future__ import annotations

import pytest
from fakes.docked import Docked

from controller.plan.requests import NetworkUpdate, PrefixChange
from controller.plan.stock import STOCK
from controller.state.records import AddressKind
from trunkline.errors import Reason, Refusal


@pytest.fixture
def room() -> Docked:
    room = Docked()
    room.docker_host("h1")
    room.uplink(((10, 20),))
    room.network("red", "20.0.0.0/24", rest_seconds=0)
    room.sync()
    return room


def exclude(room: Docked, *ranges: str) -> None:
    room.update(NetworkUpdate("red", (PrefixChange("20.0.0.0/24", excludes=ranges),)))


def test_stock_that_was_excluded_is_asked_back_and_made_up_for(room: Docked) -> None:
    before = room.stock("h1")
    assert len(before) == STOCK
    exclude(room, *before)
    room.stock("h1")
    assert all(room.record(address).recalled for address in before)
    room.sync("h1")
    after = room.stock("h1")
    assert len(after) == STOCK
    assert not set(before) & set(after)
    assert not set(before) & {str(address) for address in room.records()}


def test_what_a_host_keeps_is_asked_back_once_it_is_excluded(room: Docked) -> None:
    address = room.run("h1", "web")
    with pytest.raises(Refusal) as caught:
        exclude(room, address)
    assert caught.value.reason is Reason.NETWORK_IN_USE, "what is used is not excluded"
    room.ledgers["h1"].stop(("red", address), room.now)
    room.sync("h1")
    assert room.record(address).kind is AddressKind.KEPT
    exclude(room, address)
    room.stock("h1")
    assert room.record(address).recalled
