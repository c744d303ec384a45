"""One line per event on stderr: JSON for machines, key=value for people."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, cast

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
"""Levels that `setup` takes."""


class _Stderr:
    """Writes to whatever sys.stderr is at the time of the event, not at the time of the set-up."""

    def msg(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _renderers(json: bool) -> list[Processor]:
    if json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0, sort_keys=False)]


def setup(level: str, json: bool) -> None:
    """Send all events of at least `level` (a key of LEVELS) to stderr, those of libraries' `logging` included.

    Raises ValueError for an unknown level. May be called again.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    renderers = _renderers(json)
    structlog.configure(
        processors=[*_shared(), *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,
    )
    handler = _LibraryHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_shared(), structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if not isinstance(h, _LibraryHandler)] + [handler]
    root.setLevel(max(LEVELS[level], logging.WARNING))


class _LibraryHandler(logging.Handler):
    """Libraries log through `logging`; their warnings and errors become our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:  # what logging itself does with a failing handler
            self.handleError(record)


def get(name: str) -> FilteringBoundLogger:
    """The logger of a module or room; its name goes into each event as `room`."""
    if not structlog.is_configured():
        setup("info", json=not sys.stderr.isatty())
    return cast("FilteringBoundLogger", structlog.get_logger(room=name))
