"""Answers about hand-made Docker networks: what there is, and the steps of an exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from agent.plan import handmade
from agent.plan.docker import Container
from agent.plan.handmade import Found, Member, Step
from agent.plan.owners import asker
from trunkline import log
from trunkline.agent.v1 import session_pb2
from trunkline.errors import Reason, TrunklineError
from trunkline.v1 import network_pb2
from trunkline.wire import mode_to_pb, prefix_to_pb

_BUG: Final = "the agent failed; its log has the traceback"


class Imports:
    """Asks Docker itself, now. `survey` lists the hand-made networks of a name; `replace` exchanges one for ours and
    goes on when nobody listens any more."""

    def __init__(
        self, survey: Callable[[str], Awaitable[list[Found]]], replace: Callable[[str], AsyncIterator[Step]]
    ) -> None:
        self._survey = survey
        self._replace = replace
        self._log = log.get("imports")

    async def survey(self, question: session_pb2.SurveyDocker) -> session_pb2.DockerSurvey:
        """What this host has; never raises."""
        try:
            found = await self._survey(question.name)
        except TrunklineError as error:
            return session_pb2.DockerSurvey(id=question.id, reason=error.reason.name, message=error.text)
        except Exception as error:
            self._log.error("survey failed", exc_info=error)
            return session_pb2.DockerSurvey(id=question.id, reason=Reason.INTERNAL.name, message=_BUG)
        return session_pb2.DockerSurvey(
            id=question.id,
            networks=[_network(one) for one in found],
            endpoints=[_endpoint(one, member) for one in found for member in one.members],
        )

    async def replace(self, question: session_pb2.ReplaceDocker) -> AsyncIterator[session_pb2.ReplaceReport]:
        """Each step as it is done, then one that is `done` or has a reason; never raises."""
        try:
            async for step in self._replace(question.network):
                told = network_pb2.ReplaceNetworkResponse(
                    container=step.container, off_ms=step.off_ms, message=step.message
                )
                yield session_pb2.ReplaceReport(id=question.id, step=told)
        except TrunklineError as error:
            yield session_pb2.ReplaceReport(id=question.id, reason=error.reason.name, message=error.text)
        except Exception as error:
            self._log.error("exchange failed", exc_info=error)
            yield session_pb2.ReplaceReport(id=question.id, reason=Reason.INTERNAL.name, message=_BUG)
        else:
            done = network_pb2.ReplaceNetworkResponse(done=True)
            yield session_pb2.ReplaceReport(id=question.id, step=done)


def _network(found: Found) -> network_pb2.ImportedNetwork:
    surveyed = found.surveyed
    return network_pb2.ImportedNetwork(
        id=surveyed.id,
        parent=surveyed.parent,
        uplink=surveyed.place.uplink,
        vlan=surveyed.place.vlan,
        prefixes=[prefix_to_pb(prefix) for prefix in surveyed.prefixes],
        mode=mode_to_pb(surveyed.mode),
        mtu=surveyed.place.mtu,
        problem=surveyed.problem,
    )


def _endpoint(found: Found, member: Member) -> network_pb2.ImportedEndpoint:
    owner = asker(Container(member.id, member.name, "", member.labels))
    return network_pb2.ImportedEndpoint(
        container=member.name,
        container_id=member.id,
        addresses=handmade.with_length(member, found.network),
        mac=member.mac,
        running=member.running,
        owner=owner.owner,
        shared=owner.shared,
    )
