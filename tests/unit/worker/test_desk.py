"""Blocking work: at once where it was quick, and never two things at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from elf_worker.roles.desk import QUICK_SECONDS, Desk

SECONDS = 20.0


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk("test")
    yield desk
    desk.close()


async def test_what_was_quick_is_done_at_once_from_then_on(desk: Desk) -> None:
    def work() -> str:
        return threading.current_thread().name

    assert (await desk.do(work)).startswith("test")
    assert desk.quick(work)
    assert await desk.do(work) == threading.current_thread().name


async def test_work_whose_core_others_had_is_quick(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more pods than cores a gradient takes long by the wall clock."""
    now = iter(range(1000))

    def work() -> None:
        pass

    await desk.do(work)
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", lambda: float(next(now)))
        desk.timed(work)
    assert desk.quick(work)


async def test_work_that_waits_is_not_quick(desk: Desk) -> None:
    """It needs no CPU, but would keep the event loop waiting, too."""

    def work() -> None:
        threading.Event().wait(2 * QUICK_SECONDS)

    await desk.do(work)
    assert not desk.quick(work)


async def test_quick_work_waits_for_what_the_thread_was_given_before(desk: Desk) -> None:
    """Two things at a time would see the model between two states."""
    done: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def quick() -> None:
        done.append("quick")

    def slow() -> None:
        begun.set()
        assert go_on.wait(SECONDS)
        done.append("slow")

    await desk.do(quick)
    done.clear()
    first = asyncio.create_task(desk.do(slow))
    await asyncio.to_thread(begun.wait, SECONDS)
    second = asyncio.create_task(desk.do(quick))
    await asyncio.sleep(0)  # it has begun, and finds the thread busy
    assert done == [] and not desk.quick(quick)
    go_on.set()
    await asyncio.gather(first, second)
    assert done == ["slow", "quick"]
    assert desk.quick(quick)


async def test_what_it_raises_is_heard_and_the_next_is_done(desk: Desk) -> None:
    def bad() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await desk.do(bad)
    assert await desk.do(max, 1, 2) == 2
