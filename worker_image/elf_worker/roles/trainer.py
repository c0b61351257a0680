"""The NPDC's model: step, evaluate, save, restore. Everything here blocks and runs in one thread."""

from __future__ import annotations

import json
import logging
import math
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

from elf_worker import tasks
from elf_worker.aggregation import population
from elf_worker.aggregation.northpole import Snapshot
from elf_worker.contract import JobConfig
from elf_worker.exact import ExactSum, arithmetic
from elf_worker.messages import Stamp
from elf_worker.roles import checkpoints, files
from elf_worker.tasks import TaskError, vectors
from elf_worker.tasks.base import describe
from elf_worker.tasks.optimizers import make_optimizer

_log = logging.getLogger(__name__)
_STATISTICS = "statistics"
_WEIGHTS = "weights"


@dataclass
class Record:
    """What is known of training so far; travels with the state, so that a successor knows it too."""

    loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    evaluated_round: int = -1
    exact: bool = True
    """False once a round closed without every home."""
    population: population.Schedule = field(default_factory=list)
    """How many homes the rounds had: `[round, homes]` for every change."""


class Trainer:
    """Owns the model and the optimizer of one NPDC incarnation."""

    def __init__(self, config: JobConfig, epoch: int, checkpoint: str) -> None:
        vectors.make_deterministic()
        self._config = config
        self._epoch = epoch
        self._checkpoint = checkpoints.path_in(checkpoint)
        self._task = tasks.load(config.entrypoint, config.task_args, homes=config.homes, seed=config.seed)
        self._model = vectors.build_model(self._task)
        self._optimizer = make_optimizer(
            "spec.optimizer", config.optimizer, config.optimizer_args, self._model.parameters()
        )
        if config.local_steps > 1:  # say here, once, what every home would stumble over
            local = (config.local_optimizer, config.local_optimizer_args)
            make_optimizer("spec.localOptimizer", *local, self._model.parameters())
        self._check_target()
        self.record = Record()
        self.statistics = b""
        """Of all rounds, as the chronicle writes them: they travel with the state."""
        self.stamp = Stamp(0, epoch)

    # -- making states ------------------------------------------------------------------------------------

    def initialise(self) -> Snapshot:
        """From the checkpoint on the volume if there is a good one, else from the first weights."""
        if self._checkpoint is not None and self._checkpoint.exists():
            try:
                self._load(self._checkpoint.read_bytes())
            except TaskError:
                raise
            except Exception as error:
                _log.warning("the checkpoint is unreadable, starting over: %s", error)
        return self._snapshot()

    def restore(self, payload: Any) -> Snapshot:
        """From a copy that an MDC held: weights, then `Snapshot.rest`.

        Raises an exception of any kind if it is of no use.
        """
        view = memoryview(payload)
        split = 4 * sum(p.numel() for p in self._model.parameters())
        self._load(bytes(view[split:]), view[:split])
        return self._snapshot()

    def step(
        self, stamp: Stamp, total: ExactSum, weight: int, everyone: bool, homes: int | None = None
    ) -> Snapshot:
        """One step of the optimizer with the mean of a round, `total / weight`.

        `homes` says how many the round had, by default as many as the job was started with.

        Raises TaskError when the weights are not finite any more.
        """
        mean = torch.from_numpy(total.mean(weight))
        start = 0
        for parameter in self._model.parameters():
            parameter.grad = mean[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        try:
            self._optimizer.step()
        except Exception as error:
            raise TaskError(f"spec.optimizer: {self._config.optimizer} raised {describe(error)}") from error
        self.record.loss = float(mean[-1])
        self.record.exact &= everyone
        had = self._config.homes if homes is None else homes
        self.record.population = population.noted(self.record.population, stamp.round, had)
        self.stamp = Stamp(stamp.round + 1, self._epoch)
        snapshot = self._snapshot()
        if not math.isfinite(arithmetic.current.largest(np.frombuffer(snapshot.weights, "<f4"))):
            raise TaskError(
                f"spec.optimizer.args: the weights are not finite after round {self.stamp.round}; "
                "a smaller learning rate may help"
            )
        return snapshot

    def preserve(self, snapshot: Snapshot) -> bytes:
        """What a copy of the present state needs beside its weights; a checkpoint too, if it is time.

        Between two steps: `snapshot` is of the last one.
        """
        if self.checkpoint_due():
            self.save_checkpoint(snapshot)
        return self._dump()

    def checkpoint_due(self) -> bool:
        """Whether the present state is one for the volume, if there is one."""
        done = self.stamp.round
        return self._checkpoint is not None and done > 0 and done % self._config.checkpoint_every == 0

    def save_checkpoint(self, snapshot: Snapshot) -> None:
        """To the volume, if there is one: whole or not at all."""
        if self._checkpoint is not None:
            files.write_atomically(self._checkpoint, self._dump(np.frombuffer(snapshot.weights, "<f4")))

    # -- measuring ----------------------------------------------------------------------------------------

    def evaluate(self) -> dict[str, float]:
        """The task's metrics at the present weights; kept in `record`."""
        self._model.eval()
        try:
            with torch.no_grad():
                metrics = {str(k): float(v) for k, v in self._task.evaluate(self._model).items()}
        except Exception as error:
            raise TaskError(f"spec.task.entrypoint: evaluate() raised {describe(error)}") from error
        finally:
            self._model.train()
        self.record.metrics = metrics
        self.record.evaluated_round = self.stamp.round
        return metrics

    def due(self) -> bool:
        """Whether the model of this round is to be evaluated."""
        done = self.stamp.round >= self._config.rounds
        return self.stamp.round > 0 and (done or self.stamp.round % self._config.evaluate_every == 0)

    def finished(self) -> str | None:
        """Why training is over, or None."""
        name, least = self._config.target_metric, self._config.target_at_least
        value = self.record.metrics.get(name) if name else None
        if self.record.evaluated_round == self.stamp.round and least is not None:
            if value is None:
                known = ", ".join(sorted(self.record.metrics)) or "none"
                raise TaskError(f"spec.target.metric: the task has no metric {name!r}; it has {known}")
            if value >= least:
                return f"{name} {value:.4f} reached the target {least:g} after {self.stamp.round} rounds"
        if self.stamp.round >= self._config.rounds:
            return f"{self.stamp.round} rounds done"
        return None

    def digest(self) -> str:
        """SHA-256 of the present weights; see `vectors.digest`."""
        return vectors.digest(self._model)

    def model(self) -> bytes:
        """The weights as safetensors."""
        return safetensors.torch.save(
            {name: p.detach().contiguous() for name, p in self._model.named_parameters()}
        )

    def save_model(self, path: str) -> None:
        """`model` in a file."""
        files.write_atomically(pathlib.Path(path), self.model())

    # -- states as bytes ----------------------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        weights = vectors.flatten(self._model)
        return Snapshot(self.stamp, memoryview(weights.data).cast("B"))

    def _dump(self, weights: vectors.Floats | None = None) -> bytes:
        """Weights, optimizer state and record in one safetensors blob: no pickle, nowhere."""
        tensors = {} if weights is None else {_WEIGHTS: torch.from_numpy(weights)}
        if self.statistics:
            tensors[_STATISTICS] = torch.frombuffer(bytearray(self.statistics), dtype=torch.uint8)
        plain: dict[str, dict[str, Any]] = {}
        for index, state in self._optimizer.state_dict()["state"].items():
            for key, value in state.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.{index}.{key}"] = value.contiguous()
                else:
                    plain.setdefault(str(index), {})[key] = value
        meta = {"stamp": self.stamp, "record": vars(self.record), "optimizer": plain, "job": self._config.uid}
        tensors[checkpoints.META] = torch.frombuffer(bytearray(json.dumps(meta).encode()), dtype=torch.uint8)
        return saved(tensors)

    def _load(self, blob: bytes, weights: Any = None) -> None:
        """A blob of `_dump`; `weights` if they are not in it."""
        tensors = safetensors.torch.load(blob)
        meta = checkpoints.parse_meta(np.asarray(tensors[checkpoints.META]).tobytes())
        if meta["job"] != self._config.uid:
            raise TaskError(
                "spec.northPole.checkpoint.volumeClaim: the volume holds the state of another job"
            )
        state: dict[int, dict[str, Any]] = {int(i): dict(plain) for i, plain in meta["optimizer"].items()}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = tensor
        statistics = bytes(tensors[_STATISTICS].numpy()) if _STATISTICS in tensors else b""
        record, stamp = Record(**meta["record"]), Stamp(*meta["stamp"])
        if stamp.round and not record.population:  # of a version under which the number could not change
            record.population = [[0, self._config.homes]]
        fresh = self._optimizer.state_dict()
        found = tensors[_WEIGHTS].numpy() if weights is None else weights
        vectors.unflatten(self._model, found)  # refuses a wrong size before it begins
        self._optimizer.load_state_dict({"state": state, "param_groups": fresh["param_groups"]})
        self.record, self.stamp, self.statistics = record, stamp, statistics

    def _check_target(self) -> None:
        least = self._config.target_at_least
        if least is not None and not math.isfinite(least):
            raise TaskError(f"spec.target.atLeast: {least} is not a finite number")


def saved(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """As `safetensors.torch.save`, which takes three times as long over tensors that share nothing."""
    try:
        return safetensors.numpy.save({name: tensor.numpy() for name, tensor in tensors.items()})
    except TypeError:  # bfloat16 is unknown to numpy
        return safetensors.torch.save(dict(tensors))
