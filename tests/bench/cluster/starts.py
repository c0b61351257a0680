"""The operator starts: alone, and where there is much to look at."""

from __future__ import annotations

import asyncio
import time

from harness import Row, Table

from cluster.ground import Ground
from cluster.operators import Operator
from cluster.puppets import Puppets
from cluster.scale import MDCS, MEMORY_MIB, SETTLED_SECONDS, Scale

READY_SECONDS, LOADED_SECONDS = 2.0, 4.0


async def start(ground: Ground, times: int, scale: Scale) -> Table:
    """From exec to /readyz with nothing there, and with the pods of two jobs until both were looked at."""
    empty, empty_cpu, memory, ready, looked, cpu, peak = ([] for _ in range(7))
    for _ in range(times):
        async with Operator(ground) as operator:
            await ground.until("the operator is ready", operator.ready, 0.01)
            empty.append(time.perf_counter() - operator.began)
            empty_cpu.append(operator.cpu)
            memory.append(operator.memory())
    async with Puppets(ground):
        async with Operator(ground):
            for name in ("one", "two"):
                await ground.make(name, scale.pods - MDCS - 1, MDCS)
            await ground.until("all pods run", ground.all_running, 0.5)
            await asyncio.sleep(SETTLED_SECONDS)
        for _ in range(times):
            async with Operator(ground) as operator:
                await ground.until("the operator is ready", operator.ready, 0.01)
                ready.append(time.perf_counter() - operator.began)
                await ground.until("both jobs were looked at", lambda: _looked(operator, 2), 0.02)
                looked.append(time.perf_counter() - operator.began)
                await asyncio.sleep(SETTLED_SECONDS)
                cpu.append(operator.cpu)
                peak.append(operator.memory("VmHWM"))
    await ground.clear()
    loaded = f"with {2 * scale.pods:,} pods"
    return Table(
        "The operator starts",
        [
            Row("ready", "s", empty, target=READY_SECONDS),
            Row("· CPU until then", "s", empty_cpu),
            Row("· memory then", "MiB", memory, target=MEMORY_MIB),
            Row(f"{loaded}: ready", "s", ready, target=LOADED_SECONDS),
            Row(f"{loaded}: both jobs were looked at", "s", looked, target=LOADED_SECONDS),
            Row(f"{loaded}: CPU until it is quiet", "s", cpu),
            Row(f"{loaded}: memory at the peak", "MiB", peak, target=MEMORY_MIB),
        ],
    )


async def _looked(operator: Operator, jobs: int) -> bool:
    return (await operator.figures())["look done"] >= jobs
