"""Observe, plan, apply, observe again, report: for as long as the agent lives."""

from agent.loop.intake import Intake
from agent.loop.loop import Loop, World
from agent.loop.memory import Memory
from agent.loop.observer import Look, Observer

__all__ = ["Intake", "Look", "Loop", "Memory", "Observer", "World"]
