"""One number per observation, summed up in bounded space without losing a bit of its mean and variance."""

from __future__ import annotations

import functools
import hashlib
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from ddsketch.mapping import LogarithmicMapping

Numbers = npt.NDArray[np.float64]

RELATIVE_ERROR = 0.01
"""Of quantiles, and of the borders of `between`."""
SMALLEST, LARGEST = 1e-9, 1e12
"""Magnitudes beyond are put into the outermost bins: at most 2 · 2,421 + 1 of them."""
_UNIT_BITS = 149
_MAPPING = LogarithmicMapping(RELATIVE_ERROR)
_NEAR = 1e-6
"""Logarithms of two libraries differ by far less."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass
class Distribution:
    """A state. Values are rounded to float32; then count, sum and sum of squares are exact integers, so mean
    and variance do not depend on the order of anything. Bins are those of DDSketch (Masson, Rim and Lee,
    "DDSketch: A fast and fully-mergeable quantile sketch with relative-error guarantees", 2019).
    """

    count: int = 0
    total: int = 0
    """In units of 2^-149, the smallest float32."""
    squares: int = 0
    """In units of 2^-298."""
    low: tuple[float, int] = (math.inf, -1)
    """Smallest value and the smallest id that had it."""
    high: tuple[float, int] = (-math.inf, -1)
    """Largest value and the smallest id that had it."""
    bins: dict[int, int] = field(default_factory=dict)
    """Key → count. Key 0 is zero, negative keys are negative values."""
    samples: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Key → (hash, id) of those with the smallest hashes: a sample that no order changes."""

    def __deepcopy__(self, memo: object) -> Distribution:
        # Every round of the NPDC copies some: looking into each tuple would take ten times as long.
        samples = {key: list(chosen) for key, chosen in self.samples.items()}
        return replace(self, bins=dict(self.bins), samples=samples)

    @property
    def mean(self) -> float:
        """NaN without observations."""
        return self.total / (self.count << _UNIT_BITS) if self.count else math.nan

    @property
    def variance(self) -> float:
        """Of the observations themselves (divided by their count); NaN without any."""
        if not self.count:
            return math.nan
        spread = self.squares * self.count - self.total * self.total
        return spread / ((self.count * self.count) << 2 * _UNIT_BITS)

    def quantile(self, q: float) -> float:
        """The value at this rank of 0..1, within 1 % of it; NaN without observations."""
        rank, seen = q * (self.count - 1), 0
        for key in sorted(self.bins):
            seen += self.bins[key]
            if seen > rank:
                return min(max(_value(key), self.low[0]), self.high[0])
        return math.nan

    def between(self, low: float, high: float) -> tuple[int, list[int]]:
        """How many observations lie in `low..high`, and the ids of some of them, ascending.

        Values within 2 % of a border may be on either side of it.
        """
        first, last = _key(low), _key(high)
        keys = [key for key in self.bins if first <= key <= last]
        chosen = sorted(sample for key in keys for sample in self.samples.get(key, ()))
        return sum(self.bins[key] for key in keys), sorted(home for _, home in chosen)


def one(value: float, label: int, samples: int = 0, salt: int = 0) -> Distribution:
    """A single observation. `samples` above 0 keeps ids for `between`, a different choice for each salt."""
    value = struct.unpack("<f", struct.pack("<f", max(min(value, 3e38), -3e38)))[0] + 0.0  # no negative zero
    units = _units(value)
    key = _key(value)
    kept = {key: [(_hash(label, salt), label)]} if samples else {}
    return Distribution(1, units, units * units, (value, label), (value, label), {key: 1}, kept)


def many(values: Numbers, labels: Sequence[int], samples: int = 0, salt: int = 0) -> Distribution:
    """What `one` and `combine` make of all of them. Raises ValueError for NaN, as `one` does."""
    if not len(values):
        return Distribution()
    if np.isnan(values).any():
        raise ValueError("cannot convert NaN to integer ratio")
    values = np.clip(values, -3e38, 3e38).astype(np.float32).astype(np.float64) + 0.0  # no negative zero
    total, squares = _sums(values)
    low, high = values.min(), values.max()
    keys = _keys(values)
    found, counts = np.unique(keys, return_counts=True)
    kept: dict[int, list[tuple[int, int]]] = {}
    if samples:
        for key, label in zip(keys.tolist(), labels, strict=True):
            kept.setdefault(key, []).append((_hash(label, salt), label))
        kept = {key: sorted(set(chosen))[:samples] for key, chosen in kept.items()}
    return Distribution(
        len(values),
        total,
        squares,
        (float(low), min(labels[i] for i in np.flatnonzero(values == low).tolist())),
        (float(high), min(labels[i] for i in np.flatnonzero(values == high).tolist())),
        dict(zip(found.tolist(), counts.tolist(), strict=True)),
        kept,
    )


