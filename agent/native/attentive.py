"""Notices when Docker is refused an address."""

from __future__ import annotations

from collections.abc import Callable

from agent.docking import PoolRequest, Pools
from trunkline.errors import TrunklineError


class Attentive:
    """`agent.docking.Pools` that says when a request was refused."""

    def __init__(self, pools: Pools, refused: Callable[[], None]) -> None:
        self._pools = pools
        self._refused = refused

    async def check_pool(self, network: str, cidr: str, version: int, ip_range: str = "") -> tuple[str, str]:
        """See `agent.docking.Pools.check_pool`."""
        return await self._pools.check_pool(network, cidr, version, ip_range)

    async def request(self, request: PoolRequest) -> str:
        """See `agent.docking.Pools.request`."""
        try:
            return await self._pools.request(request)
        except TrunklineError:
            self._refused()
            raise

    async def release(self, network: str, cidr: str, address: str) -> None:
        """See `agent.docking.Pools.release`."""
        await self._pools.release(network, cidr, address)
