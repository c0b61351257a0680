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
bulk, at the latest every `_CARRY_EVERY` additions; the loops are in `arithmetic`). It is the pre-rounding
of Demmel and Nguyen, "Parallel Reproducible Summation" (2015), with a bin chosen once and for all.

References: `tests/unit/worker/test_exact.py` states these laws as properties.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final

import numpy as np

from elf_worker.exact import arithmetic, form
from elf_worker.exact.form import HALF, HIGH_BITS, Bytes, Floats, Halves, Ints, max_packed_bytes

LIMIT: Final = 2.0**21
"""Magnitudes from here on are refused."""
CAPACITY: Final = 2**32
"""Largest sum of (ceilings of) magnitudes one accumulator takes."""

_HIGH_PATTERN: Final = int(np.array([form.HIGH_MAGIC]).view(np.int64)[0])
_LOW_PATTERN: Final = int(np.array([form.LOW_MAGIC]).view(np.int64)[0])
_CARRY_EVERY: Final = 2**17  # |low| grows by at most 2^44 a time: 2^61 before it must be carried
_SPARE: Final = 1 << 16  # bytes: the next tail may be longer
_OURS_ALONE: Final = 2  # references: ours, and that of who counts
_TYPES: Final = (np.dtype(np.float32), np.dtype(np.uint16))


