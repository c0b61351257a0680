"""Blocking work: in a thread, or at once where it has been quick for a while.

Handing a small model's step to a thread and back costs more than the step. What takes milliseconds does not
harm the event loop, whose own deadlines are tenths of a second.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

QUICK_SECONDS: Final = 0.01
_REMEMBERED: Final = 32
_THREAD: Final[int | None] = getattr(resource, "RUSAGE_THREAD", None)
"""Linux has it."""


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
        clock = _Clock()
        try:
            return work(*args)
        finally:
            taken = self._taken.setdefault(work.__name__, deque(maxlen=_REMEMBERED))
            taken.append(clock.seconds())

    def close(self) -> None:
        """End the thread; what it has not begun is not done."""
        self.thread.shutdown(wait=False, cancel_futures=True)


class _Clock:
    """What work takes of this thread: not the time in which other processes had the core.

    On a machine with more pods than cores any work seems slow by the wall clock.
    """

    def __init__(self) -> None:
        self._waits, self._cpu, self._wall = _waits(), time.thread_time(), time.monotonic()

    def seconds(self) -> float:
        """CPU since this clock was made; if the thread has waited for anything else than a core, all time."""
        if _THREAD is None or _waits() > self._waits:
            return time.monotonic() - self._wall
        return time.thread_time() - self._cpu


def _waits() -> int:
    return resource.getrusage(_THREAD).ru_nvcsw if _THREAD is not None else 0
