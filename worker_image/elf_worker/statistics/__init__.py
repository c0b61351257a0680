"""Statistics of a round as monoids: what homes did, combined on the way up with their gradients."""

from elf_worker.statistics.base import HomeObservation, ManyHomes, MdcObservation, Statistic
from elf_worker.statistics.product import Product, StatisticError, built_in, load, load_or_built_in

__all__ = [
    "HomeObservation",
    "ManyHomes",
    "MdcObservation",
    "Product",
    "Statistic",
    "StatisticError",
    "built_in",
    "load",
    "load_or_built_in",
]
