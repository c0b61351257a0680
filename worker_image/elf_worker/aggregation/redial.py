"""When to try a lost connection again."""

from __future__ import annotations

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 1.0


class Redial:
    """Doubling pauses between attempts, from 0.1 s to 1 s: a replaced data center is back within seconds."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._next = 0.0

    def due(self, now: float) -> bool:
        """Whether the pause is over."""
        return now >= self._next

    def failed(self, now: float) -> None:
        """The last attempt came to nothing."""
        self._pause = min(LONGEST_SECONDS, max(FIRST_SECONDS, 2 * self._pause))
        self._next = now + self._pause

    def succeeded(self) -> None:
        """The last attempt led to an answer: the next first attempt comes at once."""
        self._pause = 0.0
        self._next = 0.0
