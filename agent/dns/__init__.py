"""Names of the fabric's containers, answered on this host: see docs/names.md."""

from agent.dns.service import OFF, NameService, Settings, remove, settings
from agent.dns.zone import Zone

__all__ = ["OFF", "NameService", "Settings", "Zone", "remove", "settings"]
