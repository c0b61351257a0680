"""A home's model: gradients, and nothing else. Everything here blocks and runs in one thread."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from elf_worker import tasks
from elf_worker.aggregation import precision
from elf_worker.aggregation.bundles import together
from elf_worker.aggregation.datacenter import MAX_FACTS
from elf_worker.aggregation.effects import Compute, ComputeMany
from elf_worker.aggregation.household import Answer
from elf_worker.aggregation.tally import Tally
from elf_worker.contract import JobConfig
from elf_worker.messages import Facts, Stamp
from elf_worker.statistics import ManyHomes
from elf_worker.tasks import vectors
from elf_worker.tasks.many import Found, Many, One
from elf_worker.tasks.optimizers import make_optimizer


class Computer:
    """One model shared by the homes of a pod; it holds the weights of one stamp at a time."""

    def __init__(self, config: JobConfig) -> None:
        vectors.make_deterministic()
        self._task = tasks.load(config.entrypoint, config.task_args, homes=config.homes, seed=config.seed)
        self._model = vectors.build_model(self._task)
        self._config = config
        self._stamp: Stamp | None = None
        self._weights: Any = None
        self._many: Many | None = None
        if together(config) and config.local_steps == 1:  # several steps move each home's weights apart
            fast = config.batching == "fast"
            self._many = Many(
                self._task, self._model, "fast" if fast else "exact", self._alone, config.per_pod
            )

    @property
    def size(self) -> int:
        """Elements of a home's vector."""
        return sum(p.numel() for p in self._model.parameters()) + 1

    @property
    def step(self) -> int:
        """How many homes `add` takes at a time, at most."""
        return self._many.step if self._many is not None else 1

    def add(self, work: ComputeMany, homes: Sequence[int], tally: Tally, came: float) -> dict[int, str]:
        """Compute these homes of the work into the tally; why others have no vector.

        `came`: when the work was asked for, on the monotonic clock.
        """
        started = time.monotonic()
        try:
            self._take(work.stamp, work.weights)
            found = self._found(homes, work.stamp.round)
        except Exception as error:  # not of any home's own; it is tried again, and said
            return dict.fromkeys(homes, f"{type(error).__name__}: {error}")
        if found.homes:
            now = time.monotonic()
            counted = len(found.homes)
            tally.add_many(
                ManyHomes(
                    homes=np.array(found.homes, np.int64),
                    round=work.stamp.round,
                    mdc=work.mdc,
                    weights=np.array(found.weights, np.int64),
                    vectors=precision.as_sent(found.vectors, self._config.precision),
                    seconds=now - came,
                    waiting_seconds=started - came,
                    computing_seconds=now - started,
                    batch_sizes=found.sizes,
                    classes=found.classes,
                    bytes_up=16 * self.size * counted // work.homes.bit_count(),
                    bytes_down=memoryview(work.weights).nbytes * counted // self._config.per_pod,
                )
            )
        return {home: str(error) for home, error in found.raised.items()}

    def _found(self, homes: Sequence[int], round: int) -> Found:
        if self._many is not None:
            return self._many.vectors(homes, round)
        found = Found()
        for home in homes:
            try:
                found.add(home, self._alone(home, round))
            except tasks.TaskError as error:
                found.raised[home] = error
        return found

    def _alone(self, home: int, round: int) -> One:
        log = _BatchLog(self._task)
        vector, weight = self._vector(home, round, log)
        return One(vector, weight, tuple(log.sizes[:MAX_FACTS]), log.told)

    def _take(self, stamp: Stamp, weights: Any) -> None:
        """The model at these weights."""
        if self._stamp != stamp:
            vectors.unflatten(self._model, weights)
            self._stamp, self._weights = stamp, weights

    def _vector(self, home: int, round: int, log: _BatchLog) -> tuple[vectors.Floats, int]:
        steps = self._config.local_steps
        if steps == 1:
            return vectors.home_vector(self._task, self._model, home, round, log)
        try:
            return vectors.pseudo_vector(
                self._task, self._model, home, round, steps, self._local_optimizer, log
            )
        finally:  # the steps have moved the weights
            vectors.unflatten(self._model, self._weights)

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
        self._take(work.stamp, work.weights)
        log = _BatchLog(self._task)
        vector, weight = self._vector(work.home, work.stamp.round, log)
        facts = Facts(started - asked, time.monotonic() - started, tuple(log.sizes[:MAX_FACTS]), log.classes)
        payload = precision.encode(vector, self._config.precision)
        return Answer(work.stamp, weight, payload, facts=facts)


class _BatchLog:
    """What a home tells about its batches. A task that cannot tell costs its job nothing."""

    def __init__(self, task: tasks.Task) -> None:
        self._task = task
        self.sizes: list[int] = []
        self.classes: dict[str, int] = {}

    @property
    def told(self) -> dict[str, int]:
        """Classes as an MDC takes them: not too many, and with short names."""
        return {name[:MAX_FACTS]: n for name, n in itertools.islice(self.classes.items(), MAX_FACTS)}

    def __call__(self, batch: Any) -> None:
        with contextlib.suppress(Exception):
            self.sizes.append(int(self._task.examples(batch)))
            for name, count in self._task.classes(batch).items():
                self.classes[str(name)] = self.classes.get(str(name), 0) + int(count)
