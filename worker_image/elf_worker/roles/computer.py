"""A home's model: gradients, and nothing else. Everything here blocks and runs in one thread."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import Any

import torch

from elf_worker import tasks
from elf_worker.aggregation import precision
from elf_worker.aggregation.datacenter import MAX_FACTS
from elf_worker.aggregation.effects import Compute
from elf_worker.aggregation.household import Answer
from elf_worker.contract import JobConfig
from elf_worker.messages import Facts, Stamp
from elf_worker.tasks import vectors
from elf_worker.tasks.optimizers import make_optimizer


class Computer:
    """One model shared by the homes of a pod; it holds the weights of one stamp at a time."""

    def __init__(self, config: JobConfig) -> None:
        vectors.make_deterministic()
        self._task = tasks.load(config.entrypoint, config.task_args, homes=config.homes, seed=config.seed)
        self._model = vectors.build_model(self._task)
        self._config = config
        self._stamp: Stamp | None = None

    def _local_optimizer(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        config = self._config
        return make_optimizer(
            "spec.localOptimizer", config.local_optimizer, config.local_optimizer_args, parameters
        )

    def gradient(self, work: Compute, asked: float) -> Answer:
        """The vector of one home for one round, asked for at that monotonic time.

        Raises TaskError as `vectors.home_vector` does.
        """
        started = time.monotonic()
        if self._stamp != work.stamp:
            vectors.unflatten(self._model, work.weights)
            self._stamp = work.stamp
        where = (self._task, self._model, work.home, work.stamp.round)
        steps = self._config.local_steps
        log = _BatchLog(self._task)
        if steps == 1:
            vector, weight = vectors.home_vector(*where, log)
        else:
            self._stamp = None  # the steps move the weights
            vector, weight = vectors.pseudo_vector(*where, steps, self._local_optimizer, log)
        facts = Facts(started - asked, time.monotonic() - started, tuple(log.sizes[:MAX_FACTS]), log.classes)
        payload = precision.encode(vector, self._config.precision)
        return Answer(work.stamp, weight, payload, facts=facts)


class _BatchLog:
    """What a home tells about its batches. A task that cannot tell costs its job nothing."""

    def __init__(self, task: tasks.Task) -> None:
        self._task = task
        self.sizes: list[int] = []
        self.classes: dict[str, int] = {}

    def __call__(self, batch: Any) -> None:
        with contextlib.suppress(Exception):
            self.sizes.append(int(self._task.examples(batch)))
            for name, count in self._task.classes(batch).items():
                self.classes[str(name)] = self.classes.get(str(name), 0) + int(count)
