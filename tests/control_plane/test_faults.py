"""Jobs whose operator has a bad day: seeded faults of every kind of call while things happen to the job."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from control_plane.faults import Schedule
from control_plane.scenarios import REPLACING, play
from control_plane.stage import Lab, Stage, stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(0), pytest.mark.asyncio(loop_scope="session")]


async def survive(lab: Lab, seed: int) -> tuple[float, list[str]]:
    """One seed; the seconds it took and the faults that struck."""
    began = time.monotonic()
    async with stage(lab, f"seed {seed}") as on:
        operator = await on.operator(schedule=Schedule(seed))
        await on.settle()
        replaced = 0
        for step in play(seed):
            await step(on)
            await on.settle()
            replaced += step in REPLACING
            check_replaced(on, replaced)
        await on.rest()
        return time.monotonic() - began, operator.door.faults


def check_replaced(on: Stage, expected: int) -> None:
    """A fault of the control plane costs no data center."""
    found = on.body()["status"]["replaced"]
    assert found == expected, f"{found} data centers were replaced, {expected} had a fault"


async def test_seeded_faults(lab: Lab, request: pytest.FixtureRequest) -> None:
    option = request.config.getoption
    seeds = _seeds(option("--first-seed"), option("--fault-seeds"), option("--fault-minutes"))
    failures: list[str] = []
    faults: Counter[str] = Counter()
    times: list[tuple[float, int]] = []

    async def work() -> None:
        for seed in seeds:
            try:
                seconds, struck = await survive(lab, seed)
                times.append((seconds, seed))
                faults.update(f.partition(" on ")[0] for f in struck)
            except Exception as error:
                again = f"--fault-seeds 1 --first-seed {seed}"
                failures.append(f"seed {seed} ({again}): {type(error).__name__} {error}")
                print(f"\n{failures[-1].splitlines()[0]}", flush=True)

    await asyncio.gather(*(work() for _ in range(option("--parallel"))))
    slowest = ", ".join(f"seed {seed}: {seconds:.0f} s" for seconds, seed in sorted(times)[-5:])
    print(f"\n{len(times)} seeds held, {len(failures)} failed; slowest: {slowest}")
    print(f"{sum(faults.values())} faults: {dict(sorted(faults.items()))}")
    assert not failures, f"{len(failures)} seeds failed\n" + "\n\n".join(failures)
    assert faults, "no fault struck: is the schedule empty?"


def _seeds(first: int, count: int, minutes: float | None) -> Iterator[int]:
    if minutes is None:
        return iter(range(first, first + count))
    end = time.monotonic() + 60 * minutes
    return itertools.takewhile(lambda _: time.monotonic() < end, itertools.count(first))
