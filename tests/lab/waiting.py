"""Waiting for something that sends no event: asked again until it holds or time is up."""

import time
from collections.abc import Callable
from typing import TypeVar

from lab.errors import NoAnswer

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, timeout: float = 10, every: float = 0.05) -> T:
    """The first truthy value of condition; NoAnswer names what was awaited."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise NoAnswer(f"waited {timeout:g} s in vain for {what}")
        time.sleep(every)
