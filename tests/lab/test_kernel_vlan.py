"""The `Links` contract on a kernel with 802.1Q, and an older one than the build machine's: inside a lab host."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from lab.fabric import Lab
from lab.guest import Guest
from lab.places import CHECKOUT

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """A host with a kernel of its own."""
    with Lab().up(1) as lab:
        yield lab.host(1)


# Too slow here: hundreds of macvlans flood each other with IPv6's own multicast, and ip(8) takes 30 ms a start.
LEFT_OUT = ("many_in_one_call", "while_links_come_and_go", "whatever_breaks")


def test_contract_and_kernel_tests_hold_with_vlans(guest: Guest) -> None:
    suites = ["contract/links", "netns/test_kernel_links.py", "netns/test_kernel_channel.py"]
    chosen = "not fake and not " + " and not ".join(LEFT_OUT)
    command = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs", "-k", chosen]
    paths = [str(CHECKOUT / "tests" / suite) for suite in suites]
    result = guest.run(["sh", "-c", 'cd "$0" && exec "$@"', str(CHECKOUT), *command, *paths], 170)
    assert result.status == 0, result.out + result.err
    # Nothing may hide behind a kernel without 8021q; the test of such a kernel is the one that has no place here.
    skipped = [line for line in result.out.splitlines() if line.startswith("SKIPPED")]
    assert len(skipped) == 1, result.out
    assert "this kernel has 8021q" in skipped[0]
