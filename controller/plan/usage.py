"""How full a pool is, in numbers and in words. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from controller.plan.prefixes import Pool
from controller.state.pool import PoolIndex
from controller.state.records import AddressKind
from trunkline.errors import Reason, Refusal
from trunkline.model import Prefix

_NAMED = 3
"""Biggest holders that an exhausted pool names."""


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Use of one prefix, counted in addresses. `size` can be handed out dynamically. `resting`: rests, or is kept or
    held for its last owner; `stock`: given to hosts ahead of use."""

    cidr: str
    size: int
    used: int
    resting: int
    reserved: int
    stock: int = 0


def clock(ms: int) -> str:
    """Unix milliseconds as people read them, in UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%SZ}" if 0 < ms < 1 << 47 else "an unknown time"


def use_of(prefix: Prefix, limits: Pool, index: PoolIndex) -> PoolUse:
    """Use of a prefix whose addresses are in `index`."""
    counts = index.counts
    return PoolUse(
        cidr=prefix.cidr,
        size=limits.size,
        used=counts[AddressKind.ATTACHMENT],
        resting=counts[AddressKind.RESTING] + counts[AddressKind.KEPT],
        reserved=counts[AddressKind.RESERVED] + counts[AddressKind.CONFLICT] + index.unreadable,
        stock=counts[AddressKind.STOCK],
    )


def exhausted(network: str, prefix: Prefix, limits: Pool, index: PoolIndex) -> Refusal:
    """POOL_EXHAUSTED, with what is in the pool, who has most of it, and until when the rest of it rests."""
    use = use_of(prefix, limits, index)
    parts = [_addresses(use.size), f"{use.used} used{_named(index.by_host)}", f"{use.resting} resting{_until(index)}"]
    if use.reserved:
        parts.append(f"{use.reserved} reserved")
    if use.stock:
        parts.append(f"{use.stock} in stock{_named(stock_of(index))}")
    text = f"pool {use.cidr} of network {network} is exhausted: {', '.join(parts)}"
    if use.used + use.resting + use.reserved + use.stock > use.size:
        text += ", some of these outside of its ranges"
    return Refusal(Reason.POOL_EXHAUSTED, text, _remedy(network, limits, use), network=network, pool=use.cidr)


def _addresses(count: int) -> str:
    return "1 address" if count == 1 else f"{count} addresses"


def stock_of(index: PoolIndex) -> Counter[str]:
    """Addresses in the stock of each host."""
    kinds = {host: [record.kind for record in given.values()] for host, given in index.given.items()}
    return +Counter({host: some.count(AddressKind.STOCK) for host, some in kinds.items()})


def _named(counts: Counter[str]) -> str:
    if not counts:
        return ""
    some = counts.most_common()
    # A single one more is named, too: it takes no more room than to say that there is one.
    named = some if len(some) == _NAMED + 1 else some[:_NAMED]
    others = len(some) - len(named)
    text = ", ".join(f"{host} {count}" for host, count in named)
    return f" (host {text} and {others} hosts more)" if others else f" (host {text})"


def _until(index: PoolIndex) -> str:
    first, last = index.first_rest(), index.last_rest()
    if not first:
        return ""
    return f" until {clock(first)}" if first == last else f" until {clock(first)} to {clock(last)}"


def _remedy(network: str, limits: Pool, use: PoolUse) -> str:
    ways = [f"detach what is not needed (see `trunkline attachment list --network {network}`)"]
    if limits.last - limits.first + 1 - (limits.gateway is not None) > limits.size:
        ways.append(f"widen the ranges or drop excludes with `trunkline network update {network}`")
    else:
        ways.append("use another network with a larger prefix")
    if use.resting:
        ways.append("wait for the rest to end")
    return f"{', '.join(ways[:-1])}, or {ways[-1]}"
