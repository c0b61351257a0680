"""A home's model: gradients, and nothing else. Everything here blocks and runs in one thread."""

from __future__ import annotations

from elf_worker import tasks
from elf_worker.aggregation.effects import Compute
from elf_worker.aggregation.household import Answer
from elf_worker.contract import JobConfig
from elf_worker.messages import Stamp
from elf_worker.tasks import vectors


class Computer:
    """One model shared by the homes of a pod; it holds the weights of one stamp at a time."""

    def __init__(self, config: JobConfig) -> None:
        vectors.make_deterministic()
        self._task = tasks.load(config.entrypoint, config.task_args, homes=config.homes, seed=config.seed)
        self._model = vectors.build_model(self._task)
        self._stamp: Stamp | None = None

    def gradient(self, work: Compute) -> Answer:
        """The vector of one home for one round. Raises TaskError as `vectors.home_vector` does."""
        if self._stamp != work.stamp:
            vectors.unflatten(self._model, work.weights)
            self._stamp = work.stamp
        vector, weight = vectors.home_vector(self._task, self._model, work.home, work.stamp.round)
        return Answer(work.stamp, weight, memoryview(vector.data).cast("B"))
