"""The loops of exact sums: what they promise, and which of the two that have the same bits is used.

`ELF_KERNEL=portable` means numpy, `ELF_KERNEL=compiled` insists on the compiled kernel; otherwise the
kernel is used where it was built (`kernel.available()`).
"""

from __future__ import annotations

import os
from typing import Protocol

from elf_worker.exact import kernel, portable
from elf_worker.exact.form import Bytes, Floats, Halves, Ints


class Arithmetic(Protocol):
    """Arrays are one-dimensional and contiguous, and what belongs together is of one size; callers see to it.

    `high` and `low` are limbs (`form`); arrays of bytes, and of values, may lie at any address.
    """

    def largest(self, values: Floats | Halves) -> float:
        """`max |x|`, 0 of none; NaN if any element is."""

    def fold(self, values: Floats | Halves, high: Ints, low: Ints, fresh: bool = False) -> None:
        """Add to the limbs, with the magic constants' patterns on top: each limb's once for each call.

        `fresh`: to zero, whatever lies there. That saves clearing the limbs, and reading them.
        """

    def settle(self, high: Ints, low: Ints, more_high: int, more_low: int) -> None:
        """Take these off all limbs, modulo 2^64, and carry: canonical limbs of the same value."""

    def merge(self, high: Ints, low: Ints, other_high: Ints, other_low: Ints) -> None:
        """Add limbs to limbs; nothing is carried."""

    def within(self, values: Ints, most: int) -> bool:
        """Whether no magnitude is above `most`, which is below 2^63."""

    def norm2(self, values: Floats) -> float:
        """The sum of squares, in float64.

        Rows of `BLOCK` squares are added one after the other, then the row is folded in halves.
        """

    def mean(self, high: Ints, low: Ints, weight: float, mean: Floats) -> None:
        """Canonical limbs over `weight`, into `mean`."""

    def pack(
        self,
        high: Ints,
        low: Ints,
        more_high: int,
        more_low: int,
        tail: bytes = b"",
        room: Bytes | None = None,
    ) -> memoryview:
        """`settle`, then the packed form and `tail`; in `room` if that is of use.

        `room` has `form.max_packed_bytes` and the tail's bytes at least.
        """

    def check_packed(self, payload: Bytes, size: int, bound: int) -> int:
        """One of `form`'s words: whether this is a packed sum with magnitudes of at most `bound`."""

    def merge_packed(self, payload: Bytes, high: Ints, low: Ints, fresh: bool = False) -> int:
        """`merge` of a packed sum that has been checked; `fresh` as in `fold`.

        Not FINE, and nothing is changed, if its length is another than its headers say.
        """

    def mean_packed(
        self, payload: Bytes, size: int, weight: float, mean: Floats | None, counted: int
    ) -> float:
        """`mean` of a packed sum that has been checked, if given; `norm2` of its first `counted` elements.

        Negative, and nothing is written, if its length is another than its headers say.
        """


def choose(wish: str) -> Arithmetic:
    """What `ELF_KERNEL` asks for. Raises ValueError for another word, RuntimeError if there is no kernel."""
    if wish not in ("", "compiled", "portable"):
        raise ValueError(f"ELF_KERNEL is {wish!r}; it may be compiled or portable")
    compiled = None if wish == "portable" else kernel.load()
    if compiled is not None:
        return compiled
    if wish == "compiled":
        raise RuntimeError(f"ELF_KERNEL=compiled, and {kernel.LIBRARY} is missing or not of this version")
    return portable


current: Arithmetic = choose(os.environ.get("ELF_KERNEL", ""))
