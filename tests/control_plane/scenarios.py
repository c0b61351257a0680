"""What is done to a job, step by step. After each step the world comes to rest."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

from control_plane.stage import NOBODY, Stage

Step = Callable[[Stage], Awaitable[None]]


async def fault(stage: Stage) -> None:
    """An MDC dies."""
    await stage.end(stage.data_center(1))


async def fall(stage: Stage) -> None:
    """The NPDC dies."""
    await stage.end(stage.data_center())


async def silence(stage: Stage) -> None:
    """An MDC runs, and nothing is heard from it: its homes move."""
    await stage.lose(0)


async def eviction(stage: Stage) -> None:
    """Somebody deletes an MDC's pod."""
    await stage.evict(stage.data_center(0))


async def homeless(stage: Stage) -> None:
    """A home's container ends for good."""
    await stage.end(f"{stage.job}-home-2", 1)


async def grow(stage: Stage) -> None:
    await stage.edit(miniDataCenters={"replicas": 5, **NOBODY})


async def shrink(stage: Stage) -> None:
    await stage.edit(miniDataCenters={"replicas": 2, **NOBODY})


async def suspend(stage: Stage) -> None:
    await stage.edit(suspend=True)


async def resume(stage: Stage) -> None:
    await stage.edit(suspend=False)


async def finish(stage: Stage) -> None:
    await stage.finish()


CRASHES: dict[str, Sequence[Step]] = {
    "create": (),
    "fault": (fault,),
    "rebalance": (silence,),
    "scale": (grow, shrink),
    "suspend": (suspend, resume),
    "finish": (finish,),
}
"""Scenarios of the crash matrix."""
REPLACING: frozenset[Step] = frozenset({fault, fall, silence, eviction})
"""Steps that cost one data center."""
LOOSE: tuple[Sequence[Step], ...] = (
    (fault,),
    (fall,),
    (silence,),
    (eviction,),
    (homeless,),
    (grow,),
    (shrink,),
    (suspend, resume),
)


def play(seed: int) -> list[Step]:
    """Two to four things that happen to a job, and sometimes its end."""
    drawn = random.Random(f"play {seed}")
    steps = [step for _ in range(drawn.randint(2, 4)) for step in drawn.choice(LOOSE)]
    return [*steps, finish] if drawn.random() < 0.3 else steps
