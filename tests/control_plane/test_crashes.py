"""SIGKILL at every call that changes the world, before it is forwarded and after it is committed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from control_plane.proxy import Trap
from control_plane.scenarios import CRASHES
from control_plane.stage import Lab, stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600), pytest.mark.asyncio(loop_scope="session")]
MARGIN = 2
"""Runs differ by a write or two; this many points are tried beyond those of the reference."""


async def perform(lab: Lab, scenario: str, point: tuple[int, bool] | None) -> tuple[dict[str, Any], Any]:
    """What a run leads to; and the call it was killed at, or how many there were to be killed at."""
    title = f"{scenario}, undisturbed"
    if point is not None:
        title = f"{scenario}, killed {'after' if point[1] else 'before'} call {point[0]}"
    async with stage(lab, title) as on:
        steps = CRASHES[scenario]
        trap = Trap(point[0], point[1], lambda: None) if point is not None else None
        if steps:
            operator = await on.operator()
            await on.settle()
        else:
            operator = await on.operator()
        begun = len(on.mutations)
        if trap is not None:
            trap.spring = on.spring(operator)
            operator.door.trap = trap
        for step in steps:
            await step(on)
            await on.settle()
        await on.rest()
        if point is None:
            assert not on.warnings(), "nothing was done to this operator, and it warns"
        struck: Any = trap.sprung if trap is not None else len(on.mutations) - begun
        return await on.outcome(), struck


@pytest.mark.parametrize("scenario", CRASHES)
async def test_a_crash_at_any_call_changes_nothing(
    lab: Lab, scenario: str, request: pytest.FixtureRequest
) -> None:
    began = time.monotonic()
    reference, calls = await perform(lab, scenario, None)
    assert calls > 0
    points = _points(request.config.getoption, calls, list(CRASHES).index(scenario))
    runs = await asyncio.gather(*(perform(lab, scenario, p) for p in points), return_exceptions=True)
    wrong, struck = [], 0
    for point, run in zip(points, runs, strict=True):
        again = f"--crash-at {point[0]}:{'after' if point[1] else 'before'} -k {scenario}"
        if isinstance(run, BaseException):
            wrong.append(f"{again}: {run!r}" if not isinstance(run, AssertionError) else f"{again}\n{run}")
            continue
        struck += run[1] is not None
        if differences := _differences(reference, run[0]):
            wrong.append(f"{again}, killed at {run[1]}: " + "; ".join(differences))
    seconds = time.monotonic() - began
    print(f"\n{scenario}: {calls} calls, {struck} of {len(points)} crashes struck, {seconds:.0f} s")
    assert not wrong, f"{len(wrong)} of {len(points)} runs\n" + "\n".join(wrong)
    due = sum(index < calls for index, _ in points)
    assert 2 * struck >= due, "most crashes did not come about: is the trap broken?"


def _points(option: Any, calls: int, offset: int) -> list[tuple[int, bool]]:
    if at := option("--crash-at"):
        index, _, when = at.partition(":")
        return [(int(index), when == "after")]
    every = option("--crash-every")
    found = [(i, after) for i in range(calls + MARGIN) for after in (False, True)]
    return found[offset % every :: every]


def _differences(reference: Any, found: Any, path: str = "") -> list[str]:
    """Sentences; lists are compared whole."""
    if isinstance(reference, dict) and isinstance(found, dict):
        keys = sorted({*reference, *found})
        return [d for k in keys for d in _differences(reference.get(k), found.get(k), f"{path}.{k}")]
    return [] if reference == found else [f"{path} is {found!r}, was {reference!r} in the undisturbed run"]
