"""When the NPDC has its MDCs keep its state: after every round, unless rounds are too quick for that."""

from __future__ import annotations

import asyncio
import functools
import pathlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from elf_worker.aggregation.northpole import RoundLog
from elf_worker.contract import JobConfig, Phase
from elf_worker.exact import ExactSum
from elf_worker.messages import Stamp
from elf_worker.roles.environment import Environment
from elf_worker.roles.npdc import KEEP_SECONDS, NpdcShell
from elf_worker.roles.trainer import Trainer

JOB = JobConfig(
    job="night",
    uid="u",
    homes=3,
    per_pod=1,
    rounds=50,
    seed=2,
    entrypoint="elf_worker.tasks.naughty_or_nice:NaughtyOrNice",
    evaluate_every=1000,
)
ENVIRONMENT = Environment(JOB, "uid", "127.0.0.1", 0, 0, "", "", "", "", "")
A_WHILE = KEEP_SECONDS / 3.5


class Board:
    """Nobody looks at it."""

    interval = 1.0

    async def publish(self, progress: dict[str, Any]) -> None:
        pass


class Timers:
    """The event loop, but for what is to happen later: that waits until the test says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: list[tuple[float, Callable[[], None]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_later(self, seconds: float, work: Callable[..., None], *args: Any) -> None:
        self._due.append((seconds, functools.partial(work, *args)))

    def ring(self) -> list[float]:
        """All of it happens now; after how many seconds it was to."""
        due, self._due = self._due, []
        for _, work in due:
            work()
        return [seconds for seconds, _ in due]


class Npdc(NpdcShell):
    """Its clock stands still unless it is told otherwise, and it notes what it gives to be kept."""

    def __init__(self, env: Environment) -> None:
        super().__init__(env, Board())
        self.clock = 100.0
        self._loop = self.timers = Timers(self._loop)  # type: ignore[assignment]
        self.kept: list[int] = []
        """Rounds done in the states that were given to MDCs."""
        self.copies: list[bytes] = []
        self._trainer = self.trainer = Trainer(env.job, 0, env.checkpoint)
        self.pole.keep = self._note  # type: ignore[method-assign]
        self.chronicle.to_bytes = self._totals  # type: ignore[method-assign]

    def now(self) -> float:
        return self.clock

    def _note(self, stamp: Stamp, rest: Any) -> list[Any]:
        self.kept.append(stamp.round)
        self.copies.append(bytes(rest))
        return []

    def _totals(self) -> bytes:
        return f"totals of {self.chronicle.round} rounds".encode()

    async def begin(self) -> None:
        await self._go_on(self.trainer.initialise())

    async def ring(self) -> list[float]:
        """As `Timers.ring`; returns when what began is done."""
        seconds = self.timers.ring()
        while self._tasks:
            await asyncio.gather(*self._tasks)
        return seconds

    async def round(self, later: float) -> None:
        """One round that ends so many seconds after the one before."""
        self.clock += later
        done = self.trainer.stamp.round
        total = ExactSum(sum(p.numel() for p in self.trainer._model.parameters()) + 1)
        total.add(np.ones(total.size, np.float32))
        snapshot = self.trainer.step(self.trainer.stamp, total, 1, True)
        await self._go_on(snapshot, RoundLog(done + 1, later, 3, 0, [], {0: 3}, {}, homes=3))


@pytest.fixture
async def npdc() -> Any:
    made: list[Npdc] = []

    def make(**more: Any) -> Npdc:
        made.append(Npdc(replace(ENVIRONMENT, **more)))
        return made[-1]

    yield make
    for shell in made:
        shell._desk.close()
        await shell._shut()


async def test_rounds_that_take_their_time_are_kept_each(npdc: Any) -> None:
    shell = npdc()
    await shell.begin()
    for _ in range(3):
        await shell.round(KEEP_SECONDS)
    assert shell.kept == [0, 1, 2, 3]


async def test_of_quick_rounds_one_is_kept_in_a_while(npdc: Any) -> None:
    """An NPDC that dies loses rounds that took no longer than that together."""
    shell = npdc()
    await shell.begin()
    for _ in range(9):
        await shell.round(A_WHILE)
    assert shell.kept == [0, 4, 8]
    assert shell.pole.round == 9, "they are published all the same"


async def test_the_last_of_quick_rounds_is_kept_if_the_next_one_takes_long(npdc: Any) -> None:
    """Else those MDCs that have copies may all be replaced meanwhile, and nothing is left of the state."""
    shell = npdc()
    await shell.begin()
    for _ in range(3):
        await shell.round(A_WHILE)
    assert await shell.ring() == pytest.approx([KEEP_SECONDS - n * A_WHILE for n in (1, 2, 3)])
    assert shell.kept == [0, 3]
    await shell.round(A_WHILE)
    assert shell.kept == [0, 3], "the time counts from the late copy on"


async def test_nothing_is_kept_late_while_the_model_steps(npdc: Any) -> None:
    """It would be of another state than its stamp says."""
    shell = npdc()
    await shell.begin()
    await shell.round(A_WHILE)
    shell.pole._round.stepping = True
    await shell.ring()
    assert shell.kept == [0]


async def test_nothing_is_kept_late_of_a_job_that_has_ended(npdc: Any) -> None:
    shell = npdc(job=replace(JOB, rounds=2))
    await shell.begin()
    for _ in range(2):
        await shell.round(A_WHILE)
    assert shell.pole.phase is Phase.COMPLETE
    await shell.ring()
    assert shell.kept == [0]


async def test_a_copy_has_what_came_of_the_rounds_that_were_not_kept(npdc: Any) -> None:
    shell = npdc()
    await shell.begin()
    for _ in range(4):
        await shell.round(A_WHILE)
    heir = Trainer(JOB, 1, "")
    heir.restore(bytes(shell.pole._snapshot.weights) + shell.copies[-1])
    assert (heir.stamp.round, heir.record) == (4, shell.trainer.record)
    assert heir.statistics == b"totals of 4 rounds"


async def test_checkpoints_are_written_however_quick_rounds_are(npdc: Any, tmp_path: pathlib.Path) -> None:
    volume = tmp_path / "state"
    job = replace(JOB, checkpoint_every=3)
    shell = npdc(job=job, checkpoint=str(volume))
    await shell.begin()
    written = []
    for _ in range(7):
        await shell.round(KEEP_SECONDS / 100)
        heir = Trainer(job, 1, str(volume))
        written.append(heir.initialise().stamp.round)
        assert not written[-1] or heir.statistics == f"totals of {written[-1]} rounds".encode()
    assert written == [0, 0, 3, 3, 3, 6, 6]
    assert shell.pole.phase is Phase.TRAINING


async def test_the_last_state_is_on_the_volume_with_all_rounds(npdc: Any, tmp_path: pathlib.Path) -> None:
    volume = tmp_path / "state"
    shell = npdc(job=replace(JOB, rounds=2), checkpoint=str(volume))
    await shell.begin()
    for _ in range(2):
        await shell.round(A_WHILE)
    heir = Trainer(JOB, 1, str(volume))
    assert (heir.initialise().stamp.round, heir.statistics) == (2, b"totals of 2 rounds")
