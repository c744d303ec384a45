"""The oracle of the lab's own tests: does an echo come back?"""

from concurrent.futures import ThreadPoolExecutor

from lab.guest import Guest


def reaches(guest: Guest, target: str, *options: str, box: str = "") -> bool:
    """One answer to up to five echoes within a second will do. With box: from that namespace of the guest."""
    prefix = ["ip", "netns", "exec", box] if box else []
    argv = [*prefix, "ping", "-q", "-n", "-i", "0.2", "-c", "5", "-w", "1", *options, target]
    result = guest.run(argv)
    assert "packets transmitted" in result.out, result
    return ", 0 received" not in result.out


def reach(guest: Guest, *targets: tuple[str, str]) -> list[bool]:
    """The same for several (target, box) at once: silence takes its second only once."""
    with ThreadPoolExecutor(len(targets)) as pool:
        return list(pool.map(lambda t: reaches(guest, t[0], box=t[1]), targets))
