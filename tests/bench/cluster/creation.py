"""A job of many pods is made."""

from __future__ import annotations

import asyncio
import time

from harness import Ratio, Row, Table

from cluster import bare
from cluster.ground import Ground
from cluster.operators import Operator, requests
from cluster.scale import MDCS, SETTLED_SECONDS, Scale

RATE = 0.8
"""Wanted: pods a second over those of the bare client."""


async def create(ground: Ground, times: int, scale: Scale) -> Table:
    """A job of many pods against a bare client that creates the same pods, in turn."""
    samples: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        samples.setdefault(name, []).append(value)

    async with Operator(ground) as operator:
        await ground.until("the operator is ready", operator.ready)

        async def plain() -> None:
            note("bare", scale.pods / await bare.created(ground, scale.pods))
            await ground.clear()

        async def own(turn: int) -> None:
            burnt, before = operator.cpu, await operator.figures()
            began = time.perf_counter()
            await ground.make(f"many-{turn}", scale.pods - MDCS - 1, MDCS)
            await ground.until("every pod is there", lambda: _are(ground, scale.pods))
            note("own", scale.pods / (time.perf_counter() - began))
            await asyncio.sleep(SETTLED_SECONDS)
            note("cpu", (operator.cpu - burnt) / scale.pods * 1000)
            note("requests", requests(await operator.figures() - before))
            await ground.clear()

        for turn in range(times):
            if turn % 2 == 0:
                await plain()
                await own(turn)
            else:
                await own(turn)
                await plain()
    return Table(
        f"A job of {scale.pods:,} pods is made",
        [
            Row("bare client", "pods/s", samples["bare"], "plain requests with the same bodies"),
            Row("operator", "pods/s", samples["own"]),
            Row("· CPU a pod", "ms", samples["cpu"]),
            Row("· requests", "", samples["requests"]),
        ],
        [Ratio.paired("operator / bare client", samples["own"], samples["bare"], RATE)],
    )


async def _are(ground: Ground, wanted: int) -> bool:
    return await ground.count() >= wanted
