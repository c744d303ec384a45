"""Tell the wire where an address lives now: neighbours by gratuitous ARP or an unsolicited advertisement, the
gateway by a question in the address's name, since routers do not all heed what they did not ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from agent.ports import Announcement
from agent.probes import frames
from agent.probes.conflict import has_carrier
from agent.probes.messages import Verdict
from agent.probes.namespaces import open_all
from agent.probes.packet import PacketSocket
from trunkline.errors import TrunklineError

AGAIN: Final = 0.1
"""Seconds until everything is said once more: one lost frame must not cost neighbours their cache's lifetime."""

AT_ONCE: Final = 128
"""Announcements whose sockets are open at one time, below the usual limit of 1,024 descriptors."""


def _frames(wanted: Announcement) -> list[bytes]:
    """What to send; raises INVALID_ARGUMENT or INVALID_MAC."""
    mac = wanted.mac.lower()
    told: list[bytes] = []
    addresses = [frames.canonical(address.partition("/")[0]) for address in wanted.addresses]
    for address in addresses:
        if ":" in address:
            told.append(frames.neighbour_advertisement(mac, address))
        else:
            told += [frames.arp_announcement(mac, address), frames.arp_announcement(mac, address, reply=True)]
    for gateway in map(frames.canonical, wanted.gateways):
        sender = next((a for a in addresses if (":" in a) == (":" in gateway)), None)
        if sender is not None:
            ask = frames.neighbour_solicitation if ":" in gateway else _ask_by_arp
            told.append(ask(mac, gateway, sender))
    return told


def _ask_by_arp(mac: str, target: str, sender: str) -> bytes:
    return frames.arp_request(mac, sender, target)


class Announcer:
    """Announces, and says it again in the background."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._turn = asyncio.Lock()
        self._later: set[asyncio.Task[None]] = set()

    async def announce(self, wanted: Sequence[Announcement]) -> list[Verdict]:
        """Send each once and promise the second time; in the order asked for."""
        verdicts: list[Verdict] = []
        for first in range(0, len(wanted), AT_ONCE):
            part = wanted[first : first + AT_ONCE]
            # In turn: two callers that each hold half of the slots would wait for each other for ever.
            async with self._turn:
                for _ in part:
                    await self._slots.acquire()
            opened = await asyncio.to_thread(open_all, part)
            verdicts += await asyncio.gather(*map(self._first, part, opened))
        return verdicts

    async def _first(self, wanted: Announcement, opened: PacketSocket | OSError) -> Verdict:
        if isinstance(opened, OSError):
            self._slots.release()
            return Verdict(error=f"{wanted.ifname} in {wanted.namespace.path} cannot be used: {opened}")
        try:
            told = _frames(wanted)
            if not await has_carrier(opened):
                raise OSError(f"{wanted.ifname} is down or has no carrier")
            if not all(opened.send(frame) for frame in told):
                raise OSError(f"the queue of {wanted.ifname} had no room")
        except (OSError, TrunklineError) as error:
            await self._close(opened)
            return Verdict(error=str(error))
        task = asyncio.create_task(self._second(opened, told))
        self._later.add(task)
        task.add_done_callback(self._later.discard)
        return Verdict()

    async def _second(self, link: PacketSocket, told: Sequence[bytes]) -> None:
        try:
            await asyncio.sleep(AGAIN)
            for frame in told:
                link.send(frame)
        except OSError:
            pass  # the first time was heard or not; an interface that is gone has nothing left to say
        finally:
            await self._close(link)

    async def _close(self, link: PacketSocket) -> None:
        await asyncio.wrap_future(link.close())
        self._slots.release()