class NotSummableError(ValueError):
    """A contribution that cannot be added exactly; the accumulator is unchanged."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """CamelCase, for counters and conditions: NonFinite, OutOfRange, WrongSize, Overflow."""


class ExactSum:
    """The exact sum of float32 vectors of one size.

    A commutative monoid: `ExactSum(n)` is the identity, `add` and `merge` commute and associate, and equal
    multisets of contributions have equal `to_bytes()` and equal `pack()`.

    Vectors are float32, or bfloat16 as uint16: the upper halves of float32 patterns.

    `add` is `reserve(check_vector(values))` and `fold(values)`, and `merge_packed` likewise. The parts are
    for who checks in one thread, decides in a second and folds in a third; one thread at a time may touch
    one sum, but `reserve` never disturbs a `fold`.

    Memory: 16 bytes per element, whatever the number of contributions.
    """

    __slots__ = ("_fresh", "_grown", "_high", "_low", "_raw", "_room", "bound", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._high: Ints = np.empty(size, np.int64)
        self._low: Ints = np.empty(size, np.int64)
        self._fresh = True  # nothing was added: what lies in the limbs means nothing
        self._room: Bytes | None = None
        self._raw = 0  # additions since the constants were last subtracted
        self._grown = 0  # additions and merges since limbs were last carried
        self.bound = 0
        """Sum of the ceilings of the contributions' largest magnitudes."""

    def add(self, values: Floats | Halves) -> None:
        """Add one vector of shape `(size,)`.

        Raises NotSummableError, and changes nothing, for another shape or dtype, NaN, infinity, a magnitude
        of `2^21` or more, or when the capacity is spent.
        """
        self._check_shape(values)
        self.reserve(check_vector(values))
        self.fold(values)

    def reserve(self, bound: int) -> None:
        """Count the bound of a contribution that is about to be folded.

        Raises NotSummableError, and changes nothing, when the capacity is spent.
        """
        _check_capacity(self.bound + bound)
        self.bound += bound

    def fold(self, values: Floats | Halves) -> None:
        """Add a vector that `check_vector` has let pass and whose bound is reserved.

        Raises NotSummableError, and changes nothing, for another shape or dtype.
        """
        self._check_shape(values)
        arithmetic.current.fold(_in_a_row(values), self._high, self._low, self._fresh)
        self._fresh = False
        self._raw += 1
        self._grow()

    def merge(self, other: ExactSum) -> None:
        """Add everything that was added to `other`, which keeps its value.

        Raises NotSummableError, and changes nothing, for another size or when the capacity is spent.
        """
        if other.size != self.size:
            raise NotSummableError("WrongSize", f"a sum of {other.size} where {self.size} is expected")
        other._settle()
        self._take(other._high, other._low, other.bound)

    def merge_bytes(self, payload: Any, bound: int) -> None:
        """Add what the sum with these bytes (`to_bytes`) holds, without a copy of it.

        Raises NotSummableError, and changes nothing, for what `from_bytes` or `merge` would refuse.
        """
        self._take(*_limbs(self.size, payload, bound), bound)

    def merge_packed(self, payload: Any, bound: int) -> None:
        """Add what the sum with these bytes (`pack`) holds, without a copy of it.

        Raises NotSummableError, and changes nothing, for what `check_packed` or `merge` would refuse.
        """
        check_packed(self.size, payload, bound)
        self.reserve(bound)
        self.fold_packed(payload)

    def fold_packed(self, payload: Any) -> None:
        """Add a packed sum that `check_packed` has let pass and whose bound is reserved.

        Raises NotSummableError, and changes nothing, for bytes of another length.
        """
        packed = _bytes_of(payload)
        word = arithmetic.current.merge_packed(packed, self._high, self._low, self._fresh)
        _refuse(word, packed, self.size)
        self._fresh = False
        self._grow()

    def clear(self) -> None:
        """Forget everything: the identity again, in the same memory."""
        self._fresh = True
        self._raw = self._grown = self.bound = 0

    def mean(self, weight: float) -> Floats:
        """The sum divided by `weight`, float32 of shape `(size,)`.

        One rounding to float64 for the sum, one for the quotient, one to float32: within
        `2^-24 · (1 + 2^-27)` of the exact quotient, relative, while the sum's magnitude is below `2^23`.
        """
        self._settle()
        mean: Floats = np.empty(self.size, np.float32)
        arithmetic.current.mean(self._high, self._low, float(weight), mean)
        return mean

    def pack(self, tail: bytes = b"") -> memoryview:
        """Canonical bytes in the packed form (`form`): at most `max_packed_bytes(size)`, often a third.

        `tail` is put behind them.
        """
        self._fill()
        room = self._room_for(max_packed_bytes(self.size) + len(tail))
        packed = arithmetic.current.pack(self._high, self._low, *self._surplus(), tail, room)
        self._raw = self._grown = 0
        return packed

    def _room_for(self, size: int) -> Bytes:
        """Of the last packing, once nobody holds that any more: new memory costs more than packing.

        What is not written of it costs nothing.
        """
        unused = self._room is not None and sys.getrefcount(self._room) == _OURS_ALONE
        if self._room is None or not unused or self._room.size < size:
            self._room = np.empty(size + _SPARE, np.uint8)
        return self._room

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
        result._fresh = False
        result._grown = 1  # the range has one value more than canonical limbs
        result.bound = bound
        return result

    def _check_shape(self, values: Any) -> None:
        if values.shape != (self.size,) or values.dtype not in _TYPES:
            raise NotSummableError(
                "WrongSize", f"{values.dtype}{list(values.shape)} where float32[{self.size}] is expected"
            )

    def _take(self, high: Ints, low: Ints, bound: int) -> None:
        self.reserve(bound)
        self._fill()
        arithmetic.current.merge(self._high, self._low, high, low)
        self._grow()

    def _grow(self) -> None:
        self._grown += 1
        if self._grown >= _CARRY_EVERY:
            self._settle()

    def _settle(self) -> None:
        """Subtract the constants of raw additions and carry: the canonical form."""
        self._fill()
        if not self._grown:
            return  # it is canonical already
        arithmetic.current.settle(self._high, self._low, *self._surplus())
        self._raw = self._grown = 0

    def _fill(self) -> None:
        """Have limbs that mean something, also before anything is added."""
        if self._fresh:
            self._high.fill(0)
            self._low.fill(0)
            self._fresh = False

    def _surplus(self) -> tuple[int, int]:
        return _wrap(self._raw * _HIGH_PATTERN), _wrap(self._raw * _LOW_PATTERN)


