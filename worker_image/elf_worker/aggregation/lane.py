"""Where heavy arithmetic is done: at once, or beside the event loop.

State machines decide at once; adding up what they have accepted may happen later, as long as it is done
before the sum is used. Adding commutes, so nothing depends on when.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Lane(Protocol):
    """Does one thing after the other."""

    def run(self, work: Callable[[], None], size: int = 0) -> None:
        """Do it now or later, after everything that was given before. `size`: about so many bytes to read."""

    def join(self) -> None:
        """Return when everything is done. Raises what work raised."""


class Inline:
    """At once."""

    def run(self, work: Callable[[], None], size: int = 0) -> None:
        """See `Lane`."""
        work()

    def join(self) -> None:
        """See `Lane`."""


INLINE = Inline()
