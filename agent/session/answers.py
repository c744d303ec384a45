"""Answers to a controller's questions: can this target be attached, and what does a probe hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from agent.plan import inspect
from agent.plan.state import HostConfig, ResolvedTarget
from agent.ports import Links, ProbeAddress, ProbePeer, ProbePlan, Prober, ProbeResult, Targets
from trunkline import log, naming
from trunkline.agent.v1 import session_pb2
from trunkline.errors import Reason, TrunklineError
from trunkline.v1 import check_pb2
from trunkline.wire import network_from_pb, target_from_pb

_KINDS: Final = {
    "broadcast": check_pb2.PROBE_KIND_BROADCAST,
    "unicast": check_pb2.PROBE_KIND_UNICAST,
    "address": check_pb2.PROBE_KIND_ADDRESS,
    "gateway": check_pb2.PROBE_KIND_GATEWAY,
}
_OUTCOMES: Final = {
    "ok": check_pb2.PROBE_OUTCOME_OK,
    "silent": check_pb2.PROBE_OUTCOME_SILENT,
    "unknown": check_pb2.PROBE_OUTCOME_UNKNOWN,
    "conflict": check_pb2.PROBE_OUTCOME_CONFLICT,
}


class Answers:
    """Asks the host itself, now: what the loop last saw may be of before the question's container was started."""

    def __init__(self, links: Links, targets: Targets, prober: Prober, config: Callable[[], HostConfig]) -> None:
        self._links = links
        self._targets = targets
        self._prober = prober
        self._config = config
        self._log = log.get("answers")

    async def target(self, question: session_pb2.InspectTarget) -> session_pb2.TargetReport:
        """Whether a target can be attached; never raises."""
        try:
            name = await self._inspect(question)
        except TrunklineError as error:
            return session_pb2.TargetReport(
                id=question.id, reason=error.reason.name, message=error.message, remedy=error.remedy
            )
        except Exception as error:
            self._log.error("inspection failed", exc_info=error)
            message = "the agent failed to look at the target; its log has the traceback"
            return session_pb2.TargetReport(id=question.id, reason=Reason.INTERNAL.name, message=message)
        return session_pb2.TargetReport(id=question.id, name=name)

    async def _inspect(self, question: session_pb2.InspectTarget) -> str:
        config = self._config()
        target = target_from_pb(question.target)
        links, resolved = await asyncio.gather(self._links.host_links(), self._targets.resolve([target]))
        place = resolved[0]
        if not isinstance(place, ResolvedTarget):
            raise place
        if question.HasField("network"):
            inspect.judge_network(network_from_pb(question.network), config, links)
        if question.ifname:
            interfaces = (await self._links.interfaces([place.namespace]))[0]
            if isinstance(interfaces, TrunklineError):
                raise interfaces
            inspect.judge_name(question.ifname, interfaces, place.name, config.host)
        return place.name

    async def probe(self, run: session_pb2.ProbeRun) -> AsyncIterator[session_pb2.ProbeReport]:
        """Take part in a check: reports as results come, the last one with `done`; never raises."""
        try:
            plan = await self._plan(run)
            async for result in self._prober.run(plan):
                yield session_pb2.ProbeReport(id=run.id, results=[_result(result)])
        except TrunklineError as error:
            yield session_pb2.ProbeReport(id=run.id, done=True, error=error.text)
        except Exception as error:
            self._log.error("probe failed", exc_info=error)
            message = f"the agent of {self._config().host} failed to probe; its log has the traceback"
            yield session_pb2.ProbeReport(id=run.id, done=True, error=message)
        else:
            yield session_pb2.ProbeReport(id=run.id, done=True)

    async def _plan(self, run: session_pb2.ProbeRun) -> ProbePlan:
        config = self._config()
        network = network_from_pb(run.network)
        planned = inspect.judge_network(network, config, await self._links.host_links())
        if planned.parent is None or not planned.parent.link.up:
            why = planned.blocked.message if planned.blocked else f"{network.uplink} is not up yet"
            raise TrunklineError(
                Reason.PROBE_FAILED, f"{config.host} cannot probe {network.name}: {why}", "check again in a moment"
            )
        return ProbePlan(
            run=run.id,
            network=network.name,
            link_name=naming.probe_link(network.number),
            mark=naming.probe_mark(network.name),
            parent_index=planned.parent.link.index,
            mac=network.probe_mac,
            host=config.host,
            peers=tuple(ProbePeer(peer.host, peer.mac) for peer in run.peers),
            addresses=tuple(
                ProbeAddress(asked.address, asked.mac, asked.host, asked.kind == check_pb2.PROBE_KIND_GATEWAY)
                for asked in run.addresses
            ),
            timeout=run.timeout_ms / 1000,
        )


def _result(result: ProbeResult) -> check_pb2.CheckResult:
    return check_pb2.CheckResult(
        network=result.network,
        from_host=result.from_host,
        to_host=result.to_host,
        kind=_KINDS.get(result.kind, check_pb2.PROBE_KIND_UNSPECIFIED),
        outcome=_OUTCOMES.get(result.outcome, check_pb2.PROBE_OUTCOME_UNKNOWN),
        rtt_us=round(result.rtt * 1_000_000),
        address=result.address,
        mac=result.mac,
        message=result.message,
    )
