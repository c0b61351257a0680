"""A vector of fixed-point accumulators wide enough that adding float32 vectors never rounds.

Each element is two int64 limbs, `high · 2^-30 + low · 2^-75`. A float32 `x` is split once, on its own,
into two integers (so nothing depends on what it is added to), and integers add exactly, in any order:

* exact for `x == 0` and `2^-52 <= |x| < 2^21`: a float32 has 24 significant bits, so its last bit is worth
  at least `2^-75` there;
* a smaller `x` is rounded to the nearest multiple of `2^-75`: an error of at most `2^-76`, the same in
  every run;
* a larger, infinite or NaN `x` is refused (`NotSummableError`) before anything is added;
* the magnitudes of all contributions to one sum may add up to less than `2^32`; more is refused. The
  bound is counted in integers (the ceiling of each contribution's largest magnitude), so it too is
  independent of order.

The split needs no convert instruction: adding `1.5 · 2^(52-s)` to a float64 rounds it to a multiple of
`2^-s` and leaves the integer in the low bits of the pattern (the constant's bits are subtracted in
bulk, at the latest every `_CARRY_EVERY` additions). It is the pre-rounding of Demmel and Nguyen,
"Parallel Reproducible Summation" (2015), with a bin chosen once and for all.

References: `tests/unit/worker/test_exact.py` states these laws as properties.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

HIGH_BITS: Final = 30
LOW_BITS: Final = 75
LIMIT: Final = 2.0**21
"""Magnitudes from here on are refused."""
CAPACITY: Final = 2**32
"""Largest sum of (ceilings of) magnitudes one accumulator takes."""

_HIGH_MAGIC: Final = 1.5 * 2.0 ** (52 - HIGH_BITS)
_LOW_MAGIC: Final = 1.5 * 2.0 ** (52 - LOW_BITS)
_HIGH_PATTERN: Final = np.array([_HIGH_MAGIC]).view(np.int64)[0]
_LOW_PATTERN: Final = np.array([_LOW_MAGIC]).view(np.int64)[0]
_CARRY_EVERY: Final = 2**17  # |low| grows by at most 2^44 a time: 2^61 before it must be carried
_CHUNK: Final = 1 << 15  # elements: the temporaries of one chunk stay in the cache
_LIMB_RATIO: Final = LOW_BITS - HIGH_BITS

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class NotSummableError(ValueError):
    """A contribution that cannot be added exactly; the accumulator is unchanged."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """CamelCase, for counters and conditions: NonFinite, OutOfRange, WrongSize, Overflow."""


def largest_magnitude(values: Floats) -> float:
    """`max |x|`; NaN if any element is."""
    if values.size == 0:
        return 0.0
    low, high = values.min(), values.max()
    return float(max(-low, high)) if low == low and high == high else float("nan")


class ExactSum:
    """The exact sum of float32 vectors of one size.

    A commutative monoid: `ExactSum(n)` is the identity, `add` and `merge` commute and associate, and equal
    multisets of contributions have equal `to_bytes()`.

    Memory: 16 bytes per element, whatever the number of contributions.
    """

    __slots__ = ("_high", "_low", "_raw", "bound", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._high: Ints = np.zeros(size, np.int64)
        self._low: Ints = np.zeros(size, np.int64)
        self._raw = 0  # additions since the constants were last subtracted
        self.bound = 0
        """Sum of the ceilings of the contributions' largest magnitudes."""

    def add(self, values: Floats) -> None:
        """Add one float32 vector of shape `(size,)`.

        Raises NotSummableError, and changes nothing, for another shape or dtype, NaN, infinity, a magnitude
        of `2^21` or more, or when the capacity is spent.
        """
        if values.shape != (self.size,) or values.dtype != np.float32:
            raise NotSummableError(
                "WrongSize", f"{values.dtype}{list(values.shape)} where float32[{self.size}] is expected"
            )
        bound = self.bound + check_magnitude(largest_magnitude(values))
        _check_capacity(bound)
        with np.errstate(over="ignore"):
            for part in _parts(self.size):
                _fold(values[part], self._high[part], self._low[part])
        self.bound = bound
        self._raw += 1
        if self._raw >= _CARRY_EVERY:
            self._settle()

    def merge(self, other: ExactSum) -> None:
        """Add everything that was added to `other`, which keeps its value.

        Raises NotSummableError, and changes nothing, for another size or when the capacity is spent.
        """
        if other.size != self.size:
            raise NotSummableError("WrongSize", f"a sum of {other.size} where {self.size} is expected")
        other._settle()
        self._take(other._high, other._low, other.bound)

    def merge_bytes(self, payload: Any, bound: int) -> None:
        """Add what the sum with these bytes holds, without a copy of it.

        Raises NotSummableError, and changes nothing, for what `from_bytes` or `merge` would refuse.
        """
        high, low = _limbs(self.size, payload, bound)
        self._take(high, low, bound)

    def _take(self, high: Ints, low: Ints, bound: int) -> None:
        _check_capacity(self.bound + bound)
        self._settle()
        for part in _parts(self.size):
            self._high[part] += high[part]
            self._low[part] += low[part]
            _carry(self._high[part], self._low[part])
        self.bound += bound

    def mean(self, weight: float) -> Floats:
        """The sum divided by `weight`, float32 of shape `(size,)`.

        One rounding to float64 for the sum, one for the quotient, one to float32: within
        `2^-24 · (1 + 2^-27)` of the exact quotient, relative, while the sum's magnitude is below `2^23`.
        """
        self._settle()
        return _mean(self._high, self._low, weight)

    def to_bytes(self) -> memoryview:
        """Canonical bytes: all high limbs, then all low limbs, little-endian int64. Size `16 * size`."""
        self._settle()
        limbs = np.concatenate((self._high, self._low)).astype("<i8", copy=False)
        return memoryview(limbs.data).cast("B")

    @classmethod
    def from_bytes(cls, size: int, payload: Any, bound: int) -> ExactSum:
        """Inverse of `to_bytes`.

        Raises NotSummableError when the payload has another size, when a low limb is not in canonical range,
        or when a magnitude exceeds the declared `bound`, so that a false bound cannot hide an overflow.
        """
        high, low = _limbs(size, payload, bound)
        result = cls(size)
        result._high[:], result._low[:] = high, low
        for part in _parts(size):
            _carry(result._high[part], result._low[part])  # the range has one value more than canonical limbs
        result.bound = bound
        return result

    def _settle(self) -> None:
        """Subtract the constants of raw additions and carry: the canonical form."""
        if not self._raw:
            return  # it is canonical already
        surplus = (_wrap(self._raw * int(pattern)) for pattern in (_HIGH_PATTERN, _LOW_PATTERN))
        high, low = map(np.int64, surplus)
        with np.errstate(over="ignore"):
            for part in _parts(self.size):
                self._high[part] -= high
                self._low[part] -= low
                _carry(self._high[part], self._low[part])
        self._raw = 0


