"""A scripted host with a hand-made Docker network on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fakes.scripted_agent import ScriptedAgent

from trunkline.agent.v1 import session_pb2
from trunkline.v1 import network_pb2

NAME = "mynet2"


@dataclass
class Host(ScriptedAgent):
    """A host with a hand-made network `mynet2` and `running` containers on it, by name; it lists their addresses as
    used once it is told of an imported network. `mute`: it never answers about Docker."""

    running: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    handmade: bool = True
    vlan: int = 10
    problem: tuple[str, str] = ("", "")
    failing_exchange: str = ""
    mute: bool = False
    exchanges: int = 0
    asked: bool = False

    async def _take(self, message: session_pb2.ConnectResponse) -> None:
        self.asked = self.asked or message.WhichOneof("message") == "survey"
        match message.WhichOneof("message"):
            case "survey" if not self.mute:
                self._send(survey=self._survey(message.survey))
            case "replace" if not self.mute:
                self.exchanges += 1
                for report in self._exchange(message.replace):
                    self._send(replaced=report)
        await super()._take(message)

    def _survey(self, question: session_pb2.SurveyDocker) -> session_pb2.DockerSurvey:
        reason, text = self.problem
        if reason or not self.handmade or question.name != NAME:
            return session_pb2.DockerSurvey(id=question.id, reason=reason, message=text)
        prefix = network_pb2.Prefix(cidr="20.0.0.0/24", gateway="20.0.0.1")
        found = network_pb2.ImportedNetwork(
            id=f"id-{self.host}", parent="enp7s0.10", uplink="default", vlan=self.vlan, prefixes=[prefix], mtu=1500
        )
        endpoints = [
            network_pb2.ImportedEndpoint(
                container=name, container_id=f"id-{name}", addresses=[f"{address}/24"], running=name in self.running
            )
            for name, address in {**self.running, **self.stopped}.items()
        ]
        return session_pb2.DockerSurvey(id=question.id, networks=[found], endpoints=endpoints)

    def _exchange(self, question: session_pb2.ReplaceDocker) -> list[session_pb2.ReplaceReport]:
        def report(**fields: object) -> session_pb2.ReplaceReport:
            step = network_pb2.ReplaceNetworkResponse(**fields)  # type: ignore[arg-type]
            return session_pb2.ReplaceReport(id=question.id, step=step)

        steps = [report(container=name, off_ms=250, message="connected") for name in self.running]
        if self.failing_exchange:
            failed = session_pb2.ReplaceReport(
                id=question.id, reason=self.failing_exchange, message="Docker refused; every container is connected"
            )
            return [*steps[:1], failed]
        self.handmade = False
        return [*steps, report(done=True)]

    def observe(self) -> None:
        """As the agent does: what runs on an imported network is in the ledger before the host says so."""
        waiting = [self._up.get_nowait() for _ in range(self._up.qsize())]
        super().observe()
        message = self._up.get_nowait()
        assert message is not None
        for before in waiting:
            self._up.put_nowait(before)
        if NAME in self.networks and self.networks[NAME].imported:
            del message.observation.endpoints[:]
            for name, address in self.running.items():
                message.observation.endpoints.add(
                    network=NAME,
                    address=address,
                    state=session_pb2.ENDPOINT_STATE_USED,
                    owner=name,
                    container_id=f"id-{name}",
                    container=name,
                    present=True,
                )
            for grant in self.desired.grants if self.desired else ():
                message.observation.endpoints.add(
                    network=grant.network,
                    address=grant.address,
                    state=session_pb2.ENDPOINT_STATE_STOCK,
                    owner=grant.owner,
                )
            message.observation.endpoints_complete = True
        self._up.put_nowait(message)
