"""One NPDC's progress on its board: one writing after another, so that what stands there never goes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from elf_worker.boards import Board, BoardError


class Publisher:
    """Writes what `progress` says whenever its turn comes.

    A request that is cancelled may still reach the server, after one that was sent later. So whoever is
    cancelled leaves its request to end by itself, and the next one waits for that. Only one that had no
    answer within the board's own time limit may be followed by another before its fate is known.
    """

    def __init__(self, board: Board, progress: Callable[[], dict[str, Any]]) -> None:
        self._board, self._progress = board, progress
        self._turn = asyncio.Lock()
        self._writing: set[asyncio.Task[bool]] = set()
        self.told: dict[str, Any] = {}
        """What stands on the board; empty while nobody can tell."""

    async def publish(self) -> bool:
        """Write the progress as it is when all earlier writings are over; False: it stood there already.

        Raises BoardError.
        """
        writing = asyncio.get_running_loop().create_task(self._write())
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        return await asyncio.shield(writing)

    async def _write(self) -> bool:
        async with self._turn:
            progress = self._progress()
            if progress == self.told:
                return False
            try:
                await self._board.publish(progress)
            except BoardError:
                self.told = {}  # it may have been written all the same
                raise
            self.told = progress
            return True
