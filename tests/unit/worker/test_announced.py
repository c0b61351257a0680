"""Who hears that a job has ended finds its history in the folder: the NPDC may be ended in that moment."""

from __future__ import annotations

import json
import pathlib
from dataclasses import replace
from typing import Any

from elf_worker.aggregation.northpole import RoundLog, Snapshot
from elf_worker.contract import JobConfig
from elf_worker.messages import Finish, Stamp
from elf_worker.roles.chronicle import HISTORY_FILE
from elf_worker.roles.environment import Environment
from elf_worker.roles.npdc import NpdcShell

JOB = JobConfig(job="night", uid="u", homes=1, per_pod=1, rounds=1, seed=0, entrypoint="a:B")
ENVIRONMENT = Environment(JOB, "uid", "127.0.0.1", 0, 0, "", "", "", "", "")


class Board:
    """Looks into the folder when it hears of the outcome."""

    interval = 1.0

    def __init__(self, folder: pathlib.Path) -> None:
        self._history = folder / HISTORY_FILE
        self.heard: list[tuple[str, list[int]]] = []

    async def publish(self, progress: dict[str, Any]) -> None:
        lines = self._history.read_text().splitlines() if self._history.exists() else []
        self.heard.append((progress["phase"], [json.loads(line)["round"] for line in lines]))


async def test_the_history_is_there_before_the_outcome_is_known(tmp_path: pathlib.Path) -> None:
    board = Board(tmp_path)
    shell = NpdcShell(replace(ENVIRONMENT, history=str(tmp_path)), board)  # type: ignore[arg-type]
    log = RoundLog(1, 0.1, 1, 0, [], {0: 1}, {}, homes=1)
    shell.chronicle.note(log)
    shell.chronicle.write(log, 0.5, {}, {})
    await shell._announce(Snapshot(Stamp(1, 0), b"", b""), Finish("Complete", "1 rounds done"))
    assert board.heard == [("Complete", [1])]
