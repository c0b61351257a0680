"""Clipping and robust means of the homes' vectors, with the same bits on every machine.

All of it is elementwise IEEE arithmetic in a fixed order (a BLAS product or a library's sum may change its
order with the processor), so a group of homes gives the same result wherever it is added up.

Sources: coordinate-wise median and trimmed mean as in Yin et al., "Byzantine-Robust Distributed Learning:
Towards Optimal Statistical Rates" (2018); clipping by norm as in Pascanu et al., "On the difficulty of
training recurrent neural networks" (2013), here per home.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from elf_worker.exact import arithmetic, form

Floats = npt.NDArray[np.float32]

SMALLEST_GROUP = 3
"""Homes below which a median or a trimmed mean protects from nothing."""


def norm(values: Floats) -> float:
    """The Euclidean norm, in float64; the squares of float32 are exact there.

    Rows of 4,096 squares are added one after the other, then the row is folded in halves.
    """
    return math.sqrt(arithmetic.current.norm2(np.ascontiguousarray(values, np.float32)))


def norms(rows: Floats) -> npt.NDArray[np.float64]:
    """`norm` of each row, with the same bits."""
    if rows.shape[1] > form.BLOCK:
        return np.array([norm(row) for row in rows])
    sums = np.zeros((len(rows), 1 << max(0, rows.shape[1] - 1).bit_length()))
    sums[:, : rows.shape[1]] = rows
    sums *= sums  # the halves that `norm` has beyond are zeros, and adding those changes nothing
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return np.sqrt(sums[:, 0])


def clip(vector: Floats, weight: int, limit: float) -> Floats:
    """A home's vector (gradient times weight, then loss) with the norm of its gradient at most `limit`.

    The loss stays as it is. Relative error of the norm at most 2^-23: one rounding of the factor, one of
    each product.
    """
    length = norm(vector[:-1]) / weight
    if length <= limit:
        return vector
    clipped = vector * np.float32(limit / length)
    clipped[-1] = vector[-1]
    return clipped


def combine(method: str, trim_percent: int, vectors: Sequence[Floats], weights: Sequence[int]) -> Floats:
    """One vector for a group of at least three homes, to be counted with the sum of their weights.

    Each home has one vote, whatever its weight: element by element, the values per example are put in order,
    the lowest and highest are left out (`cut_of`), and the rest is averaged in float64. The result is that
    average times the sum of the weights, as float32; it may be infinite when that does not fit.
    """
    with np.errstate(over="ignore"):
        rows = [vector / np.float32(weight) for vector, weight in zip(vectors, weights, strict=True)]
        ordered = np.sort(np.stack(rows), axis=0)
        cut = cut_of(method, trim_percent, len(rows))
        total = np.zeros(ordered.shape[1])
        for row in ordered[cut : len(rows) - cut]:
            total += row
        return np.asarray(total * (sum(weights) / (len(rows) - 2 * cut)), dtype=np.float32)


def cut_of(method: str, trim_percent: int, homes: int) -> int:
    """How many of so many values are left out at either end: all but the middle one or two for a median."""
    most = (homes - 1) // 2
    if method == "median":
        return most
    return min(most, max(1, homes * trim_percent // 100))
