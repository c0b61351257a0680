"""Exact sums: the same bits for any order, any tree, any split."""

from elf_worker.exact.accumulator import ExactSum, NotSummableError, check_vector, mean_of

__all__ = ["ExactSum", "NotSummableError", "check_vector", "mean_of"]
