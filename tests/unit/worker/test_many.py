"""Vectors of many homes at once: the same bits as one by one, or at least bits that depend on nobody else."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from elf_worker.tasks import Task, many, vectors
from elf_worker.tasks.digits import Digits
from elf_worker.tasks.linear import Linear
from elf_worker.tasks.many import Many, One, Way
from elf_worker.tasks.naughty_or_nice import NaughtyOrNice

ROUND = 2


@pytest.fixture(autouse=True)
def one_thread() -> None:
    vectors.make_deterministic()


class Small(Task):
    """A task whose model and data the tests change."""

    layers: Any = nn.Linear
    width = 2

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))

    def size(self, home: int) -> int:
        return 4

    def batches(self, home: int, round: int) -> Iterator[Any]:
        points = torch.randn(self.size(home), 3, generator=self.generator(home, round))
        yield points, points.sum(1)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        points, truths = batch
        error: torch.Tensor = ((model(points).squeeze(-1) - truths) ** 2).mean()
        return error

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {}


class TwoSizes(Small):
    def size(self, home: int) -> int:
        return 4 + home % 2


class Drops(Small):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5), nn.Linear(2, 1))


class Branches(Small):
    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        loss = super().loss(model, batch)
        return loss if float(loss.detach()) > 1 else 2 * loss


class Texts(Small):
    def batches(self, home: int, round: int) -> Iterator[Any]:
        points, truths = next(super().batches(home, round))
        yield points, truths, "text"

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return super().loss(model, batch[:2])


class Classifies(Small):
    """Home 5 has a label that there is not."""

    def model(self) -> nn.Module:
        return nn.Linear(3, 2)

    def batches(self, home: int, round: int) -> Iterator[Any]:
        points, truths = next(super().batches(home, round))
        yield points, (truths > 0).long() + 7 * (home == 5)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])


class FailsToRead(Small):
    def batches(self, home: int, round: int) -> Iterator[Any]:
        if home == 5:
            raise OSError("no such file")
        return super().batches(home, round)


class Sum(torch.autograd.Function):
    """A sum that has another order for many homes, as some kernels have on some machines; this one on all."""

    @staticmethod
    def forward(numbers: torch.Tensor) -> torch.Tensor:
        return functools.reduce(torch.add, numbers.unbind(-1))

    @staticmethod
    def setup_context(context: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        context.shape = inputs[0].shape

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.unsqueeze(-1).expand(context.shape)

    @staticmethod
    def vmap(info: Any, places: tuple[int], numbers: torch.Tensor) -> tuple[torch.Tensor, int]:
        return Sum.apply(numbers.movedim(places[0], 0).flip(-1)), 0  # type: ignore[no-untyped-call]


class Reorders(Small):
    """What is batched has other bits."""

    def size(self, home: int) -> int:
        return 32

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        points, truths = batch
        errors = (model(points).squeeze(-1) - truths) ** 2
        total: torch.Tensor = Sum.apply(errors)  # type: ignore[no-untyped-call]
        return total


class BeginsWithZeros(Reorders):
    """With the first weights all sums are exact, so that their order does not show."""

    def model(self) -> nn.Module:
        made = super().model()
        for parameter in made.parameters():
            nn.init.zeros_(parameter)
        return made

    def batches(self, home: int, round: int) -> Iterator[Any]:
        for points, truths in super().batches(home, round):
            yield points, truths.round()


class Lies(Linear):
    """Says of many homes something else than of one."""

    def batch_of(self, homes: Sequence[int], round: int) -> Any:
        return super().batch_of(homes, round + 1)


def together(task: Task, way: Way, most: int = 300) -> Many:
    model = vectors.build_model(task)
    return Many(task, model, way, lambda home, round_: alone(task, model, home, round_), most)


def alone(task: Task, model: nn.Module, home: int, round_: int) -> One:
    sizes: list[int] = []
    vector, weight = vectors.home_vector(task, model, home, round_, lambda b: sizes.append(task.examples(b)))
    return One(vector, weight, tuple(sizes))


def bits(found: many.Found) -> dict[int, tuple[bytes, int, tuple[int, ...]]]:
    rows = [row.tobytes() for row in found.vectors] if found.homes else []
    return {h: (r, w, s) for h, r, w, s in zip(found.homes, rows, found.weights, found.sizes, strict=True)}


def one_by_one(task: Task, homes: Sequence[int]) -> dict[int, tuple[bytes, int, tuple[int, ...]]]:
    model = vectors.build_model(task)
    found = {home: alone(task, model, home, ROUND) for home in homes}
    return {home: (one.vector.tobytes(), one.weight, one.sizes) for home, one in found.items()}


TASKS = [Linear, NaughtyOrNice, Digits, Small, TwoSizes, Drops, Branches, Texts, Reorders]


@pytest.mark.parametrize("kind", TASKS)
def test_exact_has_the_bits_of_one_by_one(kind: type[Task]) -> None:
    task, homes = kind(homes=60, seed=3), list(range(50, 90))
    assert bits(together(task, "exact", 40).vectors(homes, ROUND)) == one_by_one(task, homes)


@pytest.mark.parametrize("kind", TASKS)
def test_fast_depends_on_nobody_else(kind: type[Task]) -> None:
    """Neither on the pod, nor on who is asked for at the same time, nor on what came before."""
    task, homes = kind(homes=60, seed=3), list(range(40, 300, 4))
    whole = bits(together(task, "fast").vectors(homes, ROUND))
    assert set(whole) == set(homes)
    small = together(task, "fast", 4)
    for some in ([296, 40], [60], homes[30:], homes[:7]):
        assert bits(small.vectors(some, ROUND)) == {home: whole[home] for home in some}
    near = {home: np.frombuffer(row, "<f4") for home, (row, *_) in one_by_one(task, homes[:5]).items()}
    for home, row in near.items():
        assert np.allclose(np.frombuffer(whole[home][0], "<f4"), row, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("features", "points"), [(8, 16), (8, 1), (3, 7), (70, 33)])
def test_the_linear_task_is_batched_exactly(features: int, points: int) -> None:
    """What a million homes are computed with, whatever the machine's BLAS does with small products."""
    engine = together(Linear(homes=9, seed=1, features=features, batch_size=points), "exact")
    engine.vectors(range(256), ROUND)
    assert (engine.batched, engine.single) == (256, 0)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Reorders, "the bits of their gradients would be others"),
        (Drops, "randomness"),
        (Branches, "vmap raised"),
        (Lies, "batch_of gives home 0 another batch than batches"),
    ],
)
def test_what_is_not_exact_goes_one_by_one_and_says_so_once(
    kind: type[Task], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine = together(kind(homes=60, seed=3), "exact", 16)
    for _ in range(2):
        engine.vectors(range(16), ROUND)
    assert (engine.batched, engine.single) == (0, 32)
    [said] = [record.getMessage() for record in caplog.records]
    assert why in said


@pytest.mark.parametrize("kind", [NaughtyOrNice, Small, TwoSizes])
def test_fast_is_together(kind: type[Task]) -> None:
    engine = together(kind(homes=60, seed=3), "fast", 16)
    engine.vectors(range(16), ROUND)
    assert (engine.batched, engine.single) == (16, 0)


@pytest.mark.parametrize("way", ["exact", "fast"])
@pytest.mark.parametrize("kind", [Classifies, FailsToRead])
def test_a_home_whose_data_are_bad_harms_no_other(kind: type[Task], way: Way) -> None:
    task = kind(homes=60, seed=3)
    found = together(task, way, 16).vectors(range(16), ROUND)
    assert set(found.raised) == {5}
    assert "home 5 in round 2" in str(found.raised[5])
    good = bits(found)
    assert set(good) == set(range(16)) - {5}
    if way == "exact":
        assert good == one_by_one(task, sorted(good))
    else:
        assert good == bits(together(task, way).vectors(sorted(good), ROUND))


def test_weights_that_hide_the_order_of_sums_prove_nothing() -> None:
    engine = together(BeginsWithZeros(homes=9, seed=1), "exact", 16)
    engine.vectors(range(16), ROUND)
    assert (engine.batched, engine.single) == (0, 16)


def test_weights_stay_what_they_were() -> None:
    """The trial shakes them."""
    task = Linear(homes=9, seed=1)
    engine = together(task, "exact")
    before = vectors.flatten(engine._model)
    engine.vectors(range(64), ROUND)
    assert vectors.flatten(engine._model).tobytes() == before.tobytes()


class Wide(Small):
    """A model of 4 MiB."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 1 << 18), nn.Linear(1 << 18, 1))


class Heavy(Small):
    """Batches of 4 MiB."""

    def size(self, home: int) -> int:
        return 1 << 18


@pytest.mark.parametrize(("kind", "width"), [(Small, 256), (Wide, 2), (Heavy, 4)])
def test_large_models_and_batches_make_small_batches(kind: type[Task], width: int) -> None:
    """Memory stays what a few dozen MiB are, however many homes a pod has."""
    assert together(kind(homes=9, seed=1), "fast").width == width


def test_small_pods_make_small_exact_batches_and_the_same_fast_ones() -> None:
    task = Small(homes=9, seed=1)
    assert together(task, "exact", 6).width == 8
    assert together(task, "fast", 6).width == 256
