"""Exact sums: the same bits for any order, any tree, any split."""

from elf_worker.exact.accumulator import (
    ExactSum,
    NotSummableError,
    check_packed,
    check_vector,
    measures_of_packed,
)
from elf_worker.exact.form import max_packed_bytes

__all__ = [
    "ExactSum",
    "NotSummableError",
    "check_packed",
    "check_vector",
    "max_packed_bytes",
    "measures_of_packed",
]
