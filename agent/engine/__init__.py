"""Containers and network namespaces of this host."""

from agent.engine.engine import DockerEngine
from agent.engine.targets import DockerTargets

__all__ = ["DockerEngine", "DockerTargets"]
