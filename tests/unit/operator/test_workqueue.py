"""The work queue: a burst of changes is one look more, and none is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from builders import DEFAULTS
from elf_operator import workqueue
from elf_operator.apiserver import ApiError
from elf_operator.metrics import Metrics
from elf_operator.workqueue import LEAST_REST, LONGEST_REST, REST, Queue

KEY, OTHER = ("pole", "sleigh"), ("pole", "boots")
TURNS = 40
"""Turns of the event loop in which anything that can happen without waiting has happened."""
settle = asyncio.sleep


class World:
    """A clock that stands until it is moved, and looks that take as long as they are told."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.takes = 0.0
        self.looks: list[tuple[tuple[str, str], float]] = []
        self.during = lambda: None

    async def reconcile(self, cluster: Any, namespace: str, name: str, *_: Any) -> None:
        """In place of a look."""
        self.looks.append(((namespace, name), self.now))
        self.now += self.takes
        self.during()

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            await settle(0)

    async def pass_(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        self.now += seconds
        for _ in range(TURNS):
            await settle(0)

    def times(self, key: tuple[str, str] = KEY) -> list[float]:
        return [at for looked, at in self.looks if looked == key]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    names = {name: getattr(asyncio, name) for name in dir(asyncio) if not name.startswith("__")}
    monkeypatch.setattr(workqueue, "asyncio", SimpleNamespace(**{**names, "sleep": made.sleep}))
    monkeypatch.setattr(workqueue, "time", SimpleNamespace(monotonic=lambda: made.now, time=lambda: made.now))
    monkeypatch.setattr(workqueue, "reconcile", made.reconcile)
    return made


@pytest.fixture
async def queue(world: World) -> AsyncIterator[Queue]:
    leading = asyncio.Event()
    leading.set()
    made = Queue(None, DEFAULTS, lambda: None, leading, Metrics())  # type: ignore[arg-type]
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("takes", "rest"),
    [(0.0, LEAST_REST), (LEAST_REST / REST / 2, LEAST_REST), (0.25, 0.25 * REST), (30.0, LONGEST_REST)],
)
async def test_a_burst_of_changes_is_one_look_more(
    world: World, queue: Queue, takes: float, rest: float
) -> None:
    """Twice as long as the last look took it waits for what else comes, within bounds."""
    world.takes = takes
    queue.wake(KEY)
    await world.pass_(0.0)
    (first,) = world.times()
    for _ in range(20):
        queue.wake(KEY)
        await world.pass_(rest / 25)
    assert world.times() == [first], "it rests"
    await world.pass_(rest * 6 / 25)
    assert len(world.times()) == 2
    await world.pass_(10 * LONGEST_REST)
    assert len(world.times()) == 2, "nothing has happened since"
    queue.wake(KEY)
    await world.pass_(0.0)
    assert len(world.times()) == 3, "after a rest a change is looked at at once"


async def test_a_change_during_a_look_is_looked_at(world: World, queue: Queue) -> None:
    """The look may have read before it happened."""
    world.during = lambda: queue.wake(KEY) if len(world.looks) == 1 else None
    queue.wake(KEY)
    await world.pass_(0.0)
    assert len(world.times()) == 1
    await world.pass_(LEAST_REST * 1.01)
    assert len(world.times()) == 2
    await world.pass_(LONGEST_REST)
    assert len(world.times()) == 2


@pytest.mark.parametrize(
    ("errors", "warned"),
    [
        ([ApiError(409)], 0),
        ([ApiError(409), ApiError(409)], 1),
        ([ApiError(503)], 1),
        ([ApiError(409), None, ApiError(409)], 0),
    ],
    ids=["overtaken", "overtaken again", "an outage", "overtaken now and then"],
)
async def test_who_is_overtaken_looks_again_and_warns_of_it_only_if_it_goes_on(
    world: World, queue: Queue, caplog: pytest.LogCaptureFixture, errors: list[Exception | None], warned: int
) -> None:
    async def told(*_: Any) -> None:
        world.looks.append((KEY, world.now))
        if errors and (error := errors.pop(0)) is not None:
            raise error

    caplog.set_level(logging.INFO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workqueue, "reconcile", told)
        wanted = len(errors) + 1
        async with asyncio.timeout(20):
            while len(world.looks) < wanted:
                queue.wake(KEY)
                await world.pass_(LONGEST_REST)
    said = [record.levelno for record in caplog.records if record.name == workqueue.__name__]
    assert said.count(logging.WARNING) == warned and len(said) >= warned


async def test_one_job_s_rest_is_not_another_s(world: World, queue: Queue) -> None:
    queue.wake(KEY)
    await world.pass_(0.0)
    queue.wake(KEY)
    queue.wake(OTHER)
    await world.pass_(0.0)
    assert (len(world.times()), len(world.times(OTHER))) == (1, 1)


async def test_a_job_that_goes_while_it_rests_is_looked_at_no_more(world: World, queue: Queue) -> None:
    queue.wake(KEY)
    await world.pass_(0.0)
    queue.wake(KEY)
    await world.pass_(0.0)
    queue.forget(KEY)
    await world.pass_(LONGEST_REST)
    assert len(world.times()) == 1
