"""`python -m agent.probes DESCRIPTOR`: the probe child, started by `prober.ChildProber`; of no use by hand."""

from __future__ import annotations

import asyncio
import sys

from agent.probes import child


def main() -> None:
    """Serve the socket whose number is the only argument."""
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        sys.exit("agent.probes is started by the agent")
    child.die_with_parent()
    asyncio.run(child.serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
