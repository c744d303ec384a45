"""What one network's check expects, has learnt and still owes: every expected fact gets exactly one verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trunkline.v1 import check_pb2

Result = check_pb2.CheckResult
Kind = check_pb2.ProbeKind
Outcome = check_pb2.ProbeOutcome

BROADCAST = check_pb2.PROBE_KIND_BROADCAST
UNICAST = check_pb2.PROBE_KIND_UNICAST
OK = check_pb2.PROBE_OUTCOME_OK
SILENT = check_pb2.PROBE_OUTCOME_SILENT
UNKNOWN = check_pb2.PROBE_OUTCOME_UNKNOWN
CONFLICT = check_pb2.PROBE_OUTCOME_CONFLICT

# What says more replaces what says less: a late answer mends "silent", a second MAC spoils "ok".
_WEIGHT = {UNKNOWN: 1, SILENT: 2, OK: 3, CONFLICT: 4}

_PAIR_KINDS = (BROADCAST, UNICAST)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing to learn. `address` is empty for a pair of hosts, `to_host` for an address that no host holds."""

    kind: Kind.ValueType
    from_host: str
    to_host: str
    address: str = ""

    @property
    def reporter(self) -> str:
        """Who can tell: a broadcast is reported by its receiver, all else by its sender."""
        return self.to_host if self.kind == BROADCAST else self.from_host


class Tally:
    """The facts of one network. `skipped` maps hosts that take no part to the reason."""

    def __init__(
        self, network: str, hosts: Sequence[str], skipped: dict[str, str], asked: Iterable[tuple[str, Fact]]
    ) -> None:
        self.network = network
        self._hosts = tuple(hosts)
        self._skipped = skipped
        self._facts: set[Fact] = {fact for _, fact in asked}
        self._facts.update(Fact(kind, a, b) for kind in _PAIR_KINDS for a in hosts for b in hosts if a != b)
        self._learnt: dict[Fact, Outcome.ValueType] = {}
        self._reported: set[str] = set()
        self._errors: dict[str, str] = {}

    def take(self, reporter: str, results: Iterable[Result]) -> Iterator[Result]:
        """What of a host's report is news. What it cannot know, or was not asked, is dropped."""
        self._reported.add(reporter)
        for result in results:
            fact = Fact(result.kind, result.from_host, result.to_host, result.address)
            if fact not in self._facts or fact.reporter != reporter or result.outcome not in _WEIGHT:
                continue
            known = self._learnt.get(fact)
            if known is not None and _WEIGHT[known] >= _WEIGHT[result.outcome]:
                continue
            self._learnt[fact] = result.outcome
            news = Result()
            news.CopyFrom(result)
            news.network = self.network
            yield news

    def fail(self, reporter: str, error: str) -> None:
        """The host could not take part after all."""
        self._errors[reporter] = error

    def close(self) -> Iterator[Result]:
        """Verdicts for all that stayed open: silent where both ends took part, unknown otherwise."""
        for fact in sorted(
            self._facts - self._learnt.keys(), key=lambda f: (f.kind, f.from_host, f.to_host, f.address)
        ):
            doubt = self._unjudged(fact)
            yield self._verdict(fact, UNKNOWN if doubt else SILENT, doubt)
        everyone = sorted({*self._hosts, *self._skipped})
        for a in everyone:
            for b in everyone:
                if a != b and (why := self._skipped.get(a) or self._skipped.get(b, "")):
                    for kind in _PAIR_KINDS:
                        yield self._verdict(Fact(kind, a, b), UNKNOWN, why)

    def _unjudged(self, fact: Fact) -> str:
        """Why nothing can be said of a fact; empty when its silence is meant."""
        ends = (fact.from_host, fact.to_host) if not fact.address else (fact.from_host,)
        for host in ends:
            if host in self._errors:
                return f"{host} could not probe: {self._errors[host]}"
            if host not in self._reported:
                return f"{host} did not report in time"
        return ""

    def _verdict(self, fact: Fact, outcome: Outcome.ValueType, message: str) -> Result:
        self._learnt[fact] = outcome
        return Result(
            network=self.network,
            from_host=fact.from_host,
            to_host=fact.to_host,
            kind=fact.kind,
            outcome=outcome,
            address=fact.address,
            message=message,
        )

    def counts(self) -> tuple[int, int, int]:
        """Facts that are ok, bad (silent or in conflict) and unknown."""
        seen = list(self._learnt.values())
        ok, unknown = seen.count(OK), seen.count(UNKNOWN)
        return ok, len(seen) - ok - unknown, unknown