def measures_of_packed(size: int, payload: Any, weight: float) -> tuple[float, float]:
    """Of the mean (`ExactSum.mean`) of a packed sum: the norm of all elements but the last, and the last.

    The payload has passed `check_packed`, and `size` is not 0. Needs no memory for the mean.
    """
    packed = _bytes_of(payload)
    norm2 = arithmetic.current.mean_packed(packed, size, float(weight), None, size - 1)
    header = packed[2 * form.blocks_of(size) - 2 :][:2]
    count = (size - 1) % form.BLOCK + 1
    block = np.concatenate((header, packed[packed.size - count * int(header[0]) :]))
    mean: Floats = np.empty(count, np.float32)
    arithmetic.current.mean_packed(block, count, float(weight), mean, 0)
    return math.sqrt(norm2), float(mean[-1])


def check_vector(values: Floats | Halves) -> int:
    """The bound of a vector: the ceiling of its largest magnitude.

    Raises NotSummableError for one that no accumulator would take, whatever it holds already.
    """
    if values.dtype not in _TYPES:
        raise NotSummableError("WrongSize", f"{values.dtype} where float32 is expected")
    return check_magnitude(arithmetic.current.largest(_in_a_row(values)))


def check_magnitude(largest: float) -> int:
    """The ceiling of a contribution's largest magnitude. Raises NotSummableError if it cannot be summed."""
    if largest != largest or largest == float("inf"):
        raise NotSummableError("NonFinite", "the gradient holds NaN or infinity")
    if largest >= LIMIT:
        raise NotSummableError("OutOfRange", f"magnitude {largest:g} where less than {LIMIT:g} is expected")
    return -int(-largest // 1)


def check_packed(size: int, payload: Any, bound: int) -> None:
    """Whether these bytes are the packed sum of so many elements whose magnitudes are at most `bound`.

    Raises NotSummableError when the length is not what the headers say, when it is not the form that `pack`
    gives the same sum, or when a magnitude exceeds the bound, so that a false bound cannot hide an
    overflow.
    """
    _check_declared(bound)
    packed = _bytes_of(payload)
    _refuse(arithmetic.current.check_packed(packed, size, bound), packed, size)


def _refuse(word: int, packed: Bytes, size: int) -> None:
    if word == form.FINE:
        return
    if word == form.WRONG_SIZE:
        message = f"{packed.size} bytes, which are not the packed sum of {size} elements"
        raise NotSummableError("WrongSize", message)
    messages = {
        form.BAD_HEADER: "a packed block of a form that does not exist",
        form.NOT_CANONICAL: "a packed block in another form than the shortest",
        form.OUT_OF_BOUND: "a packed sum outside the range that its bound allows",
    }
    raise NotSummableError("OutOfRange", messages[word])


def _check_capacity(bound: int) -> None:
    if bound >= CAPACITY:
        raise NotSummableError("Overflow", f"magnitudes add up to {bound}, at most {CAPACITY - 1} fit")


def _check_declared(bound: int) -> None:
    if not 0 <= bound < CAPACITY:
        raise NotSummableError("Overflow", f"declared bound {bound} is outside 0..{CAPACITY - 1}")


def _limbs(size: int, payload: Any, bound: int) -> tuple[Ints, Ints]:
    """(high, low) of canonical bytes, which are not copied. Raises NotSummableError; see `from_bytes`."""
    got = memoryview(payload).nbytes if payload is not None else 0
    if got != 16 * size:
        raise NotSummableError("WrongSize", f"{got} bytes where {16 * size} are expected")
    _check_declared(bound)
    limbs = np.frombuffer(payload if size else b"", dtype="<i8")
    high, low = limbs[:size], limbs[size:]
    if not (arithmetic.current.within(low, HALF) and arithmetic.current.within(high, bound << HIGH_BITS)):
        raise NotSummableError("OutOfRange", "limbs outside the range that their bound allows")
    return high, low


def _in_a_row(values: Any) -> Any:
    return np.ascontiguousarray(values)


def _bytes_of(payload: Any) -> Bytes:
    return np.frombuffer(b"" if payload is None else payload, np.uint8)


def _wrap(value: int) -> int:
    """`value` modulo 2^64, as a signed 64-bit integer."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
