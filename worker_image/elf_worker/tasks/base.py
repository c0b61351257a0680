"""The one class a user writes."""

from __future__ import annotations

import abc
import difflib
import hashlib
import importlib
import inspect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

Batch = Any
SAID_CHARS = 1000


class TaskError(ValueError):
    """The task of a job is of no use; the message names the field of the spec and what would be right."""


class Task(abc.ABC):
    """A model, its data and its measure, for one job.

    Subclass it, put it into the worker image, and name it in `spec.task.entrypoint` as `module:Class`.
    `spec.task.args` become keyword arguments of `__init__`.

    Training is exact only if a home's gradient is a pure function of (seed, home, round): draw all
    randomness from `generator`, and use float32 parameters. Buffers (such as the running statistics of
    BatchNorm) are not trained: use GroupNorm or LayerNorm.
    """

    def __init__(self, *, homes: int, seed: int) -> None:
        self.homes = homes
        """How many homes the job was started with, numbered from 0. Later there may be more, or fewer."""
        self.seed = seed

    @abc.abstractmethod
    def model(self) -> torch.nn.Module:
        """The model with its first weights. torch's generator is seeded with the job's seed before."""

    @abc.abstractmethod
    def batches(self, home: int, round: int) -> Iterator[Batch]:
        """The batches of one home in one round, the same ones whenever it is asked; `localSteps` are used."""

    def batch_of(self, homes: Sequence[int], round: int) -> Batch | None:
        """The first batch of each of these homes at once: as from `batches`, to the bit, each tensor with one
        dimension more in front. Optional, for homes of one pod that are computed together; None: there is no
        quicker way than asking one by one.
        """
        return None

    @abc.abstractmethod
    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Mean loss over the examples of a batch: a scalar with a gradient."""

    @abc.abstractmethod
    def evaluate(self, model: torch.nn.Module) -> Mapping[str, float]:
        """Metrics on held-out data; names may appear as `spec.target.metric`. Runs on the NPDC."""

    def examples(self, batch: Batch) -> int:
        """Examples in a batch: its home's weight in the round's mean. Default: the length of the batch's
        first part.
        """
        first = batch[0] if isinstance(batch, Sequence) else batch
        return len(first)

    def classes(self, batch: Batch) -> Mapping[str, int]:
        """How many examples of each class a batch has, for statistics. Default: of the batch's second part,
        where that is a vector of integers; else nothing.
        """
        labels = batch[1] if isinstance(batch, Sequence) and len(batch) > 1 else None
        if not isinstance(labels, torch.Tensor) or labels.dim() != 1 or labels.is_floating_point():
            return {}
        return {str(label): count for label, count in Counter(labels.tolist()).items()}

    def generator(self, home: int, round: int, purpose: str = "batch") -> torch.Generator:
        """A generator that depends on (seed, home, round, purpose) and nothing else."""
        return torch.Generator().manual_seed(derive_seed(self.seed, purpose, home, round))


def derive_seed(seed: int, *parts: object) -> int:
    """A 63-bit seed from BLAKE2b of its arguments: nearby arguments give unrelated streams."""
    text = ":".join(map(str, (seed, *parts))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def load(entrypoint: str, args: Mapping[str, Any], *, homes: int, seed: int) -> Task:
    """Import and construct the task `module:Class`. Raises TaskError naming the field that is wrong."""
    module_name, _, attribute = entrypoint.partition(":")
    where = "spec.task.entrypoint"
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise TaskError(f"{where}: cannot import {module_name!r} in the worker image: {error}") from error
    except (Exception, SystemExit) as error:
        raise TaskError(f"{where}: importing {module_name!r} raised {describe(error)}") from error
    found = getattr(module, attribute, None)
    if not (inspect.isclass(found) and issubclass(found, Task)):
        tasks = [
            n for n, c in vars(module).items() if inspect.isclass(c) and issubclass(c, Task) and c is not Task
        ]
        hint = difflib.get_close_matches(attribute, tasks, 1, 0.0) or tasks
        there = hasattr(module, attribute)
        what = "is not a subclass of elf_worker.tasks.Task" if there else f"is not in {module_name!r}"
        raise TaskError(f"{where}: {attribute!r} {what}" + (f"; did you mean {hint[0]!r}?" if hint else ""))
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise TaskError(f"{where}: {attribute} lacks the methods {', '.join(missing)}")
    try:
        return found(homes=homes, seed=seed, **args)
    except Exception as error:
        raise TaskError(f"spec.task.args: {attribute} raised {describe(error)}") from error


def describe(error: BaseException) -> str:
    """`ValueError: what it said`, on one line, cut to what a message and a condition may hold."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said if len(said) <= SAID_CHARS else said[:SAID_CHARS] + ' …'}"
