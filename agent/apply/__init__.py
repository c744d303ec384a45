"""Doing what was planned: each job with its inverses at hand, and none that harms another."""

from agent.apply.applier import Applier
from agent.apply.quarantine import Quarantine
from agent.apply.undo import Undo

__all__ = ["Applier", "Quarantine", "Undo"]
