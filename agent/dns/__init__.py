"""Names of the fabric's containers, answered on this host: see docs/names.md."""

from agent.dns.service import NameService, Settings, remove, settings
from agent.dns.zone import Zone

__all__ = ["NameService", "Settings", "Zone", "remove", "settings"]
