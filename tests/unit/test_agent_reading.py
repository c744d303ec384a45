"""What Docker's JSON means, where it does not say it all."""

from __future__ import annotations

from agent.engine import reading

CONFIG = {
    "Id": "c1",
    "Name": "mynet2-config",
    "Scope": "local",
    "Driver": "null",
    "IPAM": {
        "Driver": "trunkline",
        "Options": {"network": "mynet2"},
        "Config": [{"Subnet": "20.0.0.0/24", "Gateway": "20.0.0.1"}],
    },
    "ConfigFrom": {"Network": ""},
    "ConfigOnly": True,
    "Options": {"macvlan_mode": "bridge", "parent": "enp7s0"},
    "Labels": {"io.trunkline.network": "mynet2"},
}
# as GET /networks of a swarm manager has it
OF_SWARM = {
    "Id": "n1",
    "Name": "mynet2",
    "Scope": "swarm",
    "Driver": "macvlan",
    "IPAM": {"Driver": "", "Options": None, "Config": []},
    "ConfigFrom": {"Network": "mynet2-config"},
    "ConfigOnly": False,
    "Options": None,
    "Labels": None,
}


def test_a_managers_swarm_network_has_what_its_config_only_network_says() -> None:
    found, config = reading.networks([OF_SWARM, CONFIG])
    assert (found.id, found.driver, found.scope, found.config_from) == ("n1", "macvlan", "swarm", "mynet2-config")
    assert (found.ipam_driver, found.ipam_network, found.parent, found.mode) == (
        "trunkline",
        "mynet2",
        "enp7s0",
        "bridge",
    )
    assert found.pools == config.pools
    assert found.labels == {}
    assert not found.config_only


def test_one_whose_config_only_network_is_elsewhere_stays_as_it_is() -> None:
    (found,) = reading.networks([OF_SWARM])
    assert (found.ipam_driver, found.pools) == ("", ())


def test_what_docker_says_goes_before_what_the_config_only_network_says() -> None:
    said = OF_SWARM | {"IPAM": {"Driver": "default", "Options": None, "Config": [{"Subnet": "20.9.0.0/24"}]}}
    found, _ = reading.networks([said, CONFIG])
    assert (found.ipam_driver, found.ipam_network, found.pools[0].cidr) == ("default", "", "20.9.0.0/24")
