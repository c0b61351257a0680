"""The board of local mode: a directory."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any

from elf_worker.boards import BoardError
from elf_worker.contract import PROGRESS_FILE, WIRING_KEY, Wiring
from elf_worker.roles.files import write_atomically

POLL_SECONDS = 0.05


class FileBoard:
    """Both files are replaced by renaming, so a reader sees a whole one or none."""

    interval = 0.1

    def __init__(self, directory: str) -> None:
        self._directory = pathlib.Path(directory)

    async def watch(self) -> AsyncIterator[Wiring]:
        """See `Board.watch`."""
        path = self._directory / WIRING_KEY
        seen = (0, 0)
        while True:
            try:
                stat = path.stat()
                mark = (stat.st_ino, stat.st_mtime_ns)
                if mark != seen:
                    seen = mark
                    yield Wiring.from_json(path.read_text())
            except FileNotFoundError:
                pass
            await asyncio.sleep(POLL_SECONDS)

    async def publish(self, progress: dict[str, Any]) -> None:
        """See `Board.publish`."""
        path = self._directory / PROGRESS_FILE
        try:
            write_atomically(path, json.dumps(progress).encode(), durable=False)
        except OSError as error:
            raise BoardError(str(error)) from error
