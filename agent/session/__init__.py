"""The stream to a controller: dialled, kept, and dialled again."""

from agent.session.answers import Answers
from agent.session.dialer import Controllers, Dialogue, Session
from agent.session.importing import Imports
from agent.session.outbox import Outbox

__all__ = ["Answers", "Controllers", "Dialogue", "Imports", "Outbox", "Session"]
