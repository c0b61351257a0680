"""The exact sum of many vectors at once, as `ExactSum` would have it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from elf_worker.exact.form import HIGH_BITS, LOW_BITS

_BETWEEN = LOW_BITS - HIGH_BITS


def exact_rows(rows: npt.NDArray[np.float32]) -> tuple[memoryview, int]:
    """What `ExactSum.to_bytes` gives for the sum of these rows, and its bound: at most 2^16 good ones."""
    wide = rows.astype(np.float64)
    high = np.rint(wide * 2.0**HIGH_BITS)
    low = np.rint((wide - high * 2.0**-HIGH_BITS) * 2.0**LOW_BITS)
    highs, lows = (limbs.astype(np.int64).sum(0) for limbs in (high, low))
    carry = (lows + (1 << (_BETWEEN - 1))) >> _BETWEEN
    limbs = np.concatenate((highs + carry, lows - (carry << _BETWEEN))).astype("<i8", copy=False)
    return memoryview(limbs.data).cast("B"), int(np.ceil(np.abs(rows).max(1)).sum()) if len(rows) else 0
