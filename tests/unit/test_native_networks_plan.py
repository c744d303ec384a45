"""What is planned for Docker's networks, container losses, announcements and restarts: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from agent.plan import announcing, dockernets, losses, restarting
from agent.plan.docked import Docked, Ground, Standing, local, merged
from agent.plan.docker import Container, DockerNetwork, DockerPool, Endpoint
from agent.plan.dockernets import FAILED, FOREIGN, PENDING, READY, DockerPlan
from agent.plan.losses import Losses
from agent.plan.networks import NetworkPlan, Parent
from agent.plan.owners import DockerNames
from agent.plan.state import Interface, Link
from agent.plan.uplinks import Blocked
from trunkline.errors import Reason
from trunkline.model import (
    Desired,
    DockerMode,
    EndpointObservation,
    EndpointState,
    HostNetwork,
    NetworkObservation,
    Observation,
    Phase,
    Prefix,
)

FOUR = Prefix("20.0.0.0/24", "20.0.0.1")
SIX = Prefix("fd00:20::/64", "fd00:20::1")
NET = HostNetwork("mynet2", 1, "default", 10, prefixes=(FOUR,))


def link(name: str = "enp7s0.10", mtu: int = 1500) -> Link:
    return Link(7, name, "vlan", "52:54:00:00:00:01", mtu, True, True, "trunkline:vlan:default:10", 2, vlan=10)


def ground(*networks: HostNetwork, removals: bool = True, parent: Parent | None = None) -> Ground:
    on = parent or Parent(link(), True, 1500)
    return Ground(Desired("e", 1, networks), removals, {one.name: NetworkPlan(on, None) for one in networks})


def ours(network: HostNetwork = NET, parent: str = "enp7s0.10", id: str = "n1") -> DockerNetwork:
    """A network as Docker shows what `spec` asks for."""
    spec = dockernets.spec(network, parent)
    return DockerNetwork(
        id,
        spec.name,
        "null" if spec.config_only else "macvlan",
        parent=spec.parent,
        mode=spec.mode,
        pools=spec.pools,
        ipam_driver="trunkline",
        ipam_network=spec.network,
        labels=spec.labels,
        internal=spec.internal,
        ipv6=any(":" in pool.cidr for pool in spec.pools),
        config_only=spec.config_only,
    )


def container(name: str, *endpoints: Endpoint, state: str = "running") -> Container:
    return Container(f"id-{name}", name, state, endpoints=endpoints)


def on(network: DockerNetwork, id: str = "e1") -> Endpoint:
    return Endpoint(network.id, network.name, id, ("20.0.0.7/24",), mac="02:42:14:00:00:07")


def plan(ground: Ground, *found: DockerNetwork, containers: tuple[Container, ...] = ()) -> DockerPlan:
    return dockernets.plan(ground, found, containers, "h1")


def idle(planned: DockerPlan) -> bool:
    return not planned.removals and not planned.creations


class TestNetworks:
    def test_a_missing_one_is_made_with_everything_docker_needs(self) -> None:
        planned = plan(ground(replace(NET, prefixes=(FOUR, SIX))))
        (creation,) = planned.creations
        spec = creation.spec
        assert (spec.name, spec.network, spec.parent, spec.mode) == ("mynet2", "mynet2", "enp7s0.10", "bridge")
        assert spec.pools == (DockerPool(FOUR.cidr, FOUR.gateway), DockerPool(SIX.cidr, SIX.gateway))
        assert spec.labels == {"io.trunkline.network": "mynet2"}
        assert not spec.internal
        assert planned.standings["mynet2"].docker == PENDING

    @pytest.mark.parametrize(
        "network", [NET, replace(NET, prefixes=(FOUR, SIX)), replace(NET, prefixes=(Prefix("20.0.0.0/24"),))]
    )
    @pytest.mark.parametrize("mode", [DockerMode.LOCAL, DockerMode.SWARM])
    def test_one_that_is_as_meant_is_left_alone(self, network: HostNetwork, mode: DockerMode) -> None:
        network = replace(network, docker=mode)
        planned = plan(ground(network), ours(network))
        assert idle(planned)
        assert planned.standings == {"mynet2": Standing(READY)}

    def test_without_gateways_it_is_internal(self) -> None:
        assert dockernets.spec(replace(NET, prefixes=(Prefix("20.0.0.0/24"),)), "eth0").internal
        assert not dockernets.spec(replace(NET, prefixes=(Prefix("20.0.0.0/24"), SIX)), "eth0").internal

    def test_for_swarm_it_is_config_only_under_another_name(self) -> None:
        (creation,) = plan(ground(replace(NET, docker=DockerMode.SWARM))).creations
        assert (creation.spec.name, creation.spec.config_only, creation.spec.internal) == ("mynet2-config", True, False)

    def test_a_network_without_prefixes_is_none_of_dockers(self) -> None:
        planned = plan(ground(replace(NET, prefixes=())))
        assert idle(planned)
        assert planned.standings["mynet2"].docker == ""
        assert "no prefix" in planned.standings["mynet2"].message

    def test_a_foreign_one_is_reported_and_left(self) -> None:
        planned = plan(ground(NET), DockerNetwork("x", "mynet2", "bridge"))
        assert idle(planned)
        assert planned.standings["mynet2"].docker == FOREIGN
        assert planned.reasons == {"mynet2": Reason.DOCKER_NETWORK_FOREIGN}

    def test_an_imported_one_counts_as_it_is(self) -> None:
        planned = plan(ground(replace(NET, imported=True)), DockerNetwork("x", "mynet2", "macvlan"))
        assert idle(planned)
        assert planned.standings == {"mynet2": Standing(READY)}

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            ({"parent": "eth1"}, "parent is eth1"),
            ({"pools": (DockerPool("20.0.1.0/24", "20.0.1.1"),)}, "prefixes"),
            ({"pools": (DockerPool(FOUR.cidr, FOUR.gateway, "20.0.0.128/25"),)}, "range"),
            ({"ipam_driver": "default"}, "IPAM driver is default"),
            ({"ipam_network": "other"}, "option network"),
            ({"internal": True}, "internal"),
            ({"mode": "vepa"}, "macvlan mode is vepa"),
            ({"driver": "ipvlan"}, "driver is ipvlan"),
        ],
    )
    def test_one_that_differs_is_made_anew_while_nobody_is_set_up_with_it(
        self, change: Mapping[str, object], word: str
    ) -> None:
        found = replace(ours(), **change)  # type: ignore[arg-type]
        (removal,) = plan(ground(NET), found).removals
        assert word in removal.why
        for state in ("running", "exited", "created"):
            planned = plan(ground(NET), found, containers=(container("c1", on(found), state=state),))
            assert idle(planned)
            assert planned.standings["mynet2"].docker == FAILED
            assert "c1" in planned.standings["mynet2"].message

    def test_spelling_is_no_difference(self) -> None:
        network = replace(NET, prefixes=(SIX,))
        found = replace(ours(network), pools=(DockerPool("FD00:20:0::/64", "fd00:20:0:0::1"),))
        assert idle(plan(ground(network), found))

    def test_a_container_that_never_started_names_its_network_only(self) -> None:
        found = replace(ours(), parent="eth1")
        unstarted = container("c1", Endpoint("", "mynet2"), state="created")
        assert idle(plan(ground(NET), found, containers=(unstarted,)))

    def test_one_no_longer_wanted_goes_when_nobody_is_live_on_it(self) -> None:
        stopped = container("c1", replace(on(ours()), id=""), state="exited")
        (removal,) = plan(ground(), ours(), containers=(stopped,)).removals
        assert removal.network == "mynet2"
        planned = plan(ground(), ours(), containers=(container("c1", on(ours())),))
        assert idle(planned)
        assert planned.reasons == {"mynet2": Reason.NETWORK_IN_USE}

    def test_nothing_unwanted_goes_under_a_history_that_nobody_confirmed(self) -> None:
        planned = plan(ground(removals=False), ours())
        assert idle(planned)
        assert planned.reasons == {"mynet2": Reason.EPOCH_CHANGED}

    def test_another_kind_of_network_replaces_the_one_that_was(self) -> None:
        swarm = replace(NET, docker=DockerMode.SWARM)
        planned = plan(ground(swarm), ours())
        assert [one.found.name for one in planned.removals] == ["mynet2"]
        assert [one.spec.name for one in planned.creations] == ["mynet2-config"]

    def test_what_swarm_makes_from_ours_is_not_ours(self) -> None:
        made = replace(ours(), id="s1", name="sw", scope="swarm", config_from="mynet2-config")
        assert idle(plan(ground(), made))
        assert dockernets.ours(made) == ""

    def test_nothing_is_touched_while_the_parent_is_missing(self) -> None:
        unknown = Ground(
            Desired("e", 1, (NET,)), True, {"mynet2": NetworkPlan(None, Blocked(Phase.PENDING, None, "soon"))}
        )
        assert plan(unknown, ours(parent="eth9")).standings == {"mynet2": Standing(PENDING, "soon")}
        assert idle(plan(unknown, ours(parent="eth9")))

    def test_an_mtu_of_its_own_on_the_bare_uplink_is_refused(self) -> None:
        small = Parent(replace(link(), mtu=9000), False, 1500)
        planned = plan(ground(NET, parent=small))
        assert idle(planned)
        assert planned.standings["mynet2"].docker == FAILED
        assert "Docker takes the MTU" in planned.standings["mynet2"].message

    def test_one_that_dockers_driver_does_not_know_is_made_anew(self) -> None:
        stopped = container("c1", replace(on(ours()), id=""), state="exited")
        planned = dockernets.plan(ground(NET), [ours()], [stopped], "h1", {"n1"})
        assert [one.found.id for one in planned.removals] == ["n1"]
        live = dockernets.plan(ground(NET), [ours()], [container("c1", on(ours()))], "h1", {"n1"})
        assert not live.removals

    def test_containers_of_a_network_that_is_gone_follow_the_new_one(self) -> None:
        lost = container("c1", Endpoint("gone", "mynet2"), state="exited")
        others = (
            container("c2", Endpoint("n1", "mynet2"), state="exited"),
            container("c3", Endpoint("", "mynet2"), state="created"),
            container("c4", Endpoint("gone", "theirs"), state="exited"),
            container("c5", Endpoint("gone", "mynet2", "e5"), state="running"),
        )
        found = [ours(), DockerNetwork("t", "theirs", "macvlan")]
        assert [one.container.name for one in dockernets.stale(found, (lost, *others))] == ["c1"]

    def test_links_stay_under_whatever_docker_has_on_them(self) -> None:
        theirs = DockerNetwork("t", "theirs", "macvlan", parent="enp7s0.20")
        bridge = DockerNetwork("b", "bridge", "bridge", parent="")
        assert set(dockernets.parents([ours(), theirs, bridge])) == {"enp7s0.10", "enp7s0.20"}


class TestAnnouncing:
    def test_live_endpoints_on_our_networks_are_due_once(self) -> None:
        theirs = DockerNetwork("t", "theirs", "macvlan")
        containers = [
            container("c1", on(ours()), replace(on(theirs), id="e2")),
            container("c2", replace(on(ours()), id="e3"), state="exited"),
            container("c3", replace(on(ours()), id="e4", addresses=())),
        ]
        desired = Desired("e", 1, (NET,))
        (due,) = announcing.due(containers, [ours(), theirs], desired, ())
        assert (due.id, due.addresses, due.gateways) == ("e1", ("20.0.0.7",), ("20.0.0.1",))
        assert not announcing.due(containers, [ours(), theirs], desired, {"e1"})
        assert announcing.living(containers) == {"e1", "e2", "e4"}

    def test_its_interface_is_told_by_its_address(self) -> None:
        desired = Desired("e", 1, (NET,))
        (due,) = announcing.due([container("c1", on(ours()))], [ours()], desired, ())
        eth0, eth1 = Interface(link("eth0"), ("172.17.0.2/16",)), Interface(link("eth1"), ("20.0.0.7/24",))
        assert announcing.interface(due, [eth0, eth1]) is eth1
        assert announcing.interface(due, [eth0]) is None


class TestRestarting:
    NAMES = DockerNames({"n1": "mynet2", "t": ""}, {"mynet2": "mynet2", "theirs": ""})

    def dead(self, policy: str, error: str, state: str = "exited") -> Container:
        return replace(container("c1", Endpoint("n1", "mynet2"), state=state), restart_policy=policy, error=error)

    def test_only_refusals_of_ours_under_a_policy_that_wants_it_up(self) -> None:
        refusal = "remote: trunkline: no address is left"
        assert restarting.refused(self.dead("always", refusal))
        assert restarting.refused(self.dead("unless-stopped", refusal))
        assert restarting.refused(self.dead("always", 'network id "' + 64 * "a" + '" not found'))
        assert not restarting.refused(self.dead("on-failure", refusal))
        assert not restarting.refused(self.dead("no", refusal))
        assert not restarting.refused(self.dead("always", "OCI runtime create failed"))
        assert not restarting.refused(self.dead("always", refusal, "created"))
        assert not restarting.refused(self.dead("always", refusal, "running"))

    def test_suspects_are_ended_containers_on_our_networks(self) -> None:
        containers = [
            container("c1", Endpoint("n1", "mynet2"), state="exited"),
            container("c2", Endpoint("n1", "mynet2"), state="running"),
            container("c3", Endpoint("t", "theirs"), state="exited"),
            container("c4", state="exited"),
        ]
        assert [one.name for one in restarting.suspects(containers, self.NAMES)] == ["c1"]


class TestLosses:
    FOUND = (ours(),)

    def look(
        self, known: Mapping[str, tuple[str, ...]], before: Losses, one: Container, docker: str = "29.0.1"
    ) -> Losses:
        return losses.find(known, before, [one], self.FOUND, docker)

    def test_a_network_dropped_while_it_did_not_run_is_lost(self) -> None:
        first = self.look({}, Losses(), container("c1", on(ours())))
        stopped = self.look(first.known, first, container("c1", Endpoint("n1", "mynet2"), state="exited"))
        dropped = self.look(stopped.known, stopped, container("c1", state="exited"))
        assert not dropped.lost
        back = self.look(dropped.known, dropped, container("c1"))
        assert back.lost == {"c1": ("mynet2",)}
        again = self.look(back.known, back, container("c1"))
        assert again.lost == {"c1": ("mynet2",)}
        assert "docker network connect mynet2 c1" in losses.problems(again, "h1")[0].message
        mended = self.look(again.known, again, container("c1", on(ours())))
        assert not mended.lost

    def test_one_that_somebody_took_away_is_not(self) -> None:
        first = self.look({}, Losses(), container("c1", on(ours())))
        after = self.look(first.known, first, container("c1"))
        assert not after.lost
        assert not after.known

    def test_before_docker_29_nothing_is_lost(self) -> None:
        assert not self.look({"id-c1": ("mynet2",)}, Losses(), container("c1"), "28.5.2+dfsg4").lost

    def test_a_container_that_is_gone_is_forgotten(self) -> None:
        assert not losses.find({"id-c1": ("mynet2",)}, Losses(), [], self.FOUND, "29.0.1").known

    def test_without_its_interface_for_two_looks_it_is_told(self) -> None:
        half = container("c1", Endpoint("n1", "mynet2"))
        first = self.look({}, Losses(), half)
        assert (first.unsure, first.bare) == (True, {})
        second = self.look(first.known, first, half)
        assert (second.unsure, second.bare) == (False, {"c1": ("mynet2",)})
        assert "docker restart c1" in losses.problems(second, "h1")[0].message


class TestMerged:
    BEFORE = Observation("e", 5, (NetworkObservation("mynet2", Phase.READY, link="enp7s0.10"),), docker="old")

    def test_what_docker_has_is_told_with_each_network(self) -> None:
        docked = Docked({"mynet2": Standing(READY), "old": Standing(PENDING, "c1 runs")}, docker="28.5.2")
        told = merged(self.BEFORE, docked)
        assert [(one.name, one.phase, one.docker) for one in told.networks] == [
            ("mynet2", Phase.READY, READY),
            ("old", Phase.PENDING, PENDING),
        ]
        assert told.docker == "28.5.2"
        assert not told.endpoints_complete

    def test_a_network_stays_listed_while_an_address_of_it_is_kept(self) -> None:
        kept = EndpointObservation("gone", "20.0.9.2", EndpointState.KEPT)
        told = merged(self.BEFORE, Docked(endpoints=(kept,), endpoints_complete=True))
        assert [one.name for one in told.networks] == ["mynet2", "gone"]
        assert told.endpoints == (kept,)
        assert told.docker == "old"

    def test_addresses_of_running_containers_are_local(self) -> None:
        used = EndpointObservation("mynet2", "20.0.0.7", EndpointState.USED, present=True)
        asked = EndpointObservation("mynet2", "20.0.0.8", EndpointState.USED)
        assert local(Docked(endpoints=(used, asked))) == {"mynet2": ["20.0.0.7"]}
