"""The ledger: every address this host was given and has not let go, and what became of it. Pure.

The host alone decides who on it uses such an address, so containers start with no controller in reach; it tells the
controller afterwards, in its observations. See docs/decisions/address-grants.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.model import EndpointState


@dataclass(frozen=True, slots=True)
class Entry:
    """One address (without prefix length) of a network. `owner` is whom a USED or KEPT address is for, "" when nobody
    could tell, or whom a STOCK address is meant for; `shared`: the owner is cluster-wide; `promised`: it is reserved
    for the owner. `container_id` and `container` are "" until Docker showed them. `since_ms` is when the state began,
    Unix milliseconds. `destroyed`: the container of a KEPT address is gone for good."""

    state: EndpointState
    owner: str = ""
    shared: bool = False
    promised: bool = False
    container_id: str = ""
    container: str = ""
    mac: str = ""
    since_ms: int = 0
    destroyed: bool = False
