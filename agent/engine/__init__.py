"""Containers and network namespaces of this host."""

from agent.engine.targets import DockerTargets

__all__ = ["DockerTargets"]
