"""Prefixes with their gateways, ranges and excludes: checked, brought to canonical form, and as integers. Pure."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from trunkline.errors import Reason, Refusal
from trunkline.ids import IPAddress, IPNetwork, parse_prefix
from trunkline.model import Prefix

Span = tuple[int, int]
"""Inclusive range of addresses as integers."""

_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "::/128", "::1/128", "fe80::/10", "ff00::/8")
)
"""Blocks that no pool may touch: RFC 6890 special purpose. 0.0.0.0/8 also stands for probes in MACs."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One prefix as integers. `spans` may be handed out dynamically: ascending, disjoint, gateway and excludes
    left out. `first` to `last` are the host addresses; `size` counts the spans."""

    net: IPNetwork
    first: int
    last: int
    gateway: int | None
    excludes: tuple[Span, ...]
    spans: tuple[Span, ...]
    size: int

    def address(self, value: int) -> IPAddress:
        """The address of an integer."""
        return ipaddress.IPv4Address(value) if self.net.version == 4 else ipaddress.IPv6Address(value)

    def is_host(self, value: int) -> bool:
        """Whether it is neither the network, broadcast nor subnet-router anycast address, and inside."""
        return self.first <= value <= self.last

    def is_excluded(self, value: int) -> bool:
        """Whether an exclude covers it."""
        return _covers(self.excludes, value)

    def is_dynamic(self, value: int) -> bool:
        """Whether it may be handed out to somebody who did not ask for it."""
        return _covers(self.spans, value)


def _covers(spans: tuple[Span, ...], value: int) -> bool:
    index = bisect_right(spans, (value, 1 << 129)) - 1
    return index >= 0 and value <= spans[index][1]


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Ascending, disjoint spans that cover the same integers."""
    result: list[Span] = []
    for first, last in sorted(spans):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return tuple(result)


def without(spans: Iterable[Span], holes: tuple[Span, ...]) -> Iterator[Span]:
    """Spans less holes; both ascending and disjoint."""
    for first, last in spans:
        index = max(bisect_right(holes, (first, 1 << 129)) - 1, 0)
        for low, high in holes[index:]:
            if low > last:
                break
            if high < first:
                continue
            if low > first:
                yield first, low - 1
            first = high + 1
        if first <= last:
            yield first, last


def _hosts(net: IPNetwork) -> Span:
    """First and last host address: all but network and broadcast in IPv4 (RFC 1122; none in /31, RFC 3021, and
    /32), all but the subnet-router anycast address in IPv6 (RFC 4291, 2.6.1; none in /127, RFC 6164, and /128)."""
    first, last = int(net.network_address), int(net.broadcast_address)
    if net.max_prefixlen - net.prefixlen < 2:
        return first, last
    return first + 1, last - 1 if net.version == 4 else last


def parse_span(text: str, net: IPNetwork) -> Span:
    """Parse "first-last", a prefix or one address inside `net`; raise INVALID_RANGE otherwise."""
    first, dash, last = text.partition("-")
    try:
        if dash:
            low, high = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
        else:
            block = ipaddress.ip_network(text.strip())
            low, high = block.network_address, block.broadcast_address
    except ValueError:
        raise Refusal(
            Reason.INVALID_RANGE,
            f"{text!r} is not a range of addresses",
            f"write it as first-last or as a prefix inside {net}",
        ) from None
    if low not in net or high not in net:
        raise Refusal(Reason.INVALID_RANGE, f"range {text} does not lie in {net}", f"choose addresses of {net}")
    if int(low) > int(high):
        raise Refusal(Reason.INVALID_RANGE, f"range {text} ends before it begins", f"did you mean {high}-{low}?")
    return int(low), int(high)


def span_text(span: Span, net: IPNetwork) -> str:
    """Canonical text of a span, "first-last"."""
    kind = ipaddress.IPv4Address if net.version == 4 else ipaddress.IPv6Address
    return f"{kind(span[0])}-{kind(span[1])}"


def _spans(texts: Iterable[str], net: IPNetwork) -> tuple[Span, ...]:
    return merged(parse_span(text, net) for text in texts)


def _check_gateway(text: str, net: IPNetwork) -> str:
    try:
        gateway = ipaddress.ip_address(text)
    except ValueError:
        raise Refusal(Reason.INVALID_GATEWAY, f"gateway {text!r} is not an address", f"choose one of {net}") from None
    if gateway not in net:
        raise Refusal(Reason.INVALID_GATEWAY, f"gateway {gateway} lies outside {net}", f"choose an address of {net}")
    first, last = _hosts(net)
    if not first <= int(gateway) <= last:
        what = "broadcast" if int(gateway) > last else "network" if net.version == 4 else "subnet-router anycast"
        usable = span_text((first, last), net)
        raise Refusal(
            Reason.INVALID_GATEWAY, f"gateway {gateway} is the {what} address of {net}", f"choose of {usable}"
        )
    return str(gateway)


def canonical(prefix: Prefix) -> Prefix:
    """The prefix checked and in canonical form: no host bits, gateway a host address inside, ranges and excludes
    inside, merged and ascending. Raises INVALID_PREFIX, INVALID_GATEWAY, INVALID_RANGE."""
    net = parse_prefix(prefix.cidr.strip())
    for block in _REFUSED:
        if block.version == net.version and block.overlaps(net):
            raise Refusal(
                Reason.INVALID_PREFIX, f"prefix {net} touches {block}, which hosts cannot use", "choose another"
            )
    ranges, excludes = _spans(prefix.ranges, net), _spans(prefix.excludes, net)
    gateway = _check_gateway(prefix.gateway.strip(), net) if prefix.gateway.strip() else ""
    result = Prefix(
        str(net),
        gateway,
        tuple(span_text(span, net) for span in ranges),
        tuple(span_text(span, net) for span in excludes),
    )
    if not pool(result).size:
        raise Refusal(
            Reason.INVALID_RANGE, f"nothing is left to hand out in {net}", "widen the ranges or drop some excludes"
        )
    return result


@lru_cache(maxsize=16384)
def pool(prefix: Prefix) -> Pool:
    """The integers of a canonical prefix."""
    net = ipaddress.ip_network(prefix.cidr)
    first, last = _hosts(net)
    excludes = _spans(prefix.excludes, net)
    gateway = int(ipaddress.ip_address(prefix.gateway)) if prefix.gateway else None
    holes = merged([*excludes, (gateway, gateway)]) if gateway is not None else excludes
    inside = [(max(low, first), min(high, last)) for low, high in _spans(prefix.ranges, net) or ((first, last),)]
    spans = tuple(without([span for span in inside if span[0] <= span[1]], holes))
    return Pool(net, first, last, gateway, excludes, spans, sum(high - low + 1 for low, high in spans))


def covers(outer: tuple[Span, ...], inner: tuple[Span, ...]) -> bool:
    """Whether every integer of `inner` is in `outer`; both ascending and disjoint."""
    return not any(without(inner, outer))


def range_spans(prefix: Prefix) -> tuple[Span, ...]:
    """Ranges of a canonical prefix; the whole prefix when it has none."""
    net = ipaddress.ip_network(prefix.cidr)
    return _spans(prefix.ranges, net) or ((int(net.network_address), int(net.broadcast_address)),)
