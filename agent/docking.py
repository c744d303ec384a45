"""What the Docker side of the agent needs of the world: the engine, the controller, a journal. Adapters are picked in
`app` only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.plan.choice import GrantRequest as GrantRequest
from agent.plan.docked import Docked as Docked
from agent.plan.docked import Ground as Ground
from agent.plan.docker import Container as Container
from agent.plan.docker import DockerNetwork as DockerNetwork
from agent.plan.docker import DockerNetworkSpec as DockerNetworkSpec
from agent.plan.handmade import HandMade as HandMade
from agent.plan.handmade import Member as Member
from agent.plan.ledger import Entry as Entry
from agent.plan.state import Namespace
from trunkline.errors import TrunklineError
from trunkline.model import Desired


class DockerAbsent(TrunklineError):
    """DOCKER_UNAVAILABLE because nobody listens on the engine's socket: it was not started, or is not installed."""


class Engine(Protocol):
    """The Docker Engine. Every call raises DOCKER_UNAVAILABLE when it does not answer in time or as it should;
    `DockerAbsent` when nobody listens."""

    async def version(self) -> str:
        """The engine's version, such as "20.10.24"."""
        ...

    async def containers(self) -> list[Container]:
        """All containers, running or not, with their endpoints, in one call that no starting container blocks."""
        ...

    async def named(self, name: str) -> Container | None:
        """One container by its exact name; not blocked by its start."""
        ...

    async def blocked(self, container_ids: Sequence[str], seconds: float) -> list[str]:
        """Which of these do not answer an inspection within so many seconds: dockerd holds the lock of a container
        that it starts, or connects. Measured on 20.10, 28 and 29."""
        ...

    async def inspected(self, container: Container, seconds: float) -> Container | None:
        """The container with its restart policy and last error; None when it is gone, or does not answer within so
        many seconds because it is being started."""
        ...

    async def networks(self) -> list[DockerNetwork]:
        """All Docker networks, with what we need to know of each."""
        ...

    async def create_network(self, spec: DockerNetworkSpec) -> str:
        """Make a network; its id. Raises DOCKER_NETWORK_FAILED with Docker's own words."""
        ...

    async def remove_network(self, network_id: str) -> None:
        """Remove a network; no error when it is gone. Raises NETWORK_IN_USE while endpoints exist,
        DOCKER_NETWORK_FAILED."""
        ...

    async def connect(
        self, network_id: str, container_id: str, addresses: Sequence[str], aliases: Sequence[str] = ()
    ) -> None:
        """Connect a container with these addresses (at most one of each family)."""
        ...

    async def disconnect(self, network_id: str, container_id: str) -> None:
        """Disconnect a container; no error when it is not connected."""
        ...

    async def rebind(self, network_id: str, container_id: str) -> None:
        """Set a container that does not run up with this network in the place of one of the same name that is gone,
        with everything its user asked for there. Raises DOCKER_NETWORK_FAILED."""
        ...

    async def start(self, container_id: str) -> None:
        """Start a container; no error when it runs. Raises CONTAINER_NOT_STARTED with Docker's own words."""
        ...

    async def namespace(self, container_id: str) -> Namespace | None:
        """The network namespace of a running container; None when it does not run."""
        ...

    def events(self) -> AsyncGenerator[None]:
        """Wakes once when subscribed and whenever a container or network may have changed; says only *look*. Raises
        DOCKER_UNAVAILABLE when the stream is cut."""
        ...

    async def close(self) -> None:
        """Release connections. Idempotent."""
        ...


class Dock(Protocol):
    """The Docker side of the agent, as the main loop sees it; implemented by `agent.native`."""

    async def desired(self, desired: Desired, removals: bool) -> None:
        """This is in force from now on; returns when the ledger has taken what was granted. Raises nothing."""
        ...

    def ground(self, ground: Ground) -> None:
        """What Docker's networks can stand on now."""
        ...

    def view(self) -> Docked:
        """How things stand, for the observation. What it says of addresses includes all that was granted by the desired
        state told last."""
        ...

    def note(self, subject: str, message: str) -> None:
        """Something happened that operators want to know of; `subject` as in "network mynet2"."""
        ...


@dataclass(frozen=True, slots=True)
class Granted:
    """The address, without prefix length, whether it is promised to the owner, and the store revision at which it
    was written."""

    address: str
    promised: bool = False
    revision: int = 0


class Granter(Protocol):
    """The controller, as far as this host has one now. Adapter: `session`."""

    async def grant(self, request: GrantRequest, seconds: float) -> Granted:
        """Ask for an address within so many seconds. Raises CONTROLLER_UNREACHABLE at once while there is no session;
        STORE_UNAVAILABLE, and the refusals of AddressService.Grant."""
        ...


class Journal(Protocol):
    """What this host does with the addresses it was given, on disk. Adapter: `agent.journal`."""

    @property
    def problem(self) -> str:
        """What is wrong with it since `load` or the last write, "" when all is well."""
        ...

    def load(self) -> tuple[Mapping[tuple[str, str], Entry], bool]:
        """Entries by (network, address), and whether these are all. When not (there is none yet, or some of it cannot
        be read), only what is certain is given, and Docker has to be listed before anything is said to be complete.
        Raises nothing."""
        ...

    async def write(self, changes: Mapping[tuple[str, str], Entry | None]) -> None:
        """Make changes durable (None removes) before it returns; calls that come together share one fsync. Raises
        SPOOL_CORRUPT when the disk refuses."""
        ...


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """RequestAddress as Docker sends it, taken apart. `address` "" for any; `endpoint` is the endpoint's name, which
    Docker 29 and later send; `gateway`: the network's gateway is asked for."""

    network: str
    cidr: str
    address: str = ""
    endpoint: str = ""
    mac: str = ""
    gateway: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


class Pools(Protocol):
    """What the plugin asks; implemented by `agent.native`. Every call answers within 3 s."""

    async def check_pool(self, network: str, cidr: str, version: int, ip_range: str = "") -> tuple[str, str]:
        """The network and its prefix of that version when this host has it. `cidr` is what was asked for or "";
        `network` "" means the one with exactly that prefix. Raises NETWORK_NOT_FOUND, INVALID_PREFIX with what the
        network has, INVALID_RANGE when `ip_range` would keep addresses of the fabric out."""
        ...

    async def request(self, request: PoolRequest) -> str:
        """An address with prefix length. Raises what `docker run` is to show."""
        ...

    async def release(self, network: str, cidr: str, address: str) -> None:
        """Docker gave an address back. Never raises."""
        ...


class Handmade(Protocol):
    """Docker networks that somebody made by hand, with all that makes them, and connects their containers, again.
    Every call raises DOCKER_UNAVAILABLE when Docker does not answer in time or as it should. Adapter: `engine`."""

    async def named(self, name: str) -> list[HandMade]:
        """All Docker networks of exactly this name, whoever made them."""
        ...

    async def members(self, found: HandMade) -> list[Member]:
        """Containers that are set up with a network, running or not; their `settings` are left out."""
        ...

    async def detailed(self, member: Member, network: str) -> Member | None:
        """The same container with its `settings`; None when it is gone."""
        ...

    async def create(self, recipe: str) -> str:
        """Make a hand-made network again; its id. Raises DOCKER_NETWORK_FAILED with Docker's own words."""
        ...

    async def connect(self, network_id: str, member: Member, addresses: Sequence[str]) -> bool:
        """Connect a container as it was, with these addresses; False when it is gone. Raises DOCKER_NETWORK_FAILED."""
        ...
