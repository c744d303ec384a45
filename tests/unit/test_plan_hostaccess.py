"""Hosts' own interfaces: given and taken by what network and host are, whatever else is there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.planning import Room

from controller.plan.attachments import detach, finish_detach, lease_seconds
from controller.plan.hostaccess import access, access_steps, access_txn, network_named
from controller.plan.networks import update_network
from controller.plan.requests import NetworkRequest, NetworkUpdate
from controller.plan.who import who
from controller.state.txn import Txn
from trunkline.errors import Reason, Refusal
from trunkline.model import DockerMode, HostFacts, Origin, Prefix


@pytest.fixture
def room() -> Room:
    room = Room()
    room.host("h1", rack="a")
    room.host("h2", rack="b")
    room.uplink(((10, 20),))
    room.network("red", "20.0.0.0/28", gateway="20.0.0.1", host_access=True)
    return room


def planned(room: Room, network: str = "red") -> list[Txn]:
    txns = [access_txn(room.snapshot, step, room.cursors, 7, room.now) for step in access_steps(room.snapshot, network)]
    return [txn for txn in txns if txn is not None]


def settle(room: Room, network: str = "red") -> None:
    while steps := access_steps(room.snapshot, network):
        txn = access_txn(room.snapshot, steps[0], room.cursors, 7, room.now)
        assert txn is not None
        room.commit(txn)


def seen_gone(room: Room, host: str, name: str) -> None:
    stored = room.snapshot.attachment(host, name)
    assert stored is not None
    lease = room.next_lease() if lease_seconds(room.snapshot, stored.value) else 0
    room.commit(finish_detach(room.snapshot, host, name, room.now, lease, room.snapshot.revision))


def own(room: Room, network: str = "red") -> dict[str, tuple[str, tuple[str, ...], bool]]:
    found = {host: access(room.snapshot, host, network) for host in room.snapshot.hosts}
    return {
        host: (stored.value.name, stored.value.addresses, stored.value.detaching)
        for host, stored in found.items()
        if stored is not None
    }


def test_each_selected_host_gets_one_and_no_more(room: Room) -> None:
    settle(room)
    assert own(room) == {
        "h1": ("host/red", ("20.0.0.2/28",), False),
        "h2": ("host/red", ("20.0.0.3/28",), False),
    }
    stored = room.snapshot.attachment("h1", "host/red")
    assert stored is not None
    assert (stored.value.origin, stored.value.owner, stored.value.mac) == (Origin.HOST, "host", "02:01:14:00:00:02")
    assert access_steps(room.snapshot, "red") == ()
    told = room.desired("h1").attachments
    assert [(one.name, one.origin, one.addresses) for one in told] == [("host/red", Origin.HOST, ("20.0.0.2/28",))]


def test_a_host_that_comes_later_and_a_drained_one_get_it_too(room: Room) -> None:
    room.drain("h2")
    settle(room)
    room.host("h3")
    settle(room)
    assert sorted(own(room)) == ["h1", "h2", "h3"]


def test_turned_off_it_goes_when_it_was_seen_gone_and_comes_back_with_its_address(room: Room) -> None:
    settle(room)
    room.update(NetworkUpdate("red", host_access=False))
    settle(room)
    assert {host: one[2] for host, one in own(room).items()} == {"h1": True, "h2": True}
    assert room.desired("h1").attachments == ()
    room.update(NetworkUpdate("red", host_access=True))
    assert access_steps(room.snapshot, "red") == (), "what is on its way out is not given anew before it is gone"
    seen_gone(room, "h1", "host/red")
    settle(room)
    assert own(room)["h1"] == ("host/red", ("20.0.0.2/28",), False)


def test_a_host_that_is_no_longer_selected_loses_it(room: Room) -> None:
    settle(room)
    plan = room.update(NetworkUpdate("red", host_selector=("rack=a",)))
    assert plan.warnings == (), "nobody has to detach what goes by itself"
    settle(room)
    assert {host: one[2] for host, one in own(room).items()} == {"h1": False, "h2": True}
    room.register(HostFacts("h1", "machine-h1", labels={"rack": "c"}))
    settle(room)
    assert own(room)["h1"][2]


def test_a_host_that_is_forgotten_is_left_to_that(room: Room) -> None:
    settle(room)
    room.cut("h2")
    room.forget_step("h2")
    assert access_steps(room.snapshot, "red") == ()
    room.forget_step("h2")
    assert sorted(own(room)) == ["h1"]


def test_a_container_of_that_name_keeps_its_attachment(room: Room) -> None:
    room.attach("h1", "red", "host")
    settle(room)
    assert own(room)["h1"][0] == "host/red/access"
    room.attach("h2", "red", "x", "host/red/x")
    stored = room.snapshot.attachment("h1", "host/red")
    assert stored is not None
    assert stored.value.origin is Origin.TRUNKLINE


def test_both_names_taken_is_said(room: Room) -> None:
    for name in ("host/red", "host/red/access"):
        room.attach("h1", "red", "web", name)
    step = access_steps(room.snapshot, "red")[0]
    with pytest.raises(Refusal) as caught:
        access_txn(room.snapshot, step, room.cursors, 7, room.now)
    assert caught.value.reason is Reason.ATTACHMENT_EXISTS
    assert "host/red/access" in caught.value.text


def test_a_full_pool_is_said_and_the_others_have_theirs(room: Room) -> None:
    room.network("tiny", "30.0.0.0/31", host_access=True)
    room.host("h3")
    for _ in range(2):
        steps = access_steps(room.snapshot, "tiny")
        room.commit(access_txn(room.snapshot, steps[0], room.cursors, 7, room.now))
    (left,) = access_steps(room.snapshot, "tiny")
    with pytest.raises(Refusal) as caught:
        access_txn(room.snapshot, left, room.cursors, 7, room.now)
    assert caught.value.reason is Reason.POOL_EXHAUSTED


def test_two_replicas_give_it_once(room: Room) -> None:
    one, other = planned(room), planned(room)
    room.commit(one[0])
    assert room.store.commit(other[0]) is None


def test_a_change_in_between_wins(room: Room) -> None:
    giving = planned(room)[0]
    room.update(NetworkUpdate("red", host_access=False))
    assert room.store.commit(giving) is None
    room.update(NetworkUpdate("red", host_access=True))
    settle(room)
    room.update(NetworkUpdate("red", host_access=False))
    taking = planned(room)[0]
    room.update(NetworkUpdate("red", host_access=True))
    assert room.store.commit(taking) is None


def test_it_is_not_detached_by_request(room: Room) -> None:
    settle(room)
    with pytest.raises(Refusal) as caught:
        detach(room.snapshot, "h1", "host/red")
    assert caught.value.reason is Reason.NOT_DETACHABLE
    assert "trunkline network update red --no-host-access" in caught.value.text


def test_what_changes_only_while_unused_says_how_to_take_it_away(room: Room) -> None:
    settle(room)
    with pytest.raises(Refusal) as caught:
        update_network(room.snapshot, NetworkUpdate("red", mtu=1400))
    assert caught.value.reason is Reason.NETWORK_IN_USE
    assert "--no-host-access" in caught.value.text


def test_a_network_without_addresses_gives_none(room: Room) -> None:
    with pytest.raises(Refusal) as caught:
        room.network("wire", host_access=True)
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    room.network("wire")
    with pytest.raises(Refusal):
        room.update(NetworkUpdate("wire", host_access=True))


def test_who_says_that_the_host_itself_has_it(room: Room) -> None:
    settle(room)
    (one,) = who(room.snapshot, "20.0.0.2", room.now)
    assert (one.kind, one.host, one.attachment, one.target, one.owner) == ("attachment", "h1", "host/red", "", "host")
    assert who(room.snapshot, "pid:1", room.now) == ()


def test_a_deleted_network_is_gone_once_the_hosts_have_let_go(room: Room) -> None:
    settle(room)
    room.delete("red")
    settle(room)
    assert all(one[2] for one in own(room).values())
    assert not room.end_delete("red")
    for host in ("h1", "h2"):
        seen_gone(room, host, "host/red")
        room.observe(host)
    assert room.end_delete("red")


def test_the_network_that_a_name_may_concern() -> None:
    names = ("host/red", "host/red/access", "web/red", "host", "hosts/red")
    assert [network_named(name) for name in names] == ["red", "red", "", "", ""]


def test_asked_again_with_another_docker_or_access_is_another_network(room: Room) -> None:
    same = NetworkRequest("red", prefixes=(Prefix("20.0.0.0/28", "20.0.0.1"),), host_access=True)
    assert room.create(same).existed
    for change, word in (({"docker": DockerMode.SWARM}, "Docker local"), ({"host_access": False}, "host access")):
        with pytest.raises(Refusal) as caught:
            room.create(replace(same, **change))
        assert caught.value.reason is Reason.NETWORK_EXISTS
        assert word in caught.value.text
