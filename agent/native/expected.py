"""Addresses that a container is about to ask for again, since its Docker network is being exchanged under it."""

from __future__ import annotations

from collections.abc import Iterable


class Expected:
    """Whose an address is while Docker lists nobody with it: (network, address) to container id. Such an address is in
    use, whatever Docker says; it is no leak, and a request for it comes from that container."""

    def __init__(self) -> None:
        self._users: dict[tuple[str, str], str] = {}

    def hold(self, network: str, addresses: Iterable[str], container_id: str) -> None:
        """From now on these addresses (without prefix length) are the container's."""
        self._users.update({(network, address): container_id for address in addresses})

    def release(self, network: str) -> None:
        """The exchange is over: Docker's lists count again."""
        self._users = {key: user for key, user in self._users.items() if key[0] != network}

    def user(self, network: str, address: str) -> str:
        """Id of the container an address is expected for; "" when none is."""
        return self._users.get((network, address), "")
