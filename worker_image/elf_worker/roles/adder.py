"""A thread that adds up while the event loop receives what comes next."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

SMALL: Final = 1 << 18
"""Bytes below which handing work over costs more than doing it."""


class Adder:
    """See `elf_worker.aggregation.lane.Lane`. The compiled kernel and numpy's loops let other threads run."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "adder")
        self._last: Future[None] | None = None
        self._error: BaseException | None = None

    def run(self, work: Callable[[], None], size: int = 0) -> None:
        """See `Lane`."""
        if self.idle and size < SMALL:
            work()
        else:
            self._last = self._thread.submit(self._guarded, work)

    def join(self) -> None:
        """See `Lane`."""
        last, self._last = self._last, None
        if last is not None:
            last.result()
        if self._error is not None:
            raise self._error

    def after(self, callback: Callable[[], None], soon: Callable[[Callable[[], None]], object]) -> None:
        """Call back when what was given so far is done: at once, or by way of `soon` from the thread."""
        if self.idle:
            callback()
        else:
            assert self._last is not None
            self._last.add_done_callback(lambda _: soon(callback))

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def idle(self) -> bool:
        """Nothing is left to do."""
        return self._last is None or self._last.done()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = self._error or error
