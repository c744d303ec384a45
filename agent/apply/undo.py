"""Steps done, to be taken back in reverse order unless they are committed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from agent.plan.steps import Step
from trunkline import log
from trunkline.errors import TrunklineError


class Undo:
    """An async context: leaving it without `commit` takes back what was `done`, the last first.

    An inverse that fails is logged and the others are tried all the same; the next observation sees what is left.
    Never hides the error that brought it about, cancellation included.
    """

    def __init__(self, do: Callable[[Step], Awaitable[int]]) -> None:
        self._do = do
        self._inverses: list[Step] = []
        self._log = log.get("apply")

    async def __aenter__(self) -> Self:
        return self

    def done(self, inverse: Step | None) -> None:
        """A step was done; `inverse` takes it back."""
        if inverse is not None:
            self._inverses.append(inverse)

    def commit(self) -> None:
        """Keep everything that was done."""
        self._inverses.clear()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._inverses:
            inverse = self._inverses.pop()
            try:
                await self._do(inverse)
            except TrunklineError as failure:
                self._log.error("undo failed", step=repr(inverse), reason=failure.reason.name, why=failure.text)