def mean_of(size: int, payload: Any, bound: int, weight: float) -> Floats:
    """`ExactSum.from_bytes(size, payload, bound).mean(weight)`, without a copy of the sum."""
    return _mean(*_limbs(size, payload, bound), weight)


def check_vector(values: Floats) -> None:
    """Raises NotSummableError for a vector that no accumulator would take, whatever it holds already."""
    check_magnitude(largest_magnitude(values))


def check_magnitude(largest: float) -> int:
    """The ceiling of a contribution's largest magnitude. Raises NotSummableError if it cannot be summed."""
    if largest != largest or largest == float("inf"):
        raise NotSummableError("NonFinite", "the gradient holds NaN or infinity")
    if largest >= LIMIT:
        raise NotSummableError("OutOfRange", f"magnitude {largest:g} where less than {LIMIT:g} is expected")
    return -int(-largest // 1)


def _check_capacity(bound: int) -> None:
    if bound >= CAPACITY:
        raise NotSummableError("Overflow", f"magnitudes add up to {bound}, at most {CAPACITY - 1} fit")


def _fold(values: Floats, high: Ints, low: Ints) -> None:
    wide = values.astype(np.float64)
    rounded = wide + _HIGH_MAGIC
    high += rounded.view(np.int64)
    rounded -= _HIGH_MAGIC
    wide -= rounded
    wide += _LOW_MAGIC
    low += wide.view(np.int64)


def _mean(high: Ints, low: Ints, weight: float) -> Floats:
    mean = np.empty(high.size, np.float32)
    for part in _parts(high.size):
        total = high[part] * 2.0**-HIGH_BITS
        total += low[part] * 2.0**-LOW_BITS
        total /= weight
        mean[part] = total
    return mean


def _carry(high: Ints, low: Ints) -> None:
    """Leave `-2^44 <= low < 2^44`; the value stays the same, and equal values get equal limbs."""
    carry = low + (1 << (_LIMB_RATIO - 1))
    carry >>= _LIMB_RATIO
    if carry.any():
        high += carry
        carry <<= _LIMB_RATIO
        low -= carry


def _limbs(size: int, payload: Any, bound: int) -> tuple[Ints, Ints]:
    """(high, low) of canonical bytes, which are not copied. Raises NotSummableError; see `from_bytes`."""
    got = memoryview(payload).nbytes if payload is not None else 0
    if got != 16 * size:
        raise NotSummableError("WrongSize", f"{got} bytes where {16 * size} are expected")
    if not 0 <= bound < CAPACITY:
        raise NotSummableError("Overflow", f"declared bound {bound} is outside 0..{CAPACITY - 1}")
    limbs = np.frombuffer(payload if size else b"", dtype="<i8")
    high, low = limbs[:size], limbs[size:]
    for part in _parts(size):
        if _reach(low[part]) > 2 ** (_LIMB_RATIO - 1) or _reach(high[part]) > bound << HIGH_BITS:
            raise NotSummableError("OutOfRange", "limbs outside the range that their bound allows")
    return high, low


def _parts(size: int) -> Iterator[slice]:
    """Chunks whose temporaries stay in the cache."""
    return (slice(start, start + _CHUNK) for start in range(0, size, _CHUNK))


def _reach(limbs: Ints) -> int:
    return max(-int(limbs.min()), int(limbs.max()))


def _wrap(value: int) -> int:
    """`value` modulo 2^64, as a signed 64-bit integer."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
