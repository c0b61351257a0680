"""A data center of a large job ends, and a home's pod."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from harness import Row, Table

from cluster.ground import Ground
from cluster.operators import Operator, requests
from cluster.puppets import Puppets, set_phase
from cluster.scale import MDCS, MEMORY_MIB, SETTLED_SECONDS, Scale

CALLS_OF_A_DEATH, CPU_OF_A_DEATH = 19, 0.3
"""Fewer than 20 requests; seconds."""
KILLED = {"terminated": {"exitCode": 137}}


async def death(ground: Ground, times: int, scale: Scale) -> Table:
    """An MDC of a large running job ends; and a home's pod is deleted."""
    calls: dict[str, list[float]] = {"MDC": [], "home": []}
    burnt: dict[str, list[float]] = {"MDC": [], "home": []}
    start_cpu, start_looks = [], []
    async with Puppets(ground), Operator(ground) as operator:
        await ground.until("the operator is ready", operator.ready)
        cpu = operator.cpu
        await ground.make("large", scale.pods - MDCS - 1, MDCS)
        await ground.until("the job runs", ground.all_running, 0.5)
        await asyncio.sleep(SETTLED_SECONDS)
        start_cpu.append(operator.cpu - cpu)
        start_looks.append((await operator.figures())["look done"])
        for turn in range(times):
            for who in ("MDC", "home"):
                before, cpu = await operator.figures(), operator.cpu
                if who == "MDC":
                    await set_phase(ground, f"large-mdc-{turn}-0", "Failed", KILLED)
                    await ground.until("it is replaced", _there(ground, f"large-mdc-{turn}-1"))
                else:
                    old = await ground.api.request("DELETE", f"{ground.core}/pods/large-home-{turn}")
                    uid = old["metadata"]["uid"]
                    await ground.until("it is back", _there(ground, f"large-home-{turn}", uid))
                await ground.until("the job runs", ground.all_running)
                await asyncio.sleep(SETTLED_SECONDS)
                burnt[who].append(operator.cpu - cpu)
                spent = await operator.figures() - before
                calls[who].append(requests(spent))
                print(who, dict(spent), file=sys.stderr)
        memory = operator.memory("VmHWM")
    await ground.clear()
    deaths = [
        row
        for who in calls
        for row in (
            Row(f"death of one {who}: requests", "", calls[who], target=CALLS_OF_A_DEATH),
            Row(f"death of one {who}: CPU", "s", burnt[who], target=CPU_OF_A_DEATH),
        )
    ]
    return Table(
        f"A job of {scale.pods:,} pods",
        [
            Row("begins to run: CPU", "s", start_cpu),
            Row("begins to run: looks at the job", "", start_looks),
            *deaths,
            Row("memory at the peak", "MiB", [memory], target=MEMORY_MIB),
        ],
    )


def _there(ground: Ground, pod: str, not_uid: str = "") -> Callable[[], Awaitable[bool]]:
    async def seen() -> bool:
        found = await ground.api.get(f"{ground.core}/pods/{pod}")
        return found is not None and found["metadata"]["uid"] != not_uid

    return seen
