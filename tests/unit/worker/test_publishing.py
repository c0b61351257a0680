"""When an NPDC tells its board: at its interval, and at once when an MDC is lost; one thing after another."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from elf_worker import boards
from elf_worker.aggregation.northpole import Snapshot
from elf_worker.contract import JobConfig, Phase
from elf_worker.messages import Finish, Stamp
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


# -- in which order ---------------------------------------------------------------------------------------


class SlowBoard(Board):
    """Takes what it was sent when it is let, even from somebody who has gone: as a server does."""

    def __init__(self) -> None:
        super().__init__(interval=0.0)
        self.under_way: list[tuple[dict[str, Any], asyncio.Event]] = []
        self._served: set[asyncio.Task[None]] = set()

    async def publish(self, progress: dict[str, Any]) -> None:
        let = asyncio.Event()
        self.under_way.append((progress, let))
        served = asyncio.create_task(self._take(progress, let))
        self._served.add(served)
        await asyncio.shield(served)

    async def _take(self, progress: dict[str, Any], let: asyncio.Event) -> None:
        await let.wait()
        self.told.append(progress)

    def take_newest_first(self) -> None:
        """All that has been sent."""
        while self.under_way:
            self.under_way.pop()[1].set()

    async def serve(self, work: asyncio.Task[Any]) -> None:
        """Until `work` is done."""
        while not work.done():
            await until(lambda: self.under_way or work.done())
            await a_while()
            self.take_newest_first()
            await a_while()
        await work

    def course(self) -> list[tuple[str, int]]:
        return [(str(progress["phase"]), progress["round"]) for progress in self.told]


async def a_while() -> None:
    """Whatever can be done without the board is done."""
    for _ in range(LOOKS):
        await asyncio.sleep(0)


def after(rounds: int) -> Snapshot:
    return Snapshot(Stamp(rounds, 0), b"")


@pytest.fixture
async def slow(shell: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[NpdcShell, SlowBoard]]:
    """A shell after 8 rounds of 9 whose progress is on its way to the board."""
    board = SlowBoard()
    made = shell(board)
    made.pole._snapshot = after(8)
    monkeypatch.setattr(made, "_save", nothing)
    made.spawn(made._publish_changes())
    await until(lambda: board.under_way)
    yield made, board
    made.spawn(made._shut())


async def nothing(whole: bool = True) -> None:
    """Instead of the chronicle's folder."""


COMPLETE = Finish("Complete", "9 rounds are done")
COURSE = [("Training", 8), ("Complete", 9)]


def once_each(course: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return [said for said, _ in itertools.groupby(course)]


async def test_the_outcome_comes_after_progress_that_is_on_its_way(slow: Any) -> None:
    shell, board = slow
    await board.serve(asyncio.create_task(shell._announce(after(9), COMPLETE)))
    assert once_each(board.course()) == COURSE


async def test_progress_of_before_is_not_told_once_the_outcome_is(slow: Any) -> None:
    """The machine hears of the end only when the board has it: until then it is in round 9."""
    shell, board = slow
    announcing = asyncio.create_task(shell._announce(after(9), COMPLETE))
    await board.serve(announcing)
    looks = shell.pole.unreachable.asked
    while shell.pole.unreachable.asked < looks + LOOKS:  # the publisher goes on, and has nothing new
        board.take_newest_first()
        await asyncio.sleep(0)
    assert once_each(board.course()) == COURSE


async def test_the_last_word_comes_after_a_request_that_was_given_up(slow: Any) -> None:
    shell, board = slow
    await shell._shut()
    assert len(board.under_way) == 1
    shell.pole._snapshot = after(9)
    shell.pole.end(COMPLETE, 0.0)
    await board.serve(asyncio.create_task(shell._say_last_word()))
    assert board.course() == COURSE


async def test_what_a_board_may_or_may_not_have_taken_is_told_again(shell: Any) -> None:
    board = Board()
    publisher = shell(board)._publisher
    assert await publisher.publish()
    assert not await publisher.publish()
    publisher._progress = lambda: {"phase": "Training", "unreachable": []}
    board.away = 1
    with pytest.raises(boards.BoardError):
        await publisher.publish()
    publisher._progress = lambda: board.told[0]
    assert await publisher.publish()
