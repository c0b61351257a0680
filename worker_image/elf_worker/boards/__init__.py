"""Where the NPDC reads its wiring and writes its progress: two objects of a cluster, or two files."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol

from elf_worker.contract import Wiring


class BoardError(OSError):
    """The board cannot be written now; it may be later."""


class Board(Protocol):
    """One job's board."""

    interval: float
    """Seconds between two publications at least."""

    def watch(self) -> AsyncIterator[Wiring]:
        """Every wiring from now on, the present one first. Never ends; waits out whatever fails."""

    async def publish(self, progress: dict[str, Any]) -> None:
        """Replace `status.training`. Raises BoardError."""


@contextlib.asynccontextmanager
async def open_board(where: str) -> AsyncIterator[Board]:
    """`kube:NAMESPACE/JOB/CONFIGMAP` or `file:DIRECTORY`. Raises ValueError for anything else."""
    kind, _, rest = where.partition(":")
    names = rest.split("/")
    if kind == "file" and rest:
        from elf_worker.boards.files import FileBoard

        yield FileBoard(rest)
    elif kind == "kube" and len(names) == 3 and all(names):
        from elf_worker.boards.kube import open_kube_board

        async with open_kube_board(*names) as board:
            yield board
    else:
        raise ValueError(f"board {where!r}: 'kube:NAMESPACE/JOB/CONFIGMAP' or 'file:DIRECTORY' is expected")
