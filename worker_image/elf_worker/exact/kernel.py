"""The compiled loops (`kernel.c`), by ctypes: the interpreter's lock is free while one runs.

The library is built when the package is (`hatch_build.py`). Where it is missing, of another version or of
another machine, there is none, and `portable` does the same, slower.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from pathlib import Path
from typing import Any, Final

import numpy as np

from elf_worker.exact.form import Bytes, Floats, Halves, Ints, max_packed_bytes

LIBRARY: Final = Path(__file__).with_name("_kernel.so")
_VERSION: Final = 3

_AT, _SIZE, _INT, _LONG = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int64
_DOUBLE, _BITS, _BOUND = ctypes.c_double, ctypes.c_uint32, ctypes.c_uint64
_FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {  # result, then arguments
    "version": (_INT,),
    "level": (_INT, _INT),
    "largest": (_BITS, _AT, _SIZE),
    "largest_half": (_BITS, _AT, _SIZE),
    "fold": (None, _AT, _SIZE, _AT, _AT, _INT),
    "fold_half": (None, _AT, _SIZE, _AT, _AT, _INT),
    "settle": (None, _AT, _AT, _SIZE, _LONG, _LONG),
    "merge": (None, _AT, _AT, _SIZE, _AT, _AT),
    "within": (_INT, _AT, _SIZE, _LONG),
    "norm2": (_DOUBLE, _AT, _SIZE),
    "mean": (None, _AT, _AT, _SIZE, _DOUBLE, _AT),
    "pack": (_SIZE, _AT, _AT, _SIZE, _LONG, _LONG, _AT),
    "check_packed": (_INT, _AT, _SIZE, _SIZE, _BOUND),
    "merge_packed": (_INT, _AT, _SIZE, _SIZE, _AT, _AT, _INT),
    "mean_packed": (_DOUBLE, _AT, _SIZE, _SIZE, _DOUBLE, _AT, _SIZE),
}


class Kernel:
    """`Arithmetic`, compiled. Raises OSError or AttributeError for a library that is not of this version."""

    def __init__(self, path: Path) -> None:
        self._c: Any = ctypes.CDLL(str(path))
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(self._c, f"elf_{name}")
            function.restype, function.argtypes = result, arguments
        if self._c.elf_version() != _VERSION:
            raise OSError(f"{path} is of another version")

    def level(self, most: int) -> int:
        """Use at most these instructions: 0 the processor's least, 1 AVX2, 2 AVX-512. What is used now."""
        return int(self._c.elf_level(most))

    def largest(self, values: Floats | Halves) -> float:
        """See `Arithmetic.largest`."""
        half = values.dtype == np.uint16
        of = self._c.elf_largest_half if half else self._c.elf_largest
        return float(struct.unpack("<f", struct.pack("<I", of(_at(values), values.size)))[0])

    def fold(self, values: Floats | Halves, high: Ints, low: Ints, fresh: bool = False) -> None:
        """See `Arithmetic.fold`."""
        half = values.dtype == np.uint16
        into = self._c.elf_fold_half if half else self._c.elf_fold
        into(_at(values), values.size, _at(high), _at(low), fresh)

    def settle(self, high: Ints, low: Ints, more_high: int, more_low: int) -> None:
        """See `Arithmetic.settle`."""
        self._c.elf_settle(_at(high), _at(low), high.size, more_high, more_low)

    def merge(self, high: Ints, low: Ints, other_high: Ints, other_low: Ints) -> None:
        """See `Arithmetic.merge`."""
        self._c.elf_merge(_at(high), _at(low), high.size, _at(other_high), _at(other_low))

    def within(self, values: Ints, most: int) -> bool:
        """See `Arithmetic.within`."""
        return bool(self._c.elf_within(_at(values), values.size, most))

    def norm2(self, values: Floats) -> float:
        """See `Arithmetic.norm2`."""
        return float(self._c.elf_norm2(_at(values), values.size))

    def mean(self, high: Ints, low: Ints, weight: float, mean: Floats) -> None:
        """See `Arithmetic.mean`."""
        self._c.elf_mean(_at(high), _at(low), high.size, weight, _at(mean))

    def pack(
        self,
        high: Ints,
        low: Ints,
        more_high: int,
        more_low: int,
        tail: bytes = b"",
        room: Bytes | None = None,
    ) -> memoryview:
        """See `Arithmetic.pack`."""
        if room is None:
            room = np.empty(max_packed_bytes(high.size) + len(tail), np.uint8)
        used = self._c.elf_pack(_at(high), _at(low), high.size, more_high, more_low, _at(room))
        whole = memoryview(room.data)[: used + len(tail)]
        whole[used:] = tail
        return whole.toreadonly()

    def check_packed(self, payload: Bytes, size: int, bound: int) -> int:
        """See `Arithmetic.check_packed`."""
        return int(self._c.elf_check_packed(_at(payload), payload.size, size, bound))

    def merge_packed(self, payload: Bytes, high: Ints, low: Ints, fresh: bool = False) -> int:
        """See `Arithmetic.merge_packed`."""
        into = self._c.elf_merge_packed
        return int(into(_at(payload), payload.size, high.size, _at(high), _at(low), fresh))

    def mean_packed(
        self, payload: Bytes, size: int, weight: float, mean: Floats | None, counted: int
    ) -> float:
        """See `Arithmetic.mean_packed`."""
        of = self._c.elf_mean_packed
        return float(of(_at(payload), payload.size, size, weight, _at(mean), counted))


def _at(array: Any) -> int | None:
    """The address of the first element; the caller holds the array meanwhile."""
    if array is None:
        return None
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # five times as quick as `ctypes.data`
    except (TypeError, ValueError):  # read-only, or empty
        return int(array.ctypes.data)


@functools.cache
def load() -> Kernel | None:
    """The kernel that was built with this package, if it was and fits."""
    try:
        return Kernel(LIBRARY)
    except (OSError, AttributeError):
        return None


def available() -> bool:
    """Whether the compiled kernel can be used here."""
    return load() is not None
