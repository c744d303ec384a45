"""Keys of the store, below the fabric's prefix (design: one object, one key; uniqueness by existence). Pure."""

from __future__ import annotations

from trunkline.ids import IPAddress

SCHEMA = 1
"""Schema number in every value; a greater one is refused, not guessed at."""

EPOCH = "epoch"
UPLINKS = "uplinks/"
NETWORKS = "networks/"
STATUS_NETWORKS = "status/networks/"
VLANS = "vlans/"
NUMBERS = "numbers/"
HOST_NUMBERS = "host-numbers/"
ADDRESSES = "addresses/"
MACS = "macs/"
ATTACHMENTS = "attachments/"
STATUS_ATTACHMENTS = "status/attachments/"
STATUS_HOSTS = "status/hosts/"
HOSTS = "hosts/"
SESSIONS = "sessions/"


def uplink(label: str) -> str:
    """VLAN range that the switches carry on an uplink label."""
    return f"{UPLINKS}{label}"


def network(name: str) -> str:
    """Spec of a network."""
    return f"{NETWORKS}{name}"


def network_status(host: str, name: str) -> str:
    """A network as observed on one host; one key per host, so that one session alone writes it (law 8)."""
    return f"{STATUS_NETWORKS}{host}/{name}"


def vlan(uplink_label: str, vid: int) -> str:
    """Claim of a VLAN id on an uplink."""
    return f"{VLANS}{uplink_label}/{vid}"


def number(value: int) -> str:
    """Claim of a network number."""
    return f"{NUMBERS}{value}"


def host_number(value: int) -> str:
    """Claim of a host number."""
    return f"{HOST_NUMBERS}{value}"


def addresses(network_name: str) -> str:
    """Prefix of all address records of a network."""
    return f"{ADDRESSES}{network_name}/"


def address(network_name: str, value: IPAddress | str) -> str:
    """Record of one address."""
    return f"{ADDRESSES}{network_name}/{value!s}"  # !s: formatting an address as such costs three times as much


def mac(value: str) -> str:
    """Claim of a MAC that is not unique by construction."""
    return f"{MACS}{value}"


def attachments(host_name: str) -> str:
    """Prefix of all attachments of a host."""
    return f"{ATTACHMENTS}{host_name}/"


def attachment(host_name: str, name: str) -> str:
    """Intent of one attachment."""
    return f"{ATTACHMENTS}{host_name}/{name}"


def attachment_status(host_name: str, name: str) -> str:
    """Status of one attachment; without the key it is PENDING."""
    return f"{STATUS_ATTACHMENTS}{host_name}/{name}"


def host(name: str) -> str:
    """Facts of a host; never on a lease."""
    return f"{HOSTS}{name}"


def host_status(name: str) -> str:
    """Last observation of a host, less its networks and attachments."""
    return f"{STATUS_HOSTS}{name}"


def session(host_name: str) -> str:
    """Live session of a host, on the replica's lease."""
    return f"{SESSIONS}{host_name}"
