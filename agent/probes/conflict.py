"""Does anybody answer for an address? ARP probes (RFC 5227) and their IPv6 form (RFC 4862, 5.4), sent from the
macvlan parent itself.

The parent's own MAC asks, since answers come to it and nobody learns anything from sender zero. What this host sends
from a parent does not reach its own macvlan interfaces, nor does what they send come in there: so the interfaces of
this host are not heard, and everybody else on the wire is.

RFC 5227 waits up to a second, sends three probes one to two seconds apart and waits two seconds more: it is made for
links of any kind, where hosts choose addresses by themselves. Here the store decides, and the probe is the net below
it for strangers on a switched LAN, in the path of starting a container. Unlike RFC 5227, 2.1.1, a probe of somebody
else for the same address is no conflict: checks of other hosts ask with sender zero too.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from agent.ports import ConflictProbe
from agent.probes import frames
from agent.probes.frames import Claim
from agent.probes.messages import Verdict
from agent.probes.packet import PacketSocket
from trunkline.errors import TrunklineError

TRIES: Final = 3
SPACING: Final = 0.12
"""Seconds between probes of one address, and from the last one to the verdict: 0.36 s in all."""

BURST: Final = 40
TICK: Final = 0.01

CARRIER_WAIT: Final = 0.2
"""Seconds for a link that was just set up to get its carrier, which the kernel reports a moment later."""


async def has_carrier(link: PacketSocket, limit: float = CARRIER_WAIT) -> bool:
    """Whether the link is up with carrier now or within `limit` seconds. Raises OSError when it is gone."""
    until = time.monotonic() + limit
    while not link.running():
        if time.monotonic() >= until:
            return False
        await asyncio.sleep(TICK)
    return True


class _Judge:
    """Probes of one parent link."""

    def __init__(self, link: PacketSocket, probes: Sequence[ConflictProbe]) -> None:
        self._link = link
        self._own = {frames.canonical(p.address): {mac.lower() for mac in p.own_macs} for p in probes}
        self._frames = {
            address: frames.neighbour_solicitation(link.mac, address)
            if ":" in address
            else frames.arp_probe(link.mac, address)
            for address in self._own
        }
        self._sent = dict.fromkeys(self._own, 0)
        self._answers: dict[str, str] = {}
        self._failure = ""

    async def run(self) -> dict[str, Verdict]:
        """The verdict on each address."""
        if not await has_carrier(self._link):
            return self._all("the link is down or has no carrier")
        if any(":" in address for address in self._own):
            # The answer to a question from "::" goes to all nodes, a group that a parent without IPv6 has not joined.
            self._link.join(frames.ALL_NODES_MAC)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._link, self._hear)
        try:
            for _ in range(TRIES):
                rest = asyncio.create_task(asyncio.sleep(SPACING))
                await self._ask()
                await rest
                if self._failure or len(self._answers) == len(self._own):
                    break
        finally:
            loop.remove_reader(self._link)
        return self._verdicts()

    async def _ask(self) -> None:
        for number, (address, frame) in enumerate(self._frames.items(), 1):
            if address not in self._answers and not self._failure:
                self._sent[address] += self._link.send(frame)
            if number % BURST == 0:
                await asyncio.sleep(TICK)

    def _hear(self) -> None:
        try:
            arrivals = self._link.receive()
        except OSError as error:
            self._failure = error.strerror or str(error)
            return
        for arrival in arrivals:
            seen = frames.parse(arrival.frame)
            if (
                not isinstance(seen, Claim)
                or seen.address not in self._own
                or self._link.mac in (seen.mac, seen.source)
            ):
                continue
            if seen.mac not in self._own[seen.address]:
                self._answers.setdefault(seen.address, seen.mac)

    def _verdicts(self) -> dict[str, Verdict]:
        if not self._failure and not self._link.running():
            self._failure = "the link lost its carrier"
        drops = self._link.drops()
        if drops and not self._failure:
            self._failure = f"{drops} frames found no room in the receive buffer"
        verdicts = self._all(self._failure)
        for address, sent in self._sent.items():
            if not sent and not self._failure:
                verdicts[address] = Verdict(error="the link's queue had no room")
        # An answer is proof, whatever else went wrong; silence is one only if nothing did.
        return verdicts | {address: Verdict(mac=mac) for address, mac in self._answers.items()}

    def _all(self, error: str) -> dict[str, Verdict]:
        return {address: Verdict(error=error) for address in self._own}


async def _judge_link(index: int, probes: Sequence[ConflictProbe]) -> list[Verdict]:
    try:
        link = PacketSocket(index)
    except OSError as error:
        return [Verdict(error=f"link {index} cannot be used: {error.strerror or error}")] * len(probes)
    try:
        verdicts = await _Judge(link, probes).run()
        return [verdicts[frames.canonical(probe.address)] for probe in probes]
    except (OSError, TrunklineError) as error:
        return [Verdict(error=str(error))] * len(probes)
    finally:
        link.close()


async def judge(probes: Sequence[ConflictProbe]) -> list[Verdict]:
    """The verdict on each address, all at once; in the order asked for."""
    links: defaultdict[int, list[int]] = defaultdict(list)
    for place, probe in enumerate(probes):
        links[probe.parent_index].append(place)
    results = await asyncio.gather(*(_judge_link(i, [probes[p] for p in places]) for i, places in links.items()))
    verdicts = [Verdict()] * len(probes)
    for places, found in zip(links.values(), results, strict=True):
        for place, verdict in zip(places, found, strict=True):
            verdicts[place] = verdict
    return verdicts
