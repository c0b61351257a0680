"""A home's pod that computes nothing: everything else in it is the product's. Started by `tree.py`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import numpy as np

from elf_worker.aggregation.household import Answer
from elf_worker.messages import Facts
from elf_worker.roles import environment
from elf_worker.roles.home import HomeShell


class Idle:
    """Has a vector of random numbers, and offers it every round."""

    def __init__(self, parameters: int, home: int) -> None:
        rng = np.random.default_rng(home)
        vector = (rng.standard_normal(parameters + 1) * 1e-2).astype("<f4")
        self._payload = memoryview(vector.data).cast("B")

    def gradient(self, work: Any, asked: float) -> Answer:
        facts = Facts(0.0, 0.0, (32,), {str(work.home % 10): 32})
        return Answer(work.stamp, 32, self._payload, facts=facts)


class IdleShell(HomeShell):
    """A home as it is, but for its arithmetic."""

    def _make_computer(self) -> Any:
        if self._computer is None:
            self._computer = Idle(self._config.task_args["parameters"], min(self._env_homes))
        return self._computer

    def __init__(self, env: Any) -> None:
        self._env_homes = env.homes
        super().__init__(env)


async def live() -> None:
    """As long as the job does."""
    await IdleShell(environment.read(os.environ)).live()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(live())
