"""How a sum is kept, and how it is packed: the constants, which `kernel.c` repeats.

**Kept:** each element is two int64 limbs, `high · 2^-30 + low · 2^-75`; canonical if `-2^44 <= low < 2^44`.

**Packed:** blocks of 4,096 elements, the last may be shorter. First two bytes for each block: the width in
bytes of its elements, and the number of trailing zero bits that all of them have as integers in units of
`2^-75`. Then the blocks. An element is its integer without these zeros, in two's complement. Of a block come
first the lowest 4 bytes of all elements (if the width has 4 in it), then the next 2, then the last one;
all little-endian. Width 8: 8 bytes. An element that needs more makes its block one of width 16: all high
limbs, then all low limbs, and no zeros are taken off. A block of zeros has width 0 and nothing after its
header.

The zeros are as many, and the width as small, as can be: equal sums have equal bytes, and other forms are
refused.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.uint16]
"""bfloat16 as patterns: the upper halves of float32."""
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

HIGH_BITS: Final = 30
LOW_BITS: Final = 75
RATIO: Final = LOW_BITS - HIGH_BITS
HALF: Final = 1 << (RATIO - 1)
MASK: Final = (1 << RATIO) - 1

HIGH_MAGIC: Final = 1.5 * 2.0 ** (52 - HIGH_BITS)
LOW_MAGIC: Final = 1.5 * 2.0 ** (52 - LOW_BITS)

BLOCK: Final = 4096
"""Elements of a packed block, and of a row of squares (`Arithmetic.norm2`)."""
WIDE: Final = 16
MOST_TRAILING: Final = 106

FINE: Final = 0
WRONG_SIZE: Final = 1
BAD_HEADER: Final = 2
NOT_CANONICAL: Final = 3
OUT_OF_BOUND: Final = 4


def blocks_of(size: int) -> int:
    """Packed blocks of a sum with so many elements."""
    return -(-size // BLOCK)


def max_packed_bytes(size: int) -> int:
    """Bytes that a packed sum of so many elements takes at most."""
    return 2 * blocks_of(size) + WIDE * size
