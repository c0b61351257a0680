"""When an NPDC tells its board: at its interval, and at once when an MDC is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from elf_worker import boards
from elf_worker.contract import JobConfig, Phase
from elf_worker.roles import npdc
from elf_worker.roles.environment import Environment
from elf_worker.roles.npdc import NpdcShell

JOB = JobConfig(job="night", uid="u", homes=4, per_pod=1, rounds=9, seed=0, entrypoint="a:B")
ENVIRONMENT = Environment(JOB, "uid", "127.0.0.1", 0, 0, "", "", "", "", "")
SECONDS = 20.0
LOOKS = 50
"""So often it has looked whether one is lost, and has found nothing worth saying."""


class Board:
    """Keeps what it is told, and may be away."""

    def __init__(self, interval: float = 3600.0) -> None:
        self.interval = interval
        self.told: list[dict[str, Any]] = []
        self.away = 0

    async def publish(self, progress: dict[str, Any]) -> None:
        if self.away:
            self.away -= 1
            raise boards.BoardError("away")
        self.told.append(progress)

    def lost(self) -> list[list[str]]:
        return [[entry["uid"] for entry in progress["unreachable"]] for progress in self.told]


class Losing:
    """Stands for the protocol's `unreachable`: what is lost, and how often somebody has asked."""

    def __init__(self) -> None:
        self.uids: list[str] = []
        self.asked = 0

    def __call__(self, now: float) -> list[tuple[int, int, str]]:
        self.asked += 1
        return [(index, 0, uid) for index, uid in enumerate(self.uids)]


async def until(condition: Any) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0)


async def nothing_to_say(losing: Losing) -> None:
    """It has had every chance to say something."""
    since = losing.asked
    await until(lambda: losing.asked > since + LOOKS)


@pytest.fixture
def losing() -> Losing:
    return Losing()


@pytest.fixture
def shell(losing: Losing, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(npdc, "TICK_SECONDS", 0.0)

    def made(board: Board) -> NpdcShell:
        shell = NpdcShell(ENVIRONMENT, board)  # type: ignore[arg-type]
        shell.pole.phase = Phase.TRAINING
        monkeypatch.setattr(shell.pole, "unreachable", losing)
        return shell

    return made


async def test_a_loss_is_told_at_once_and_once(shell: Any, losing: Losing) -> None:
    board = Board()
    publishing = asyncio.create_task(shell(board)._publish_changes())
    await until(lambda: board.told)
    await nothing_to_say(losing)
    losing.uids = ["a"]
    await until(lambda: len(board.told) > 1)
    await nothing_to_say(losing)
    losing.uids = ["a", "b"]
    await until(lambda: len(board.told) > 2)
    await nothing_to_say(losing)
    losing.uids = ["b"]  # good news can wait
    await nothing_to_say(losing)
    losing.uids = ["c"]
    await until(lambda: len(board.told) > 3)
    assert board.lost() == [[], ["a"], ["a", "b"], ["c"]]
    assert not publishing.done()
    publishing.cancel()


async def test_a_board_that_is_away_is_told_later(shell: Any, losing: Losing) -> None:
    board = Board(interval=0.0)
    board.away, losing.uids = 3, ["a"]
    publishing = asyncio.create_task(shell(board)._publish_changes())
    await until(lambda: board.told)
    assert (board.away, board.lost()[0]) == (0, ["a"])
    publishing.cancel()
