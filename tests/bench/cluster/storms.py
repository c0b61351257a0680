"""Many jobs are made at once; then nothing happens."""

from __future__ import annotations

import asyncio
import sys
import time

from harness import Row, Table

from cluster.ground import Ground
from cluster.operators import Operator, refusals, requests, writes
from cluster.puppets import Puppets
from cluster.scale import MEMORY_MIB, SETTLED_SECONDS, Scale

PODS_OF_EACH = 15
IDLE_CPU = 0.01


async def storm(ground: Ground, times: int, scale: Scale, idle: bool) -> list[Table]:
    """Many jobs at once until all run; then, where asked, nothing."""
    samples: dict[str, list[float]] = {}
    for _ in range(times):
        async with Puppets(ground), Operator(ground) as operator:
            await ground.until("the operator is ready", operator.ready)
            found = await _all_at_once(ground, operator, scale.jobs)
            if idle:
                found |= await _idle(operator, scale.idle_seconds)
        await ground.clear()
        for name, value in found.items():
            samples.setdefault(name, []).append(value)
    tables = [
        Table(
            f"{scale.jobs} jobs of {PODS_OF_EACH} pods are made at once",
            [
                Row("until all run", "s", samples["took"]),
                Row("refused or failed", "", samples["refused"], target=0),
                Row("requests a job", "", samples["requests"]),
                Row("looks a job", "", samples["looks"]),
                Row("CPU a job", "ms", samples["cpu"]),
                Row("memory at the peak", "MiB", samples["memory"], target=MEMORY_MIB),
            ],
        )
    ]
    if idle:
        rows = [
            Row("writes", "", samples["writes"], target=0),
            Row("reads a second", "1/s", samples["reads"]),
            Row("of a core", "", samples["core"], target=IDLE_CPU),
        ]
        tables.append(Table(f"Idle for {scale.idle_seconds:.0f} s with {scale.jobs} jobs", rows))
    return tables


async def _all_at_once(ground: Ground, operator: Operator, jobs: int) -> dict[str, float]:
    cpu, began = operator.cpu, time.perf_counter()
    await asyncio.gather(*(ground.make(f"job-{i}", PODS_OF_EACH - 4, 3) for i in range(jobs)))
    await ground.until("all jobs run", ground.all_running, 0.5)
    took = time.perf_counter() - began
    await asyncio.sleep(SETTLED_SECONDS)
    figures = await operator.figures()
    print(dict(figures), file=sys.stderr)
    return {
        "took": took,
        "refused": refusals(figures),
        "requests": requests(figures) / jobs,
        "looks": figures["look done"] / jobs,
        "cpu": (operator.cpu - cpu) * 1000 / jobs,
        "memory": operator.memory("VmHWM"),
    }


async def _idle(operator: Operator, seconds: float) -> dict[str, float]:
    before, cpu, began = await operator.figures(), operator.cpu, time.perf_counter()
    await asyncio.sleep(seconds)
    took, burnt = time.perf_counter() - began, operator.cpu - cpu
    spent = await operator.figures() - before
    print(dict(spent), file=sys.stderr)
    return {
        "writes": writes(spent),
        "reads": (requests(spent) - writes(spent)) / took,
        "core": burnt / took,
    }
