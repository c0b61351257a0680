"""A watch that is over is over, whatever has just happened."""

from __future__ import annotations

import asyncio

import pytest

from elf_cli.cluster.watching import _moments, _World


@pytest.mark.parametrize("steps", range(5))
async def test_a_watch_ends_in_the_very_moment_in_which_something_changes(steps: int) -> None:
    world = _World()

    async def look() -> None:
        async for _ in _moments(world):
            pass

    looking = asyncio.create_task(look())
    for _ in range(5):
        await asyncio.sleep(0)
    world.changed.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    looking.cancel()
    await asyncio.wait([looking], timeout=5)
    assert looking.cancelled()
