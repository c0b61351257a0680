"""Linear regression on points that each home makes for itself: so cheap that one machine has a million homes.

Nothing is stored: point `i` of a home in a round is a hash of (seed, home, round, i), so the points of many
homes are made at once, and are the same to the bit as those of each home alone. Homes differ: each has its
own habits (a shift of all its points).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from elf_worker.tasks.base import Batch, Task, derive_seed

HELD_OUT_HOME = 1 << 40
"""Homes from here on do not train."""
HELD_OUT_HOMES = 100
HABIT = 0.5
"""Largest shift of a home's points."""

Ids = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Linear(Task):
    """One linear layer, mean squared error; metrics `r2` (1 is perfect) and `mse`.

    Args: `features`, numbers in a point; `batch_size`, points a home uses per round; `noise`, the largest
    error of a point's truth, which no model can foresee.
    """

    def __init__(
        self, *, homes: int, seed: int, features: int = 8, batch_size: int = 16, noise: float = 0.1
    ) -> None:
        super().__init__(homes=homes, seed=seed)
        if min(features, batch_size) < 1:
            raise ValueError(f"features is {features} and batch_size {batch_size}, at least 1 each is needed")
        if not 0 <= noise < float("inf"):
            raise ValueError(f"noise is {noise}, a number from 0 on is needed")
        self.features, self.batch_size, self.noise = features, batch_size, noise
        rule = torch.Generator().manual_seed(derive_seed(seed, "rule"))
        self._slopes = torch.randn(features, generator=rule).numpy()
        self._offset = torch.randn(1, generator=rule).numpy()
        self._habits = np.uint64(derive_seed(seed, "habits"))
        self._points = np.uint64(derive_seed(seed, "points"))

    def model(self) -> nn.Module:
        """9 parameters: one more than there are features."""
        return _Plane(self.features, 1)

    def batches(self, home: int, round: int) -> Iterator[Batch]:
        """Points float32 `(batch, features)` and truths float32 `(batch,)`."""
        step = 0
        while True:
            points, truths = self._made([home], round, step)
            yield points[0], truths[0]
            step += 1

    def batch_of(self, homes: Sequence[int], round: int) -> Batch:
        """Points float32 `(homes, batch, features)` and truths float32 `(homes, batch)`."""
        return self._made(homes, round, 0)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Mean squared error."""
        points, truths = batch
        error: torch.Tensor = ((model(points).squeeze(-1) - truths) ** 2).mean()
        return error

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """`r2`, the share of the truths' variance that is explained, and `mse`."""
        points, truths = self._made(range(HELD_OUT_HOME, HELD_OUT_HOME + HELD_OUT_HOMES), 0, 0)
        truths = truths.double()
        error = float(((model(points).squeeze(-1).double() - truths) ** 2).mean())
        return {"r2": 1 - error / max(float(truths.var(correction=0)), 1e-12), "mse": error}

    def _made(self, homes: Sequence[int], round: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        ids = np.asarray(homes, np.int64).astype(np.uint64)
        habits = _uniform(_hashed(self._habits, ids)[:, None] + _count(self.features)) * np.float32(HABIT)
        stream = _hashed(_hashed(self._points ^ np.uint64(step), np.uint64(round)), ids)
        drawn = _uniform(stream[:, None] + _count(self.batch_size * (self.features + 1)))
        drawn = drawn.reshape(len(ids), self.batch_size, self.features + 1)
        points = drawn[..., :-1] + habits[:, None, :]
        # One feature after the other: a product of matrices may add in another order for more homes.
        truths = self._offset + drawn[..., -1] * np.float32(self.noise)
        for feature, slope in enumerate(self._slopes):
            truths = truths + points[..., feature] * slope
        return torch.tensor(points), torch.tensor(truths)  # copies, in torch's own, aligned memory


class _Plane(nn.Linear):
    """A linear layer without a product of matrices.

    BLAS libraries add up a batch of small products in another order than one (MKL on Intel's CPUs does), and
    homes would have to be computed one by one. Torch's own sums have one order for both.
    """

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """From `(..., features)` to `(..., 1)`."""
        return (points * self.weight).sum(-1, keepdim=True) + self.bias


def _count(size: int) -> Ids:
    return np.arange(1, size + 1, dtype=np.uint64) * _GOLDEN


def _hashed(key: Ids | np.uint64, value: Ids | np.uint64) -> Ids:
    return _mixed(np.atleast_1d(np.asarray(value + np.uint64(1), np.uint64)) * _GOLDEN ^ key)


def _mixed(state: Ids) -> Ids:
    """The finish of SplitMix64 (Steele et al., "Fast Splittable Pseudorandom Number Generators", 2014)."""
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))


def _uniform(state: Ids) -> Floats:
    """Float32 in -1..1, from the upper 24 bits: exact, so the same on every machine."""
    return ((_mixed(state) >> np.uint64(40)).astype(np.float32) - np.float32(1 << 23)) * np.float32(2.0**-23)
