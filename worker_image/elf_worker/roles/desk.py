"""Blocking work: in a thread, or at once where it has been quick for a while.

Handing a small model's step to a thread and back costs more than the step. What takes milliseconds does not
harm the event loop, whose own deadlines are tenths of a second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

QUICK_SECONDS: Final = 0.01
_REMEMBERED: Final = 32


class Desk:
    """One thing at a time, in one thread and sometimes in the caller's."""

    def __init__(self, name: str) -> None:
        self.thread = ThreadPoolExecutor(1, name)
        self._taken: dict[str, deque[float]] = {}
        self._given = 0
        """Calls that the thread has not returned from."""

    def quick(self, work: Callable[..., Any]) -> bool:
        """Whether none of the last calls took long. Work that was never done is not quick.

        Nor is what has to wait for its turn, behind what the thread is doing.
        """
        taken = self._taken.get(work.__name__)
        return not self._given and taken is not None and max(taken) < QUICK_SECONDS

    async def do(self, work: Callable[..., Any], *args: Any) -> Any:
        """Its result, or what it raises."""
        if self.quick(work):
            return self.timed(work, *args)
        self._given += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.thread, self.timed, work, *args)
        finally:
            self._given -= 1

    def timed(self, work: Callable[..., Any], *args: Any) -> Any:
        """Do it here."""
        began = time.monotonic()
        try:
            return work(*args)
        finally:
            taken = self._taken.setdefault(work.__name__, deque(maxlen=_REMEMBERED))
            taken.append(time.monotonic() - began)

    def close(self) -> None:
        """End the thread; what it has not begun is not done."""
        self.thread.shutdown(wait=False, cancel_futures=True)