def combine(a: Distribution, b: Distribution, samples: int = 0) -> Distribution:
    """Both together, in `a`."""
    a.count += b.count
    a.total += b.total
    a.squares += b.squares
    a.low = min(a.low, b.low)
    a.high = max(a.high, b.high, key=_by_value_then_smallest_id)
    for key, count in b.bins.items():
        a.bins[key] = a.bins.get(key, 0) + count
    for key, chosen in b.samples.items():
        a.samples[key] = sorted({*a.samples.get(key, ()), *chosen})[:samples]
    return a


def report(state: Distribution) -> dict[str, Any]:
    """Count, mean, variance, extremes with ids, quantiles. An empty one has a count alone."""
    if not state.count:
        return {"count": 0}
    out: dict[str, Any] = {"count": state.count, "mean": state.mean, "variance": state.variance}
    out["min"], out["minId"] = state.low
    out["max"], out["maxId"] = state.high
    return out | {name: state.quantile(q) for name, q in QUANTILES.items()}


def metrics(state: Distribution) -> Iterable[tuple[str, Mapping[str, str], float]]:
    """As a Prometheus summary."""
    if state.count:
        for q in QUANTILES.values():
            yield "", {"quantile": str(q)}, state.quantile(q)
    yield "_sum", {}, state.mean * state.count if state.count else 0.0
    yield "_count", {}, float(state.count)


def to_wire(state: Distribution) -> bytes:
    """MessagePack; integers beyond 64 bits as bytes."""
    fields = (state.count, _to_bytes(state.total), _to_bytes(state.squares), state.low, state.high)
    return msgspec.msgpack.encode((*fields, state.bins, state.samples))


def from_wire(data: bytes) -> Distribution:
    """Inverse of `to_wire`. Raises msgspec.ValidationError or ValueError for anything else."""
    count, total, squares, low, high, bins, samples = msgspec.msgpack.decode(data, type=_Wire)
    return Distribution(count, _from_bytes(total), _from_bytes(squares), low, high, bins, samples)


_Wire = tuple[
    int,
    bytes,
    bytes,
    tuple[float, int],
    tuple[float, int],
    dict[int, int],
    dict[int, list[tuple[int, int]]],
]


def _units(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return (numerator << _UNIT_BITS) // denominator  # exact: the denominator of a float32 divides 2^149


def _sums(values: Numbers) -> tuple[int, int]:
    """Sums of `_units` and of their squares: those of equal exponent are added as machine integers first."""
    mantissas, exponents = np.frexp(values)  # float32 has 24 bits: integers below 2^24, and 2^48 when squared
    whole = (mantissas * 2.0**24).astype(np.int64)
    total = squares = 0
    for exponent in np.unique(exponents).tolist():
        here = whole[exponents == exponent]
        shift = exponent - 24 + _UNIT_BITS
        total += _shifted(int(here.sum()), shift)
        for start in range(0, len(here), 1 << 14):
            part = here[start : start + (1 << 14)]
            squares += _shifted(int((part * part).sum()), 2 * shift)
    return total, squares


def _shifted(number: int, bits: int) -> int:
    return number << bits if bits >= 0 else number >> -bits  # exact: float32 has no bits below 2^-149


def _keys(values: Numbers) -> npt.NDArray[np.int64]:
    """`_key` of each. Where the machine's logarithm is near a border, the one that `_key` uses decides."""
    sizes = np.clip(np.abs(values), SMALLEST, LARGEST)
    exact = np.log2(sizes) * _MAPPING._multiplier
    keys: npt.NDArray[np.int64] = np.ceil(exact).astype(np.int64) + _offset()
    keys = np.where(values > 0, keys, -keys) * (values != 0)
    for index in np.flatnonzero(np.abs(exact - np.rint(exact)) < _NEAR):
        keys[index] = _key(float(values[index]))
    return keys


def _by_value_then_smallest_id(entry: tuple[float, int]) -> tuple[float, int]:
    return entry[0], -entry[1]


@functools.cache
def _offset() -> int:
    return 1 - int(_MAPPING.key(SMALLEST))


def _key(value: float) -> int:
    if value == 0:
        return 0
    key = int(_MAPPING.key(min(max(abs(value), SMALLEST), LARGEST))) + _offset()
    return key if value > 0 else -key


def _value(key: int) -> float:
    if key == 0:
        return 0.0
    value = float(_MAPPING.value(abs(key) - _offset()))
    return value if key > 0 else -value


def _hash(label: int, salt: int) -> int:
    return int.from_bytes(hashlib.blake2b(struct.pack("<qq", label, salt), digest_size=6).digest(), "little")


def _to_bytes(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)


def _from_bytes(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)
