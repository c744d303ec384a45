"""Names of links on a host and the marks that say a link is ours. Pure: standard library only."""

from __future__ import annotations

import hashlib
import re
from typing import Final

IFNAMSIZ: Final = 15
"""Bytes of an interface name (Linux IFNAMSIZ less the terminating zero)."""

MARK: Final = "trunkline:"
"""Prefix of the alias (IFLA_IFALIAS) of every link we make; only marked links are changed or removed."""


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def subinterface(device: str, vid: int) -> str:
    """Name of the 802.1Q link on `device`: "<device>.<vid>", or a derived name when that is over 15 bytes.

    The derived name keeps the VLAN id readable and carries a digest of the device's whole name, so two long
    device names never meet in one name.
    """
    plain = f"{device}.{vid}"
    if len(plain.encode()) <= IFNAMSIZ:
        return plain
    return f"t{_digest(device, 8)}.{vid}"


def temporary(token: str) -> str:
    """Name under which an interface is made before it gets its own; `token` is unique per attachment."""
    return f"tl~{_digest(token, 11)}"


_TEMPORARY: Final = re.compile(r"tl~[0-9a-f]{11}")


def is_temporary(name: str) -> bool:
    """Whether `name` is one of `temporary`: how a link of ours is told that was made and not yet marked."""
    return bool(_TEMPORARY.fullmatch(name))


def subinterface_mark(uplink: str, vid: int) -> str:
    """Alias of a sub-interface of ours."""
    return f"{MARK}vlan:{uplink}:{vid}"


def attachment_mark(name: str) -> str:
    """Alias of an attachment's interface."""
    return f"{MARK}attachment:{name}"


def probe_mark(network: str) -> str:
    """Alias of a probe's interface."""
    return f"{MARK}probe:{network}"


def probe_link(number: int) -> str:
    """Name of the macvlan sibling a host probes network `number` from."""
    return f"tlp{number}"


def shim_link(number: int) -> str:
    """Name of the host's own interface on network `number` (`--host-access`)."""
    return f"tlh{number}"


SHIM_MARK: Final = f"{MARK}shim:"
"""How the mark of every interface of the host's own begins."""


def shim_mark(attachment: str) -> str:
    """Alias of the host's own interface on a network; `attachment` is the name of the attachment it is for."""
    return f"{SHIM_MARK}{attachment}"


def native_mark(endpoint: str) -> str:
    """Alias of an interface that was made again for a Docker endpoint, by the endpoint's id."""
    return f"{MARK}docker:{endpoint}"


def attachment_of(alias: str) -> str:
    """Name of the attachment whose interface carries this alias; empty for any other alias."""
    for start in (SHIM_MARK, attachment_mark("")):
        if alias.startswith(start):
            return alias.removeprefix(start)
    return ""


DOCKER_DRIVER: Final = "trunkline"
"""Name of our IPAM plugin in Docker, and of its socket."""

DOCKER_LABEL: Final = "io.trunkline.network"
"""Label of the Docker networks we make; its value is the fabric network's name."""

OWNER_LABEL: Final = "io.trunkline.owner"
"""Label of a container that names its owner, cluster-wide."""


def docker_config_name(network: str) -> str:
    """Name of the config-only Docker network that swarm networks are made from."""
    return f"{network}-config"


def is_ours(alias: str) -> bool:
    """Whether a link with this alias was made by Trunkline."""
    return alias.startswith(MARK)
